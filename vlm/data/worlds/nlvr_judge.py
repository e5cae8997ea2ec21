"""Statements about the three boxes of the NLVR world, and whether they are true.

- A statement is made only where the boxes give it a true and a false twin that differ in what they name alone: the form
  of the description, the numbers and the wall are the same. Both are then equally likely, so no phrase tells which.
- Of what the boxes alone decide (ALONE) the commoner truth is stated less often.
- What is not clear in the picture (a hair's breadth higher) is not stated.
- The published sentences (Suhr et al. 2017) are human-written and serve evaluation; all wording here is our own.
"""

import random
from collections.abc import Callable, Sequence

from vlm.data.sample import Box, Question
from vlm.data.worlds.language import NUMBERS, article, noun, phrasings, pick, sentence
from vlm.data.worlds.nlvr_items import BOX, COLORS, SHAPES, SIDES, Item, Items
from vlm.data.worlds.refer import ANY, Look, members, told
from vlm.data.worlds.wording_nlvr import NLVR as PHRASINGS

BOXES = ("left", "middle", "right")
ORDINALS = {2: "second", 3: "third"}
WALLS = ("the edge", "a wall", "the wall")
CLEAR = 8  # pixels of height between centres for "above"
_FORMS = ((1, 1, 1), (0, 1, 1), (0, 1, 1), (0, 1, 1), (0, 1, 1), (0, 1, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1))


