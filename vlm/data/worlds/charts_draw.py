"""Charts laid out from the outside in: title, legend, axes; what finds no room is left off the chart.

- `render` may change the chart: labels that do not fit are dropped, values that cannot be written or told from the
  axis are marked so, and `margin` says how far apart two values are before an eye tells them.
- A room is [left, top, right, bottom] in pixels: what is still free.
"""

import random

from PIL import Image

from vlm.data.sample import Box
from vlm.data.worlds.charts_marks import Mark, bars, ends, frame_of, lines, marker, pie, points
from vlm.data.worlds.charts_spec import Chart
from vlm.data.worlds.charts_style import Again, NoRoom, Style, choose_style, mix, settle
from vlm.data.worlds.charts_text import Sheet, wrapped
from vlm.data.worlds.charts_topics import PALETTES
from vlm.data.worlds.draw import RGB
from vlm.data.worlds.language import sentence


def render(rng: random.Random, chart: Chart, size: int, split: str) -> tuple[Sheet, list[Mark]]:
    """Draw a chart; returns the sheet and (series, category or point, box) of every bar, slice or point.

    Raises:
        NoRoom: its text does not fit into `size` pixels.
    """
    style = choose_style(rng, chart, size, split)
    for _ in range(5):
        try:
            return _draw(chart, style, size)
        except Again:
            pass
    raise NoRoom


def _draw(chart: Chart, style: Style, size: int) -> tuple[Sheet, list[Mark]]:
    sheet = Sheet(Image.new("RGB", (size, size), style.ground), style.ink, style.face)
    gap = 2 + size // 90
    room = [gap, gap, size - gap, size - gap]
    heading = wrapped(sheet, chart.title, room[2] - room[0]) if chart.title else []
    if not heading:
        chart.title = ""
    for line in heading:
        if style.title_left:
            sheet.write(line, room[0], room[1], "lt", size=sheet.title_size)
        else:
            sheet.write(line, size / 2, room[1], "mt", size=sheet.title_size)
        room[1] += sheet.title_size + 1
    soft = mix(style.ink, style.ground, 0.25)
    for line, place in ((chart.note, 1), (chart.source, 3)):
        if not line or sheet.width(line) > room[2] - room[0] or (place == 1 and not heading):
            continue
        x, anchor = (room[0], "l") if style.title_left else (size / 2, "m")
        sheet.write(line, x, room[place], anchor + ("t" if place == 1 else "b"), color=soft)
        room[place] += (sheet.size + 1) * (1 if place == 1 else -1)
    room[3] -= gap if chart.source else 0
    room[1] += gap if heading else 0
    if chart.legend in ("top", "bottom", "right"):
        _legend(sheet, chart, style, room)
    if chart.kind == "pie":
        return sheet, pie(sheet, chart, style, room)
    marks = (_horizontal if chart.horizontal else _vertical)(sheet, chart, style, room)
    if chart.legend == "inside":
        _inside(sheet, chart, style, room, [m[2] for m in marks])
    if chart.kind in ("line", "scatter"):
        marks = [m for m in marks if m[1] >= 0]
    return sheet, marks


# ------------------------------------------------------------------------------------------ legends


def _entries(chart: Chart) -> list[tuple[str, RGB]]:
    names = chart.categories if chart.by_category else chart.series
    if names == [""]:
        names = [sentence(chart.measure.name)]
    return [(name, PALETTES[chart.palette][c]) for name, c in zip(names, chart.colors, strict=True)]


def _indent(size: int) -> int:
    """From the left of a legend's entry to its name."""
    return size + 2 + size // 4


def _key(sheet: Sheet, chart: Chart, style: Style, name: str, color: RGB, x: float, y: float) -> None:
    """One entry of a legend, its left at x, its middle at y."""
    s = sheet.size
    if chart.kind == "line":
        sheet.pen.line((x, y, x + s, y), fill=color, width=style.thick + 1)
    elif chart.kind == "scatter":
        marker(sheet, style.marker or "circle", color, x + s / 2, y, s - 1)
    else:
        half = (s - 2) // 2
        sheet.pen.rectangle((x + 1, y - half, x + s - 1, y + half), fill=color)
    sheet.write(name, x + _indent(s), y, "lm")


