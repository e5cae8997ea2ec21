"""Statements about the three boxes of the NLVR world, and whether they are true.

- A statement is drawn until its truth is the one wanted, so both answers are equally frequent for every kind of
  statement. What is not clear in the picture (a hair's breadth higher) is not stated.
- The published sentences (Suhr et al. 2017) are human-written and serve evaluation; all wording here is our own.
"""

import random

from vlm.data.sample import Question
from vlm.data.worlds.language import NUMBERS, article, noun, phrasings, pick, sentence
from vlm.data.worlds.refer import Look
from vlm.data.worlds.wording_nlvr import NLVR as PHRASINGS

PAINT = {"black": (0, 0, 0), "yellow": (255, 255, 0), "blue": (0, 153, 255)}
COLORS = tuple(PAINT)
SHAPES = ("circle", "square", "triangle")
SIDE = {"small": 10, "medium": 20, "large": 30}
SIDES = ("left", "right", "top", "bottom")
BOX = 100
BOXES = ("left", "middle", "right")
CLEAR = 8  # pixels of height between centres for "above"

Item = tuple[str, str, str, int, int]  # size, colour, shape, x, y within the box


class Judge:
    """Draws statements about three boxes. Each method below returns (truth, words), or None where it is not clear."""

    def __init__(self, boxes: list[list[Item]], towers: bool, rng: random.Random, split: str):
        self.boxes, self.towers, self.rng, self.split = boxes, towers, rng, split
        self.items = [item for box in boxes for item in box]
        self.side = ""

    def look(self) -> Look:
        """A description: mostly of an item that is there, sometimes of any kind; never telling nothing."""
        rng = self.rng
        size, color, shape = pick(rng, self.items)[:3]
        if rng.random() < 0.35:
            color, shape = pick(rng, COLORS), pick(rng, SHAPES)
        if self.towers:
            return ("", color, "block")
        u = rng.random()
        if u < 0.12:
            return (size, color, shape)
        return ("", color, shape) if u < 0.6 else ("", color, "") if u < 0.8 else ("", "", shape)

    def fits(self, look: Look, items: list[Item]) -> int:
        """How many of the items a description fits."""
        z, c, s = look
        if self.towers:
            s = ""
        return len([i for i in items if (not z or i[0] == z) and (not c or i[1] == c) and (not s or i[2] == s)])

    def near(self, k: int, least: int = 1) -> int:
        """The number itself or one beside it."""
        return max(k + pick(self.rng, (-1, 0, 0, 1)), least)

    def pair(self) -> tuple[Look, Look] | None:
        """Two different descriptions of the same form, of which neither includes the other."""
        x, y = self.look(), self.look()
        same_form = [bool(p) for p in x] == [bool(p) for p in y]
        return (x, y) if x != y and same_form else None

    def some(self):
        x = self.look()
        return self.fits(x, self.items) > 0, {"x": x}

    def none(self):
        x = self.look()
        return self.fits(x, self.items) == 0, {"x": x}

    def both(self):
        found = self.pair()
        if not found:
            return None
        x, y = found
        return any(self.fits(x, b) and self.fits(y, b) for b in self.boxes), {"x": x, "y": y}

    def lacks(self):
        x = self.look()
        return any(not self.fits(x, b) for b in self.boxes), {"x": x}

    def total(self):
        x = self.look()
        n = self.fits(x, self.items)
        k = self.near(n)
        return n == k, {"x": x, "k": k}

    def at_least(self):
        x = self.look()
        n = self.fits(x, self.items)
        k = self.near(n + pick(self.rng, (0, 1)), 2)
        return n >= k, {"x": x, "k": k}

    def at_most(self):
        x = self.look()
        n = self.fits(x, self.items)
        k = self.near(n)
        return n <= k, {"x": x, "k": k}

    def numbers(self):
        """A box with two black circles and one blue square."""
        found = self.pair()
        if not found:
            return None
        x, y = found
        box = pick(self.rng, self.boxes)
        k, m = self.near(self.fits(x, box)), self.near(self.fits(y, box))
        words = f"{NUMBERS[m] if m <= 6 else m} {noun(y, 'item')[0 if m == 1 else 2]}"
        return any(self.fits(x, b) == k and self.fits(y, b) == m for b in self.boxes), {"x": x, "k": k, "my": words}

    def same_box(self):
        x = self.look()
        counts = [self.fits(x, b) for b in self.boxes]
        return (max(counts) == sum(counts), {"x": x}) if sum(counts) > 1 else None

    def box_colors(self):
        """A box with items of just these two colours; a box with one of them alone would be a matter of taste."""
        c, e = self.rng.sample(COLORS, 2)
        found = [{i[1] for i in b} for b in self.boxes]
        truth = {c, e} in found
        return None if not truth and any(f < {c, e} for f in found) else (truth, {"c": c, "e": e})

    def close(self):
        """One item flush against another, which is as clear as it is when nothing is nearly so."""
        x, y = self.look(), self.look()
        found = [
            adjacent(i, j) for b in self.boxes for i in b for j in b
            if i is not j and self.fits(x, [i]) and self.fits(y, [j])
        ]  # fmt: skip
        if True not in found and (None in found or not found):
            return None
        return True in found, {"x": x, "y": y}

    def base_and_top(self):
        c, e = pick(self.rng, COLORS), pick(self.rng, COLORS)
        return any(len(b) > 1 and b[0][1] == c and b[-1][1] == e for b in self.boxes), {"c": c, "e": e}

    def nth(self):
        """The second or third block from the base, or from the top, of some tower."""
        n, end, c = pick(self.rng, (2, 2, 3)), pick(self.rng, ("top", "base")), pick(self.rng, COLORS)
        hits = [len(b) >= n and b[n - 1 if end == "base" else -n][1] == c for b in self.boxes]
        return any(hits), {"nth": ("second", "third")[n - 2], "end": end, "c": c}

    def like_ends(self):
        end = pick(self.rng, ("top", "base"))
        return len({b[-1 if end == "top" else 0][1] for b in self.boxes}) < 3, {"end": end}

    def low(self):
        k = pick(self.rng, (1, 2, 2, 3))
        return any(len(b) <= k for b in self.boxes), {"x": ("", "", "block"), "k": k}

    def in_a_box(self):
        x = ("", "", "") if self.rng.random() < 0.3 and not self.towers else self.look()
        k = self.near(self.fits(x, pick(self.rng, self.boxes)))
        return any(self.fits(x, b) == k for b in self.boxes), {"x": x, "k": k}

    def boxes_with(self):
        x = self.look()
        k = pick(self.rng, (1, 2, 3))
        return sum(self.fits(x, b) > 0 for b in self.boxes) == k, {"x": x, "kb": k}

    def two_colors(self):
        c, e = self.rng.sample(COLORS, 2)
        k = max(len(pick(self.rng, self.boxes)), 2)
        truth = any(len(b) == k and {i[1] for i in b} == {c, e} for b in self.boxes)
        return truth, {"x": ("", "", ""), "k": k, "c": c, "e": e}

    def all_are(self):
        shape, c = pick(self.rng, SHAPES), pick(self.rng, COLORS)
        colors = {i[1] for i in self.items if i[2] == shape}
        return (colors == {c}, {"x": ("", "", shape), "c": c}) if colors else None

    def every_box(self):
        x = self.look()
        return all(self.fits(x, b) for b in self.boxes), {"x": x}

    def one_color(self):
        c = pick(self.rng, COLORS)
        return any({i[1] for i in b} == {c} for b in self.boxes), {"c": c}

    def n_colors(self):
        k = pick(self.rng, (2, 3))
        return any(len({i[1] for i in b}) == k for b in self.boxes), {"k": k}

    def one_shape(self):
        if any(len(b) == 1 for b in self.boxes):
            return None
        return any(len({i[2] for i in b}) == 1 for b in self.boxes), {}

    def more(self):
        found = self.pair()
        if not found:
            return None
        x, y = found
        return self.fits(x, self.items) > self.fits(y, self.items), {"x": x, "y": y}

    def box_with_more(self):
        found = self.pair()
        if not found:
            return None
        x, y = found
        return any(self.fits(x, b) > self.fits(y, b) for b in self.boxes), {"x": x, "y": y}

    def same_number(self):
        return len({len(b) for b in self.boxes}) < 3, {}

    def above(self):
        found = self.pair()
        if not found:
            return None
        x, y = found
        best = -BOX
        for box in self.boxes:
            tops = [i[4] + SIDE[i[0]] / 2 for i in box if self.fits(x, [i])]
            lows = [i[4] + SIDE[i[0]] / 2 for i in box if self.fits(y, [i])]
            if tops and lows:
                best = max(best, max(lows) - min(tops))
        return (best > 0, {"x": x, "y": y}) if best >= CLEAR or best < 0 else None

    def _touching(self) -> tuple[Look, list[int], str]:
        """A description, how many such items touch, and the wall meant, which stays while statements are tried."""
        x, side = self.look(), self.side
        walls = [[i for i in b if touches(i, side)] for b in self.boxes]
        where = f"the {side} edge" if side else pick(self.rng, ("the edge", "a wall", "the wall"))
        if side == "bottom" and self.rng.random() < 0.5:
            where = "the base"
        return x, [self.fits(x, b) for b in walls], where

    def touching(self):
        x, counts, where = self._touching()
        return sum(counts) > 0, {"x": x, "where": where}

    def n_touching(self):
        x, counts, where = self._touching()
        k = self.near(sum(counts))
        return sum(counts) == k, {"x": x, "k": k, "where": where}

    def box_n(self):
        b = pick(self.rng, (0, 1, 2))
        x = ("", "", "") if self.rng.random() < 0.3 and not self.towers else self.look()
        n = self.fits(x, self.boxes[b])
        k = self.near(n)
        return n == k, {"x": x, "k": k, "box": BOXES[b]}

    def _end(self) -> tuple[str, str, list[bool]]:
        """A colour, an end, and for each tower whether that end has that colour; boxes list towers from the base."""
        c, end = pick(self.rng, COLORS), pick(self.rng, ("top", "base"))
        return c, end, [b[-1 if end == "top" else 0][1] == c for b in self.boxes]

    def end(self):
        c, end, hits = self._end()
        return any(hits), {"c": c, "end": end}

    def n_ends(self):
        c, end, hits = self._end()
        k = pick(self.rng, (1, 2, 2, 3))
        return sum(hits) == k, {"c": c, "end": end, "kt": k}

    def box_end(self):
        c, end, hits = self._end()
        b = pick(self.rng, (0, 1, 2))
        return hits[b], {"c": c, "end": end, "box": BOXES[b]}

    def tallest(self):
        c, end, hits = self._end()
        heights = [len(b) for b in self.boxes]
        best = max(heights)
        return (hits[heights.index(best)], {"c": c, "end": end}) if heights.count(best) == 1 else None

    def over(self):
        c, e = pick(self.rng, COLORS), pick(self.rng, COLORS)
        return any(b[i + 1][1] == c and b[i][1] == e for b in self.boxes for i in range(len(b) - 1)), {"c": c, "e": e}

    def height(self):
        k = pick(self.rng, (1, 2, 3, 4))
        return any(len(b) == k for b in self.boxes), {"x": ("", "", "block"), "k": k}

    def n_height(self):
        n, k = pick(self.rng, (2, 3, 4)), pick(self.rng, (1, 2, 3))
        return sum(len(b) == n for b in self.boxes) == k, {"n": n, "kt": k}

    def same_ends(self):
        if any(len(b) == 1 for b in self.boxes):
            return None
        return any(b[0][1] == b[-1][1] for b in self.boxes), {}

    def statement(self, key: str, method, truth: bool, tries: int = 9) -> str | None:
        """The sentence of one kind with the wanted truth; None where the boxes do not make both true and false ones.

        Else a kind that is seldom true of them would mostly be said where it is false, and its words would tell that.
        Of a kind that has but one sentence the truth is what it is.
        """
        self.side = pick(self.rng, (*SIDES, "", "", ""))
        found = {}
        for _ in range(tries):
            made = method(self)
            if made:
                found[made[0]] = made[1]
            if len(found) == 2 or method in ALONE:
                return self.say(key, **found[truth]) if truth in found else None
        return None

    def say(self, key: str, x: Look = ("", "", ""), y: Look = ("", "", ""), k: int = 0, kb: int = 0, kt: int = 0,
            c: str = "", e: str = "", **words) -> str:  # fmt: skip
        """Fill the slots that PHRASINGS names."""
        rng = self.rng
        generic = pick(rng, ("item", "object", "shape"))
        (x0, x1, x2), (_, y1, y2) = noun(x, generic), noun(y, generic)
        number = NUMBERS[k] if k == 1 or (k <= 6 and rng.random() < 0.5) else str(k)
        one = k == 1 or kb == 1 or kt == 1
        boxes = f"{NUMBERS[kb]} {'box' if kb == 1 else 'boxes'}"
        return pick(rng, phrasings(PHRASINGS, key, self.split)).format(
            x=x0, ax=x1, Ax=sentence(x1), xs=x2, ay=y1, ys=y2, k=number, kx=f"{number} {x0 if k == 1 else x2}",
            kb=f"{boxes} {'has' if kb == 1 else 'have'}", kbox=boxes, areb="is" if kb == 1 else "are",
            kt=f"{NUMBERS[kt]} {'tower' if kt == 1 else 'towers'}", are="is" if one else "are",
            have="has" if one else "have", c=c, ac=c and article(c), Ac=c and sentence(article(c)),
            e=e, ae=e and article(e), **words,
        )  # fmt: skip

    def question(self, family: str) -> Question | None:
        """A statement of a family as a question; its truth is drawn first."""
        rng = self.rng
        truth = rng.random() < 0.5
        for _ in range(2):  # the truth stays: else the answer that is harder to meet would be the rarer one
            key, method = pick(rng, (TOWERS if self.towers else SCATTER)[family])
            text = self.statement(key, method, truth)
            if text:
                break
        else:
            return None
        forms = phrasings(PHRASINGS, "bare", self.split)
        form = pick(rng, forms) if text.count(" ") < 10 else forms[0]
        answers = ("false", "true") if form.startswith("True or false") else ("no", "yes")
        return Question(text=form.format(s=text), answer=answers[truth], family=family)


