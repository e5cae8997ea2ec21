"""Pairs of charts: the same, or with one value, colour or title changed, a bar or point more, or all values exchanged.

- Both are drawn in one style from one state of the random generator, so that nothing else differs.
- A pair is kept where both charts found room for the same words and a changed value can be told by eye.
- Charts have one series; those of the split "test-combos" have the kinds and palettes that it alone draws.
"""

import random
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

from vlm.data.sample import Question, Sample
from vlm.data.worlds.charts_asker import MARK
from vlm.data.worlds.charts_draw import render
from vlm.data.worlds.charts_spec import Chart, invent
from vlm.data.worlds.charts_style import NoRoom
from vlm.data.worlds.charts_text import Sheet
from vlm.data.worlds.charts_topics import MEASURES, PALETTES
from vlm.data.worlds.language import ask, either, phrasings, pick, plural, sentence
from vlm.data.worlds.wording_pairs import CHARTS as PHRASINGS

LEAST = 128  # px of a picture from which its words can be read
SHARE = 0.25  # of the pairs of such pictures
KINDS = ("value", "value", "value", "color", "title", "added", "removed", "values", "values", "nothing", "nothing")
ORDER = ("first", "second")
ALIKE = 0.3  # of the pairs with as many bars, this share is asked which has more


class Change(NamedTuple):
    """What changed, and of the category with which number, -1 for all or none."""

    kind: str
    i: int = -1


@dataclass(slots=True)
class Drawn:
    """A pair as it was drawn."""

    charts: tuple[Chart, Chart]
    sheets: tuple[Sheet, Sheet]
    change: Change


