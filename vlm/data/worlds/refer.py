"""Referring to things without doubt: which descriptions fit one thing only, and what surely stands where.

- A look is (size, colour, what) with "" for "not said". Sets of things are bit masks, so that a description is matched
  with two ANDs; a scene has at most some ten things.
- Directions follow CLEVR (Johnson et al. 2017): A is left of B when its centre is. What is nearly level is "maybe", and
  no question may hang on a maybe: a question has one answer in the pixels or is not asked.
"""

import random
from functools import lru_cache

from vlm.data.sample import Box, Thing
from vlm.data.worlds.language import pick

Look = tuple[str, str, str]
ANY: Look = ("", "", "")
DIRECTIONS = ("left", "right", "above", "below")
CELLS = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
SURE, SURELY_NOT, GRID_MARGIN = 0.12, 0.04, 0.035  # of the picture's side

# Which of (size, colour, what) a description tells. Orders are fixed so that drawing one costs one random number.
_PATTERNS = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1))
_rng = random.Random(0)
_ORDERS = [sorted(_PATTERNS, key=lambda p: sum(p) + 2 * _rng.random()) for _ in range(32)]


@lru_cache(maxsize=8)
def _orders(without: int) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """The orders of patterns, less those that tell attribute number `without` (3: none left out)."""
    return tuple(tuple(p for p in order if without == 3 or not p[without]) for order in _ORDERS)


def told(look: Look, pattern: tuple[int, int, int]) -> Look:
    """The part of a look that a pattern tells."""
    return (look[0] if pattern[0] else "", look[1] if pattern[1] else "", look[2] if pattern[2] else "")


class Scene:
    """The things of one square picture with what can be said about them; every answer is computed from here."""

    __slots__ = ("looks", "things", "extent", "masks", "all", "xs", "ys", "_beside", "n")

    def __init__(self, things: list[Thing], extent: int, looks: list[Look] | None = None):
        self.things, self.extent, self.n = things, extent, len(things)
        self.looks = looks or [(t.size, t.color, t.what) for t in things]
        self.all = (1 << self.n) - 1
        masks: dict[str, int] = {"": self.all}
        bit = 1
        for look in self.looks:
            for word in look:
                if word:
                    masks[word] = masks.get(word, 0) | bit
            bit <<= 1
        self.masks = masks
        self.xs = [t.box[0] + t.box[2] for t in things]  # twice the centre: stays whole
        self.ys = [t.box[1] + t.box[3] for t in things]
        self._beside: dict[tuple[str, int], tuple[int, int]] = {}

    def box(self, i: int) -> Box | None:
        """Where thing i stands; None for -1, which is none of them."""
        return self.things[i].box if i >= 0 else None

    def match(self, look: Look) -> int:
        """The set of things that a description fits."""
        get = self.masks.get
        return get(look[0], 0) & get(look[1], 0) & get(look[2], 0)

    def unique(self, rng: random.Random, i: int, without: int = 3) -> Look | None:
        """A description of thing i that fits no other, not telling attribute `without` (0 size, 1 colour, 2 what)."""
        look, one = self.looks[i], 1 << i
        for pattern in pick(rng, _orders(without)):
            said = told(look, pattern)
            if self.match(said) == one:
                return said
        return None

    def beside(self, direction: str, i: int) -> tuple[int, int]:
        """(surely, maybe): the sets of things that stand in a direction of thing i."""
        key = (direction, i)
        found = self._beside.get(key)
        if found is None:
            values = self.xs if direction in ("left", "right") else self.ys
            sign = 1 if direction in ("left", "above") else -1
            limit, least = 2 * SURE * self.extent, 2 * SURELY_NOT * self.extent
            here, sure, maybe, bit = values[i], 0, 0, 1
            for v in values:
                d = (here - v) * sign
                if d > least:
                    if d > limit:
                        sure |= bit
                    else:
                        maybe |= bit
                bit <<= 1
            found = self._beside[key] = (sure, maybe)
        return found

    def cell(self, i: int) -> str:
        """The cell of the 3 x 3 grid that thing i surely stands in, or "" when its centre is near a line."""
        side, margin = 2 * self.extent, 2 * self.extent * GRID_MARGIN
        index = 0
        for v, step in ((self.xs[i], 1), (self.ys[i], 3)):
            if abs(v - side / 3) < margin or abs(v - side * 2 / 3) < margin:
                return ""
            index += step * int(v * 3 / side)
        return CELLS[index]

    def rough_cell(self, i: int) -> int:
        """The number of the 3 x 3 cell that holds the centre, for captions."""
        side = 2 * self.extent
        return 3 * min(self.ys[i] * 3 // side, 2) + min(self.xs[i] * 3 // side, 2)


def members(mask: int) -> list[int]:
    """The numbers in a set."""
    return [i for i in range(mask.bit_length()) if mask >> i & 1]
