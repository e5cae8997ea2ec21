"""A sheet of paper to print rows on, on a table or filling the picture, and the asker that all kinds of sheet share."""

import random

from vlm.data.sample import Question
from vlm.data.worlds import draw, fonts
from vlm.data.worlds.language import phrasings, pick
from vlm.data.worlds.text_page import RISE, Page, inset
from vlm.data.worlds.wording_text import DOCUMENTS as PHRASINGS

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
HELD_OUT = frozenset({  # (layout, field): asked about in the split "test-combos" only, where nothing else is asked
    ("plain", "items"), ("leaders", "total"), ("quantity", "amount"), ("two lines", "company"),
    ("ruled", "Name"), ("boxed", "Name"), ("ruled", "tick"), ("lined", "n rows"), ("striped", "n columns"),
    ("grid", "value"),
})  # fmt: skip
ANGLES = (-2.5, -1.5, 1.5, 2.5)

_DARK = ((20, 20, 24), (40, 40, 48), (60, 56, 66), (30, 34, 74), (90, 88, 92))  # inks; the last a fading thermal print

Cell = tuple[str, str, float]
"""(text, "l" | "c" | "r": which side of it stands at the place, place as a share of the sheet's width)."""


class Sheet:
    """Rows one below the other; `lines` are the cells printed so far, by row."""

    def __init__(self, rng: random.Random, size: int, split: str, *, mono: float, tall: bool):
        self.rng = rng
        self.family = pick(rng, fonts.families(split, mono=True if rng.random() < mono else None))
        low, high = (10, 11) if size < 128 else (11, 12) if size < 200 else (12, 17) if size < 300 else (14, 22)
        self.point = (
            min(rng.randrange(low, high + 1), rng.randrange(low, high + 1)) if tall else rng.randrange(low, high + 1)
        )
        self.pitch = self.point * (1.15 + (0.08 if size < 128 else 0.2) * rng.random())
        angle = pick(rng, ANGLES) if rng.random() < 0.25 else 0.0
        light = 228 + int(rng.random() * 28)
        paper = (light, light - int(rng.random() * 5), light - int(rng.random() * 16))
        bare = rng.random() < 0.5
        self.page = Page(draw.canvas(rng, size, paper if bare else draw.background_color(rng)), angle)
        edge = inset(size, angle, 2)
        side = edge + (0 if bare or size < 160 else int(rng.random() * 0.12 * size))
        if not bare:
            self.page.box(side, edge, size - side, size - edge, paper)
        pad = 3 if size < 128 else 5
        self.left, self.right = side + pad, size - side - pad
        self.y: float = edge + pad
        self.bottom = size - edge - pad
        self.ink = draw.jitter(rng, pick(rng, _DARK))
        self.lines: list[list[str]] = []

    @property
    def width(self) -> float:
        return self.right - self.left

    def room(self) -> int:
        """How many rows there is still room for."""
        return int((self.bottom - self.y) / self.pitch)

    def measure(self, text: str, bold: bool = False, scale: float = 1.0) -> float:
        path = self.family.bold if bold else self.family.regular
        return fonts.width(path, round(self.point * scale), text)

    def fits(self, *texts: str, share: float = 1.0, gap: float = 6.0) -> bool:
        """Whether the texts can stand side by side in a share of the width."""
        return sum(self.measure(t, bold=True) for t in texts) + gap * (len(texts) - 1) <= share * self.width

    def row(self, *cells: Cell, bold: bool = False, scale: float = 1.0, paint: draw.RGB | None = None) -> None:
        """Print a row and go on to the next."""
        path, point = self.family.bold if bold else self.family.regular, round(self.point * scale)
        baseline = self.y + (self.pitch * scale - point * 1.15) / 2 + RISE * point
        for text, side, place in cells:
            x = self.left + place * self.width
            if side != "l":
                x -= fonts.width(path, point, text) * (1.0 if side == "r" else 0.5)
            self.page.write(x, baseline, text, path, point, paint or self.ink)
        self.lines.append([text for text, *_ in cells])
        self.y += self.pitch * scale

    def rule(self, style: str) -> None:
        """A line over the sheet: drawn, dashed, or of characters; it takes half a row."""
        middle = self.y + self.pitch * 0.25
        if style == "drawn":
            self.page.rule(self.left, middle, self.right, middle, self.ink)
        else:
            step = 6 if style == "dashed" else 4
            for k in range(int(self.width / step)):
                x = self.left + k * step
                self.page.rule(x, middle, x + step / 2, middle, self.ink)
        self.y += self.pitch * 0.5


class Asker:
    """What all askers of documents share; `layout` and what is asked for decide what is held out."""

    def __init__(self, sheet: Sheet, layout: str, rng: random.Random, split: str):
        self.lines, self.layout, self.rng, self.split = sheet.lines, layout, rng, split
        self.asked: set[tuple] = set()

    def say(self, key: str, family: str, answer: str, field: str = "", **words) -> Question | None:
        """A question, once in any wording, where the split may ask for the field (the key where none is given)."""
        asked = (key, *words.values())
        if asked in self.asked or ((self.layout, field or key) in HELD_OUT) != (self.split == "test-combos"):
            return None
        self.asked.add(asked)
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(**words)
        return Question(text=text, answer=answer, family=family)

    def yes_no(self, key: str, family: str, yes: bool, field: str = "", **words) -> Question | None:
        return self.say(key, family, "yes" if yes else "no", field, **words)

    def read(self) -> Question | None:
        """A row that holds one text alone, by its number."""
        i = int(self.rng.random() * min(len(self.lines), len(ORDINALS)))
        if self.rng.random() < 0.25:
            i = len(self.lines) - 1
        o = "last" if i == len(self.lines) - 1 else ORDINALS[i]
        return self.say("line", "read", self.lines[i][0], o=o) if len(self.lines[i]) == 1 else None
