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
from vlm.data.worlds.language import DIRECTION, OPPOSITE, article, ask, either, phrasings, pick, sentence
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
    """Asks about one grid: `masks` maps a word to its cells, `things` a cell to what stands there."""

    def __init__(self, masks: dict[str, int], things: dict[int, Thing], rng: random.Random, split: str):
        self.masks, self.things, self.rng, self.split = masks, things, rng, split
        self.places = {cell: thing.box for cell, thing in things.items()}

    def say(
        self, key: str, family: str, answer: bool | str, x: str = "", at: int = 0, start: int = 0, **words
    ) -> Question:
        """As published: no capitals, no question mark; now and then written properly.

        Args:
            at, start: the cell where the answer is seen, and the one where one looks first; 0 for none.
        """
        words |= {"x": x, "ax": x and article(x), "xs": x + "s"}
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(**words)
        u = self.rng.random()
        text = sentence(text) + "?" if u < 0.3 else text + "?" if u < 0.5 else text
        said = answer if isinstance(answer, str) else "yes" if answer else "no"
        return Question(text=text, answer=said, family=family, place=self.places.get(at), anchor=self.places.get(start))

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

    def what(self) -> Question | None:
        """An open question: published ones are yes and no, which tell a learner little of what it got wrong."""
        return pick(
            self.rng, (Asker._what_there, Asker._what_there, Asker._what_like, Asker._what_like, Asker._number)
        )(self)

    def _what_there(self) -> Question | None:
        """What stands one or two steps from a thing that is alone of its kind: "red circle" or "nothing"."""
        rng = self.rng
        start = there = pick(rng, tuple(self.things))
        thing = self.things[start]
        said = [w for w in ((thing.color,), (thing.what,), (thing.color, thing.what)) if self.cells(*w) == start]
        way = article(self.phrase(pick(rng, said))[0]) if said else article(f"{thing.size} {thing.color} {thing.what}")
        if not said and self.cells(thing.size, thing.color, thing.what) != start:
            return None
        d = ""
        for _ in range(pick(rng, (1, 1, 2))):
            d = pick(rng, [e for e in DIRECTIONS if e != OPPOSITE.get(d)])
            there, way = step(there, d), f"{DIRECTION[d]} {way}"
        found = self.things.get(there)
        if not found and rng.random() < 0.6:
            return None  # nothing stands in many cells
        return self.say(
            "what", "what", f"{found.color} {found.what}" if found else "nothing", at=there, start=start, way=way
        )

    def _what_like(self) -> Question | None:
        """The colour of the one circle; the shape of what is red."""
        cell = pick(self.rng, tuple(self.things))
        thing = self.things[cell]
        key, word, answer = pick(
            self.rng, (("what color", thing.what, thing.color), ("what shape", thing.color, thing.what))
        )
        return self.say(key, "what", answer, self.phrase([word])[0], at=cell) if self.cells(word) == cell else None

    def _number(self) -> Question:
        """How many there are of a colour, a shape, or both."""
        color, shape = pick(self.rng, tuple(COLORS)), pick(self.rng, SHAPES)
        x, cells = self.phrase(pick(self.rng, ((color,), (shape,), (color, shape))))
        return self.say("how many", "what", str(cells.bit_count()), x)


FAMILIES = {
    "exist": Asker.exist,
    "attribute": Asker.attribute,
    "relate": Asker.relate,
    "two-hop": Asker.two_hop,
    "what": Asker.what,
}


def shapes(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """A grid of shapes with questions; no pair is held out here, "test-combos" is drawn as any other split."""
    small = Image.new("RGB", (3 * CELL, 3 * CELL))
    scale = size / (3 * CELL)
    masks: dict[str, int] = {}
    things: dict[int, Thing] = {}
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
        things[1 << cell] = Thing(box=(left, top, right, bottom), what=shape, color=color, size=big)
        for word in (color, shape, big):
            masks[word] = masks.get(word, 0) | 1 << cell
    image = small.resize((size, size), pick(rng, (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)))
    questions = ask(Asker(masks, things, rng, split), FAMILIES, n_questions, families)
    text = captions(Scene(list(things.values()), size), rng)
    return Sample(image=image, world="shapes", captions=text, questions=questions, things=list(things.values()))
