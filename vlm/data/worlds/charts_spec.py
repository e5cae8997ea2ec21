"""What a chart says and how it says it, before a pixel is drawn.

- Numbers are whole, in units of 10 ** -decimals, so that sums, averages and ratios are exact.
- Half of the charts have their values on ticks or half-way between two ("snapped"): these can be read off the axis.
- HELD_OUT holds pairs of chart kind and palette that only the split "test-combos" draws, and it draws no other.
"""

import random
from dataclasses import dataclass, field
from fractions import Fraction

from vlm.data.worlds.charts_topics import MEASURES, PALETTES, POOLS, TIMES, YEARS, Measure, Pool
from vlm.data.worlds.language import pick, plural, sentence

KINDS = {"bar": 0.32, "grouped": 0.15, "stacked": 0.12, "line": 0.22, "scatter": 0.07, "pie": 0.12}  # shares
HELD_OUT = frozenset({
    ("bar", "earth"), ("grouped", "office"), ("stacked", "classic"), ("line", "press"), ("scatter", "deep"),
    ("pie", "vivid"),
})  # fmt: skip
_MAKERS = next(pool.names for pool in POOLS if pool.noun == "company")
_STEPS = {  # between two ticks
    "integer": (1, 2, 4, 5, 10, 10, 20, 20, 20, 40, 50, 100),
    "decimal": (2, 4, 5, 10, 10, 20, 50, 100),
    "percent": (2, 4, 10, 10, 20, 20, 20),
    "large": (200, 400, 500, 1000, 1000, 2000, 4000, 5000, 10000, 20000),
}


@dataclass(slots=True)
class Chart:
    """One chart; drawing takes away what finds no room and says so here."""

    kind: str
    palette: str
    measure: Measure
    pool: Pool
    series_pool: Pool | None
    categories: list[str]
    series: list[str]  # [""] where there is only one
    values: list[list[int]]  # by series, then by category
    colors: list[str]  # by category where by_category, else by series
    ticks: list[int]  # bars start at the first
    horizontal: bool = False
    by_category: bool = False  # each bar or slice has a colour of its own
    decimals: int = 0
    percent: bool = False
    comma: bool = False
    snapped: bool = False
    written: bool = False  # the values stand on the chart
    bare: bool = False  # no numbers along the axis: the written values do
    legend: str = ""  # "" | "top" | "bottom" | "right" | "inside" | "ends": of lines, each at its own end
    grid: bool = False
    title: str = ""
    note: str = ""  # a line under the title
    source: str = ""  # a line at the foot
    x_label: str = ""
    y_label: str = ""
    x_measure: Measure = Measure("", "")  # scatter: the quantity along x
    x_ticks: list[int] = field(default_factory=list)
    points: list[list[tuple[int, int]]] = field(default_factory=list)  # scatter: (x, y) by series
    margin: int = 1  # values that differ by less cannot be told apart
    countable: bool = True  # no two points of a scatter plot touch

    @property
    def series_noun(self) -> str:
        """What the series are, "" where there is only one."""
        return self.series_pool.noun if self.series_pool else ""

    @property
    def readable(self) -> bool:
        """Whether values can be told exactly."""
        return self.written or self.snapped

    def number(self, value: int) -> str:
        """A value as it is drawn."""
        text = f"{value / 10**self.decimals:{',' if self.comma else ''}.{self.decimals}f}"
        return text + "%" if self.percent else text

    def answer(self, value: int | Fraction) -> str:
        """A value as it is answered: plain digits, no needless zeros, no separators, no unit."""
        text = f"{float(Fraction(value) / 10**self.decimals):.4f}"
        return text.rstrip("0").rstrip(".")

    def paint(self, series: int, category: int) -> str:
        """The name of the colour of a mark."""
        return self.colors[category if self.by_category else series]


