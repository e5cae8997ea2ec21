"""Questions about a scene of plain shapes, in the families of CLEVR and with answers that words alone do not give.

- The answer is chosen first and the question sought for it: yes and no are equally frequent, a "no" is a near miss of
  something present, and rare counts are preferred.
- `false-premise` asks for what is not there, in the very words of `attribute` and `position`.
- The pairs in HELD_OUT are named in the split "test-combos" only, where everything asked is about them.
"""

import random

from vlm.data.sample import Question
from vlm.data.worlds import draw
from vlm.data.worlds.language import DIRECTION, GENERIC, OPPOSITE, at, noun, phrasings, pick
from vlm.data.worlds.refer import ANY, DIRECTIONS, Look, Scene, members, told
from vlm.data.worlds.scenes_agree import Agreement, put
from vlm.data.worlds.scenes_logic import logic, same_as, sides, three_hop
from vlm.data.worlds.tags import ASKED, Tag, TagAsker
from vlm.data.worlds.wording import SCENES as PHRASINGS

COLORS = tuple(draw.PAINT)
SHAPES = draw.SHAPES
SIZES = ("small", "large")
HELD_OUT = frozenset({
    ("red", "star"), ("purple", "circle"), ("orange", "square"),
    ("pink", "triangle"), ("green", "diamond"), ("blue", "heart"),
})  # fmt: skip

_COUNT_WEIGHT = (0.7, 0.55, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0)  # scenes offer low counts far more often than high ones

_ATTRIBUTES = ("size", "color", "shape")


