"""What may change from one picture to the next: one thing, several, or nothing."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from vlm.data.sample import Box
from vlm.data.worlds import draw
from vlm.data.worlds.draw import Piece
from vlm.data.worlds.language import pick


@dataclass(slots=True)
class Change:
    """One thing that changed: its number in the first picture and in the second, -1 where it is not there."""

    kind: str  # "color", "shape", "size", "place", "added", "removed", "replaced"; "nothing"; "several"
    before: int = -1
    after: int = -1
    way: str = ""  # of what moved mostly along one axis: "left", "right", "up", "down"


class Changer:
    """Changes one thing of a list of pieces; a method returns the new piece, or None where there is no room for it."""

    def __init__(self, rng: random.Random, size: int, redrawn: Callable, looks: Callable):
        """`redrawn(piece, look, side)` paints anew; `looks(kind, look)` offers the looks that one may change to."""
        self.rng, self.size, self.redrawn, self.looks = rng, size, redrawn, looks
        self.gap = max(2, size // 40)

    def fits(self, box: Box, others: Iterable[Piece]) -> bool:
        inside = box[0] >= 1 and box[1] >= 1 and box[2] < self.size and box[3] < self.size
        return inside and draw.apart(box, [p.box for p in others], self.gap)

    def altered(self, kind: str, piece: Piece, others: list[Piece]) -> Piece | None:
        """The piece with another colour, shape, size or name, where it was."""
        options = self.looks(kind, piece.look)
        if not options:
            return None
        made = self.redrawn(piece, pick(self.rng, options))
        width, height = made.mask.size
        x, y = (piece.box[0] + piece.box[2] - width) // 2, (piece.box[1] + piece.box[3] - height) // 2
        made = replace(made, box=(x, y, x + width, y + height))
        return made if self.fits(made.box, others) else None

    def moved(self, piece: Piece, others: list[Piece]) -> Piece | None:
        """The piece at a place that is surely another."""
        width, height = piece.mask.size
        x0, y0 = piece.box[:2]
        for _ in range(12):
            x, y = (2 + int(self.rng.random() * (self.size - side - 3)) for side in (width, height))
            if max(abs(x - x0), abs(y - y0)) < 0.28 * self.size:
                continue
            box = (x, y, x + width, y + height)
            if self.fits(box, others):
                return replace(piece, box=box)
        return None

    def change(self, kind: str, pieces: list[Piece], i: int) -> tuple[list[Piece], list[Piece], Change] | None:
        """(first picture, second picture, what changed) of one change to piece i; None where it cannot be made."""
        others = pieces[:i] + pieces[i + 1 :]
        if kind in ("added", "removed"):
            if not others:
                return None
            return (pieces, others, Change(kind, i, -1)) if kind == "removed" else (others, pieces, Change(kind, -1, i))
        piece = self.moved(pieces[i], others) if kind == "place" else self.altered(kind, pieces[i], others)
        if piece is None:
            return None
        change = Change(kind, i, i, _way(pieces[i].box, piece.box) if kind == "place" else "")
        return pieces, [*pieces[:i], piece, *pieces[i + 1 :]], change


def _way(a: Box, b: Box) -> str:
    """Which way a box moved, "" where it moved aslant."""
    dx, dy = b[0] + b[2] - a[0] - a[2], b[1] + b[3] - a[1] - a[3]
    if abs(dx) > 2 * abs(dy):
        return "right" if dx > 0 else "left"
    if abs(dy) > 2 * abs(dx):
        return "down" if dy > 0 else "up"
    return ""