def _legend(sheet: Sheet, chart: Chart, style: Style, room: list[int]) -> None:
    """A legend at a side of the room, which shrinks by it."""
    s, entries = sheet.size, _entries(chart)
    widths = [_indent(s) + sheet.width(name) for name, _ in entries]
    if chart.legend == "right":
        left, high = room[2] - max(widths), len(entries) * (s + 4)
        if max(widths) > 0.42 * (room[2] - room[0]) or high > room[3] - room[1]:
            raise NoRoom
        y = (room[1] + room[3] - high + s + 4) / 2
        for i, (name, color) in enumerate(entries):
            _key(sheet, chart, style, name, color, left, round(y) + i * (s + 4))
        room[2] = left - s
        return
    rows: list[list[int]] = [[]]
    for i, width in enumerate(widths):
        if rows[-1] and sum(widths[j] + s for j in rows[-1]) + width > room[2] - room[0]:
            rows.append([])
        rows[-1].append(i)
    if len(rows) > 3 or max(widths) > room[2] - room[0]:
        raise NoRoom
    top = room[1] if chart.legend == "top" else room[3] - len(rows) * (s + 4) + 3
    for r, row in enumerate(rows):
        x = (room[0] + room[2] - sum(widths[j] for j in row) - s * (len(row) - 1)) / 2
        for j in row:
            _key(sheet, chart, style, *entries[j], round(x), top + r * (s + 4) + s // 2)
            x += widths[j] + s
    if chart.legend == "top":
        room[1] += len(rows) * (s + 4) + 2
    else:
        room[3] = top - 4


def _inside(sheet: Sheet, chart: Chart, style: Style, plot: list[int], marks: list[Box]) -> None:
    """A legend in a corner of the plot that is free; above the plot where there is none."""
    s, entries = sheet.size, _entries(chart)
    width = _indent(s) + 6 + sheet.widest([name for name, _ in entries])
    height = len(entries) * (s + 3) + 4
    for x0 in (plot[2] - width - 3, plot[0] + 3):
        for y0 in (plot[1] + 3, plot[3] - height - 3):
            box = (x0, y0, x0 + width, y0 + height)
            inside = box[0] > plot[0] and box[1] > plot[1] and box[2] < plot[2] and box[3] < plot[3]
            if inside and sheet.free(box) and not any(
                box[0] < b[2] + 2 and box[2] > b[0] - 2 and box[1] < b[3] + 2 and box[3] > b[1] - 2 for b in marks
            ):  # fmt: skip
                sheet.pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=style.ground, outline=style.rule)
                for i, (name, color) in enumerate(entries):
                    _key(sheet, chart, style, name, color, x0 + 3, y0 + 3 + i * (s + 3) + s // 2)
                return
    chart.legend = "top"
    raise Again


# ------------------------------------------------------------------------------------------ axes


def _tick_texts(chart: Chart, style: Style, ticks: list[int]) -> list[str]:
    whole = style.whole_ticks and chart.decimals and not any(t % 10**chart.decimals for t in ticks)
    return [chart.number(t).replace("." + "0" * chart.decimals, "") if whole else chart.number(t) for t in ticks]


def _totals(chart: Chart) -> int:
    """The highest value that the axis has to reach."""
    if chart.kind == "stacked":
        return max(map(sum, zip(*chart.values, strict=True)))
    return max(map(max, chart.values)) if chart.values else 0


def _written(chart: Chart) -> list[str]:
    return [chart.number(v) for row in chart.values for v in row]


def _vertical(sheet: Sheet, chart: Chart, style: Style, room: list[int]) -> list[Mark]:
    """Bars that stand, lines and points; the room becomes the plot. Marks with index -1 are stretches of a line."""
    s, size = sheet.size, sheet.image.width
    edge, floor = room[0], room[3]
    ticks = [] if chart.bare else _tick_texts(chart, style, chart.ticks)
    room[0] += (s + 3 if chart.y_label else 0) + sheet.widest(ticks) + 4
    room[3] -= s + 3 if chart.x_label else 0
    aside = 0
    if chart.kind == "scatter":
        across = [str(t) for t in chart.x_ticks]
        aside = sheet.width(across[0]) // 2 + 1  # the zeros of both axes meet in the corner
        room[0] += aside
        room[2] -= sheet.width(across[-1]) // 2
        slot, turned = (room[2] - room[0]) / (len(across) - 1), False
        if slot < sheet.widest(across) + 2:
            raise NoRoom
        room[3] -= s + 3
    else:
        n, free = len(chart.categories), room[2] - room[0]
        slot = free / n
        if chart.legend == "ends":  # beside the last points
            slot = min((free - sheet.widest(chart.series) - 7) / (n - 0.5), slot)
            room[2] = room[0] + round(slot * n)
        widest = sheet.widest(chart.categories)
        turned = widest + 3 > slot
        if turned and (s + 2 > slot or widest > 0.28 * size):
            raise NoRoom
        room[3] -= widest + 4 if turned else s + 3
    thickness = slot * style.fill / (len(chart.series) if chart.kind == "grouped" else 1)
    if chart.written and chart.kind in ("bar", "grouped"):
        chart.written = sheet.widest(_written(chart)) < (slot if chart.kind == "bar" else thickness)
    if chart.bare and not chart.written:
        chart.bare = False
        raise Again
    room[1] += s + 2 if chart.written and chart.kind != "stacked" else s // 2 + 1
    left, top, right, bottom = room
    if bottom - top < 0.3 * size or right - left < 0.35 * size or (bottom - top) < (s + 2) * (len(ticks) - 1):
        raise NoRoom
    low, high = chart.ticks[0], max(chart.ticks[-1], _totals(chart))
    pixels = (bottom - top) / (high - low)
    for t, text in zip(chart.ticks, ticks, strict=False):
        y = round(bottom - (t - low) * pixels)
        sheet.write(text, left - 3 - aside, y, "rm")
        if chart.grid:
            sheet.pen.line((left, y, right - (slot / 2 if chart.legend == "ends" else 0), y), fill=style.rule)
    _labels(sheet, chart, edge, floor, room)
    if chart.kind == "scatter":
        return points(sheet, chart, style, room, pixels)
    centers = [left + slot * (i + 0.5) for i in range(len(chart.categories))]
    for x, name in zip(centers, chart.categories, strict=True):
        sheet.write(name, x, bottom + 3, "mt", turned=turned)
    if chart.kind == "line":
        settle(chart, pixels)
        frame_of(sheet, style, room, False)
        ys = [[bottom - (v - low) * pixels for v in row] for row in chart.values]
        if chart.legend == "ends":
            ends(sheet, chart, style, centers[-1] + 5, [row[-1] for row in ys], (top, bottom))
        return lines(sheet, chart, style, centers, ys, room)
    marks = bars(sheet, chart, style, centers, thickness, bottom, -pixels)
    frame_of(sheet, style, room, False)
    return marks


def _labels(sheet: Sheet, chart: Chart, edge: int, floor: int, plot: list[int]) -> None:
    """The labels of both axes, the upright one at `edge`, the other on `floor`; too long ones are given up."""
    left, top, right, bottom = plot
    if chart.x_label:
        half = sheet.width(chart.x_label) / 2
        if 2 * half > right - edge:
            chart.x_label = ""
            raise Again
        sheet.write(chart.x_label, min(max((left + right) / 2, edge + half), right - half), floor, "mb")
    if chart.y_label:
        if sheet.width(chart.y_label) > bottom - top + 2:
            chart.y_label = ""
            raise Again
        sheet.write(chart.y_label, edge, (top + bottom) / 2, "lm", turned=True)


def _horizontal(sheet: Sheet, chart: Chart, style: Style, room: list[int]) -> list[Mark]:
    """Bars that lie; the first category is at the top. The room becomes the plot."""
    s, size = sheet.size, sheet.image.width
    edge, floor = room[0], room[3]
    widest = sheet.widest(chart.categories)
    if widest > 0.4 * size:
        raise NoRoom
    room[0] += (s + 3 if chart.y_label else 0) + widest + 4
    room[3] -= (0 if chart.bare else s + 3) + (s + 3 if chart.x_label else 0)
    room[1] += 1
    slot = (room[3] - room[1]) / len(chart.categories)
    thickness = slot * style.fill / (len(chart.series) if chart.kind == "grouped" else 1)
    if chart.written and chart.kind in ("bar", "grouped"):
        chart.written = (thickness if chart.kind == "grouped" else slot) >= s + 2
    if chart.bare and not chart.written:
        chart.bare = False
        raise Again
    ticks = [] if chart.bare else _tick_texts(chart, style, chart.ticks)
    beside = sheet.widest(_written(chart)) + 4 if chart.written and chart.kind != "stacked" else 0
    room[2] -= max(sheet.width(ticks[-1]) // 2 + 1 if ticks else 1, beside)
    left, top, right, bottom = room
    if slot < s + 2 or thickness < 2.5 or bottom - top < 0.3 * size or right - left < 0.3 * size:
        raise NoRoom
    low, high = chart.ticks[0], max(chart.ticks[-1], _totals(chart))
    pixels = (right - left) / (high - low)
    while ticks and (chart.ticks[1] - chart.ticks[0]) * pixels < sheet.widest(ticks) + 3:
        if len(ticks) < 4:
            raise NoRoom
        chart.ticks, ticks, chart.snapped = chart.ticks[::2], ticks[::2], False
    for t, text in zip(chart.ticks, ticks, strict=False):
        x = round(left + (t - low) * pixels)
        sheet.write(text, x, bottom + 3, "mt")
        if chart.grid:
            sheet.pen.line((x, top, x, bottom), fill=style.rule)
    _labels(sheet, chart, edge, floor, room)
    centers = [top + slot * (i + 0.5) for i in range(len(chart.categories))]
    for y, name in zip(centers, chart.categories, strict=True):
        sheet.write(name, left - 4, y, "rm")
    marks = bars(sheet, chart, style, centers, thickness, left, pixels)
    frame_of(sheet, style, room, True)
    return marks
