"""Questions about two pictures: whether they are the same, what changed, which has more, what is in which.

- A "no" and a false premise name what the other picture has, where there is such a thing: one picture alone misleads.
- What changed is asked for where one thing did; where none did, the answer is "nothing", in the same words.
"""

import random
from collections.abc import Callable

from vlm.data.sample import Question
from vlm.data.worlds.language import GENERIC, noun, phrasings, pick
from vlm.data.worlds.pairs_changes import Change
from vlm.data.worlds.refer import ANY, Look, Scene, told
from vlm.data.worlds.scenes_asker import HELD_OUT
from vlm.data.worlds.tags import CANNOT_TELL
from vlm.data.worlds.wording_pairs import PAIRS as PHRASINGS

ORDER = ("first", "second")
ATTRIBUTES = ("size", "color", "shape")
SAME = 0.4  # of the pairs that differ, this share is asked whether they are the same: equally many as do not
ALIKE = 0.3  # of the pairs in which all numbers are equal, this share is asked which has more
_PATTERNS = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 1))
_KEYS = {"added": "added", "removed": "removed", "place": "moved", "replaced": "replaced"}
_UNLIKE = {  # kind of change -> the kinds that surely did not happen then
    "nothing": ("added", "removed", "place", "color", "shape", "size"),
    "added": ("removed", "place", "color", "size"),
    "removed": ("added", "place", "color", "size"),
    "place": ("added", "removed", "color", "shape", "size"),
    "size": ("added", "removed", "place", "color", "shape"),
    "color": ("place", "shape", "size"),
    "shape": ("place", "color", "size"),
    "replaced": ("place",),
}


