"""Statements that are true of a scene or nearly are, after ShapeWorld (Kuhnle & Copestake 2017).

- A false statement is a minimal twin of a true one: one quantifier, number, colour, shape or direction is another.
- A quantifier, a number or a connective is said of a scene only where it makes true and false statements, and then
  either with equal chance: the words "at most two" alone tell nothing.
- "Most" means more than half and not all; what is nearly level stands in no direction.
"""

import random
from dataclasses import dataclass, replace

from vlm.data.worlds.language import DIRECTION, NUMBERS, OPPOSITE, noun, pick, sentence
from vlm.data.worlds.refer import ANY, DIRECTIONS, Look, Scene, members, told
from vlm.data.worlds.wording import SCENES as PHRASINGS

QUANTIFIERS = ("all", "most", "half", "no", "all but one", "exactly", "at least", "at most")
COUNTS = ("exactly", "at least", "at most")
_SHARES = (*("share",) * 11, *("number",) * 4, *("side",) * 4, "more", "more", "and", "or", "without")
WORDS = {"share": QUANTIFIERS, "number": COUNTS, "side": DIRECTIONS}


@dataclass(frozen=True, slots=True)
class Statement:
    """How many of x are y; how many x there are; whether an x is somewhere from a y; more x than y; x and, or, no y."""

    kind: str  # "share", "number", "side", "more", "and", "or", "without"
    x: Look
    y: Look = ANY
    word: str = ""  # the quantifier, or the direction
    k: int = 0


def truth(s: Statement, scene: Scene) -> bool | None:
    """Whether a statement holds; None where it is not clear or would sound odd."""
    a, b = scene.match(s.x), scene.match(s.y)
    n, m = a.bit_count(), (a & b).bit_count()
    if s.kind == "share":
        if n < 2 or (s.word == "most" and m == n) or (s.word == "all but one" and n < 3):
            return None
        return {"all": m == n, "most": 2 * m > n, "half": 2 * m == n, "no": m == 0, "all but one": m == n - 1}.get(
            s.word, _counts(s, m)
        )
    if s.kind == "number":
        return _counts(s, n)
    if s.kind == "side":
        surely, perhaps = False, False
        for j in members(b):
            sure, maybe = scene.beside(s.word, j)
            surely, perhaps = surely or bool(sure & a), perhaps or bool(maybe & a & ~(1 << j))
        return True if surely else None if perhaps else False
    if s.kind == "more":
        return n > b.bit_count()
    return {"and": bool(a) and bool(b), "or": bool(a) or bool(b), "without": bool(a) and not b}[s.kind]


def _counts(s: Statement, m: int) -> bool:
    return {"exactly": m == s.k, "at least": m >= s.k, "at most": m <= s.k}.get(s.word, False)


def words(s: Statement) -> str:
    """The statement without its capital and its stop."""
    x, ax, xs = noun(s.x)
    if s.kind == "side":
        other = noun(s.y)[1] if s.x != s.y else f"another {noun(s.y)[0]}"
        return f"{ax} is {DIRECTION[s.word]} {other}"
    if s.kind == "more":
        return f"there are more {xs} than {noun(s.y)[2]}"
    if s.kind in ("and", "or", "without"):
        tail = {"and": f"and {noun(s.y)[1]}", "or": f"or {noun(s.y)[1]}", "without": f"but no {noun(s.y)[0]}"}
        return f"there is {ax} {tail[s.kind]}"
    number = f"{s.word} {NUMBERS[s.k]}" if s.word in COUNTS else s.word
    one = s.word in COUNTS and s.k == 1
    if s.kind == "number":
        return f"there {'is' if one else 'are'} {number} {x if one else xs}"
    one = one or s.word == "no"
    what = s.y[1] or (noun(("", "", s.y[2]))[1] if one else noun(("", "", s.y[2]))[2])
    of = {"half": "half of the", "all but one": "all but one of the"}.get(s.word, number)
    return f"{of} {x if one else xs} {'is' if one else 'are'} {what}"


