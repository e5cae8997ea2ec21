"""The items of three boxes as sets: what a description fits, what touches a wall, what touches what.

- Sets of items are bit masks, so that a description is matched with two ANDs. What is not clear in the picture is
  neither touching nor apart.
"""

from functools import cached_property

from vlm.data.worlds.refer import Look, members

COLORS = ("black", "yellow", "blue")
SHAPES = ("circle", "square", "triangle")
SIDE = {"small": 10, "medium": 20, "large": 30}
SIDES = ("left", "right", "top", "bottom")
BOX = 100

Item = tuple[str, str, str, int, int]  # size, colour, shape, x, y within the box


class Items:
    """All items, numbered from box to box; `boxes` holds the set of each."""

    def __init__(self, boxes: list[list[Item]]):
        self.items = [item for box in boxes for item in box]
        self.n = len(self.items)
        self.all = (1 << self.n) - 1
        self.masks = {"": self.all, "block": self.all}  # word -> the items that it fits
        self.boxes: list[int] = []
        bit = 1
        for box in boxes:
            start = bit
            for z, c, s, _, _ in box:
                for word in (z, c, s):
                    self.masks[word] = self.masks.get(word, 0) | bit
                bit <<= 1
            self.boxes.append(bit - start)

    def fit(self, look: Look) -> int:
        """The set that a description fits."""
        get = self.masks.get
        return get(look[0], 0) & get(look[1], 0) & get(look[2], 0)

    @cached_property
    def walls(self) -> dict[str, int]:
        """Side of a box -> what touches it; "" is any side."""
        found = dict.fromkeys((*SIDES, ""), 0)
        for i, (size, _, _, x, y) in enumerate(self.items):
            far = BOX - SIDE[size]
            for side, hit in zip(SIDES, (x == 0, x == far, y == 0, y == far), strict=True):
                if hit:
                    found[side] |= 1 << i
                    found[""] |= 1 << i
        return found

    @cached_property
    def heights(self) -> list[float]:
        """Of the middle of each item, from the top of its box."""
        return [y + SIDE[size] / 2 for size, _, _, _, y in self.items]

    @cached_property
    def touching(self) -> list[tuple[int, int]]:
        """For each item what touches it, and what may or may not."""
        found = [[0, 0] for _ in self.items]
        for box in self.boxes:
            inside = members(box)
            for i in inside:
                for j in inside[: inside.index(i)]:
                    state = adjacent(self.items[i], self.items[j])
                    if state is not False:
                        found[i][state is None] |= 1 << j
                        found[j][state is None] |= 1 << i
        return [(sure, maybe) for sure, maybe in found]


def adjacent(a: Item, b: Item) -> bool | None:
    """Whether two items of a box touch; None where they nearly do, or only with their corners."""
    dx = max(a[3] - b[3] - SIDE[b[0]], b[3] - a[3] - SIDE[a[0]])
    dy = max(a[4] - b[4] - SIDE[b[0]], b[4] - a[4] - SIDE[a[0]])
    if max(dx, dy) >= 4:
        return False
    level = [2 * (p - q) + SIDE[a[0]] - SIDE[b[0]] == 0 for p, q in ((a[3], b[3]), (a[4], b[4]))]
    flush = (dx == 0 and level[1] and "triangle" not in (a[2], b[2])) or (dy == 0 and level[0])
    return True if flush else None