class PairAsker:
    """Asks about two scenes; a method returns None where they offer nothing of its family."""

    def __init__(
        self, scenes: tuple[Scene, Scene], change: Change, rng: random.Random, split: str,
        others: Callable[[str, Look], list[Look]], *, emoji: bool,
    ):  # fmt: skip
        """`others(kind, look)` offers the looks that differ from one in its "color", "shape" or "name"."""
        self.scenes, self.change, self.rng, self.split, self.others = scenes, change, rng, split, others
        self.emoji, self.combos = emoji, split == "test-combos"
        self.asked = [
            [i for i, look in enumerate(s.looks) if not self.combos or look[1:] in HELD_OUT] for s in scenes
        ]  # fmt: skip
        self._numbers: dict[Look, tuple[int, int]] = {}
        self.told_same = change.kind == "nothing" or rng.random() < SAME
        self.told_alike = rng.random() < ALIKE  # thrown once: a family is tried several times

    def say(self, key: str, family: str, answer: str, x: Look = ANY, p: int = 0, **words) -> Question:
        generics = ("emoji", "thing") if self.emoji else GENERIC[1:] if words.get("what") == "shape" else GENERIC
        x0, x1, x2 = noun(x, pick(self.rng, generics))
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split))
        text = text.format(x=x0, ax=x1, xs=x2, p=ORDER[p], q=ORDER[1 - p], **words)
        return Question(text=text, answer=answer, family=family)

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    # -------------------------------------------------------------------------------------- what is there

    def numbers(self) -> dict[Look, tuple[int, int]]:
        """Descriptions of what is there, each with how many things it fits in the first and in the second picture."""
        if not self._numbers:
            patterns = _PATTERNS[2:3] if self.combos else _PATTERNS
            shown = dict.fromkeys(s.looks[i] for s, asked in zip(self.scenes, self.asked, strict=True) for i in asked)
            first, second = self.scenes
            for look in dict.fromkeys(told(look, p) for look in shown for p in patterns):
                if look != ANY:
                    self._numbers[look] = first.match(look).bit_count(), second.match(look).bit_count()
        return self._numbers

    def absent(self) -> Look | None:
        """A description of something that neither picture has but that is near to one."""
        if self.combos:
            pairs = [("", *p) for p in sorted(HELD_OUT) if not any(s.match(("", *p)) for s in self.scenes)]
            return pick(self.rng, pairs) if pairs else None
        looks = list(self.numbers())
        for _ in range(4 if looks else 0):
            look = pick(self.rng, looks)
            options = self.others("color" if look[1] and (not look[2] or self.coin()) else "shape", look)
            found = pick(self.rng, options) if options else ANY
            if found != ANY and not any(s.match(found) for s in self.scenes):
                return found
        return None

    def sought(self, wanted: Callable[[int, int], bool]) -> Look | None:
        """A description for whose numbers in the first and in the second picture something holds."""
        found = [look for look, (m, n) in self.numbers().items() if wanted(m, n)]
        if wanted(0, 0) and (not found or self.rng.random() < 0.5):
            return self.absent()
        return pick(self.rng, found) if found else None

    # -------------------------------------------------------------------------------------- families

    def same(self) -> Question | None:
        same = self.change.kind == "nothing"
        if not self.told_same:
            return None
        return self.say("same", "pair same", "yes" if same else "no") if self.coin() else \
            self.say("differ", "pair same", "no" if same else "yes")  # fmt: skip

    def changed(self) -> Question | None:
        change, family, rng = self.change, "pair change", self.rng
        kind = change.kind
        if kind == "several":
            return None
        if kind == "nothing" or rng.random() < 0.3:
            return self.say("what changed", family, kind) if kind != "nothing" or self.told_alike else None
        if kind in ("added", "removed") or rng.random() < 0.5:
            p = int(kind == "added")
            look = self.scenes[p].looks[change.after if p else change.before]
            key, what = self._which(kind)
            return self.say(key, family, name_of(look), what=what)
        return self._of_changed(family)

    def _of_changed(self, family: str) -> Question | None:
        """What the one thing that changed became, what it was, where it went."""
        change, rng = self.change, self.rng
        kind = change.kind
        a, b = self.scenes[0].looks[change.before], self.scenes[1].looks[change.after]
        x, y = self.scenes[0].unique(rng, change.before), self.scenes[1].unique(rng, change.after)
        if not x or not y:
            return None
        if kind == "place":
            return self.say("which way", family, change.way, x) if change.way else None
        if kind == "replaced":
            return self.say("replaced by", family, name_of(b), x)
        n = ATTRIBUTES.index(kind)
        return self.say("became", family, b[n], x, what=kind) if self.coin() else \
            self.say("was", family, a[n], y, what=kind)  # fmt: skip

    def cannot_tell(self) -> Question | None:
        """Where something went that is gone, what it became, what it was before it came: and where that is told."""
        kind, rng, family = self.change.kind, self.rng, "cannot-tell"
        if kind not in ("added", "removed"):
            return self._of_changed(family) if kind not in ("nothing", "several") and self.told_same else None
        p = int(kind == "added")
        look = self.scenes[p].unique(rng, self.change.after if p else self.change.before)
        if not look or self.scenes[1 - p].match(look):
            return None
        what = pick(rng, ("color", "size"))
        if p:
            return None if self.emoji else self.say("was", family, CANNOT_TELL, look, what=what)
        if self.emoji or self.coin():
            return self.say("which way", family, CANNOT_TELL, look)
        return self.say("became", family, CANNOT_TELL, look, what=what)

    def _which(self, kind: str) -> tuple[str, str]:
        """The key that asks what changed in a way, and the attribute it names."""
        return (_KEYS[kind], "") if kind in _KEYS else ("altered", kind)

    def more(self) -> Question | None:
        family = "pair more"
        differ = [n > m for m, n in self.numbers().values() if m != n]
        if not differ and not self.told_alike:
            return None
        if self.rng.random() < 0.35 and differ:
            yes = self.coin()
            p = int(pick(self.rng, differ)) if yes else int(self.coin())
            look = self.sought(lambda m, n: m + n > 0 and ((n > m) if p else (m > n)) == yes)
            return look and self.say("more than", family, "yes" if yes else "no", look, p)
        key, order = ("more", ORDER) if self.coin() else ("fewer", ORDER[::-1])
        answer = pick(self.rng, (order[pick(self.rng, differ)], *ORDER, "the same")) if differ else "the same"
        look = self.sought(lambda m, n: m + n > 0 and ("the same" if m == n else order[int(n > m)]) == answer)
        return look and self.say(key, family, answer, look)

    def count(self) -> Question | None:
        family, rng = "pair count", self.rng
        found: dict[int, list[tuple[str, Look, int]]] = {}
        looks = list(self.numbers())
        for _ in range(4 if looks else 0):
            p = int(self.coin())
            look = ANY if rng.random() < 0.12 and not self.combos else pick(rng, looks)
            m, n = (s.match(look).bit_count() for s in self.scenes)
            here, there = (n, m) if p else (m, n)
            key = pick(rng, ("count in", "count both", *(("count more",) if here > there else ())))
            k = {"count in": here, "count both": m + n, "count more": here - there}[key]
            found.setdefault(k, []).append((key, look, p))
        if not found:
            return None
        k = rng.choices(list(found), [0.4 if k == 0 else min(k, 6) for k in found])[0]
        key, look, p = pick(rng, found[k])
        return self.say(key, family, str(k), look, p)

    def exist(self) -> Question | None:
        family, u = "pair exist", self.rng.random()
        if u < 0.3:
            known = {"both": (True, True), "neither": (False, False), "first": (True, False), "second": (False, True)}
            shown = {(m > 0, n > 0) for m, n in self.numbers().values()}
            options = [w for w, seen in known.items() if seen in shown or w == "neither"]
            if len(options) < 3 and not self.told_alike:
                return None
            [where] = self.rng.choices(options, [0.6 if w == "neither" else 1.0 for w in options])
            look = self.sought(lambda m, n: (m > 0, n > 0) == known[where])
            return look and self.say("which has", family, where, look)
        yes = self.coin()
        if u < 0.55 and any((m > 0) != (n > 0) for m, n in self.numbers().values()):
            look = self.sought(lambda m, n: (m > 0 and n > 0) if yes else (m > 0) != (n > 0))
            return look and self.say("exist both", family, "yes" if yes else "no", look)
        p = int(self.coin())
        misleading = self.sought(lambda m, n: ((n, m)[p] == 0) == yes and ((m, n)[p] > 0) == yes)  # the other picture
        look = misleading or self.sought(lambda m, n: ((m, n)[p] > 0) == yes)
        return look and self.say("exist in", family, "yes" if yes else "no", look, p)

    def attribute(self) -> Question | None:
        rng, p = self.rng, int(self.coin())
        scene, touched = self.scenes[p], (self.change.before, self.change.after)[p]
        if not self.asked[p]:
            return None
        i = touched if touched in self.asked[p] and self.coin() else pick(rng, self.asked[p])
        if self.emoji or rng.random() < 0.3:
            look, cell = scene.unique(rng, i), scene.cell(i)
            return self.say("where in", "pair attribute", cell, look, p) if look and cell else None
        a = pick(rng, (0, 1, 1, 2, 2))
        look = scene.unique(rng, i, a)
        return look and self.say("attribute in", "pair attribute", scene.looks[i][a], look, p, what=ATTRIBUTES[a])

    def false_premise(self) -> Question | None:
        """What was added where nothing was; the colour or place of what one picture, or neither, shows."""
        family, rng = "false-premise", self.rng
        if rng.random() < 0.35:
            kinds = [k for k in _UNLIKE.get(self.change.kind, ()) if not self.emoji or k in _KEYS]
            if not kinds:
                return None
            key, what = self._which(pick(rng, kinds))
            return self.say(key, family, "nothing", what=what)
        p = int(self.coin())
        look = self.sought(lambda m, n: (m, n)[p] == 0)
        if not look:
            return None
        free = [a for a, word in zip(ATTRIBUTES, look, strict=True) if not word and a != "size"]
        answer = f"there is no {noun(look, 'object' if free == ['shape'] else pick(rng, GENERIC))[0]}"
        if not look[2]:
            return None if self.emoji else self._of_what(look, p, answer)
        if self.emoji or not free or rng.random() < 0.4:
            return self.say("where in", family, answer, look, p)
        return self.say("attribute in", family, answer, look, p, what=pick(rng, free))

    def _of_what(self, look: Look, p: int, answer: str) -> Question:
        """The shape of the red thing, where there is none: question and answer call it an object."""
        text = pick(self.rng, phrasings(PHRASINGS, "attribute in", self.split))
        words = noun(look, "object")[0]
        text = text.format(x=words, p=ORDER[p], what="shape")
        return Question(text=text, answer=f"there is no {words}", family="false-premise")


def name_of(look: Look) -> str:
    """A look as it is answered: "red circle", "cat"."""
    return " ".join(word for word in look[1:] if word)


FAMILIES = {
    "pair same": PairAsker.same,
    "pair change": PairAsker.changed,
    "pair more": PairAsker.more,
    "pair count": PairAsker.count,
    "pair exist": PairAsker.exist,
    "pair attribute": PairAsker.attribute,
    "false-premise": PairAsker.false_premise,
    "cannot-tell": PairAsker.cannot_tell,
}