class Agreement:
    """Draws statements about one scene; `others(look)` is a look with another word, `allowed(look)` may be named."""

    def __init__(self, scene: Scene, rng: random.Random, others, allowed):
        self.scene, self.rng, self.others, self.allowed = scene, rng, others, allowed

    def _look(self, *patterns: tuple[int, int, int]) -> Look:
        return told(pick(self.rng, self.scene.looks), pick(self.rng, patterns))

    def drawn(self, kind: str, word: str, k: int) -> Statement:
        """Some statement of a kind about what is there."""
        rng = self.rng
        if kind == "share":
            if rng.random() < 0.7:
                x, y = self._look((0, 0, 1), (0, 0, 1), (1, 0, 1), (0, 0, 0)), self._look((0, 1, 0))
            else:
                x, y = self._look((0, 1, 0)), self._look((0, 0, 1))
            return Statement(kind, x, y, word, k)
        x = self._look((0, 0, 1), (0, 1, 0), (0, 1, 1))
        if kind == "number":
            return Statement(kind, x, ANY, word, k)
        y = self._look((0, 0, 1), (0, 1, 0), (0, 1, 1))
        return Statement(kind, x, self.others(y) if kind in ("or", "without") else y, word)

    def twin(self, s: Statement) -> Statement:
        """The statement with one word changed."""
        rng = self.rng
        part = pick(rng, ("word", "x", "y") if s.kind in ("share", "side") else ("word", "x") if s.word else ("x", "y"))
        if part == "word":
            if s.kind == "side":
                return replace(s, word=OPPOSITE[s.word])
            if s.word in COUNTS and rng.random() < 0.5:
                return replace(s, k=max(1, s.k + pick(rng, (-1, 1))))
            options = [w for w in (COUNTS if s.word in COUNTS else QUANTIFIERS[:5]) if w != s.word]
            return replace(s, word=pick(rng, options))
        old = s.x if part == "x" else s.y
        new = self.others(old)
        return replace(s, x=new) if part == "x" else replace(s, y=new)

    def statement(self, wanted: bool) -> Statement | None:
        """One with the wanted truth, in words that the scene makes true and false statements of."""
        kind = pick(self.rng, _SHARES)
        word = pick(self.rng, WORDS[kind]) if kind in WORDS else ""
        k = pick(self.rng, (1, 1, 2, 2, 3, 4)) if word in COUNTS else 0
        found: dict[bool, Statement] = {}
        for _ in range(9):
            s = self.drawn(kind, word, k)
            holds = truth(s, self.scene)
            if holds is None or holds in found or not self._fine(s):
                continue
            if holds or self._nearly(s):
                found[holds] = s
            if len(found) == 2:
                return found[wanted]
        return None

    def _nearly(self, s: Statement) -> bool:
        """Whether a false statement is a word away from a true one."""
        twins = (self.twin(s) for _ in range(6))
        return any(self._fine(t) and truth(t, self.scene) is True for t in twins)

    def _fine(self, s: Statement) -> bool:
        """Whether it says something, of what the split may name."""
        if s.kind in ("more", "and", "or", "without"):
            one_kind = [bool(p) for p in s.x] == [bool(p) for p in s.y]
            inside = self.scene.match(s.x) & ~self.scene.match(s.y) == 0 and bool(self.scene.match(s.x))
            if s.x == s.y or (not one_kind and inside) or self.allowed(s.x) + self.allowed(s.y) < 2:
                return False
            return one_kind or s.kind != "more"
        pair = tuple(p or q for p, q in zip(s.x, s.y, strict=True)) if s.kind == "share" else s.x
        return self.allowed(pair) and (s.kind != "side" or self.allowed(s.y))


def put(s: Statement, rng: random.Random, split: str) -> str:
    """The statement as a question."""
    text = words(s)
    forms = PHRASINGS["agree"][1 if split == "test" else 0]
    return pick(rng, forms).format(s=text, S=sentence(text))