def invent(rng: random.Random, size: int, split: str) -> Chart:
    """A chart whose parts are likely to find room in a picture of `size` pixels."""
    kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    fitting = [p for p in PALETTES if ((kind, p) in HELD_OUT) == (split == "test-combos")]
    palette = pick(rng, fitting)
    measure = pick(rng, MEASURES)
    if kind == "scatter":
        return _scatter(rng, size, palette, measure)
    names = list(PALETTES[palette])
    horizontal = kind in ("bar", "grouped", "stacked") and rng.random() < 0.5
    k = _n_series(rng, kind, size, len(names))
    n = min(_n_categories(rng, kind, k, size), len(names) if kind == "pie" else size)
    longest = max(5, size // 14) if kind != "line" else max(4, size // 24)
    pool, categories = _categories(rng, n, longest, 0.9 if kind == "line" else 0.3, kind == "pie")
    series_pool: Pool | None = None
    series = [""]
    if k > 1:
        series_pool, series = _series(rng, k, pool, categories, longest)
    n, k = len(categories), len(series)
    by_category = kind == "pie" or (kind == "bar" and n <= len(names) and rng.random() < 0.3)
    n_colors = n if by_category else k
    colors = rng.sample(names, n_colors)
    chart = Chart(kind, palette, measure, pool, series_pool, categories, series, [], colors, [])
    chart.horizontal, chart.by_category = horizontal, by_category
    _numbers(rng, chart, size)
    _words(rng, chart)
    u = rng.random()
    if k > 1:
        chart.legend = pick(rng, ("top", "bottom", "right", "right", "inside"))
        if kind == "line" and rng.random() < 0.35:
            chart.legend = "ends"
    elif kind == "pie":
        chart.legend = pick(rng, ("right", "bottom")) if u < 0.5 else ""
    elif not by_category and u < 0.45:
        chart.legend = pick(rng, ("top", "bottom", "inside"))
    chart.bare = kind in ("bar", "grouped", "stacked") and chart.written and rng.random() < 0.4
    chart.grid = kind != "pie" and not chart.bare and rng.random() < 0.54
    _lines_around(rng, chart)
    return chart


def _lines_around(rng: random.Random, chart: Chart) -> None:
    """What press and statistics offices put under a title and at the foot."""
    if chart.title and rng.random() < 0.25:
        name, unit, nouns = chart.measure.name, chart.measure.unit, plural(chart.pool.noun)
        forms = [f"by {chart.pool.noun}", f"{len(chart.categories)} {nouns} compared"]
        if unit or chart.percent:
            forms += [f"{name}, in {unit or 'percent'}", f"in {unit or 'percent'}"]
        chart.note = sentence(pick(rng, forms))
    if rng.random() < 0.3:
        who = f"{pick(rng, _MAKERS)} {pick(rng, ('Research', 'Institute', 'Survey', 'Center', 'Agency', 'Data'))}"
        when = f", {rng.randrange(2000, 2027)}" if rng.random() < 0.5 else ""
        chart.source = f"{pick(rng, ('Source: ', 'Source: ', 'Data: ', 'Source '))}{who}{when}"


def _n_series(rng: random.Random, kind: str, size: int, most: int) -> int:
    if kind in ("bar", "pie") or (kind == "line" and rng.random() < 0.45):
        return 1
    return pick(rng, range(2, 1 + min(most, 4 if size >= 160 else 3)))


def _n_categories(rng: random.Random, kind: str, k: int, size: int) -> int:
    if kind == "pie":
        return pick(rng, range(2, 4 if size < 128 else 7))
    most = {"bar": 10, "line": 10, "stacked": 7, "grouped": 24 // k}[kind]
    room = size // (11 * k if kind == "grouped" else 20)
    return pick(rng, range(2 if k > 1 else 3, max(min(most, room), 3) + 1))


def _categories(
    rng: random.Random, n: int, longest: int, timely: float, few: bool
) -> tuple[Pool, list[str]]:  # fmt: skip
    """n names of one pool, in the pool's order where it has one."""
    if rng.random() < timely:
        pool = YEARS if rng.random() < 0.5 else pick(rng, [p for p in POOLS if p.ordered])
    else:
        pool = pick(rng, [p for p in POOLS if not p.ordered])
    names = [name for name in pool.names if len(name) <= longest]
    if len(names) < min(n, 4):
        pool, names = YEARS, list(YEARS.names)
    n = min(n, len(names))
    if not pool.ordered or few:
        return pool, rng.sample(names, n)
    gap = pick(rng, (1, 1, 1, 2, 5, 10)) if pool is YEARS and n < 8 else 1
    start = rng.randrange(len(names) - (n - 1) * gap)
    return pool, names[start : start + n * gap : gap]


def _series(
    rng: random.Random, k: int, pool: Pool, categories: list[str], longest: int
) -> tuple[Pool, list[str]]:  # fmt: skip
    """k names of another pool; years never meet months, and two names are never alike."""
    if pool.noun not in TIMES and rng.random() < 0.25:
        start = rng.randrange(len(YEARS.names) - k)
        return YEARS, list(YEARS.names[start : start + k])
    while True:
        other = pick(rng, POOLS)
        names = [s for s in other.names if len(s) <= longest and s not in categories]
        if not other.ordered and other.noun != pool.noun and len(names) >= k:
            return other, rng.sample(names, k)


def _levels(rng: random.Random, n: int) -> list[float]:
    """n numbers of (0, 1], the highest near 1, spread in one of several ways."""
    u, kind = rng.random, rng.random()
    if kind < 0.4:
        levels = [0.08 + 0.92 * u() for _ in range(n)]
    elif kind < 0.6:
        levels = [0.06 + 0.94 * u() ** 2 for _ in range(n)]
    elif kind < 0.75:
        levels = [0.55 + 0.45 * u() for _ in range(n)]
    else:
        start, end = 0.1 + 0.85 * u(), 0.1 + 0.85 * u()
        levels = [max(0.05, start + (end - start) * i / max(n - 1, 1) + 0.16 * (u() - 0.5)) for i in range(n)]
    scale = (0.8 + 0.2 * u()) / max(levels)
    return [v * scale for v in levels]


def _shares(rng: random.Random, n: int, total: int, unit: int) -> list[int]:
    """n multiples of `unit` that sum up to `total`, none below a twentieth of it."""
    least = -(-total // (20 * unit))
    weights = [0.15 + rng.random() for _ in range(n)]
    free = total // unit - n * least
    parts = [least + int(free * w / sum(weights)) for w in weights]
    parts[rng.randrange(n)] += total // unit - sum(parts)
    return [p * unit for p in parts]


def _numbers(rng: random.Random, chart: Chart, size: int) -> None:
    """Ticks and values of a chart."""
    form, n, k = chart.measure.form, len(chart.categories), len(chart.series)
    step = pick(rng, _STEPS[form])
    chart.percent = form == "percent"
    chart.decimals = 1 if form == "decimal" else 0
    chart.comma = form == "large" and rng.random() < 0.7
    n_steps = pick(rng, range(3 if size < 160 else 4, max(4, min(7, size // 28)) + 1))
    if chart.percent and step * n_steps > 100:
        n_steps = 100 // step
    chart.snapped = chart.kind != "pie" and rng.random() < 0.55
    chart.written = rng.random() < (0.4 if chart.snapped else 0.65)
    top = step * n_steps
    unit = 1
    if chart.snapped:
        unit = step // 2 if step % 2 == 0 and rng.random() < 0.85 else step
    elif form == "large":
        unit = pick(rng, (1, 5, 10, step // 10))
    if chart.kind == "pie" or (chart.kind == "stacked" and chart.percent):
        total = 100 if chart.percent else top
        unit = pick(rng, (1, 1, 5)) if chart.percent and not chart.snapped else 10 if chart.percent else unit
        if total < 40 * unit and not chart.percent:
            total *= 20
        if chart.kind == "pie":
            chart.values = [_shares(rng, n, total, unit)]
        else:
            chart.values = [list(row) for row in zip(*(_shares(rng, k, total, unit) for _ in range(n)), strict=True)]
        chart.ticks = [0, 20, 40, 60, 80, 100] if size >= 160 or chart.snapped else [0, 50, 100]
        return
    low = 0
    if chart.kind == "line" and rng.random() < 0.3 and not chart.percent:
        low = step * rng.randrange(1, 12)
    if chart.kind == "stacked":
        least = -(-top // (20 * unit))
        chart.values = [[max(least, round(v * top / k / unit)) * unit for v in _levels(rng, n)] for _ in range(k)]
        n_steps = -(-max(map(sum, zip(*chart.values, strict=True))) // step)
    else:
        least = unit if chart.kind == "line" else max(unit, -(-top // (25 * unit)) * unit)
        rows = [_levels(rng, n) for _ in range(k)]
        if rng.random() < 0.4:  # one series above the other all along
            rows = [[v * (1 - 0.22 * j) for v in rows[0]] for j in rng.sample(range(k), k)]
        chart.values = [[low + max(least, round(v * top / unit) * unit) for v in row] for row in rows]
    chart.ticks = [low + step * i for i in range(n_steps + 1)]


def _heading(rng: random.Random, words: str) -> str:
    """A label in one of the usual spellings."""
    return words.title() if rng.random() < 0.5 else sentence(words)


def _words(rng: random.Random, chart: Chart) -> None:
    """Title and axis labels, all but the first about equally often left out."""
    name, noun = chart.measure.name, chart.pool.noun
    forms = [f"{name} by {noun}", f"{name} per {noun}", name, f"{name} of {plural(noun)}", f"{plural(noun)} by {name}"]
    if noun not in TIMES:
        forms += [f"{name} in {rng.randrange(1970, 2030)}", f"{noun} {name}", f"annual {name}", f"{name} report"]
    if chart.series_pool:
        forms += [f"{name} by {noun} and {chart.series_pool.noun}", f"{name} by {chart.series_pool.noun}"] * 2
    if rng.random() < 0.72:
        chart.title = _heading(rng, pick(rng, forms))
    if chart.kind == "pie":
        return
    amount, kind = "", ""
    if rng.random() < 0.5:
        unit = chart.measure.unit
        form = rng.random()
        amount = name if not unit or form < 0.5 else f"{name} ({unit})" if form < 0.8 else unit
        amount = amount if amount == unit else _heading(rng, name) + amount[len(name) :]
    if rng.random() < 0.5:
        kind = _heading(rng, noun)
    chart.x_label, chart.y_label = (amount, kind) if chart.horizontal else (kind, amount)


def _scatter(rng: random.Random, size: int, palette: str, measure: Measure) -> Chart:
    """Points on a grid of half ticks, so that each can be read; in one to three groups."""
    names = list(PALETTES[palette])
    k = pick(rng, (1, 1, 2, 3)) if size >= 128 else 1
    longest = max(5, size // 16)
    pool = pick(rng, [p for p in POOLS if not p.ordered])
    series = [""]
    if k > 1:
        options = [s for s in pool.names if len(s) <= longest]
        k = min(k, len(options))
        series = rng.sample(options, k)
    x_measure = pick(rng, [m for m in MEASURES if m.name != measure.name and len(m.name) < 12])
    steps = [pick(rng, (2, 4, 10, 20, 40, 100)) for _ in "xy"]
    n_steps = max(4, min(6, size // 32))
    colors = rng.sample(names, k)
    chart = Chart("scatter", palette, measure, pool, pool if k > 1 else None, [], series, [], colors, [])
    chart.ticks = [steps[1] * i for i in range(n_steps + 1)]
    chart.x_ticks = [steps[0] * i for i in range(n_steps + 1)]
    chart.snapped, chart.x_measure = True, x_measure
    slope = pick(rng, (-1, 0, 1))
    taken: set[tuple[int, int]] = set()
    last = 2 * n_steps - 1
    for _ in range(k):
        row: list[tuple[int, int]] = []
        wanted = pick(rng, range(3, (10 if size >= 160 else 6) // min(k, 2) + 2))
        for _ in range(40):
            if len(row) == wanted:
                break
            x = rng.randrange(1, last + 1)
            y = rng.randrange(1, last + 1) if slope == 0 else (x if slope > 0 else last + 1 - x) + rng.randrange(-2, 3)
            y = min(max(y, 1), last)
            if all(abs(x - a) + abs(y - b) > 1 for a, b in taken):
                taken.add((x, y))
                row.append((x, y))
        chart.points.append([(x * steps[0] // 2, y * steps[1] // 2) for x, y in row])
    if rng.random() < 0.7:
        chart.title = _heading(
            rng, pick(rng, (f"{measure.name} and {x_measure.name}", f"{measure.name} by {x_measure.name}"))
        )
    chart.x_label, chart.y_label = _heading(rng, x_measure.name), _heading(rng, measure.name)
    chart.legend = pick(rng, ("top", "bottom", "right")) if k > 1 else ""
    chart.grid = rng.random() < 0.5
    return chart
