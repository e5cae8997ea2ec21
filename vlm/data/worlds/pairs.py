"""Pairs of pictures: the same, or with one thing changed, or with several; asked about together.

- Two charts, now and then, on pictures of 128 pixels and more: `pairs_charts`.
- Shapes or emoji (these where a zip of them is given) on one ground; the second picture is the first with a colour, a
  shape, a size or a place changed, a thing added, removed or replaced, so that only a comparison answers.
- The split "test-combos" changes, and asks about, the pairs of colour and shape that no other split draws.
"""

import random
from dataclasses import replace
from pathlib import Path

from vlm.data.sample import Sample, Thing
from vlm.data.worlds import draw
from vlm.data.worlds.captions import counted
from vlm.data.worlds.draw import Piece
from vlm.data.worlds.emoji import invent as invent_emoji
from vlm.data.worlds.emoji import picture_of
from vlm.data.worlds.emoji_names import CATEGORY, CLASHES, CODES, NAMES
from vlm.data.worlds.language import article, ask, noun, pick, sentence
from vlm.data.worlds.pairs_asker import FAMILIES, PairAsker, name_of
from vlm.data.worlds.pairs_changes import Change, Changer
from vlm.data.worlds.pairs_charts import FAMILIES as OF_CHARTS
from vlm.data.worlds.pairs_charts import LEAST, SHARE, chart_pairs
from vlm.data.worlds.refer import Look, Scene
from vlm.data.worlds.scenes import SIDE
from vlm.data.worlds.scenes import invent as invent_shapes
from vlm.data.worlds.scenes_asker import HELD_OUT, SHAPES

OF_SHAPES = ("color", "color", "shape", "shape", "size", "place", "place", "added", "added", "removed", "removed")
OF_EMOJI = ("replaced", "replaced", "place", "added", "removed")
NOTHING, SEVERAL = 0.28, 0.2  # shares of the pairs


class Shapes:
    """How shapes change."""

    kinds, emoji = OF_SHAPES, False

    def __init__(self, rng: random.Random, size: int, split: str, max_objects: int):
        self.rng, self.size, self.combos = rng, size, split == "test-combos"
        self.ground, self.pieces, self.colors = invent_shapes(rng, size, split, 1, max_objects)
        self.first = [i for i, p in enumerate(self.pieces) if not self.combos or p.look[1:] in HELD_OUT]

    def others(self, kind: str, look: Look) -> list[Look]:
        z, c, s = look
        if kind == "size":
            return [("small" if z == "large" else "large", c, s)]
        if kind == "color":
            found = [(z, other, s) for other in self.colors if other != c]
        else:
            found = [(z, c, other) for other in SHAPES if other != s]
        return [(z, c, s) for z, c, s in found if self.combos or (c, s) not in HELD_OUT]

    def redrawn(self, piece: Piece, look: Look) -> Piece:
        low, high = SIDE[look[0]]
        side = piece.side if look[0] == piece.look[0] else round(self.size * (low + self.rng.random() * (high - low)))
        fill = piece.fill if look[1] == piece.look[1] else draw.jitter(self.rng, draw.PAINT[look[1]])
        return replace(piece, look=look, side=side, fill=fill, mask=draw.mask(look[2], side, piece.turn))

    @staticmethod
    def thing(piece: Piece, picture: int) -> Thing:
        z, c, s = piece.look
        return Thing(box=piece.box, what=s, color=c, size=z, picture=picture)


class Emoji:
    """How emoji change."""

    kinds, emoji = OF_EMOJI, True

    def __init__(self, rng: random.Random, size: int, path: str):
        self.rng, self.path = rng, path
        self.ground, self.pieces = invent_emoji(rng, size, path, 2)
        self.first = list(range(len(self.pieces)))

    def others(self, kind: str, look: Look) -> list[Look]:
        """Two of the same category, two of any."""
        taken = {p.look[2] for p in self.pieces} | {look[2]}
        names = [n for n in NAMES[CATEGORY[look[2]]] if n not in taken]
        found = [*self.rng.sample(names, min(2, len(names))), *self.rng.sample(tuple(CODES), 2)]
        return [("", "", n) for n in found if n not in taken and not CLASHES.get(n, set()) & taken]

    def redrawn(self, piece: Piece, look: Look) -> Piece:
        picture = picture_of(self.path, look[2], piece.side, piece.turn)
        return replace(piece, look=look, fill=picture, mask=picture)

    @staticmethod
    def thing(piece: Piece, picture: int) -> Thing:
        return Thing(box=piece.box, what=f"emoji:{piece.look[2]}", picture=picture)


