"""Procedural worlds: pictures drawn from a seed, with captions and questions whose answers are known.

- `sample(index, seed=...)` is a pure function of its arguments: any worker can draw any sample, in any order, and a
  run is resumed or repeated by its seed alone. The split is part of the seed, so splits never meet.
- Splits differ from "train" in what is new: "val" new pictures; "test" new pictures and held-out phrasings;
  "test-combos" new pictures with held-out pairs (of colour and shape in scenes, of kind and palette in charts), asked
  in training phrasings.
- "test-style" is a split of charts alone, which matplotlib draws: see `charts_matplotlib`.
- WORLDS is the table of worlds, each a function of a random generator; WHAT, COLORS and SIZES are the closed label
  vocabularies over all of them, index 0 being "nothing here" or "not said".
- A curriculum is the `families` argument: ("exist", "attribute") first, everything later.
"""

import random

from vlm.data.sample import Sample
from vlm.data.worlds import draw
from vlm.data.worlds.charts import charts
from vlm.data.worlds.documents import documents
from vlm.data.worlds.emoji import emoji
from vlm.data.worlds.emoji_names import CODES
from vlm.data.worlds.nlvr import nlvr
from vlm.data.worlds.pairs import pairs
from vlm.data.worlds.scenes import scenes
from vlm.data.worlds.shapes import shapes
from vlm.data.worlds.text import LETTERS, text

WORLDS = {
    "scenes": scenes, "shapes": shapes, "nlvr": nlvr, "emoji": emoji, "text": text, "documents": documents,
    "charts": charts, "pairs": pairs,
}  # fmt: skip
OPTIONS = {"emoji": ("emoji_path",), "scenes": ("max_objects",), "pairs": ("emoji_path", "max_objects")}
FAMILIES: dict[str, tuple[str, ...]] = {
    "scenes": ("exist", "count", "attribute", "compare", "relate", "two-hop", "three-hop", "logic", "same-as", "sides",
               "agree", "position", "false-premise", "cannot-tell"),
    "shapes": ("exist", "attribute", "relate", "two-hop", "what"),
    "nlvr": ("exist", "count", "attribute", "compare", "relate", "position", "number", "what"),
    "emoji": ("name", "exist", "count", "category", "relate", "position", "false-premise", "cannot-tell"),
    "text": ("read", "letter", "text count", "attribute", "compare", "text retrieval", "false-premise", "cannot-tell"),
    "documents": ("read", "document retrieval", "document reasoning", "false-premise", "cannot-tell"),
    "charts": ("chart structure", "chart retrieval", "chart reasoning", "false-premise", "cannot-tell"),
    "pairs": ("pair same", "pair change", "pair more", "pair count", "pair exist", "pair attribute", "false-premise",
              "cannot-tell"),
}  # fmt: skip
"""The question families of each world, by which a curriculum narrows what is asked and reports group answers."""

SPLITS = ("train", "val", "test", "test-combos")

WHAT = ("nothing", *draw.SHAPES, *(f"char:{c}" for c in LETTERS), *(f"emoji:{name}" for name in CODES))
COLORS = ("", *draw.PAINT)
SIZES = ("", "small", "medium", "large")


def sample(
    index: int,
    *,
    seed: int,
    mixture: dict[str, float],
    size: int = 96,
    split: str = "train",
    n_questions: int = 8,
    families: tuple[str, ...] | None = None,
    max_objects: int = 8,
    emoji_path=None,
) -> Sample:
    """Sample number `index` of an endless stream; `mixture` maps a world's name to its share."""
    names = sorted(mixture)
    if split not in SPLITS and (split, names) != ("test-style", ["charts"]):
        raise ValueError(f"no split {split!r}; choose from {', '.join(SPLITS)}, or test-style for charts alone")
    unknown = [n for n in names if n not in WORLDS]
    if unknown or not names:
        raise ValueError(f"no world {', '.join(unknown) or '(empty mixture)'}; choose from {', '.join(WORLDS)}")
    rng = random.Random(f"{split}/{seed}/{index}")
    name = names[0] if len(names) == 1 else rng.choices(names, [mixture[n] for n in names])[0]
    known = {"emoji_path": emoji_path, "max_objects": max_objects}
    options = {key: known[key] for key in OPTIONS.get(name, ())}
    return WORLDS[name](rng, size=size, split=split, n_questions=n_questions, families=families, **options)
