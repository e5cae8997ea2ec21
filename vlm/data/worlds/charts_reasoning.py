"""Questions whose answers follow from several values of a chart: order, arithmetic, counts, trends.

Each function takes an `Asker` and returns a question, or None where its random choice led nowhere.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vlm.data.sample import Question
from vlm.data.worlds.charts_topics import TIMES
from vlm.data.worlds.language import pick, plural

if TYPE_CHECKING:
    from vlm.data.worlds.charts_asker import Asker, View

LARGEST, SMALLEST = ("largest", "highest", "greatest"), ("smallest", "lowest")
MORE, LESS = ("higher", "larger", "greater"), ("lower", "smaller")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_MARK = {"line": "line", "pie": "slice", "stacked": "part"}
MIXED = 0.16  # share kept of the charts where one series is above another in some categories only


def yes_no(true: bool) -> str:
    return "yes" if true else "no"


def _ranked(asker: Asker, view: View, rank: int, down: bool) -> int | None:
    """The index of the rank-th largest (or smallest) value where its neighbours in order are surely apart."""
    order = sorted(range(len(view.values)), key=view.values.__getitem__, reverse=down)
    if rank >= len(order):
        return None
    near = [abs(view.values[order[rank]] - view.values[order[r]]) for r in (rank - 1, rank + 1) if 0 <= r < len(order)]
    return order[rank] if min(near) >= asker.chart.margin else None


def most(asker: Asker) -> Question | None:
    view = asker.view()
    down = asker.coin()
    rank = pick(asker.rng, (0, 0, 0, 1, 1, 2)) if len(view.names) > 3 else 0
    i = _ranked(asker, view, rank, down)
    if i is None:
        return None
    word = pick(asker.rng, LARGEST if down else SMALLEST)
    if rank:
        word = f"{ORDINALS[rank]} {word}"
    if asker.chart.readable and asker.rng.random() < 0.35:
        v = asker.chart.answer(view.values[i])
        return asker.say("most value", "chart reasoning", v, most=word, w=view.where)
    return asker.say("most", "chart reasoning", view.names[i], noun=view.noun, most=word, w=view.where)


def _colored(asker: Asker) -> View | None:
    """A view whose names have colours of their own."""
    view, chart = asker.view(), asker.chart
    return view if chart.by_category or (chart.series_pool and view.names is chart.series) else None


def color_value(asker: Asker) -> Question | None:
    """What the red bar, or the red line in a year, amounts to."""
    view, chart = _colored(asker), asker.chart
    if not view or not chart.readable:
        return None
    i = int(asker.rng.random() * len(view.names))
    v, mark = chart.answer(view.values[i]), _MARK.get(chart.kind, "bar")
    by = asker.mark(view, i)
    return asker.say("color value", "chart retrieval", v, by=by, c=chart.colors[i], mark=mark, w=view.where)


def most_color(asker: Asker) -> Question | None:
    """The colour of the longest bar, of the highest line in a year."""
    view, down = _colored(asker), asker.coin()
    i = _ranked(asker, view, 0, down) if view else None
    if not view or i is None:
        return None
    word, mark = pick(asker.rng, LARGEST if down else SMALLEST), _MARK.get(asker.chart.kind, "bar")
    return asker.say("most color", "chart reasoning", asker.chart.colors[i], most=word, mark=mark, w=view.where)


def spread(asker: Asker) -> Question | None:
    """From the lowest to the highest; the two highest or lowest together."""
    view, chart = asker.view(), asker.chart
    if not chart.readable or len(view.values) < 3:
        return None
    k = int(2 * asker.rng.random())
    order = sorted(view.values, reverse=not k)
    if asker.coin():
        return asker.say(
            "top two", "chart reasoning", chart.answer(sum(order[:2])), most=(LARGEST, SMALLEST)[k][k], w=view.where
        )
    v = chart.answer(abs(order[0] - order[-1]))
    return asker.say("spread", "chart reasoning", v, most=LARGEST[k], least=SMALLEST[k], w=view.where)


def median(asker: Asker) -> Question | None:
    view, chart = asker.view(), asker.chart
    n = len(view.values)
    if not chart.readable or n % 2 == 0 or n > 7:
        return None
    middle = chart.answer(sorted(view.values)[n // 2])
    return asker.say("median", "chart reasoning", middle, nouns=plural(view.noun), w=view.where)


def gap(asker: Asker) -> Question | None:
    """Where two series are farthest apart, or nearest."""
    chart, rng = asker.chart, asker.rng
    if not chart.series_pool or len(chart.categories) < 3:
        return None
    i, j = rng.sample(range(len(chart.series)), 2)
    gaps = [abs(a - b) for a, b in zip(chart.values[i], chart.values[j], strict=True)]
    down = asker.coin()
    best, second = sorted(gaps, reverse=down)[:2]
    if abs(best - second) < 2 * chart.margin:
        return None
    return asker.say(
        "gap", "chart reasoning", chart.categories[gaps.index(best)], x=chart.series[i], y=chart.series[j],
        most=pick(rng, LARGEST if down else SMALLEST), noun=chart.pool.noun, p=chart.pool.at,
    )  # fmt: skip


def pair(asker: Asker) -> Question | None:
    """Arithmetic of two values."""
    view, chart = asker.view(), asker.chart
    if not chart.readable:
        return None
    i, j = asker.two(view)
    a, b = view.values[i], view.values[j]
    key = pick(asker.rng, ("difference", "sum", "ratio", "average"))
    if key == "ratio":
        a, b, i, j = (a, b, i, j) if a >= b else (b, a, j, i)
        if not b or Fraction(a, b).denominator not in (1, 2, 4, 5, 10):
            return None
        result = Fraction(a, b) * 10**chart.decimals
    else:
        result = {"difference": Fraction(abs(a - b)), "sum": Fraction(a + b), "average": Fraction(a + b, 2)}[key]
    x, y = view.names[i], view.names[j]
    return asker.say(key, "chart reasoning", chart.answer(result), x=x, y=y, w=view.where)


def total(asker: Asker) -> Question | None:
    """The total or the average of a view of a few."""
    view, chart = asker.view(), asker.chart
    if not chart.readable or not 3 <= len(view.names) <= 5 or (chart.percent and chart.kind == "pie"):
        return None
    whole, nouns = sum(view.values), plural(view.noun)
    if asker.coin():
        return asker.say("total", "chart reasoning", chart.answer(whole), nouns=nouns, w=view.where)
    mean = Fraction(whole, len(view.values))
    if (mean / 10**chart.decimals * 100).denominator != 1:
        return None
    return asker.say("average of all", "chart reasoning", chart.answer(mean), nouns=nouns, w=view.where)


def beyond(asker: Asker) -> Question | None:
    view = asker.view()
    marks = {"bar": "bars", "grouped": "bars", "pie": "slices"}.get(asker.chart.kind, "")
    nouns = marks if marks and asker.rng.random() < 0.4 else plural(view.noun)
    return _count_beyond(asker, view.values, nouns, view.where)


def _count_beyond(asker: Asker, values: list[int], nouns: str, where: str, **words) -> Question | None:
    """How many lie above or below a number that none is near; high counts, which are rare, are preferred."""
    chart, rng = asker.chart, asker.rng
    limits = [] if chart.kind == "pie" else list(chart.ticks[1:])
    if chart.written:
        order = sorted(set(values))
        limits += [(a + b) // 2 for a, b in zip(order, order[1:], strict=False)] + [order[0] - 1, order[-1] + 1]
    limits = [v for v in limits if v > 0 and all(abs(v - w) >= chart.margin for w in values)]
    above = asker.coin()
    by_count: dict[int, list[int]] = {}
    for v in limits:
        by_count.setdefault(sum((w > v) == above for w in values), []).append(v)
    if not by_count:
        return None
    counts = list(by_count)
    count = rng.choices(counts, [0.6 if c == 0 else min(c, 6) ** 0.5 for c in counts])[0]
    limit = chart.answer(pick(rng, by_count[count]))
    phrase = pick(rng, ("above", "over", "greater than", "higher than") if above else ("below", "under", "lower than"))
    return asker.say(
        "count beyond", "chart reasoning", str(count), nouns=nouns, beyond=phrase, v=limit, w=where, **words
    )


def more(asker: Asker) -> Question | None:
    view = asker.view()
    i, j = asker.two(view)
    a, b = view.values[i], view.values[j]
    if abs(a - b) < asker.chart.margin:
        return None
    up = asker.coin()
    here = f"{view.at} {view.names[i]}{view.where}"
    return asker.say(
        "more", "chart reasoning", yes_no((a > b) == up), x=view.names[i], y=view.names[j], w=view.where, at=here,
        more=pick(asker.rng, MORE if up else LESS), that=f"{view.at} {view.names[j]}",
    )  # fmt: skip


def sum_more(asker: Asker) -> Question | None:
    view, chart = asker.view(), asker.chart
    if len(view.names) < 3 or not chart.readable:
        return None
    kept: dict[bool, list] = {True: [], False: []}
    for _ in range(8):
        i, j, k = asker.rng.sample(range(len(view.names)), 3)
        d = view.values[i] + view.values[j] - view.values[k]
        if abs(d) >= 2 * chart.margin:
            kept[d > 0].append((i, j, k))
    if not kept[True] or not kept[False]:
        return None
    up, yes = asker.coin(), asker.coin()
    x, y, z = (view.names[i] for i in pick(asker.rng, kept[yes == up]))
    word = pick(asker.rng, MORE if up else LESS)
    return asker.say("sum more", "chart reasoning", yes_no(yes), x=x, y=y, z=z, w=view.where, more=word)


def rose_most(asker: Asker) -> Question | None:
    view, chart = asker.view(), asker.chart
    if view.noun not in TIMES or len(view.names) < 3:
        return None
    up = asker.coin()
    steps = [(b - a) * (1 if up else -1) for a, b in zip(view.values, view.values[1:], strict=False)]
    best, second = sorted(steps, reverse=True)[:2]
    if best <= 0 or best - max(second, 0) < 2 * chart.margin:
        return None
    rise, go = ("rise", "rise") if up else ("fall", "fall")
    name = view.names[steps.index(best) + 1]
    return asker.say("rose most", "chart reasoning", name, noun=view.noun, rise=rise, go=go, w=view.where)


def trend(asker: Asker) -> Question | None:
    view = asker.view()
    if view.noun not in TIMES:
        return None
    i, j = sorted(asker.two(view))
    d = view.values[j] - view.values[i]
    if abs(d) < asker.chart.margin:
        return None
    go = pick(asker.rng, ("rise", "fall"))
    x, y = view.names[i], view.names[j]
    return asker.say(
        "trend", "chart reasoning", yes_no((d > 0) == (go == "rise")), x=x, y=y, go=go, rise=go, w=view.where
    )


def across(asker: Asker) -> Question | None:
    """One series against another in all categories: in how many, or in every one.

    Of the charts that say no to "every" those are left out at random that would outnumber the yeses.
    """
    chart, rng = asker.chart, asker.rng
    if not chart.series_pool:
        return None
    i, j = rng.sample(range(len(chart.series)), 2)
    differences = [a - b for a, b in zip(chart.values[i], chart.values[j], strict=True)]
    if min(map(abs, differences)) < chart.margin:
        return None
    up, n = asker.coin(), len(differences)
    won = sum((d > 0) == up for d in differences)
    words = {
        "x": chart.series[i], "y": chart.series[j], "more": pick(rng, MORE if up else LESS), "p": chart.pool.at,
        "noun": chart.pool.noun, "nouns": plural(chart.pool.noun),
    }  # fmt: skip
    if asker.coin():
        return asker.say("in how many", "chart reasoning", str(won), **words)
    if won < n and rng.random() > (0.5 if won == 0 else MIXED):
        return None
    return asker.say("in all", "chart reasoning", yes_no(won == n), **words)


def with_x(asker: Asker) -> Question | None:
    """Whether y goes with x, where all points agree more or less."""
    chart = asker.chart
    points = [p for row in chart.points for p in row]
    n = len(points)
    xs, ys = [p[0] * n for p in points], [p[1] * n for p in points]
    mx, my = sum(xs) / n, sum(ys) / n
    sxy = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    sxx, syy = sum((x - mx) ** 2 for x in xs), sum((y - my) ** 2 for y in ys)
    if n < 4 or sxy * sxy < 0.64 * sxx * syy or not sxx * syy:
        return None
    go = pick(asker.rng, ("rise", "fall"))
    x, m = chart.x_measure.name, chart.measure.name
    return asker.say("with x", "chart reasoning", yes_no((sxy > 0) == (go == "rise")), x=x, m=m, go=go)


def points_beyond(asker: Asker) -> Question | None:
    chart = asker.chart
    if not chart.countable:
        return None
    return _count_beyond(asker, [y for row in chart.points for _, y in row], "points", "", m=chart.measure.name)


def most_points(asker: Asker) -> Question | None:
    chart = asker.chart
    counts = [len(row) for row in chart.points]
    up = asker.coin()
    best = max(counts) if up else min(counts)
    if len(counts) < 2 or not chart.countable or counts.count(best) > 1:
        return None
    name, most = chart.series[counts.index(best)], "most" if up else "fewest"
    return asker.say("most points", "chart reasoning", name, noun=chart.series_noun, most=most)


REASONING = (
    most, most, most, pair, pair, pair, total, beyond, beyond, more, more, sum_more, rose_most, trend, trend, across,
    across, spread, spread, median, most_color, gap,
)  # fmt: skip
REASONING_OF_POINTS = (with_x, points_beyond, most_points)
