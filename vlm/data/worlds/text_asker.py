"""Questions about written words: what they say, where and in which colour, and how many there are.

- A "no" is a near miss: a word with one letter changed as often as another word.
- `false-premise` asks for a word, a line, a colour or a date that is not there, in the words of the other families.
"""

import random
from dataclasses import dataclass

from vlm.data.sample import Question
from vlm.data.worlds.language import phrasings, pick
from vlm.data.worlds.tags import CANNOT_TELL
from vlm.data.worlds.text_words import WORDS_OF
from vlm.data.worlds.wording_text import TEXT as PHRASINGS

SAFE_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without what looks alike: 0 O, 1 I l
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
VALUES = ("number", "date", "price", "time")
_VOWEL_NAMES = "AEFHILMNORSXaefhilmnorsx8"  # letters and digits whose names begin with a vowel
_KINDS = {"number": "digit", "word": "letter"}
"""What a text of a kind is made of."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it stands in the picture, its middle in shares of the picture's side."""

    text: str
    color: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """All that is written: lines of words in reading order, or labels here and there."""

    kind: str  # "word", "string", "number", "date", "price", "time" for one of these alone; "sign"; "labels"
    lines: list[list[Word]]
    value: tuple[str, str] | None = None  # (kind, text) of the one number, date, price or time in it
    ground: str = ""  # the name of the colour behind
    panel: bool = False  # whether the ground is a sign that stands before another
    hidden: int = -1  # the number of the character (of what stands alone) or of the word that a blot covers

    @property
    def words(self) -> list[Word]:
        return [w for line in self.lines for w in line]

    @property
    def texts(self) -> list[str]:
        return [" ".join(w.text for w in line) for line in self.lines]


def nameable(n: int) -> list[int]:
    """Which of n in a row have a number that can be said: first to sixth, and the last."""
    return sorted({*range(min(n, len(ORDINALS))), n - 1})


def near(rng: random.Random, text: str) -> str:
    """Another text of the same look: one character changed, or another word of its length."""
    if text.isalpha() and rng.random() < 0.5 and len(text) in WORDS_OF:
        word = pick(rng, WORDS_OF[len(text)])
        return word.upper() if text.isupper() else word.title() if text.istitle() else word
    i = pick(rng, [k for k, c in enumerate(text) if c.isalnum()])
    c = text[i]
    pool = "0123456789" if c.isdigit() else "abcdefghijklmnoprstuvwy"
    other = pick(rng, pool)
    return text[:i] + (other.upper() if c.isupper() else other) + text[i + 1 :]


