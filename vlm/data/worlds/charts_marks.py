"""The marks of a chart: its frame, bars, lines, points and slices, their values with them.

The functions in the plural return (series, category or point, box) of its marks; index -1 is a stretch of a line.
"""

import math

from PIL import Image, ImageDraw

from vlm.data.sample import Box
from vlm.data.worlds import draw
from vlm.data.worlds.charts_spec import Chart
from vlm.data.worlds.charts_style import READ, Again, NoRoom, Style, apart, over, settle
from vlm.data.worlds.charts_text import Sheet
from vlm.data.worlds.charts_topics import PALETTES
from vlm.data.worlds.draw import RGB

Mark = tuple[int, int, Box]


def frame_of(sheet: Sheet, style: Style, plot: list[int], horizontal: bool) -> None:
    """The axes, or a box about the plot, as the style has it."""
    left, top, right, bottom = plot
    if style.frame == "box":
        sheet.pen.rectangle((left, top, right, bottom), outline=style.ink)
        return
    down, across = (left, top, left, bottom), (left, bottom, right, bottom)
    if style.frame == "corner" or (style.frame == "base" and horizontal):
        sheet.pen.line(down, fill=style.ink)
    if style.frame == "corner" or (style.frame == "base" and not horizontal):
        sheet.pen.line(across, fill=style.ink)


def bars(
    sheet: Sheet, chart: Chart, style: Style, centers: list[float], thickness: float, base: int, pixels: float
) -> list[Mark]:
    """All bars, their values with them; `pixels` a unit, below 0 where bars stand."""
    marks = []
    k = len(chart.series)
    for i, center in enumerate(centers):
        start = 0
        for j in range(k):
            value = chart.values[j][i]
            near = center - thickness / 2 + (thickness * (j - (k - 1) / 2) if chart.kind == "grouped" else 0)
            a, b = round(near), max(round(near + thickness), round(near) + 2)
            low, high = sorted((base + start * pixels, base + (start + value) * pixels))
            low, high = round(low), max(round(high), round(low) + 1)
            box = (low, a, high, b) if chart.horizontal else (a, low, b, high)
            marks.append((j, i, box))
            start += value if chart.kind == "stacked" else 0
    s = sheet.size
    if chart.kind == "stacked" and chart.written:
        for j, i, box in marks:
            if box[2] - box[0] < sheet.width(chart.number(chart.values[j][i])) + 1 or box[3] - box[1] < s + 1:
                chart.written = False
                if chart.bare:
                    chart.bare = False
                    raise Again
    settle(chart, abs(pixels))
    paints = PALETTES[chart.palette]
    for j, i, box in marks:
        color = paints[chart.paint(j, i)]
        x0, y0, x1, y1 = box
        sheet.pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color, outline=style.ink if style.edges else None)
        if not chart.written:
            continue
        text = chart.number(chart.values[j][i])
        if chart.kind == "stacked":
            sheet.write(text, (x0 + x1) / 2, (y0 + y1) / 2, color=over(color))
        elif chart.horizontal:
            sheet.write(text, x1 + 2, (y0 + y1) / 2, "lm")
        else:
            sheet.write(text, (x0 + x1) / 2, y0 - 1, "mb")
    return marks


def marker(sheet: Sheet, shape: str, color: RGB, x: float, y: float, side: int) -> Box:
    alpha = draw.mask(shape, side)
    left, top = round(x - alpha.width / 2), round(y - alpha.height / 2)
    sheet.image.paste(color, (left, top), alpha)
    return left, top, left + alpha.width, top + alpha.height