class Judge:
    """Draws statements about three boxes. What SCATTER and TOWERS name returns (truth, words), None if not clear."""

    def __init__(
        self, boxes: list[list[Item]], towers: bool, rng: random.Random, split: str, places: Sequence[Box] = ()
    ):
        self.lists, self.towers, self.rng, self.split, self.places = boxes, towers, rng, split, places
        self.items = Items(boxes)
        self.boxes, self.fit = self.items.boxes, self.items.fit
        self.colors = [{i[1] for i in b} for b in boxes]  # of each box
        self.heights = [len(b) for b in boxes]
        self.kept: dict[str, int] = {}  # what a statement's twins share
        self.forms = _FORMS[:2]
        self.side, self.lot = "", rng.random()

    def look(self, second: bool = False) -> Look:
        """A description of the form of this statement: mostly of an item that is there, sometimes of any."""
        rng, items = self.rng, self.items.items
        size, color, shape = items[int(rng.random() * len(items))][:3]
        if rng.random() < 0.35:
            color, shape = pick(rng, COLORS), pick(rng, SHAPES)
        return ("", color, "block") if self.towers else told((size, color, shape), self.forms[second])

    def looks(self) -> tuple[Look, Look] | None:
        """Two different descriptions of the same form."""
        x, y = self.look(), self.look()
        return (x, y) if x != y else None

    def keep(self, name: str, number: int) -> int:
        """A number that stays while twins of a statement are sought."""
        return self.kept.setdefault(name, number)

    def near(self, k: int, least: int = 1, name: str = "k") -> int:
        """The number itself or one beside it, which then stays."""
        return self.kept.get(name) or self.keep(name, max(k + pick(self.rng, (-1, 0, 0, 1)), least))

    def count(self, look: Look) -> int:
        """How many items a description fits."""
        return self.fit(look).bit_count()

    def anything(self) -> bool:
        """Whether this statement is about items of any kind."""
        return bool(self.keep("any", self.rng.random() < 0.3 and not self.towers))

    def some(self):
        x = self.look()
        return self.fit(x) > 0, {"x": x}

    def none(self):
        x = self.look()
        return self.fit(x) == 0, {"x": x}

    def both(self):
        found = self.looks()
        if not found:
            return None
        a, b = map(self.fit, found)
        return any(a & box and b & box for box in self.boxes), {"x": found[0], "y": found[1]}

    def lacks(self):
        x = self.look()
        fit = self.fit(x)
        return not all(fit & box for box in self.boxes), {"x": x}

    def total(self):
        x = self.look()
        n = self.count(x)
        k = self.near(n)
        return n == k, {"x": x, "k": k}

    def at_least(self):
        x = self.look()
        n = self.count(x)
        k = self.near(n + pick(self.rng, (0, 1)), 2)
        return n >= k, {"x": x, "k": k}

    def at_most(self):
        x = self.look()
        n = self.count(x)
        k = self.near(n)
        return n <= k, {"x": x, "k": k}

    def numbers(self):
        """A box with two black circles and one blue square."""
        found = self.looks()
        if not found:
            return None
        (x, y), box = found, pick(self.rng, self.boxes)
        a, b = self.fit(x), self.fit(y)
        k, m = self.near((a & box).bit_count()), self.near((b & box).bit_count(), name="m")
        words = f"{NUMBERS[m] if m <= 6 else m} {noun(y, 'item')[0 if m == 1 else 2]}"
        truth = any((a & box).bit_count() == k and (b & box).bit_count() == m for box in self.boxes)
        return truth, {"x": x, "k": k, "my": words}

    def same_box(self):
        x = self.look()
        fit = self.fit(x)
        return (any(fit & box == fit for box in self.boxes), {"x": x}) if fit & (fit - 1) else None

    def box_colors(self):
        """A box with items of just these two colours; a box with one of them alone would be a matter of taste."""
        c, e = self.rng.sample(COLORS, 2)
        truth = {c, e} in self.colors
        return None if not truth and any(f < {c, e} for f in self.colors) else (truth, {"c": c, "e": e})

    def close(self):
        """One item flush against another, which is as clear as it is when nothing is nearly so."""
        x, y = self.look(), self.look(second=True)
        a, b = self.fit(x), self.fit(y)
        near = [self.items.touching[i] for i in members(a)]
        truth = any(sure & b for sure, _ in near)
        apart = any(a & box and b & box and ((a | b) & box).bit_count() > 1 for box in self.boxes)
        return (truth, {"x": x, "y": y}) if truth or apart and not any(maybe & b for _, maybe in near) else None

    def base_and_top(self):
        c, e = pick(self.rng, COLORS), pick(self.rng, COLORS)
        return any(len(b) > 1 and b[0][1] == c and b[-1][1] == e for b in self.lists), {"c": c, "e": e}

    def nth(self):
        """The second or third block from the base, or from the top, of some tower."""
        n, end, c = self.keep("n", pick(self.rng, (2, 2, 3))), pick(self.rng, ("top", "base")), pick(self.rng, COLORS)
        hits = [len(b) >= n and b[n - 1 if end == "base" else -n][1] == c for b in self.lists]
        return any(hits), {"nth": ORDINALS[n], "end": end, "c": c}

    def like_ends(self):
        end = pick(self.rng, ("top", "base"))
        return len({b[-1 if end == "top" else 0][1] for b in self.lists}) < 3, {"end": end}

    def low(self):
        k = pick(self.rng, (1, 2))
        return min(self.heights) <= k, {"x": ("", "", "block"), "k": k}

    def in_a_box(self):
        x = ANY if self.anything() else self.look()
        fit = self.fit(x)
        if x == ANY:
            self.kept.pop("k", None)
        k = self.near((fit & pick(self.rng, self.boxes)).bit_count())
        return any((fit & box).bit_count() == k for box in self.boxes), {"x": x, "k": k}

    def boxes_with(self):
        x, k = self.look(), self.keep("kb", pick(self.rng, (1, 2, 3)))
        fit = self.fit(x)
        return sum(fit & box > 0 for box in self.boxes) == k, {"x": x, "kb": k}

    def two_colors(self):
        c, e = self.rng.sample(COLORS, 2)
        k = self.keep("k", max(pick(self.rng, self.heights), 2))
        truth = any(n == k and f == {c, e} for n, f in zip(self.heights, self.colors, strict=True))
        return truth, {"x": ANY, "k": k, "c": c, "e": e}

    def all_are(self):
        shape, c = pick(self.rng, SHAPES), pick(self.rng, COLORS)
        fit = self.fit(("", "", shape))
        return (fit & self.fit(("", c, "")) == fit, {"x": ("", "", shape), "c": c}) if fit else None

    def every_box(self):
        x = self.look()
        fit = self.fit(x)
        return all(fit & box for box in self.boxes), {"x": x}

    def one_color(self):
        c = pick(self.rng, COLORS)
        return {c} in self.colors, {"c": c}

    def n_colors(self):
        k = pick(self.rng, (2, 3))
        return any(len(found) == k for found in self.colors), {"k": k}

    def one_shape(self):
        if 1 in self.heights:
            return None
        return any(len({i[2] for i in b}) == 1 for b in self.lists), {}

    def more(self):
        found = self.looks()
        if not found:
            return None
        x, y = found
        return self.count(x) > self.count(y), {"x": x, "y": y}

    def box_with_more(self):
        found = self.looks()
        if not found:
            return None
        a, b = map(self.fit, found)
        return any((a & box).bit_count() > (b & box).bit_count() for box in self.boxes), {"x": found[0], "y": found[1]}

    def same_number(self):
        return len(set(self.heights)) < 3, {}

    def above(self):
        found = self.looks()
        if not found:
            return None
        best, heights = -BOX, self.items.heights
        a, b = map(self.fit, found)
        for box in self.boxes:
            if a & box and b & box:
                lowest = max(heights[i] for i in members(b & box))
                best = max(best, lowest - min(heights[i] for i in members(a & box)))
        return (best > 0, {"x": found[0], "y": found[1]}) if best >= CLEAR or best < 0 else None

    def touch(self) -> tuple[Look, int, str]:
        """A description, how many such items touch, and the wall meant, which stays while statements are tried."""
        x, side = self.look(), self.side
        where = f"the {side} edge" if side else WALLS[self.keep("w", pick(self.rng, THREE))]
        if side == "bottom" and self.keep("w", self.rng.random() < 0.5):
            where = "the base"
        return x, (self.fit(x) & self.items.walls[side]).bit_count(), where

    def touching(self):
        x, n, where = self.touch()
        return n > 0, {"x": x, "where": where}

    def n_touching(self):
        x, n, where = self.touch()
        k = self.near(n)
        return n == k, {"x": x, "k": k, "where": where}

    def box_n(self):
        b = pick(self.rng, THREE)
        x = ANY if self.anything() else self.look()
        n = (self.fit(x) & self.boxes[b]).bit_count()
        k = self.near(n)
        return n == k, {"x": x, "k": k, "box": BOXES[b]}

    def ends(self) -> tuple[str, str, list[bool]]:
        """A colour, an end, and for each tower whether that end has that colour; boxes list towers from the base."""
        c, end = pick(self.rng, COLORS), pick(self.rng, ("top", "base"))
        return c, end, [b[-1 if end == "top" else 0][1] == c for b in self.lists]

    def end(self):
        c, end, hits = self.ends()
        return any(hits), {"c": c, "end": end}

    def n_ends(self):
        c, end, hits = self.ends()
        k = self.keep("kt", pick(self.rng, (1, 2, 2, 3)))
        return sum(hits) == k, {"c": c, "end": end, "kt": k}

    def box_end(self):
        c, end, hits = self.ends()
        b = pick(self.rng, THREE)
        return hits[b], {"c": c, "end": end, "box": BOXES[b]}

    def tallest(self):
        c, end, hits = self.ends()
        best = max(self.heights)
        return (hits[self.heights.index(best)], {"c": c, "end": end}) if self.heights.count(best) == 1 else None

    def over(self):
        c, e = pick(self.rng, COLORS), pick(self.rng, COLORS)
        return any(b[i + 1][1] == c and b[i][1] == e for b in self.lists for i in range(len(b) - 1)), {"c": c, "e": e}

    def height(self):
        k = pick(self.rng, (1, 2, 3, 4))
        return k in self.heights, {"x": ("", "", "block"), "k": k}

    def n_height(self):
        n, k = pick(self.rng, (2, 3, 4)), self.keep("kt", pick(self.rng, (1, 2, 3)))
        return self.heights.count(n) == k, {"n": n, "kt": k}

    def same_ends(self):
        if 1 in self.heights:
            return None
        return any(b[0][1] == b[-1][1] for b in self.lists), {}

    def begin(self) -> None:
        """Draw the form of what is said next."""
        rng = self.rng
        self.side, self.forms = pick(rng, (*SIDES, "", "", "")), (pick(rng, _FORMS), pick(rng, _FORMS))
        self.kept.clear()

    def statement(self, key: str, method, truth: bool, tries: int = 12) -> str | None:
        """The sentence of one kind with the wanted truth; None where the boxes do not make twins of both truths."""
        self.begin()
        found = {}
        for _ in range(tries):
            made = method(self)
            if made is None:
                continue
            found[made[0]] = made[1]
            if method in ALONE:
                often = ALONE[method][self.towers][made[1].get("k", 0)]
                return self.say(key, **made[1]) if made[0] == truth and self._even(often, truth) else None
            if len(found) == 2:
                return self.say(key, **found[truth])
        return None

    def _even(self, often: float, truth: bool) -> bool:
        """Whether to state what is true of a share of all pictures; the same whenever this picture is asked."""
        return self.lot < ((1 - often) / often if truth else often / (1 - often))

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
ALONE: dict[Callable, tuple[dict[int, float], dict[int, float]]] = {
    Judge.n_colors: ({2: 0.78, 3: 0.59}, {2: 0.9, 3: 0.47}),
    Judge.one_shape: ({0: 0.62}, {}),
    Judge.same_number: ({0: 0.38}, {0: 0.65}),
    Judge.same_ends: ({}, {0: 0.7}),
    Judge.height: ({}, {1: 0.38, 2: 0.63, 3: 0.63, 4: 0.63}),
    Judge.low: ({}, {1: 0.38, 2: 0.81}),
}
"""What the boxes alone decide -> of which share of scattered items and of towers it is true, by number."""
THREE = (0, 1, 2)
FAMILIES = {family: (lambda judge, family=family: judge.question(family)) for family in SCATTER}
