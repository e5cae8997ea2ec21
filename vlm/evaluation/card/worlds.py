"""What is asked of each world on the card, what was aimed at, and examples of what came of it.

Examples are not picked by hand: they are the first right and the first wrong answers of each family in the series of
pictures, about pictures not yet shown.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vlm.api import VLM
from vlm.evaluation.families import Asked, Groups, Stream, ask, choose_questions, fill_groups, refusals, tabulate

SPLITS = {
    "val": "new pictures, phrasings as in training",
    "test-combos": "new pictures with combinations that training never showed",
    "test": "new pictures, phrasings that training never used",
    "test-style": "charts drawn by matplotlib, which drew none of training",
}
FONTS = "new pictures in fonts that training never used, asked in phrasings that it never used"
WRITTEN = ("text", "documents", "charts")  # worlds of which FONTS holds
READ = 14  # px of a font from which words are counted as readable
SIDE = 192  # px: examples are shown no larger


@dataclass(frozen=True, kw_only=True)
class World:
    """A world on the card.

    Attributes:
        families: what they ask, by name.
        splits: those that are measured.
        sizes: px of the pictures, in turns.
        never: split -> families that have nothing to do with what it holds out, and are not asked there.
        groups: rows that join or part families; what one lacks of the count is drawn for it alone.
        shown: splits with examples.
    """

    about: str
    families: Mapping[str, str]
    splits: tuple[str, ...]
    sizes: tuple[int, ...]
    never: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    shown: tuple[str, ...] = ("val",)

    def wanted(self, split: str, count: int) -> dict[str, int]:
        """Family -> how many questions."""
        asked = [family for family in self.families if family not in self.never.get(split, ())]
        return dict.fromkeys(asked, count)


ONE_HOP = ("exist", "attribute", "position", "relate")
WORLDS: dict[str, World] = {
    "scenes": World(
        about="one to eight plain shapes on a plain ground",
        families={
            "exist": "whether there is such a thing", "attribute": "colour, shape or size of a thing",
            "position": "where a thing is, what is where", "relate": "what stands beside a thing",
            "count": "how many there are, none to eight", "compare": "more, fewer, as many; same colour, shape or size",
            "two-hop": "over two relations, or counting along one", "three-hop": "over three relations",
            "logic": "two conditions at once", "same-as": "what is like another", "sides": "both sides compared",
            "agree": "whether a statement is true", "false-premise": "about a thing that is not there",
            "cannot-tell": "a name, price or weight that a tag tells, or nothing does",
        },
        splits=("val", "test-combos", "test"), sizes=(96, 192),
        groups={
            "zero and one hop": lambda a: a.family in ONE_HOP,
            "counts of five and more": lambda a: a.family == "count" and int(a.answer) > 4,
        },
    ),
    "shapes": World(
        about="3 x 3 grids of shapes after SHAPES (Andreas 2016)",
        families={
            "exist": "whether there is such a thing", "attribute": "whether a thing is so",
            "relate": "whether one is beside another", "two-hop": "over two relations",
            "what": "what stands where, colours, numbers",
        },
        splits=("val", "test"), sizes=(96,),
    ),
    "nlvr": World(
        about="three boxes of items or towers after NLVR (Suhr 2017), statements to be judged and open questions",
        families={
            "exist": "some, none", "count": "numbers of items and boxes", "attribute": "all, every, of one colour",
            "compare": "more of this than of that", "relate": "above, on",
            "position": "touching a wall, ends of towers", "number": "how many, without a statement",
            "what": "which box, which colour",
        },
        splits=("val", "test"), sizes=(96,),
    ),
    "emoji": World(
        about="one to four Noto emoji, of some 184 kinds",
        families={
            "name": "what it is", "exist": "whether there is such a thing", "count": "how many there are",
            "category": "what kind of thing it is", "relate": "what stands beside it", "position": "where it is",
            "false-premise": "about a thing that is not there",
            "cannot-tell": "a name, price or weight that a tag tells, or nothing does",
        },
        splits=("val", "test"), sizes=(96, 192),
    ),
    "text": World(
        about="words, strings, numbers, dates, prices, signs and labels",
        families={
            "read": "what it says", "letter": "a letter of a word", "text count": "how many letters, words, lines",
            "attribute": "colours of words", "compare": "a number and another",
            "text retrieval": "the word of a colour, at a place, after another",
            "false-premise": "about what is not there", "cannot-tell": "a letter that is covered, or is not",
        },
        splits=("val", "test-combos", "test"), sizes=(192,),
        groups={f"read, {READ} px and more": lambda a: a.family == "read" and a.point >= READ},
        shown=("val", "test"),
    ),
    "documents": World(
        about="receipts, forms and tables",
        families={
            "read": "a line, a cell", "document retrieval": "a field, a price, an item",
            "document reasoning": "counts, comparisons, sums", "false-premise": "about a field that is not there",
            "cannot-tell": "a field or cell that is empty, or is not",
        },
        splits=("val", "test-combos", "test"), sizes=(192,), never={"test-combos": ("read",)},
    ),
    "charts": World(
        about="bars, lines, points and pies with made-up data",
        families={
            "chart structure": "kind, title, axes, how many bars", "chart retrieval": "values and names",
            "chart reasoning": "largest, differences, sums, order", "false-premise": "about what is not there",
            "cannot-tell": "exact values that are written, or are not",
        },
        splits=("val", "test-combos", "test", "test-style"), sizes=(192,),
        shown=("val", "test-style"),
    ),
    "pairs": World(
        about="two pictures, of things or (at 192 px, a quarter) of charts, the same or with something changed",
        families={
            "pair same": "whether they are the same", "pair change": "what changed",
            "pair more": "in which there are more", "pair count": "how many in one of them, in both",
            "pair exist": "in which there is such a thing", "pair attribute": "an attribute in one of them",
            "false-premise": "about a thing that is not there",
            "cannot-tell": "what changed where it can be seen, or cannot",
        },
        splits=("val", "test-combos", "test"), sizes=(96, 192),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a row was to reach, as a share."""

    name: str
    least: float
    table: str
    row: str
    key: str = "accuracy"