class Asker(TagAsker):
    """Asks about one scene; each method of FAMILIES returns a question, or None where the scene offers none."""

    def __init__(self, scene: Scene, rng: random.Random, split: str, colors: list[str], tag: Tag | None = None):
        self.scene, self.rng, self.split, self.colors = scene, rng, split, colors
        self.tag, self.unknown = tag, rng.random() < ASKED
        self.combos = split == "test-combos"
        self.asked = list(range(scene.n))  # the things that may be asked about
        if self.combos:
            self.asked = [i for i, (_, c, s) in enumerate(scene.looks) if (c, s) in HELD_OUT]
        self._tallies: dict[int, list[Look]] | None = None
        self._agreement: Agreement | None = None

    def say(
        self, key: str, family: str, answer: str, x: Look = ANY, y: Look = ANY, *, at: int = -1, by: int = -1, **words
    ) -> Question:  # fmt: skip
        """Put a question into words; a colour or shape asked for is called an object, never "the shape".

        Args:
            at: the thing that the answer is seen at.
            by: the thing that one looks for first.
        """
        rng = self.rng
        about_shape = key.startswith("shape") or words.get("what") == "shape"
        generic = pick(rng, GENERIC[1:] if about_shape else GENERIC)
        text = pick(rng, phrasings(PHRASINGS, key, self.split))
        x0, x1, x2 = noun(x, generic)
        y0, _, y2 = noun(y, generic)
        place, anchor = self.scene.box(at), self.scene.box(by)
        text = text.format(x=x0, ax=x1, xs=x2, y=y0, ys=y2, **words)
        return Question(text=text, answer=answer, family=family, place=place, anchor=anchor)

    def tell(self, key: str, answer: str, look: Look) -> Question:
        return self.say(key, "cannot-tell", answer, look)

    def absent(self, pattern: tuple[int, int, int]) -> Look | None:
        """A description that fits nothing but nearly fits something: one word of a true one is changed."""
        rng, scene = self.rng, self.scene
        if self.combos:
            pairs = [p for p in sorted(HELD_OUT) if not scene.match(("", *p))]
            near = [p for p in pairs if p[0] in scene.masks or p[1] in scene.masks]
            return ("", *pick(rng, near or pairs)) if pairs else None
        dims = [d for d in (0, 1, 1, 2, 2) if pattern[d]]  # colour and shape change more often than size
        for attempt in range(8):
            words = list(told(pick(rng, scene.looks), pattern))
            d = pick(rng, dims)
            if rng.random() < 0.6 and attempt < 5:  # a word that is true of another thing: the hardest
                words[d] = pick(rng, scene.looks)[d]
            else:
                words[d] = pick(rng, (SIZES, self.colors, SHAPES)[d])
            z, c, s = words
            if not scene.match((z, c, s)) and (c, s) not in HELD_OUT:
                return z, c, s
        return None

    def described(self, pattern: tuple[int, int, int]) -> list[tuple[Look, int]]:
        """The descriptions of a pattern that fit something in the scene, each with all that it fits."""
        return [(look, self.scene.match(look)) for look in {told(whole, pattern): 0 for whole in self.scene.looks}]

    def present(self, pattern: tuple[int, int, int]) -> Look:
        """A description of something in the scene."""
        return told(self.scene.looks[pick(self.rng, self.asked)], (pattern[0], 1, 1) if self.combos else pattern)

    def tallies(self) -> dict[int, list[Look]]:
        """How often -> the descriptions that fit so many things."""
        if self._tallies is None:
            fits: dict[Look, int] = {}
            get = fits.get
            for i in self.asked:
                z, c, s = self.scene.looks[i]
                pairs = ("", c, s), (z, c, s)
                for key in pairs if self.combos else (*pairs, ("", c, ""), ("", "", s), (z, "", s), (z, c, "")):
                    fits[key] = get(key, 0) + 1
            self._tallies = {}
            for look, k in fits.items():
                self._tallies.setdefault(k, []).append(look)
        return self._tallies

    def exist(self) -> Question | None:
        pattern = pick(self.rng, _EXIST_PATTERNS)
        yes = self.rng.random() < 0.5
        look = self.present(pattern) if yes else self.absent(pattern)
        return look and self.say("exist", "exist", "yes" if yes else "no", look)

    def count(self) -> Question | None:
        if not self.combos and self.rng.random() < 0.12:
            return self.say("count", "count", str(self.scene.n), ANY)
        tallies = self.tallies()
        counts = [0, *tallies]
        k = self.rng.choices(counts, [_COUNT_WEIGHT[c] for c in counts])[0]
        looks = tallies.get(k, [])
        if self.rng.random() < 0.5:  # a color and a shape together reach high counts least often
            looks = [look for look in looks if look[1] and look[2]] or looks
        look = pick(self.rng, looks) if k else self.absent(pick(self.rng, _EXIST_PATTERNS))
        return look and self.say("count", "count", str(k), look)

    def attribute(self) -> Question | None:
        a = pick(self.rng, (0, 1, 1, 2, 2))
        things = self.asked
        if a == 0:  # large things are fewer: as often asked about for all that
            big = self.scene.masks.get(pick(self.rng, SIZES), 0)
            things = [i for i in things if big >> i & 1] or things
        i = pick(self.rng, things)
        look = self.scene.unique(self.rng, i, a)
        return look and self.say(_ATTRIBUTES[a], "attribute", self.scene.looks[i][a], look, at=i)

    def compare(self) -> Question | None:
        return self._same() if self.rng.random() < 0.4 else self._more()

    def _more(self) -> Question | None:
        rng, scene = self.rng, self.scene
        kind = pick(rng, ("more", "fewer", "equal"))
        yes = rng.random() < 0.5
        for _ in range(12):
            pattern = pick(rng, _COMPARE_PATTERNS)
            x = self.present(pattern)
            other = pick(rng, _COMPARE_PATTERNS)
            y = told(pick(rng, scene.looks), other) if rng.random() < 0.85 else self.absent(other)
            if not y or any(not p or p == q for p, q in ((x, y), (x[2] or "?", y[2]), (x[1] or "?", y[1]))):
                continue
            if rng.random() < 0.5:
                x, y = y, x
            m, n = scene.match(x).bit_count(), scene.match(y).bit_count()
            if {"more": m > n, "fewer": m < n, "equal": m == n}[kind] == yes:
                return self.say(kind, "compare", "yes" if yes else "no", x, y)
        return None

    def _same(self) -> Question | None:
        rng, scene = self.rng, self.scene
        a = pick(rng, (0, 1, 1, 2, 2))
        yes = rng.random() < 0.5
        for _ in range(6):
            i = pick(rng, self.asked)
            same = scene.masks[scene.looks[i][a]]
            others = members((same if yes else scene.all & ~same) & ~(1 << i))
            x = scene.unique(rng, i, a) if others else None
            j = pick(rng, others) if x else 0
            y = scene.unique(rng, j, a) if x else None
            if x and y:
                return self.say("same", "compare", "yes" if yes else "no", x, y, at=i, by=j, what=_ATTRIBUTES[a])
        return None

    def agree(self) -> Question | None:
        yes = self.rng.random() < 0.5
        if self._agreement is None:
            self._agreement = Agreement(self.scene, self.rng, self._another, self._nameable)
        found = self._agreement.statement(yes)
        text = found and put(found, self.rng, self.split)
        return Question(text=text, answer="yes" if yes else "no", family="agree") if text else None

    def _another(self, look: Look) -> Look:
        """A look with one of its words changed."""
        words = list(look)
        d = pick(self.rng, [d for d, word in enumerate(look) if word] or [2])
        words[d] = pick(self.rng, [w for w in (SIZES, self.colors, SHAPES)[d] if w != words[d]])
        return words[0], words[1], words[2]

    def _nameable(self, look: Look) -> bool:
        """Whether a statement of this split may name a look: one that is held out, or none that is."""
        return (look[1:] in HELD_OUT) == self.combos

    def relate(self) -> Question | None:
        rng, scene = self.rng, self.scene
        i = pick(rng, self.asked)
        d = pick(rng, DIRECTIONS)
        kind = rng.random()
        if kind < 0.5 and scene.n > 1:  # two known things, one direction
            j = pick(rng, range(scene.n))
            sure = [e for e in DIRECTIONS if scene.beside(e, j)[0] >> i & 1]
            x, y = scene.unique(rng, i), scene.unique(rng, j)
            if not sure or not x or not y:
                return None
            d = pick(rng, sure)
            if kind < 0.12:
                first, second = (d, OPPOSITE[d]) if rng.random() < 0.5 else (OPPOSITE[d], d)
                first = first if first in ("left", "above", "below") else "right"
                return self.say("which side", "relate", d, x, y, at=i, by=j, d1=first, d=DIRECTION[second])
            yes = rng.random() < 0.5
            d = d if yes else OPPOSITE[d]
            return self.say("side", "relate", "yes" if yes else "no", x, y, at=i, by=j, d=DIRECTION[d])
        return self._beside(i, d, scene.unique(rng, i), kind)

    def _beside(self, i: int, d: str, y: Look | None, kind: float) -> Question | None:
        """What stands in a direction of a known thing: all of it, or one attribute."""
        rng, scene = self.rng, self.scene
        sure, maybe = scene.beside(d, i)
        if not y or not sure:
            return None
        j = pick(rng, members(sure))
        if kind < 0.65:
            if sure | maybe != 1 << j:
                return None
            return self.say("beside", "relate", " ".join(scene.looks[j][1:]), y=y, at=j, by=i, d=DIRECTION[d])
        a = pick(rng, (1, 2))
        x = self.only(j, sure | maybe, a)
        answer = scene.looks[j][a]
        return x and self.say(f"{_ATTRIBUTES[a]} beside", "relate", answer, x, y, at=j, by=i, d=DIRECTION[d])

    def only(self, j: int, among: int, without: int) -> Look | None:
        """The shortest of some descriptions that picks thing j out of a set."""
        for pattern in _ONLY_PATTERNS[without]:
            look = told(self.scene.looks[j], pattern)
            if self.scene.match(look) & among == 1 << j:
                return look
        return None

    def two_hop(self) -> Question | None:
        rng, scene = self.rng, self.scene
        i = pick(rng, self.asked)
        y, d = scene.unique(rng, i), pick(rng, DIRECTIONS)
        if not y or scene.n < 2:
            return None
        sure, maybe = scene.beside(d, i)
        kind = rng.random()
        if kind < 0.3:
            yes = rng.random() < 0.5
            there = members(sure if yes else scene.all & ~(sure | maybe))
            look = there and told(scene.looks[pick(rng, there)], pick(rng, _COMPARE_PATTERNS))
            if not look or bool(scene.match(look) & sure) != yes or (not yes and scene.match(look) & maybe):
                return None
            return self.say("exist beside", "two-hop", "yes" if yes else "no", look, y, by=i, d=DIRECTION[d])
        if kind < 0.6:
            look = ANY if rng.random() < 0.25 else told(pick(rng, scene.looks), pick(rng, _COMPARE_PATTERNS))
            fit = scene.match(look)
            k = (fit & sure).bit_count()
            if fit & maybe or rng.random() < (0.75, 0.5, 0.2, 0)[min(k, 3)]:
                return None
            return self.say("count beside", "two-hop", str(k), look, y, by=i, d=DIRECTION[d])
        for _ in range(6 if sure else 0):
            question = self._chain(i, y, d, *scene.beside(d, i))
            if question:
                return question
        return None

    def _chain(self, i: int, y: Look, d: str, sure: int, maybe: int) -> Question | None:
        """What color is the circle right of the star above the ...: two steps from a known thing."""
        rng, scene = self.rng, self.scene
        j = pick(rng, members(sure))
        middle, e = self.only(j, sure | maybe, 3), pick(rng, DIRECTIONS)
        sure, maybe = scene.beside(e, j)
        if not middle or not sure or e == OPPOSITE[d]:
            return None
        k, a = pick(rng, members(sure)), pick(rng, (1, 2))
        x = self.only(k, sure | maybe, a)
        if not x:
            return None
        generic = pick(rng, GENERIC)
        way = f"{DIRECTION[e]} the {noun(middle, generic)[0]} {DIRECTION[d]}"
        question = self.say(f"{_ATTRIBUTES[a]} beside", "two-hop", scene.looks[k][a], x, y, at=k, by=i, d=way)
        return question if question.text.count(" ") < 14 else None

    def position(self) -> Question | None:
        rng, scene = self.rng, self.scene
        i = pick(rng, self.asked)
        cell = scene.cell(i)
        if not cell:
            return None
        if rng.random() < 0.7:
            look = scene.unique(rng, i)
            return look and self.say("where", "position", cell, look, at=i)
        if any(scene.cell(j) in ("", cell) for j in range(scene.n) if j != i):
            return None
        return self.say("what at", "position", " ".join(scene.looks[i][1:]), at=i, place=at(cell))

    def false_premise(self) -> Question | None:
        """Worded as `attribute` and `position` are, so that only the picture tells that nothing fits."""
        rng = self.rng
        key = pick(rng, ("color", "color", "shape", "size", "where"))
        look = self.absent(pick(rng, _PREMISE_PATTERNS[key]))
        if not look or (key == "color" and look[1]) or (key == "shape" and look[2]):
            return None
        generic = "object" if key == "shape" else pick(rng, GENERIC)
        words = noun(look, generic)[0]
        text = pick(rng, phrasings(PHRASINGS, key, self.split)).format(x=words)
        return Question(text=text, answer=f"there is no {words}", family="false-premise")


