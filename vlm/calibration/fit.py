"""Fit a model's calibration on pictures that the worlds draw: `vlm calibrate FOLDER`.

Notable here:
- Everything is drawn from one seed: the same weights, worlds, fonts and seed give the same calibration.
- The domain is fitted on the train split, its edges and the confidence on the val split, never on a picture or a
  question that anything is measured on.
- Half of the domain's pictures are as they are drawn, half as other programs hand them over (`worlds.vary`).
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image

from vlm.calibration import Calibration
from vlm.calibration.confidence import Confidence
from vlm.calibration.domain import Domain, Pictures, moments, statistics
from vlm.calibration.textures import texture
from vlm.calibration.worlds import Worlds, vary
from vlm.data.sample import Sample
from vlm.engine import Sampling
from vlm.image import open_image, preprocess

if TYPE_CHECKING:
    from vlm.api import VLM

CAPTION_REQUEST = "Describe the picture."
AT_ONCE = 32  # pictures, or questions
LONGEST = 96  # answer, in tokens
Progress = Callable[[str], object]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about some pictures, and the answers that are right; several of a description."""

    pictures: tuple[Image.Image, ...]
    text: str
    right: tuple[str, ...]
    family: str
    world: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the model said to it."""

    asked: Asked
    text: str
    finish: str
    logprobs: tuple[float, ...]
    domain_score: float | None  # of a model with a calibration

    @property
    def right(self) -> bool:
        """Whether it is one of the right answers, but for capitals and a full stop."""
        return plain(self.text) in map(plain, self.asked.right)


def plain(text: str) -> str:
    return text.lower().strip(" .")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, and what is left."""
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


def questions(samples: Iterable[Sample], captions: bool = False) -> Iterator[Asked]:
    """The questions of the samples, and with `captions` the request to describe each single picture."""
    for drawn in samples:
        for q in drawn.questions:
            yield Asked(pictures=drawn.pictures, text=q.text, right=(q.answer,), family=q.family, world=drawn.world)
        if captions and len(drawn.pictures) == 1:
            yield Asked(
                pictures=drawn.pictures, text=CAPTION_REQUEST, right=tuple(drawn.captions), family="caption",
                world=drawn.world,
            )  # fmt: skip


def answers(model: "VLM", asked: Iterable[Asked]) -> Iterator[Said]:
    """Greedy answers, past any guard, in order."""
    sampling, config = Sampling(max_new_tokens=LONGEST), model.model.config.image
    for some in batches(asked, AT_ONCE * 4):
        laid = []
        for one in some:
            content = [*({"type": "image", "image": p} for p in one.pictures), {"type": "text", "text": one.text}]
            prompt = model.chat_format.encode([{"role": "user", "content": content}])
            laid.append((prompt, [preprocess(open_image(p), config) for p in one.pictures], sampling))
        found = dict(model.engine.run(iter(laid), rows=AT_ONCE))
        for i, one in enumerate(some):
            steps = found[i]
            text = model.chat_format.tokenizer.decode([s.token for s in steps if s.says]).strip()
            finish = steps[-1].finish or "length"
            yield Said(
                asked=one, text=text, finish=finish, logprobs=tuple(s.logprob for s in steps),
                domain_score=max((note["domain"] for note in steps[-1].notes if "domain" in note), default=None),
            )  # fmt: skip


def look(model: "VLM", pictures: Iterable[Image.Image]) -> tuple[Pictures, list[int]]:
    """What a `Domain` is fitted on: `moments` and `statistics` of each picture, and its number of tiles."""
    config = model.model.config.image
    pixels = torch.tensor([config.mean, config.std])
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []
    tiles: list[int] = []
    model.engine.observe("calibration", lambda t, features: (moments(features), statistics(t, pixels)))
    try:
        for some in batches(pictures, AT_ONCE):
            laid = [preprocess(open_image(p), config) for p in some]
            rows += [note["calibration"] for note in model.engine.notes(laid)]
            tiles += [len(t) for t, _ in laid]
    finally:
        model.engine.observe("calibration", None)
    return (torch.stack([m for m, _ in rows]), torch.stack([s for _, s in rows])), tiles


def half_varied(pictures: Iterable[Image.Image], seed: int) -> Iterator[Image.Image]:
    """Every other picture as other programs hand it over."""
    for i, picture in enumerate(pictures):
        yield vary(picture, random.Random(f"vary/{seed}/{i}")) if i % 2 else picture


def calibrate(
    model: "VLM", worlds: Worlds, *, count: int = 2000, seed: int = 0, progress: Progress = lambda text: None
) -> Calibration:
    """Fit the confidence and the domain of a model.

    Args:
        count: pictures of the train split that the density is fitted on; a third as many textures, half as many
            pictures for the edges, and as many questions, are drawn besides.

    Raises:
        ValueError: a model that sees no pictures; fewer than 200 of `count`; answers that nothing can be learnt from.
    """
    if model.model.config.encoder is None:
        raise ValueError(f"{model.source}: this model sees no pictures; calibrate one that does")
    if count < 200:
        raise ValueError(f"count: found {count}, expected 200 or more")
    image = model.model.config.image
    progress(f"{count} pictures of the worlds")
    drawn = list(worlds.draw(image, count, seed=seed, split="train"))
    own, tiles = look(model, half_varied((s.image for s in drawn), seed))
    groups = [f"{s.world} {n}" for s, n in zip(drawn, tiles, strict=True)]
    progress(f"{count // 3} textures")
    sides = (round(image.tile_size * random.Random(f"side/{seed}/{i}").uniform(1, 2.2)) for i in range(count // 3))
    textures = look(model, half_varied((texture(seed + i, side) for i, side in enumerate(sides)), seed))[0]
    progress(f"{count // 2} new pictures of the worlds")
    held = [s.image for s in worlds.draw(image, count // 2, seed=seed, split="val")]
    held_out = look(model, half_varied(held, seed + 1))[0]
    domain = Domain.fit(torch.tensor([image.mean, image.std]), own, groups, textures, held_out)
    progress(f"{count} questions")
    stream = worlds.draw(image, count, seed=seed + 1, split="val", questions=3)
    said = list(answers(model, islice(questions(stream, captions=True), count)))
    whole = [s for s in said if s.finish == "stop"]
    confidence = Confidence.fit([s.logprobs for s in whole], [s.right for s in whole])
    model.engine.refresh()
    return Calibration(
        confidence=confidence, domain=domain, fitted=_figures(worlds, count, seed, whole, confidence, domain, textures)
    )


def _figures(
    worlds: Worlds, count: int, seed: int, said: Sequence[Said], confidence: Confidence, domain: Domain,
    textures: Pictures,
) -> dict[str, Any]:  # fmt: skip
    """How it was fitted, for whoever reads the file."""
    sure = [confidence(s.logprobs) or 0.0 for s in said]
    return {
        "mixture": worlds.mixture, "count": count, "seed": seed, "questions": len(said),
        "right": round(sum(s.right for s in said) / len(said), 4), "mean_confidence": round(sum(sure) / len(sure), 4),
        "textures_outside": round(float((domain.score(*textures) > 1).float().mean()), 4),
    }  # fmt: skip