GOALS = (
    Goal(name="scenes, zero and one hop", least=0.97, table="worlds/scenes/val", row="zero and one hop"),
    Goal(name="scenes, counting to eight", least=0.93, table="worlds/scenes/val", row="count"),
    Goal(name="scenes, two hops", least=0.85, table="worlds/scenes/val", row="two-hop"),
    Goal(name="charts, structure", least=0.95, table="worlds/charts/val", row="chart structure"),
    Goal(name="charts, retrieval", least=0.85, table="worlds/charts/val", row="chart retrieval"),
    Goal(name="charts, reasoning", least=0.65, table="worlds/charts/val", row="chart reasoning"),
    Goal(name=f"text of {READ} px and more, verbatim", least=0.92, table="worlds/text/val",
         row=f"read, {READ} px and more", key="verbatim"),
    Goal(name="the same in fonts never seen", least=0.80, table="worlds/text/test", row=f"read, {READ} px and more",
         key="verbatim"),
    Goal(name="emoji, names", least=0.95, table="worlds/emoji/val", row="name"),
)  # fmt: skip
DETECTED, ALARMS = 0.90, 0.03  # goals for false premises: told at least, wrongly told at most


def measure(
    model: VLM, settings: dict[str, Any], pictures: Path, *, emoji: str | None = None, batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """One table: a world in a split.

    Args:
        settings: world, split, count, seed and examples (per family, right and wrong each).
        pictures: folder that pictures of examples are written to.
        emoji: zip of Noto emoji; None is the system font.

    Returns: rows, false_premises and cannot_tell (None where there are none), examples.
    """
    world = WORLDS[settings["world"]]
    stream = Stream(
        world=settings["world"], split=settings["split"], seed=settings["seed"], sizes=world.sizes, emoji=emoji
    )  # fmt: skip
    questions = choose_questions(stream, world.wanted(stream.split, settings["count"]))
    extra = fill_groups(stream, questions, world.groups, settings["count"])
    ask(model, stream, [*questions, *extra], batch_size, progress)
    return {
        "rows": tabulate([*questions, *extra], world.families, world.groups), **refusals(questions),
        "examples": [to_example(a, stream, pictures) for a in pick_examples(questions, settings["examples"])],
    }  # fmt: skip


def pick_examples(questions: list[Asked], count: int) -> list[Asked]:
    """The first `count` right and `count` wrong answers of each family, about pictures that no other shows if any."""
    chosen: list[Asked] = []
    for family in dict.fromkeys(sorted(a.family for a in questions)):
        for right in (True, False):
            shown = {a.number for a in chosen}
            fitting = [a for a in questions if a.family == family and a.right == right]
            chosen += sorted(fitting, key=lambda a: a.number in shown)[:count]
    return chosen


def to_example(asked: Asked, stream: Stream, folder: Path) -> dict[str, Any]:
    """An answer with its pictures, which are written into the folder."""
    images = stream.draw(asked.number, asked.families).pictures
    return {
        "family": asked.family, "question": asked.question, "expected": asked.answer, "said": asked.said,
        "right": asked.right, "likelihood": round(asked.likelihood, 3),
        "confidence": None if asked.confidence is None else round(asked.confidence, 3),
        "pictures": [write_picture(image, folder) for image in images],
    }  # fmt: skip


def write_picture(image: Image.Image, folder: Path) -> str:
    """Write a small WebP, named by its content; returns the name."""
    small = image.copy()
    small.thumbnail((2 * SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=72, method=6)
    data = file.getvalue()
    name = f"{hashlib.sha256(data).hexdigest()[:12]}.webp"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_bytes(data)
    partial.replace(folder / name)
    return name
