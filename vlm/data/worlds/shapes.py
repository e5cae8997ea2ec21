"""Shapes: the world of SHAPES (Andreas et al. 2016), a 3 x 3 grid of red, green and blue shapes on black.

- Pictures have 30 x 30 pixels, as published, and are enlarged: nine cells of ten pixels, one in five empty, a shape's
  radius 2.5 or 3.75 pixels give or take a tenth, its colour channels give or take a fifth.
- The meaning is the published one: "left of a circle" is the one cell next to a circle, a chain of two relations goes
  through cells whether or not something stands there, and a thing that is asked about exists ("is a red shape ..." is
  asked only where there is one). Sets of cells are bit masks, relations are shifts.
- Captions use the wide sense of the scenes world ("left of" = further left), in which whatever they say is true too.
"""

import itertools
import random
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from vlm.data.sample import Question, Sample, Thing
from vlm.data.worlds.captions import captions
from vlm.data.worlds.language import DIRECTION, article, ask, either, phrasings, pick, sentence
from vlm.data.worlds.refer import DIRECTIONS, Scene
from vlm.data.worlds.wording import SHAPES as PHRASINGS

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SHAPES = ("circle", "square", "triangle")
RADIUS = {"small": 2.5, "large": 3.75}
CELL = 10
_ALL, _LEFT, _RIGHT = 0b111111111, 0b001001001, 0b100100100  # bit 3 * row + column


def step(cells: int, direction: str) -> int:
    """The cells next to the given ones in a direction."""
    if direction == "left":
        return (cells & ~_LEFT) >> 1
    if direction == "right":
        return (cells & ~_RIGHT) << 1
    return cells >> 3 if direction == "above" else cells << 3 & _ALL


@lru_cache(maxsize=256)
def _cell(shape: str, tenths: int) -> Image.Image:
    """The alpha of one cell with a shape of a radius in tenths of a pixel."""
    k, c = 10, 50
    big = Image.new("L", (CELL * k, CELL * k), 0)
    pen, r = ImageDraw.Draw(big), tenths
    if shape == "circle":
        pen.ellipse((c - r, c - r, c + r, c + r), fill=255)
    elif shape == "square":
        pen.rectangle((c - r, c - r, c + r - 1, c + r - 1), fill=255)
    else:
        pen.polygon(((c - r, c + r), (c, c - r), (c + r, c + r)), fill=255)
    return big.reduce(k)


class Asker:
    """Asks about one grid; `masks` maps a word to the cells that it is true of."""

    def __init__(self, masks: dict[str, int], rng: random.Random, split: str):
        self.masks, self.rng, self.split = masks, rng, split

    def say(self, key: str, family: str, yes: bool, x: str, **words) -> Question:
        """As published: no capitals, no question mark; now and then written properly."""
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(x=x, ax=article(x), xs=x + "s", **words)
        u = self.rng.random()
        text = sentence(text) + "?" if u < 0.3 else text + "?" if u < 0.5 else text
        return Question(text=text, answer="yes" if yes else "no", family=family)

    def cells(self, *words: str) -> int:
        """The cells that all words are true of."""
        found = _ALL
        for word in words:
            found &= self.masks.get(word, 0)
        return found

    def phrase(self, words: Sequence[str]) -> tuple[str, int]:
        """A noun phrase and its cells: "red shape", "circle", "small blue square"."""
        return " ".join(words) + ("" if words[-1] in SHAPES else " shape"), self.cells(*words)

    def thing(self) -> tuple[str, int]:
        """A noun phrase of one word that matters, and its cells."""
        return self.phrase([pick(self.rng, pick(self.rng, (tuple(COLORS), SHAPES)))])

    def exist(self) -> Question | None:
        rng = self.rng
        kinds = [tuple(COLORS), SHAPES]
        if rng.random() < 0.15:
            kinds = [pick(rng, kinds)]
        elif rng.random() < 0.5:
            kinds = [(pick(rng, tuple(RADIUS)),), *kinds]
        made = [self.phrase(words) for words in itertools.product(*kinds)]
        found = either(rng, [x for x, here in made if here], [x for x, here in made if not here])
        return found and self.say("exist", "exist", *found)

    def attribute(self) -> Question | None:
        """Is a red shape a circle; is a circle red; now and then is a red shape blue."""
        rng = self.rng
        subjects, words = pick(rng, ((tuple(COLORS), SHAPES), (SHAPES, tuple(COLORS))))
        if rng.random() < 0.1:
            words = subjects
        made = [(pick(rng, subjects), word) for word in words for _ in range(2)]
        there = [pair for pair in made if self.cells(pair[0])]
        found = either(
            rng, [p for p in there if self.cells(*p)], [p for p in there if not self.cells(*p)]
        )  # fmt: skip
        if not found:
            return None
        yes, (x, y) = found
        return self.say("is", "attribute", yes, self.phrase([x])[0], y=y if y in COLORS else article(y))

    def relate(self) -> Question | None:
        return self._chain("relate", 1)

    def two_hop(self) -> Question | None:
        return self._chain("two-hop", 2)

    def _chain(self, family: str, n: int) -> Question | None:
        rng = self.rng
        y, there = self.thing()
        way = article(y)
        for _ in range(n):
            d = pick(rng, DIRECTIONS)
            there, way = step(there, d), f"{DIRECTION[d]} {way}"
        made = [self.phrase([word]) for word in pick(rng, (tuple(COLORS), SHAPES))]
        found = either(
            rng, [x for x, here in made if here & there], [x for x, here in made if here and not here & there]
        )  # fmt: skip
        return found and self.say("relate", family, *found, way=way)


FAMILIES = {
    "exist": Asker.exist,
    "attribute": Asker.attribute,
    "relate": Asker.relate,
    "two-hop": Asker.two_hop,
}


def shapes(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """A grid of shapes with yes/no questions; no pair is held out here, "test-combos" is drawn as any other split."""
    small = Image.new("RGB", (3 * CELL, 3 * CELL))
    scale = size / (3 * CELL)
    masks: dict[str, int] = {}
    things: list[Thing] = []
    u = rng.random
    for cell in range(9):
        if u() < 0.2 and (things or cell < 8):
            continue
        color, shape, big = pick(rng, tuple(COLORS)), pick(rng, SHAPES), pick(rng, tuple(RADIUS))
        r = round(RADIUS[big] * (0.9 + 0.2 * u()) * 10)
        paint = tuple(min(max(int(c + (u() * 0.4 - 0.2) * 255), 0), 255) for c in COLORS[color])
        left, top = cell % 3 * CELL, cell // 3 * CELL
        small.paste(paint, (left, top, left + CELL, top + CELL), _cell(shape, r))
        x, y, radius = left + CELL / 2, top + CELL / 2, r / 10
        left, top, right, bottom = (round(v * scale) for v in (x - radius, y - radius, x + radius, y + radius))
        things.append(Thing(box=(left, top, right, bottom), what=shape, color=color, size=big))
        for word in (color, shape, big):
            masks[word] = masks.get(word, 0) | 1 << cell
    image = small.resize((size, size), pick(rng, (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)))
    questions = ask(Asker(masks, rng, split), FAMILIES, n_questions, families)
    text = captions(Scene(things, size), rng)
    return Sample(image=image, world="shapes", captions=text, questions=questions, things=things)
