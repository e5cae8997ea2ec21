"""Scenes: one to eight plain shapes on a plain ground, asked about in the families of CLEVR.

- Families after CLEVR (Johnson et al. 2017) and SHAPES (Andreas et al. 2016); the third caption is a true statement in
  the manner of ShapeWorld (Kuhnle & Copestake 2017).
- The pairs in HELD_OUT are drawn in the split "test-combos" only. No other world draws them: a model that knows them
  has composed them.
"""

import random

from PIL import Image

from vlm.data.sample import Sample, Thing
from vlm.data.worlds import draw
from vlm.data.worlds.captions import captions
from vlm.data.worlds.language import ask, pick
from vlm.data.worlds.refer import Look, Scene
from vlm.data.worlds.scenes_asker import FAMILIES, HELD_OUT, SHAPES, Asker
from vlm.data.worlds.tags import write_tag

_PAIRS = [(color, shape) for color in draw.PAINT for shape in SHAPES]
SIDE = {"small": (0.15, 0.185), "large": (0.28, 0.34)}  # of the picture's side


def _looks(rng: random.Random, n: int, colors: list[str], combos: bool) -> list[Look]:
    """n looks out of few colours and shapes, so that counts above one and near misses come up by themselves."""
    u = rng.random
    some_colors = rng.sample(colors, min(len(colors), 2 + int(u() * 5)))
    some_shapes = rng.sample(SHAPES, 2 + int(u() * 5))
    often: list[tuple[str, str]] = []  # a pair or two that come up again and again
    if combos or u() < 0.3:
        often = [p for p in _PAIRS if p[0] in colors and (p in HELD_OUT) == combos]
        often = often and rng.sample(often, min(len(often), 2))
    p_small = 0.5 if n < 5 else 0.7
    looks: list[Look] = []
    while len(looks) < n:
        size = "small" if u() < p_small else "large"
        if often and (not looks or u() < 0.35):
            pair = pick(rng, often)
        elif looks and u() < 0.2:
            pair = looks[-1][1:]
        else:
            pair = (pick(rng, some_colors), pick(rng, some_shapes))
            if pair in HELD_OUT:
                some_colors.append(pick(rng, colors))  # a way out where all that was chosen is held out
                continue
        looks.append((size, *pair))
    return looks


def invent(
    rng: random.Random, size: int, split: str, min_objects: int, max_objects: int
) -> tuple[Image.Image, list[draw.Piece], list[str]]:
    """A ground, the shapes that stand on it, and the colours that stand out against it."""
    ground = draw.background_color(rng)
    colors = draw.visible(ground)
    n = min(max(pick(rng, (1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 8, 8)), min_objects), max_objects)
    looks = _looks(rng, n, colors, split == "test-combos")
    drawn = []
    for z, _, shape in looks:
        low, high = SIDE[z]
        side, turn = round(size * (low + rng.random() * (high - low))), int(rng.random() * 5) * 5 - 10
        drawn.append((side, turn, draw.mask(shape, side, turn)))
    boxes = draw.place(rng, [alpha.size for *_, alpha in drawn], size, max(2, size // 40))
    canvas = draw.canvas(rng, size, ground)
    pieces = [
        draw.Piece(look, side, turn, draw.jitter(rng, draw.PAINT[look[1]]), alpha, box)
        for look, (side, turn, alpha), box in zip(looks, drawn, boxes, strict=True)
        if box is not None
    ]
    return canvas, pieces, colors


def scenes(
    rng: random.Random,
    *,
    size: int,
    split: str,
    n_questions: int,
    families: tuple[str, ...] | None = None,
    min_objects: int = 1,
    max_objects: int = 8,
) -> Sample:
    """A picture of plain shapes; `families` narrows what is asked, the object counts narrow the scenes."""
    ground, pieces, colors = invent(rng, size, split, min_objects, max_objects)
    things = [Thing(box=p.box, what=p.look[2], color=p.look[1], size=p.look[0]) for p in pieces]
    scene, image = Scene(things, size), draw.composed(ground, pieces)
    of_interest = [i for i, p in enumerate(pieces) if split != "test-combos" or p.look[1:] in HELD_OUT]
    tag, letters = write_tag(rng, image, pieces, split, of_interest)
    questions = ask(Asker(scene, rng, split, colors, tag), FAMILIES, n_questions, families)
    text = captions(scene, rng)
    return Sample(image=image, world="scenes", captions=text, questions=questions, things=things + letters)
