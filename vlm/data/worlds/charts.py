"""Charts: bars, lines, points and pies with made-up data, asked about as in DVQA, FigureQA and ChartQA.

- Questions follow DVQA (Kafle et al. 2018): structure, retrieval, reasoning; answers are names out of the picture or
  plain numbers, as in ChartQA (Masry et al. 2022): "1250" for "1,250", "12.5" for "12.5%".
- A chart is invented first (`charts_spec`), then drawn (`charts_draw`), which may take from it what finds no room; what
  is asked and told (`charts_asker`) is computed from what was drawn.
- Fonts differ between machines and with them the pictures, as in the world of text.
"""

import random

from vlm.data.sample import Question, Sample, Thing
from vlm.data.worlds import draw
from vlm.data.worlds.charts_asker import FAMILIES, KIND, Asker
from vlm.data.worlds.charts_draw import render
from vlm.data.worlds.charts_marks import Mark
from vlm.data.worlds.charts_matplotlib import redrawn
from vlm.data.worlds.charts_spec import Chart, invent
from vlm.data.worlds.charts_style import NoRoom
from vlm.data.worlds.charts_text import Sheet
from vlm.data.worlds.language import NUMBERS, article, ask, listing, pick, plural, sentence


def drawn_chart(rng: random.Random, size: int, split: str) -> tuple[Chart, Sheet, list[Mark]]:
    """A chart that fits, the sheet it is drawn on and its marks."""
    while True:
        chart = invent(rng, size, split)
        try:
            sheet, marks = render(rng, chart, size, split)
        except NoRoom:
            continue
        return chart, sheet, marks


def charts(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """A picture of one chart; made for 96 pixels and more."""
    chart, sheet, marks = drawn_chart(rng, size, split)
    image, things = sheet.image, [*_marks(chart, marks, size), *sheet.things()]
    if split == "test-style":
        image, things, marks = redrawn(rng, chart, size), [], []  # where another hand puts them is not known
    questions: list[Question] = ask(Asker(chart, rng, split, marks), FAMILIES, n_questions, families)
    return Sample(image=image, world="charts", captions=captions(chart, rng), questions=questions, things=things)


def _marks(chart: Chart, marks: list[Mark], size: int) -> list[Thing]:
    """Bars and points by their colours, as far as the vocabulary of colours names them; slices have no box."""
    if chart.kind == "pie":
        return []
    found = []
    for j, i, (x0, y0, x1, y1) in marks:
        color = (chart.colors[j] if chart.kind == "scatter" else chart.paint(j, i)).removeprefix("dark ")
        color = color.removeprefix("light ")
        box = max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)
        if color in draw.PAINT and box[0] < box[2] and box[1] < box[3]:
            found.append(Thing(box=box, what="nothing", color=color))
    return found


def captions(chart: Chart, rng: random.Random) -> list[str]:
    """What the chart is about; and everything that it says."""
    return [_short(chart, rng), _long(chart)]


def _kind(chart: Chart) -> str:
    way = "horizontal " if chart.horizontal else ""
    how = f"{chart.kind} " if chart.kind in ("stacked", "grouped") else ""
    return way + how + KIND[chart.kind]


def _short(chart: Chart, rng: random.Random) -> str:
    kind = article(_kind(chart))
    if chart.title and rng.random() < 0.5:
        return f'{sentence(kind)} with the title "{chart.title}".'
    if chart.kind == "scatter":
        return f"{sentence(kind)} of {chart.measure.name} and {chart.x_measure.name}."
    nouns = plural(chart.pool.noun)
    n, k = len(chart.categories), len(chart.series)
    if chart.kind == "line" and k > 1:
        return f"{sentence(kind)} with {NUMBERS[k]} lines."
    return f"{sentence(kind)} with {NUMBERS[n]} {pick(rng, (nouns, _MARKS[chart.kind]))}."


_MARKS = {"bar": "bars", "grouped": "groups of bars", "stacked": "stacked bars", "line": "points", "pie": "slices"}


def _long(chart: Chart) -> str:
    """Each name with its value where values can be read; else the names alone."""
    head = f"The {_kind(chart)} shows"
    if chart.kind == "scatter":
        counts = [
            f"{len(row)} points" + (f" of {name}" if name else "")
            for name, row in zip(chart.series, chart.points, strict=True)
        ]
        return f"{head} {listing(counts)}."
    if not chart.readable:
        of = f" for {listing(chart.series)}" if chart.series_pool else ""
        return f"{head} {listing(chart.categories)}{of}."
    rows = [
        (name + ": " if name else "")
        + ", ".join(f"{c} {chart.answer(v)}" for c, v in zip(chart.categories, row, strict=True))
        for name, row in zip(chart.series, chart.values, strict=True)
    ]
    return f"{head} {'; '.join(rows)}."
