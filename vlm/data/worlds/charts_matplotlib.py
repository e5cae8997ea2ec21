"""The charts of the split "test-style": the same charts, drawn by matplotlib, whose hand no training picture has.

- Only this file imports matplotlib, and only when such a picture is drawn.
- What questions hang on is drawn as the chart says: ticks, grid, legend, written values, order and colours of marks.
"""

import random
from collections.abc import Sequence
from math import cos, radians, sin
from typing import Any

from PIL import Image

from vlm.data.worlds.charts_spec import Chart
from vlm.data.worlds.charts_topics import PALETTES
from vlm.data.worlds.language import pick, sentence

STYLES = ("default", "ggplot", "bmh", "seaborn-v0_8-whitegrid", "fast")
DPI = 100
_PLACES = {
    "top": "outside upper center", "inside": "outside upper center", "bottom": "outside lower center",
    "right": "outside right center", "ends": "outside right center",
}  # fmt: skip


def redrawn(rng: random.Random, chart: Chart, size: int) -> Image.Image:
    """A chart that our own hand has drawn before, drawn by matplotlib.

    Raises:
        ImportError: matplotlib is not installed, with the command that installs it.
    """
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("the split test-style needs matplotlib: pip install 'gated-vlm[docs]'") from None
    points = max(7.0, (0.036 + 0.012 * rng.random()) * size) * 72 / DPI
    with style.context(pick(rng, STYLES)):
        figure = Figure(figsize=(size / DPI, size / DPI), dpi=DPI, layout="constrained")
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        Drawing(chart, axes, points, rng).draw()
        if chart.title:
            axes.set_title(chart.title, fontsize=min(1.2 * points, 1.25 * size / len(chart.title)))
        if chart.legend:
            _legend(figure, axes, chart, points)
        axes.tick_params(labelsize=points, length=2, width=0.6)
        canvas.draw()
        return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _legend(figure, axes, chart: Chart, points: float) -> None:
    entries = axes.get_legend_handles_labels()
    columns = 1 if chart.legend in ("right", "ends") else min(len(entries[1]), 3)
    figure.legend(
        *entries, loc=_PLACES[chart.legend], fontsize=points, ncols=columns, handlelength=1.2, columnspacing=0.8
    )  # fmt: skip