def touches(item: Item, side: str) -> bool:
    """Whether an item touches a side of its box, or any side for ""."""
    low, high = item[3:], [v + SIDE[item[0]] for v in item[3:]]
    hits = {"left": low[0] == 0, "right": high[0] == BOX, "top": low[1] == 0, "bottom": high[1] == BOX}
    return hits[side] if side else any(hits.values())


def adjacent(a: Item, b: Item) -> bool | None:
    """Whether two items of a box touch; None where they nearly do, or only with their corners."""
    dx = max(a[3] - b[3] - SIDE[b[0]], b[3] - a[3] - SIDE[a[0]])
    dy = max(a[4] - b[4] - SIDE[b[0]], b[4] - a[4] - SIDE[a[0]])
    if max(dx, dy) >= 4:
        return False
    level = [2 * (p - q) + SIDE[a[0]] - SIDE[b[0]] == 0 for p, q in ((a[3], b[3]), (a[4], b[4]))]
    flush = (dx == 0 and level[1] and "triangle" not in (a[2], b[2])) or (dy == 0 and level[0])
    return True if flush else None


_SHARED = {
    "count": [
        ("total", Judge.total),
        ("at least", Judge.at_least),
        ("at most", Judge.at_most),
        ("box n", Judge.box_n),
        ("numbers", Judge.numbers),
    ],
    "compare": [("more", Judge.more), ("box with more", Judge.box_with_more)],
}
SCATTER = {
    "exist": [("some", Judge.some), ("both", Judge.both), ("none", Judge.none), ("lacks", Judge.lacks)],
    "count": [*_SHARED["count"], ("in a box", Judge.in_a_box), ("boxes with", Judge.boxes_with),
              ("two colors", Judge.two_colors), ("same box", Judge.same_box)],
    "attribute": [("all are", Judge.all_are), ("every box", Judge.every_box), ("box of one color", Judge.one_color),
                  ("n colors", Judge.n_colors), ("one shape", Judge.one_shape), ("box colors", Judge.box_colors)],
    "compare": [*_SHARED["compare"], ("same number", Judge.same_number)],
    "relate": [("above", Judge.above), ("close", Judge.close)],
    "position": [("touching", Judge.touching), ("n touching", Judge.n_touching)],
}  # fmt: skip
TOWERS = {
    "exist": [("some", Judge.some), ("both", Judge.both), ("lacks", Judge.lacks), ("none", Judge.none)],
    "count": [*_SHARED["count"], ("height", Judge.height), ("height", Judge.in_a_box), ("n height", Judge.n_height),
              ("low", Judge.low)],
    "attribute": [("tower of one color", Judge.one_color), ("every tower", Judge.every_box),
                  ("tower colors", Judge.n_colors), ("same ends", Judge.same_ends), ("like ends", Judge.like_ends)],
    "compare": [*_SHARED["compare"], ("same height", Judge.same_number)],
    "relate": [("over", Judge.over)],
    "position": [("end", Judge.end), ("n ends", Judge.n_ends), ("box end", Judge.box_end), ("tallest", Judge.tallest),
                 ("base and top", Judge.base_and_top), ("nth", Judge.nth)],
}  # fmt: skip
ALONE = (Judge.same_number, Judge.one_shape, Judge.same_ends)
FAMILIES = {family: (lambda judge, family=family: judge.question(family)) for family in SCATTER}