def lines(
    sheet: Sheet, chart: Chart, style: Style, xs: list[float], rows: list[list[float]], plot: list[int]
) -> list[Mark]:
    """All lines, their values with them where all find room in the plot."""
    marks: list[Mark] = []
    side = max(4, sheet.image.width // 45 + style.thick)
    for j, ys in enumerate(rows):
        color = PALETTES[chart.palette][chart.colors[j]]
        points = list(zip(xs, ys, strict=True))
        _smooth(sheet.image, points, color, style.thick)
        for i, (x, y) in enumerate(points):
            box = (round(x) - 2, round(y) - 2, round(x) + 2, round(y) + 2)
            if style.marker:
                box = marker(sheet, style.marker, color, x, y, side)
            marks.append((j, i, box))
            if i:
                (x0, y0), y1 = points[i - 1], y
                marks.append((j, -1, (int(x0), int(min(y0, y1)), int(x) + 1, int(max(y0, y1)) + 1)))
    if chart.written:
        placed = _values_at(sheet, chart, [m for m in marks if m[1] >= 0], xs, rows, plot)
        if len(placed) < len(chart.series) * len(chart.categories):
            chart.written = False
            raise Again
        for text, box in placed:
            sheet.write(text, box[0], box[1], "lt")
    return marks


def ends(sheet: Sheet, chart: Chart, style: Style, x: float, ys: list[float], within: tuple[int, int]) -> None:
    """The name of each line beside its last point, where these are far enough apart."""
    half = sheet.size / 2 + 1
    order = sorted(range(len(ys)), key=ys.__getitem__)
    places = {j: min(max(ys[j], within[0] + half), within[1] - half) for j in order}
    if any(places[b] - places[a] < 2 * half for a, b in zip(order, order[1:], strict=False)):
        chart.legend = "right"
        raise Again
    for j, y in places.items():
        color = PALETTES[chart.palette][chart.colors[j]]
        sheet.write(chart.series[j], x, y, "lm", color=color if apart(color, style.ground) else None)


def _values_at(
    sheet: Sheet, chart: Chart, marks: list[Mark], xs: list[float], rows: list[list[float]], plot: list[int]
) -> list[tuple[str, Box]]:  # fmt: skip
    """Where the values stand, above or below their points and clear of other lines, as far as there is room."""
    placed: list[tuple[str, Box]] = []
    for j, i, (x0, y0, x1, y1) in marks:
        text = chart.number(chart.values[j][i])
        others = [row for k, row in enumerate(rows) if k != j]
        half = sheet.width(text) / 2 + 2
        x = min(max((x0 + x1) / 2, plot[0] + half), plot[2] - half)
        boxes = [sheet.box(text, x, y0 - 1, "mb"), sheet.box(text, x, y1 + 1, "mt")]
        if _crosses(boxes[0], xs, rows[j]) > _crosses(boxes[1], xs, rows[j]):  # clear of its own line, if it can be
            boxes.reverse()
        for box in boxes:
            if (
                sheet.free(box)
                and not any(box[0] < b[2] and box[2] > b[0] and box[1] < b[3] and box[3] > b[1] for _, b in placed)
                and not any(_crosses(box, xs, row) for row in others)
            ):
                placed.append((text, box))
                break
    return placed


def _crosses(box: Box, xs: list[float], ys: list[float]) -> bool:
    """Whether a line comes into a box, a marker's breadth about it included."""
    for x0, y0, x1, y1 in zip(xs, ys, xs[1:], ys[1:], strict=False):
        a, b = max(box[0] - 2, x0), min(box[2] + 2, x1)
        if a <= b:
            high, low = sorted(y0 + (y1 - y0) * (x - x0) / (x1 - x0) for x in (a, b))
            if high < box[3] + 2 and low > box[1] - 2:
                return True
    return False


def _smooth(image: Image.Image, points: list[tuple[float, float]], color: RGB, thick: int) -> None:
    """A line without steps: drawn at twice the size."""
    x0, y0 = (int(min(p[d] for p in points)) - thick - 1 for d in (0, 1))
    x1, y1 = (int(max(p[d] for p in points)) + thick + 2 for d in (0, 1))
    big = Image.new("L", (2 * (x1 - x0), 2 * (y1 - y0)))
    path = [(2 * (x - x0), 2 * (y - y0)) for x, y in points]
    ImageDraw.Draw(big).line(path, fill=255, width=2 * thick + 1, joint="curve")
    image.paste(color, (x0, y0), big.reduce(2))


def points(sheet: Sheet, chart: Chart, style: Style, plot: list[int], pixels: float) -> list[Mark]:
    """The points of a scatter plot over ticks in both directions."""
    left, top, right, bottom = plot
    across = (right - left) / chart.x_ticks[-1]
    for t in chart.x_ticks:
        x = round(left + t * across)
        sheet.write(str(t), x, bottom + 3, "mt")
        if chart.grid:
            sheet.pen.line((x, top, x, bottom), fill=style.rule)
    settle(chart, pixels)
    chart.snapped = chart.snapped and (chart.x_ticks[1] - chart.x_ticks[0]) * across / 2 >= READ
    frame_of(sheet, style, plot, False)
    side = max(4, sheet.image.width // 36)
    marks: list[Mark] = []
    for j, row in enumerate(chart.points):
        color = PALETTES[chart.palette][chart.colors[j]]
        for i, (x, y) in enumerate(row):
            box = marker(sheet, style.marker or "circle", color, left + x * across, bottom - y * pixels, side)
            for _, _, b in marks:
                if box[0] < b[2] and box[2] > b[0] and box[1] < b[3] and box[3] > b[1]:
                    chart.countable = False
            marks.append((j, i, box))
    return marks


def pie(sheet: Sheet, chart: Chart, style: Style, room: list[int]) -> list[Mark]:
    """Slices from the top on, clockwise; their names beside them where there is no legend."""
    s, (left, top, right, bottom) = sheet.size, room
    values, names = chart.values[0], chart.categories
    texts = list(names)
    joined = chart.written and style.joined and not chart.legend
    if joined:
        texts = [f"{name} {chart.number(v)}" for name, v in zip(names, values, strict=True)]
    wide = 0 if chart.legend else sheet.widest(texts) + 3
    radius = min((right - left) / 2 - wide, (bottom - top) / 2 - (0 if chart.legend else s + 4)) - 1
    if radius < 0.16 * sheet.image.width:
        if chart.legend:
            raise NoRoom
        chart.legend = "right"
        raise Again
    cx, cy = (left + right) / 2, (top + bottom) / 2
    x0, y0, side = round(cx - radius), round(cy - radius), int(2 * radius)
    big = Image.new("RGB", (2 * side, 2 * side), style.ground)
    pen, total = ImageDraw.Draw(big), sum(values)
    marks: list[Mark] = []
    middles: list[float] = []
    angle = -90.0
    for i, v in enumerate(values):
        turn = 360 * v / total
        pen.pieslice((0, 0, 2 * side - 1, 2 * side - 1), angle, angle + turn, PALETTES[chart.palette][chart.colors[i]])
        middles.append(math.radians(angle + turn / 2))
        angle += turn
    for middle, v in zip(middles, values, strict=True):  # a gap between neighbours
        edge = middle - math.pi * v / total
        pen.line((side, side, side * (1 + math.cos(edge)), side * (1 + math.sin(edge))), fill=style.ground, width=3)
    if style.hole:
        a, b = side * (1 - style.hole), side * (1 + style.hole)
        pen.ellipse((a, a, b, b), fill=style.ground)
    sheet.image.paste(big.reduce(2), (x0, y0))
    reach = radius * (0.66 if not style.hole else (1 + style.hole) / 2)
    inside = []
    for i, middle in enumerate(middles):
        x, y = cx + reach * math.cos(middle), cy + reach * math.sin(middle)
        text = chart.number(values[i])
        inside.append((text, x, y, over(PALETTES[chart.palette][chart.colors[i]])))
        marks.append((0, i, (round(x) - 1, round(y) - 1, round(x) + 1, round(y) + 1)))
        if chart.written and not joined:
            room_here = 2 * math.pi * values[i] / total * reach
            deep = radius * (0.6 if not style.hole else 1 - style.hole)
            chart.written = room_here > max(s + 1, 0.9 * sheet.width(text)) and deep > sheet.width(text)
    chart.margin = 1 if chart.written else max(1, math.ceil(0.04 * total))
    if chart.written and not joined:
        for text, x, y, color in inside:
            sheet.write(text, x, y, color=color)
    for i, middle in enumerate(middles if not chart.legend else ()):
        c, d = math.cos(middle), math.sin(middle)
        anchor = "l" if c > 0.3 else "r" if c < -0.3 else "m"
        x, y = cx + (radius + 3) * c, cy + (radius + 3 + s / 2 * abs(d)) * d
        if not sheet.free(sheet.box(texts[i], x, y, anchor + "m")):
            chart.legend = "right"
            raise Again
        sheet.write(texts[i], x, y, anchor + "m")
    return marks