class Drawing:
    """One chart on matplotlib's axes."""

    def __init__(self, chart: Chart, axes, points: float, rng: random.Random):
        self.chart, self.axes, self.points, self.rng = chart, axes, points, rng
        self.unit = 10**chart.decimals

    def paint(self, series: int, category: int = 0) -> tuple[float, ...]:
        return tuple(v / 255 for v in PALETTES[self.chart.palette][self.chart.paint(series, category)])

    def name(self, series: int) -> str:
        """The series in the legend; the only one is named after what is measured."""
        return self.chart.series[series] or sentence(self.chart.measure.name)

    def draw(self) -> None:
        kind = self.chart.kind
        if kind == "pie":
            self.pie()
            return
        {"line": self.lines, "scatter": self.points_of}.get(kind, self.bars)()
        self.scale()

    def scale(self) -> None:
        """Ticks, limits, grid and labels of the axes."""
        chart, axes = self.chart, self.axes
        stacked = chart.kind == "stacked"
        totals = map(sum, zip(*chart.values, strict=True)) if stacked else map(max, chart.values or [[0]])
        low, high = chart.ticks[0], max(chart.ticks[-1], max(totals))
        texts, along = [chart.number(t) for t in chart.ticks], [t / self.unit for t in chart.ticks]
        room = 1.02 if stacked or not chart.written else 1.2 if chart.horizontal else 1.08
        limits = low / self.unit, (low + (high - low) * room) / self.unit
        horizontal = chart.horizontal
        (axes.set_xticks if horizontal else axes.set_yticks)(along, texts)
        (axes.set_xlim if horizontal else axes.set_ylim)(*limits)
        axes.grid(False)
        axes.set_axisbelow(True)
        if chart.grid:
            axes.grid(True, axis="both" if chart.kind == "scatter" else "x" if horizontal else "y", linewidth=0.6)
        axes.set_xlabel(chart.x_label, fontsize=self.points)
        axes.set_ylabel(chart.y_label, fontsize=self.points)
        if chart.categories:
            self.categories()

    def categories(self) -> None:
        """The names under the bars or points, upright where they would meet; beside lying bars from the top down."""
        names, axes = self.chart.categories, self.axes
        if self.chart.horizontal:
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
            return
        axes.set_xticks(range(len(names)), names)
        if sum(len(n) + 1 for n in names) * self.points > 85 * axes.figure.get_size_inches()[0]:
            axes.tick_params(axis="x", labelrotation=90)

    def bars(self) -> None:
        chart, n, k = self.chart, len(self.chart.categories), len(self.chart.series)
        draw, start = (self.axes.barh if chart.horizontal else self.axes.bar), [0.0] * n
        grouped = chart.kind == "grouped"
        width = self.rng.uniform(0.6, 0.85) / (k if grouped else 1)
        for j, row in enumerate(chart.values):
            places = [i + ((j - (k - 1) / 2) * width if grouped else 0) for i in range(n)]
            lengths, colors = [v / self.unit for v in row], [self.paint(j, i) for i in range(n)]
            stacked = {"left" if chart.horizontal else "bottom": list(start)} if chart.kind == "stacked" else {}
            size = {"height" if chart.horizontal else "width": width}
            labels = chart.categories if chart.by_category else self.name(j)
            bars = draw(places, lengths, color=colors, label=labels, **size, **stacked)
            if chart.kind == "stacked":
                start = [a + b for a, b in zip(start, lengths, strict=True)]
            if chart.written:
                where: dict[str, Any] = {"padding": 1}
                if chart.kind == "stacked":
                    where = {"label_type": "center", "color": _over(colors[0])}
                texts = [chart.number(v) for v in row]
                self.axes.bar_label(bars, texts, fontsize=0.9 * self.points, **where)

    def lines(self) -> None:
        chart, marker = self.chart, pick(self.rng, ("o", "s", "^", ""))
        for j, row in enumerate(chart.values):
            values = [v / self.unit for v in row]
            color, width = self.paint(j), self.rng.uniform(0.8, 2.0)
            self.axes.plot(values, color=color, marker=marker, markersize=3, linewidth=width, label=self.name(j))
            for i, v in enumerate(row if chart.written else ()):
                place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
                self.axes.annotate(chart.number(v), (i, values[i]), fontsize=0.9 * self.points, **place)

    def points_of(self) -> None:
        chart = self.chart
        for j, row in enumerate(chart.points):
            xs, ys = zip(*((x, y / self.unit) for x, y in row), strict=True)
            self.axes.scatter(xs, ys, s=12, color=self.paint(j), label=self.name(j))
        self.axes.set_xticks(chart.x_ticks, [str(t) for t in chart.x_ticks])
        self.axes.set_xlim(chart.x_ticks[0], 1.02 * chart.x_ticks[-1])

    def pie(self) -> None:
        chart = self.chart
        names, values = chart.categories, chart.values[0]
        colors = [self.paint(0, i) for i in range(len(names))]
        wedges, *_ = self.axes.pie(
            values, colors=colors, labels=None if chart.legend else names, startangle=90, counterclock=False,
            textprops={"fontsize": self.points}, wedgeprops={"linewidth": 0.6, "edgecolor": "white"},
        )  # fmt: skip
        for wedge, name, value in zip(wedges, names, values, strict=True):
            wedge.set_label(name)
            if chart.written:
                self._in_slice(wedge, chart.number(value))

    def _in_slice(self, wedge, text: str) -> None:
        middle = radians((wedge.theta1 + wedge.theta2) / 2)
        self.axes.text(
            0.65 * cos(middle), 0.65 * sin(middle), text, fontsize=0.9 * self.points, ha="center", va="center",
            color=_over(wedge.get_facecolor()),
        )  # fmt: skip


def _over(color: Sequence[float]) -> str:
    """Black or white, whichever is read on a colour."""
    return "white" if 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] < 0.5 else "black"