Pictures = tuple[list[Piece], list[Piece], Change]


def _changed(rng: random.Random, made: Shapes | Emoji, size: int) -> Pictures:
    """(first picture, second picture, what changed)."""
    changer, u, pieces = Changer(rng, size, made.redrawn, made.others), rng.random(), made.pieces
    if u < SEVERAL and len(pieces) > 1:
        second, made_of = pieces, list[Pictures]()
        for _ in range(2 + int(3 * rng.random())):
            untouched = [i for i, p in enumerate(second) if p in pieces]
            kind = pick(rng, ("removed", "removed", *(k for k in made.kinds if k != "added")))
            if untouched and (found := changer.change(kind, second, pick(rng, untouched))):
                second = found[1]
                made_of.append(found)
        if len(made_of) == 1:
            return made_of[0]
        several = Change("several" if made_of else "nothing")
        return (pieces, second, several) if rng.random() < 0.5 else (second, pieces, several)
    if u < 1 - NOTHING:
        for _ in range(8):
            found = changer.change(pick(rng, made.kinds), pieces, pick(rng, made.first))
            if found:
                return found
    return pieces, pieces, Change("nothing")


def pairs(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None,
    max_objects: int = 8, emoji_path: str | Path | None = None,
) -> Sample:  # fmt: skip
    """Two pictures of one scene, or two charts where these can be read: `image` and one of `others`."""
    offered = families is None or any(f in OF_CHARTS for f in families)
    if size >= LEAST and offered and rng.random() < SHARE:
        return chart_pairs(rng, size=size, split=split, n_questions=n_questions, families=families)
    of_emoji = emoji_path is not None and split != "test-combos" and rng.random() < 0.3
    made: Shapes | Emoji = Emoji(rng, size, str(emoji_path)) if of_emoji else Shapes(rng, size, split, max_objects)
    first, second, change = _changed(rng, made, size)
    things = [[made.thing(p, k) for p in pieces] for k, pieces in enumerate((first, second))]
    a, b = (Scene(t, size, [p.look for p in pieces]) for t, pieces in zip(things, (first, second), strict=True))
    asker = PairAsker((a, b), change, rng, split, made.others, emoji=of_emoji)
    questions = ask(asker, FAMILIES, n_questions, families)
    images = [draw.composed(made.ground, pieces) for pieces in (first, second)]
    return Sample(
        image=images[0], others=images[1:], world="pairs", captions=_captions(a, b, change, rng), questions=questions,
        things=[*things[0], *things[1]],
    )  # fmt: skip


def _captions(a: Scene, b: Scene, change: Change, rng: random.Random) -> list[str]:
    """What changed; what stands in either picture."""
    told = [counted(s, list(range(s.n)), rng) for s in (a, b)]
    return [_difference(a, b, change), f"First: {told[0].lower()} Second: {told[1].lower()}"]


def _difference(a: Scene, b: Scene, change: Change) -> str:
    if change.kind in ("nothing", "several"):
        return "The pictures are the same." if change.kind == "nothing" else "Several things differ."
    if change.kind == "added":
        return f"{sentence(noun(b.looks[change.after])[1])} was added."
    x = noun(a.looks[change.before])[0]
    if change.kind == "removed":
        return f"{sentence(article(x))} was removed."
    if change.kind == "place":
        return f"The {x} moved{' ' + change.way if change.way else ''}."
    y = b.looks[change.after]
    if change.kind == "replaced":
        return f"{sentence(article(name_of(y)))} replaced the {x}."
    new = {"color": y[1], "size": y[0], "shape": article(y[2])}[change.kind]
    return f"The {x} is {new} in the second picture."
