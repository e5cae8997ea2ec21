"""Questions about a chart: its structure, what it says, and what follows from it.

- Most questions are about a view: the only series, one series over all categories, one category over all series.
- A number is asked for only where it is written or stands on the axis; an order only where the values differ by more
  than `margin`; a name only where no other fits. Yes and no are a coin's, thrown where both could be asked.
- `false-premise` asks for what is not there in the words of the other families.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from vlm.data.sample import Box, Question
from vlm.data.worlds.charts_marks import Mark
from vlm.data.worlds.charts_reasoning import ORDINALS, REASONING, REASONING_OF_POINTS, color_value, yes_no
from vlm.data.worlds.charts_spec import Chart
from vlm.data.worlds.charts_topics import MEASURES, PALETTES, TIMES
from vlm.data.worlds.language import phrasings, pick, plural, sentence
from vlm.data.worlds.tags import CANNOT_TELL
from vlm.data.worlds.wording_charts import CHARTS as PHRASINGS

KIND = {
    "bar": "bar chart", "grouped": "bar chart", "stacked": "bar chart", "line": "line chart",
    "scatter": "scatter plot", "pie": "pie chart",
}  # fmt: skip
MARK = {"bar": "bar", "grouped": "group", "stacked": "bar", "line": "point", "scatter": "point", "pie": "slice"}
_KEEP_KIND = {"bar": 0.35, "grouped": 0.35, "stacked": 0.35}  # bar charts are many: asked less often of what kind


class View(NamedTuple):
    """Names with their values; `where` says of what, " in 2015" or ""."""

    names: list[str]
    values: list[int]
    noun: str
    at: str
    where: str
    fixed: tuple[int | None, int | None] = (0, None)  # the number of its one series, or of its one category


class Asker:
    """Asks about one chart; each method of FAMILIES returns a question, or None where the chart offers none."""

    def __init__(self, chart: Chart, rng: random.Random, split: str, marks: Sequence[Mark] = ()):
        self.chart, self.rng, self.split = chart, rng, split
        self.boxes: dict[tuple[int, int], Box] = {(j, i): box for j, i, box in marks}  # by series and category
        shown = f"{chart.title} {chart.x_label} {chart.y_label}".lower()
        if chart.legend and chart.series == [""] and not chart.by_category:
            shown += f" {chart.measure.name}"
        self.measure = chart.measure.name if chart.measure.name in shown else "value"

    # -------------------------------------------------------------------------------------- words

    def say(self, key: str, family: str, answer: str, *, by: Box | None = None, **words) -> Question:
        """Put a question into words; the answer is read at, or from, the mark `by`."""
        words.setdefault("m", self.measure if self.rng.random() < 0.6 else "value")
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(**words)
        return Question(text=sentence(text), answer=answer, family=family, place=by, anchor=by)

    def mark(self, view: View, i: int) -> Box | None:
        """Where a value ends: the top of a bar, the right end of one that lies, a point, the middle of a slice."""
        j, k = view.fixed
        box = self.boxes.get((i if j is None else j, i if k is None else k))
        if box is None or self.chart.kind not in ("bar", "grouped", "stacked"):
            return box
        x0, y0, x1, y1 = box
        return (max(x1 - 2, x0), y0, x1, y1) if self.chart.horizontal else (x0, y0, x1, min(y0 + 2, y1))

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def at(self, view: View, name: str) -> str:
        """In Peru, of pears in 2015: times come last."""
        here = f"{view.at} {name}"
        return f"{view.where[1:]} {here}" if view.where and view.noun in TIMES else here + view.where

    def view(self) -> View:
        """One of the views of a chart that has values (a scatter plot has points)."""
        chart = self.chart
        if not chart.series_pool:
            return View(chart.categories, chart.values[0], chart.pool.noun, chart.pool.at, "")
        if self.coin():
            i = int(self.rng.random() * len(chart.categories))
            where = f" {_of(chart.pool.at)} {chart.categories[i]}"
            pool = chart.series_pool
            return View(chart.series, [row[i] for row in chart.values], pool.noun, pool.at, where, (None, i))
        j = int(self.rng.random() * len(chart.series))
        where = f" {_of(chart.series_pool.at)} {chart.series[j]}"
        return View(chart.categories, chart.values[j], chart.pool.noun, chart.pool.at, where, (j, None))

    def two(self, view: View) -> tuple[int, int]:
        i = int(self.rng.random() * len(view.names))
        j = int(self.rng.random() * (len(view.names) - 1))
        return i, j + (j >= i)

    # -------------------------------------------------------------------------------------- structure

    def structure(self) -> Question | None:
        return pick(self.rng, _STRUCTURE)(self)

    def _how_many(self) -> Question | None:
        chart, n, k = self.chart, len(self.chart.categories), len(self.chart.series)
        options = [(plural(chart.pool.noun), n)] if chart.categories else []
        if chart.kind == "bar":
            options += [("bars", n)] * 3
        elif chart.kind == "grouped":
            options += [("groups of bars", n), ("bars", n * k), ("bars in each group", k)]
        elif chart.kind == "stacked":
            options += [("stacked bars", n), ("parts of each bar", k)]
        elif chart.kind == "pie":
            options += [("slices", n)] * 3
        elif chart.kind == "line":
            options += [("lines", k)] * 2
        elif chart.countable:
            options += [("points", sum(map(len, chart.points)))] * 2
            if k > 1:
                j = int(self.rng.random() * k)
                options += [(f"points of {chart.series[j]}", len(chart.points[j]))] * 3
        if chart.series_pool:
            options += [(plural(chart.series_noun), k), ("colors", k)]
        if not options:
            return None
        xs, count = pick(self.rng, options)
        return self.say("how many", "chart structure", str(count), xs=xs)

    def _kind(self) -> Question | None:
        kind = KIND[self.chart.kind]
        if self.rng.random() > _KEEP_KIND.get(self.chart.kind, 1):
            return None
        if self.coin():
            return self.say("kind", "chart structure", kind)
        if self.coin():
            return self.say("is kind", "chart structure", "yes", x=kind)
        return self.say("is kind", "chart structure", "no", x=pick(self.rng, [k for k in _ALL_KINDS if k != kind]))

    def _horizontal(self) -> Question | None:
        chart = self.chart
        if chart.kind not in ("bar", "grouped", "stacked"):
            return None
        word = pick(self.rng, ("horizontal", "vertical"))
        return self.say("horizontal", "chart structure", yes_no(chart.horizontal == (word == "horizontal")), x=word)

    def _has(self) -> Question | None:
        chart, rng = self.chart, self.rng
        what = rng.random()
        if what < 0.35 and chart.kind != "pie":
            return self.say("has", "chart structure", yes_no(chart.grid), x="a grid")
        legend_is_free = chart.kind == "pie" or (chart.kind in ("bar", "line") and not chart.by_category)
        if what < 0.7 and legend_is_free and not chart.series_pool:
            return self.say("has", "chart structure", yes_no(bool(chart.legend)), x="a legend")
        if what >= 0.7 and chart.kind in ("bar", "pie", "grouped"):
            mark = "slice" if chart.kind == "pie" else "bar"
            return self.say("written", "chart structure", yes_no(chart.written), x=mark, xs=mark + "s")
        return None

    def _title(self) -> Question | None:
        title = self.chart.title
        return self.say("title", "chart structure", title) if title else None

    def _axis(self) -> Question | None:
        x = pick(self.rng, ("x", "y"))
        label = self.chart.x_label if x == "x" else self.chart.y_label
        return self.say("axis", "chart structure", label, x=x) if label else None

    # -------------------------------------------------------------------------------------- retrieval

    def retrieval(self) -> Question | None:
        return pick(self.rng, _RETRIEVAL if self.chart.values else _RETRIEVAL_OF_POINTS)(self)

    def _value(self) -> Question | None:
        view, chart = self.view(), self.chart
        if not chart.readable:
            return None
        i = int(self.rng.random() * len(view.names))
        at, by = self.at(view, view.names[i]), self.mark(view, i)
        return self.say("value", "chart retrieval", chart.answer(view.values[i]), by=by, at=at)

    def _whose_value(self) -> Question | None:
        view, chart = self.view(), self.chart
        if not chart.readable:
            return None
        i = int(self.rng.random() * len(view.names))
        if view.values.count(view.values[i]) > 1:
            return None
        v, by = chart.answer(view.values[i]), self.mark(view, i)
        return self.say("whose value", "chart retrieval", view.names[i], by=by, noun=view.noun, v=v, w=view.where)

    def _is_value(self) -> Question | None:
        """A no names another value of the view, or one that is near."""
        view, chart = self.view(), self.chart
        if not chart.readable:
            return None
        i = int(self.rng.random() * len(view.names))
        true = view.values[i]
        step = 1 if chart.written else max(1, (chart.ticks[1] - chart.ticks[0]) // 2)
        others = sorted({v for v in view.values if v != true}) or [true + step, max(true - step, 0)]
        other = pick(self.rng, others if self.coin() else [true + step, true + 2 * step])
        yes = self.coin()
        v = chart.answer(true if yes else other)
        at, by = self.at(view, view.names[i]), self.mark(view, i)
        return self.say("is value", "chart retrieval", yes_no(yes), by=by, at=at, v=v)

    def _nth(self) -> Question | None:
        chart = self.chart
        if chart.kind not in ("bar", "grouped", "stacked"):
            return None
        i, n = int(self.rng.random() * len(chart.categories)), len(chart.categories)
        d = pick(self.rng, ("top", "bottom") if chart.horizontal else ("left", "right"))
        k, noun = i if d in ("top", "left") else n - 1 - i, chart.pool.noun
        name, by, x = chart.categories[k], self.boxes.get((0, k)), MARK[chart.kind]
        return self.say("nth", "chart retrieval", name, by=by, n=ORDINALS[i], x=x, d=d, noun=noun)

    def _color(self) -> Question | None:
        chart = self.chart
        names = chart.categories if chart.by_category else chart.series
        if names == [""]:
            if self.rng.random() < 0.3:
                return self._mark_color()
            return None
        i = int(self.rng.random() * len(names))
        by = self.boxes.get((0, i) if chart.by_category else (i, 0))
        if self.coin():
            return self.say("color", "chart retrieval", chart.colors[i], by=by, x=names[i])
        noun = chart.pool.noun if chart.by_category else chart.series_noun
        return self.say("whose color", "chart retrieval", names[i], by=by, noun=noun, c=chart.colors[i])

    def _mark_color(self) -> Question:
        kind = self.chart.kind
        xs, are = ("line", "is") if kind == "line" else ("points", "are") if kind == "scatter" else ("bars", "are")
        return self.say("mark color", "chart retrieval", self.chart.colors[0], xs=xs, are=are)

    def _at_x(self) -> Question | None:
        """The height of the one point over a value of the x axis."""
        chart = self.chart
        points = [p for row in chart.points for p in row]
        x, y = pick(self.rng, points)
        if not chart.readable or sum(p[0] == x for p in points) > 1:
            return None
        return self.say("at x", "chart retrieval", chart.answer(y), x=chart.x_measure.name, m=chart.measure.name, v=x)

    # -------------------------------------------------------------------------------------- reasoning

    def reasoning(self) -> Question | None:
        return pick(self.rng, REASONING if self.chart.values else REASONING_OF_POINTS)(self)

    # -------------------------------------------------------------------------------------- false premises

    def false_premise(self) -> Question | None:
        return pick(self.rng, _FALSE)(self)

    def _absent(self, view: View) -> str:
        chart = self.chart
        pool = chart.series_pool if chart.series_pool and view.names is chart.series else chart.pool
        present = {*chart.categories, *chart.series}
        return pick(self.rng, [n for n in pool.names if n not in present] or [""])

    def _no_name(self) -> Question | None:
        chart = self.chart
        if not chart.values:
            return None
        view = self.view()
        absent = self._absent(view)
        if not absent:
            return None
        answer = f"there is no {absent}"
        form = self.rng.random()
        if form < 0.3:
            return self.say("value", "false-premise", answer, at=self.at(view, absent))
        if form < 0.7:
            x, y = pick(self.rng, view.names), absent
            if self.coin():
                x, y = y, x
            key = pick(self.rng, ("difference", "sum", "average", "ratio"))
            return self.say(key, "false-premise", answer, x=x, y=y, w=view.where)
        colored = chart.by_category or (chart.series_pool and view.names is chart.series)
        return self.say("color", "false-premise", answer, x=absent) if colored else None

    def _no_color(self) -> Question | None:
        chart = self.chart
        absent = [c for c in PALETTES[chart.palette] if c not in chart.colors]
        if chart.colors and absent and (chart.by_category or chart.series_pool):
            c = pick(self.rng, absent)
            noun = chart.pool.noun if chart.by_category else chart.series_noun
            return self.say("whose color", "false-premise", f"there is no {c}", noun=noun, c=c)
        return None

    def _no_words(self) -> Question | None:
        chart = self.chart
        if not chart.title and self.coin():
            return self.say("title", "false-premise", "there is no title")
        x = pick(self.rng, ("x", "y"))
        if chart.kind == "pie" or (chart.x_label if x == "x" else chart.y_label):
            return None
        return self.say("axis", "false-premise", "there is no label", x=x)

    def _no_nth(self) -> Question | None:
        chart, n = self.chart, len(self.chart.categories)
        if chart.kind not in ("bar", "grouped", "stacked") or n >= len(ORDINALS):
            return None
        i = n + int(self.rng.random() * min(3, len(ORDINALS) - n))
        d, x = pick(self.rng, ("top", "bottom") if chart.horizontal else ("left", "right")), MARK[chart.kind]
        noun = chart.pool.noun
        return self.say("nth", "false-premise", f"there is no {ORDINALS[i]} {x}", n=ORDINALS[i], x=x, d=d, noun=noun)

    # -------------------------------------------------------------------------------------- what it does not tell

    def cannot_tell(self) -> Question | None:
        """Another measure than the chart shows; the exact value where it is neither written nor on a tick."""
        chart, family = self.chart, "cannot-tell"
        if not chart.values:
            return None
        view = self.view()
        i = int(self.rng.random() * len(view.names))
        at, answer = self.at(view, view.names[i]), chart.answer(view.values[i])
        if self.measure != "value" and self.coin():
            if self.coin():
                return self.say("value", family, answer, at=at, m=self.measure) if chart.readable else None
            other = pick(self.rng, MEASURES).name
            known = f"{self.measure} {chart.title} {chart.x_label} {chart.y_label}".lower()
            if any(word in known for word in other.split()):
                return None
            return self.say("value", family, CANNOT_TELL, at=at, m=other)
        return self.say("exact", family, answer if chart.readable else CANNOT_TELL, at=at)


def _of(at: str) -> str:
    """The preposition at the end of a question: the lowest price for pears."""
    return "for" if at == "of" else at


_ALL_KINDS = tuple(dict.fromkeys(KIND.values()))
_STRUCTURE = (Asker._how_many, Asker._how_many, Asker._kind, Asker._horizontal, Asker._has, Asker._title, Asker._axis)
_RETRIEVAL = (
    Asker._value, Asker._value, Asker._value, Asker._whose_value, Asker._is_value, Asker._nth, Asker._color,
    color_value,
)  # fmt: skip
_RETRIEVAL_OF_POINTS = (Asker._color, Asker._at_x, Asker._at_x)
_FALSE = (Asker._no_name, Asker._no_name, Asker._no_name, Asker._no_color, Asker._no_words, Asker._no_nth)

FAMILIES = {
    "chart structure": Asker.structure,
    "chart retrieval": Asker.retrieval,
    "chart reasoning": Asker.reasoning,
    "false-premise": Asker.false_premise,
    "cannot-tell": Asker.cannot_tell,
}