_EXIST_PATTERNS = ((0, 1, 1), (0, 1, 1), (0, 1, 1), (0, 0, 1), (0, 1, 0), (1, 1, 1), (1, 0, 1))
_COMPARE_PATTERNS = ((0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 1, 1))
_ONLY_PATTERNS = {
    0: ((0, 0, 0), (0, 0, 1), (0, 1, 0)),
    1: ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)),
    2: ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)),
    3: ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)),
}
_PREMISE_PATTERNS = {
    "color": ((0, 0, 1), (0, 0, 1), (1, 0, 1)),
    "shape": ((0, 1, 0), (1, 1, 0)),
    "size": ((0, 1, 1), (0, 0, 1), (0, 1, 0)),
    "where": ((0, 1, 1), (0, 1, 1), (0, 0, 1), (0, 1, 0)),
}

FAMILIES = {
    "exist": Asker.exist,
    "count": Asker.count,
    "attribute": Asker.attribute,
    "compare": Asker.compare,
    "relate": Asker.relate,
    "two-hop": Asker.two_hop,
    "three-hop": three_hop,
    "logic": logic,
    "same-as": same_as,
    "sides": sides,
    "agree": Asker.agree,
    "position": Asker.position,
    "false-premise": Asker.false_premise,
    "cannot-tell": Asker.cannot_tell,
}