class Asker:
    """Asks about a writing; a method returns None where it offers nothing of its family."""

    def __init__(self, writing: Writing, rng: random.Random, split: str):
        self.writing, self.rng, self.split = writing, rng, split
        self.words, self.lines = writing.words, writing.texts
        self.text = " ".join(self.lines)
        self.alone = writing.kind if writing.kind not in ("sign", "labels") else ""
        self.asked: set[tuple] = set()
        self.one_color = len({w.color for w in self.words}) == 1

    def say(self, key: str, family: str, answer: str, **words) -> Question | None:
        """A question, once in any wording."""
        if (asked := (key, *words.values())) in self.asked:
            return None
        self.asked.add(asked)
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(**words)
        return Question(text=text, answer=answer, family=family)

    def unique(self, i: int) -> bool:
        return sum(w.text == self.words[i].text for w in self.words) == 1

    def nth(self, n: int) -> tuple[str, int]:
        """One of n places in a row: its name and its index."""
        i = int(self.rng.random() * min(n, len(ORDINALS)))
        if i == n - 1 and (i > 2 or self.rng.random() < 0.6) or self.rng.random() < 0.2:
            return "last", n - 1
        return ORDINALS[i], i

    def read(self) -> Question | None:
        """The whole, a line, or a word by its number; labels have no order."""
        kind, u = self.writing.kind, self.rng.random()
        if self.alone:
            key = "value" if kind in VALUES else kind
            return self.say(key if u < 0.8 or kind != "number" else "string", "read", self.text, kind=kind)
        if kind == "labels":
            return None
        if u < 0.35 and len(self.words) <= 8:
            return self.say("all", "read", self.text)
        if u < 0.7 and len(self.lines) > 1:
            o, i = self.nth(len(self.lines))
            return self.say("line", "read", self.lines[i], o=o)
        if self.writing.value:
            return None
        o, i = self.nth(len(self.words))
        return self.say("letter", "read", self.words[i].text, kind="word", o=o)

    def letter(self) -> Question | None:
        """The first or last letter of what stands alone; whether a letter is in it."""
        rng = self.rng
        if self.alone not in ("word", "number", "string") or not self.text.isalnum():
            return None
        kind = _KINDS.get(self.alone, "character")
        if rng.random() < 0.6:
            o, i = self.nth(len(self.text))
            return self.say("letter", "letter", self.text[i], o=o, kind=kind)
        yes = rng.random() < 0.5
        pool = "23456789" if self.alone == "number" else "abcdefghijklmnoprstuw"
        pool = pool.upper() if self.text.isupper() else pool
        options = [c for c in (self.text if yes else pool) if (c in self.text) == yes]
        if not options:
            return None
        c = pick(rng, options)
        return self.say("has", "letter", "yes" if yes else "no", c=f"{'an' if c in _VOWEL_NAMES else 'a'} {c}")

    def covered(self) -> Question | None:
        """The character or word under a blot, or another one, by its number: the same words, told or not."""
        units = list(self.text) if self.alone else [w.text for w in self.words]
        i, turn = self.writing.hidden, len(self.asked)
        if turn % 2:
            i = pick(self.rng, [k for k in nameable(len(units)) if k != i])
        elif turn > 2:
            return None
        o = "last" if i == len(units) - 1 and (i >= len(ORDINALS) or self.rng.random() < 0.5) else ORDINALS[i]
        kind = _KINDS.get(self.alone, "character") if self.alone else "word"
        answer = CANNOT_TELL if i == self.writing.hidden else units[i]
        return self.say("letter", "cannot-tell", answer, o=o, kind=kind)

    def count(self) -> Question | None:
        """How many letters, words or lines."""
        if self.alone:
            if not self.text.isalnum():
                return None
            return self.say("length", "text count", str(len(self.text)), kind=_KINDS.get(self.alone, "character"))
        if self.writing.kind == "sign" and self.rng.random() < 0.5:
            return self.say("length", "text count", str(len(self.lines)), kind="line")
        return None if self.writing.value else self.say("length", "text count", str(len(self.words)), kind="word")

    def attribute(self) -> Question | None:
        """The colour of all, of a word, or of what is behind."""
        if self.writing.ground and self.rng.random() < 0.35:
            kind = "sign" if self.writing.panel else "background"
            return self.say("ground", "attribute", self.writing.ground, kind=kind)
        if self.one_color:
            return self.say("color", "attribute", self.words[0].color)
        i = pick(self.rng, range(len(self.words)))
        if i == self.writing.hidden:
            return None
        return self.say("color of", "attribute", self.words[i].color, w=f'"{self.words[i].text}"')

    def compare(self) -> Question | None:
        if self.alone != "number" or not self.text.isdigit():
            return None
        number, yes = int(self.text), self.rng.random() < 0.5
        if number < 2:  # what it were greater than would give the answer away
            return None
        off = 1 + int(self.rng.random() * (number // 2))
        return self.say("greater", "compare", "yes" if yes else "no", n=number - off if yes else number + off)

    def retrieve(self) -> Question | None:
        """The word of a colour, at a place or after another; the one date or price; whether it says this."""
        rng, family = self.rng, "text retrieval"
        u = rng.random()
        if u < 0.35:
            yes = rng.random() < 0.5
            text = self.text if self.alone else pick(rng, self.words).text
            if ("says", text, yes) in self.asked:  # else there were more misses than hits to ask about
                return None
            self.asked.add(("says", text, yes))
            asked = text if yes else near(rng, text)
            if not yes and asked in [self.text, *(w.text for w in self.words)]:
                return None
            return self.say("says", family, "yes" if yes else "no", w=f'"{asked}"')
        if self.alone:
            return None
        if u < 0.5 and self.writing.value:
            kind, text = self.writing.value
            return self.say("value", family, text, kind=kind)
        if u < 0.7 and not self.one_color:
            word = pick(rng, self.words)
            if sum(w.color == word.color for w in self.words) == 1:
                return self.say("which", family, word.text, c=word.color)
        if u < 0.85:
            return self.place()
        if self.writing.kind != "sign" or len(self.words) < 2 or self.writing.value:
            return None
        i = pick(rng, range(len(self.words)))
        j = i + pick(rng, (-1, 1))
        if not self.unique(i) or not 0 <= j < len(self.words):
            return None
        where = "after" if j > i else "before"
        return self.say("next", family, self.words[j].text, w=f'"{self.words[i].text}"', where=where)

    def place(self) -> Question | None:
        """The word that surely stands further up, down, left or right than all others."""
        name, axis, sign = pick(self.rng, _PLACES)
        ends = sorted((sign * getattr(w, axis), w.text) for w in self.words)
        if len(ends) < 2 or ends[1][0] - ends[0][0] < 0.08:
            return None
        return self.say("place", "text retrieval", ends[0][1], place=name)

    def false_premise(self) -> Question | None:
        """A line past the last, a colour that no word has, a word or a kind of value that is not there."""
        rng, family = self.rng, "false-premise"
        u = rng.random()
        if self.writing.kind == "sign" and u < 0.3 and len(self.lines) < len(ORDINALS) - 1:
            o = ORDINALS[pick(rng, range(len(self.lines), len(ORDINALS)))]
            return self.say("line", family, f"there is no {o} line", o=o)
        if u < 0.5:
            if any(c.isdigit() for c in self.text):
                return None
            kind = pick(rng, VALUES)
            return self.say("value", family, f"there is no {kind}", kind=kind)
        if u < 0.75 and not self.alone:
            color = pick(rng, COLORS)
            if color in (w.color for w in self.words) or color == self.writing.ground:
                return None
            return self.say("which", family, f"there is no {color} word", c=color)
        if self.alone or self.one_color:
            return None
        word = near(rng, pick(rng, self.words).text)
        if word in self.text:
            return None
        return self.say("color of", family, f'there is no "{word}"', w=f'"{word}"')


COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
_PLACES = (("at the top", "y", 1), ("at the bottom", "y", -1), ("on the left", "x", 1), ("on the right", "x", -1))

FAMILIES = {
    "read": Asker.read,
    "letter": Asker.letter,
    "text count": Asker.count,
    "attribute": Asker.attribute,
    "compare": Asker.compare,
    "text retrieval": Asker.retrieve,
    "false-premise": Asker.false_premise,
}
OF_COVERED = {"attribute": Asker.attribute, "cannot-tell": Asker.covered}
"""What is asked where a blot covers something."""