def changed(rng: random.Random, chart: Chart, kind: str) -> tuple[Chart, Change] | None:
    """A chart with one change, None where it offers none of the kind."""
    other, row, n = deepcopy(chart), chart.values[0], len(chart.categories)
    i = int(rng.random() * n)
    if kind == "value":
        unit = max(1, (chart.ticks[1] - chart.ticks[0]) // 2)
        options = [v for v in range(chart.ticks[0] + unit, chart.ticks[-1] + 1, unit) if abs(v - row[i]) >= unit]
        found = either(rng, [v for v in options if v > row[i]], [v for v in options if v < row[i]])
        if chart.kind == "pie" or not found:
            return None
        other.values[0][i] = found[1]
    elif kind == "values":
        rng.shuffle(other.values[0])
        if other.values[0] == row:
            return None
    elif kind == "color":
        i = i if chart.by_category else 0
        other.colors[i] = pick(rng, [c for c in PALETTES[chart.palette] if c not in chart.colors] or [chart.colors[i]])
        if other.colors == chart.colors:
            return None
    elif kind == "title":
        other.title = sentence(pick(rng, [m.name for m in MEASURES if m.name != chart.measure.name]))
        if not chart.title:
            return None
    elif kind in ("added", "removed"):
        if chart.kind != "bar" or n < 3:
            return None
        del other.categories[i], other.values[0][i]
        if chart.by_category:
            del other.colors[i]
    whole = kind in ("nothing", "values", "title") or (kind == "color" and not chart.by_category)
    return other, Change(kind, -1 if whole else i)


def drawn(rng: random.Random, size: int, split: str) -> Drawn:
    """Two charts that find room, and what changed from the first to the second."""
    while True:
        chart = invent(rng, size, split)
        if chart.series_pool or not chart.values:
            continue
        made = changed(rng, chart, pick(rng, KINDS))
        if made is None:
            continue
        other, change = made
        first, second = (other, chart) if change.kind == "added" else (chart, other)
        state = rng.random()
        try:
            sheets = [render(random.Random(state), c, size, split)[0] for c in (first, second)]
        except NoRoom:
            continue
        if _comparable(first, second, change):
            return Drawn((first, second), (sheets[0], sheets[1]), change)


def _comparable(a: Chart, b: Chart, change: Change) -> bool:
    """Whether drawing took nothing from one chart alone and a value that changed can be told."""
    same = all(getattr(a, f) == getattr(b, f) for f in ("written", "snapped", "legend", "x_label", "y_label"))
    if not same or (a.title == b.title) == (change.kind == "title") or (change.kind == "title" and not b.title):
        return False
    if change.kind in ("added", "removed"):
        return abs(len(a.categories) - len(b.categories)) == 1
    if a.categories != b.categories:
        return False
    gaps = [abs(v - w) for v, w in zip(a.values[0], b.values[0], strict=True)]
    return all(g == 0 or g >= 2 * max(a.margin, b.margin) for g in gaps)


class ChartPairAsker:
    """Asks about two charts; a method returns None where they offer nothing of its family."""

    def __init__(self, made: Drawn, rng: random.Random, split: str):
        self.charts, self.change, self.rng, self.split = made.charts, made.change, rng, split
        self.values = [dict(zip(c.categories, c.values[0], strict=True)) for c in made.charts]
        self.shared = [name for name in self.values[0] if name in self.values[1]]
        kind, self.pool = made.charts[0].kind, made.charts[0].pool
        self.drawn = "line" if kind == "line" else plural(MARK[kind])
        self.mark = self.pool.noun if kind == "line" else MARK[kind]  # a line's points are not always to be seen
        self.told_same, self.told_alike = made.change.kind == "nothing" or rng.random() < 0.3, rng.random() < ALIKE

    def say(self, key: str, family: str, answer: str, p: int = 0, **words: str) -> Question:
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split))
        text = text.format(p=ORDER[p], q=ORDER[1 - p], mark=self.mark, marks=plural(self.mark), noun=self.pool.noun,
                           **words)  # fmt: skip
        return Question(text=text, answer=answer, family=family)

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def changed_name(self) -> str:
        """The name of what one value, colour or bar changed of, "" where there is none."""
        chart = self.charts[self.change.kind == "added"]
        return chart.categories[self.change.i] if self.change.i >= 0 else ""

    def same(self) -> Question | None:
        same, key = self.change.kind == "nothing", "same" if self.coin() else "differ"
        return self.say(key, "pair same", "yes" if same == (key == "same") else "no") if self.told_same else None

    def what_changed(self) -> Question | None:
        """The kind of change; of which name; which way a value went; the colour and the title before and after."""
        kind, family, name = self.change.kind, "pair change", self.changed_name()
        if kind == "nothing" and not self.told_alike:
            return None
        if kind in ("nothing", "values") or self.rng.random() < 0.35:
            return self.say("what changed", family, kind)
        if kind in ("added", "removed"):
            return self.say(kind, family, name)
        p = int(self.coin())
        if kind == "title":
            return self.say("title in", family, self.charts[p].title, p)
        if kind == "color":
            return self.say("color in", family, self.charts[p].colors[max(self.change.i, 0)], p, of=self._of(name))
        if self.coin():
            return self.say("which changed", family, name)
        up = self.values[1][name] > self.values[0][name]
        return self.say("up or down", family, "up" if up else "down", x=name)

    def more(self) -> Question | None:
        """Which chart has the higher or lower value of a name; which has more bars."""
        family, rng = "pair more", self.rng
        n = [len(c.categories) for c in self.charts]
        if n[0] != n[1] or (self.told_alike and rng.random() < 0.2):
            key, order = ("more marks", ORDER) if self.coin() else ("fewer marks", ORDER[::-1])
            return self.say(key, family, "the same" if n[0] == n[1] else order[int(n[1] > n[0])])
        gaps = {name: self.values[1][name] - self.values[0][name] for name in self.shared}
        differ = [name for name, gap in gaps.items() if gap]
        wanted = bool(differ) and rng.random() < 0.75
        if not wanted and not self.told_alike:
            return None
        names = differ if wanted else [name for name, gap in gaps.items() if not gap]
        if not names:
            return None
        name = pick(rng, names)
        key, order = ("higher", ORDER) if self.coin() else ("lower", ORDER[::-1])
        return self.say(key, family, order[int(gaps[name] > 0)] if wanted else "the same", x=name)

    def count(self) -> Question | None:
        n, p = [len(c.categories) for c in self.charts], int(self.coin())
        both = self.rng.random() < 0.3
        return self.say("marks together" if both else "marks in", "pair count", str(sum(n) if both else n[p]), p)

    def exist(self) -> Question | None:
        """A no names what the other chart has, where there is such a thing."""
        p, yes = int(self.coin()), self.coin()
        own = [name for name in self.values[1 - p] if name not in self.values[p]]
        if yes:
            name = pick(self.rng, [n for n in self.values[p] if n not in self.values[1 - p]] or self.shared)
        else:
            known = {*self.values[0], *self.values[1]}
            name = pick(self.rng, own or [n for n in self.pool.names if n not in known] or [""])
        return self.say("shows", "pair exist", "yes" if yes else "no", p, x=name) if name else None

    def attribute(self) -> Question | None:
        """The value or the colour of a name in one of the charts; of what changed, mostly."""
        p, chart = int(self.coin()), self.charts[0]
        name = self.changed_name()
        if name not in self.values[p] or self.rng.random() < 0.4:
            name = pick(self.rng, list(self.values[p]))
        if chart.readable and self.rng.random() < 0.7:
            value = self.charts[p].answer(self.values[p][name])
            return self.say("value in", "pair attribute", value, p, x=name)
        i = self.charts[p].categories.index(name) if chart.by_category else 0
        named = self._of(name if chart.by_category else "")
        return self.say("color in", "pair attribute", self.charts[p].colors[i], p, of=named)

    def _of(self, name: str) -> str:
        """What has a colour: one name, or all that is drawn."""
        return name or f"the {self.drawn}"


FAMILIES = {
    "pair same": ChartPairAsker.same,
    "pair change": ChartPairAsker.what_changed,
    "pair more": ChartPairAsker.more,
    "pair count": ChartPairAsker.count,
    "pair exist": ChartPairAsker.exist,
    "pair attribute": ChartPairAsker.attribute,
}


def chart_pairs(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:  # fmt: skip
    """Two charts: `image` and one of `others`; what stands where in them is not told."""
    made = drawn(rng, size, split)
    asker = ChartPairAsker(made, rng, split)
    questions = ask(asker, FAMILIES, n_questions, families)
    name, told = asker.changed_name(), made.change.kind
    captions = [
        "The charts are the same." if told == "nothing" else "All values are others." if told == "values"
        else f"{name} was {told}." if told in ("added", "removed")
        else f"The {told}{' of ' + name if name else ''} is another in the second chart.",
        "First: " + _told(made.charts[0]) + " Second: " + _told(made.charts[1]),
    ]  # fmt: skip
    images = [sheet.image for sheet in made.sheets]
    return Sample(image=images[0], others=images[1:], world="pairs", captions=captions, questions=questions)


def _told(chart: Chart) -> str:
    """The names with their values, where these can be read."""
    pairs = zip(chart.categories, chart.values[0], strict=True)
    return ", ".join(f"{name} {chart.answer(v)}" if chart.readable else name for name, v in pairs) + "."
