"""How a chart looks, and what an eye can tell in it."""

import math
import random
from dataclasses import dataclass

from vlm.data.worlds import draw
from vlm.data.worlds.charts_spec import Chart
from vlm.data.worlds.charts_text import choose_font
from vlm.data.worlds.charts_topics import PALETTES
from vlm.data.worlds.draw import RGB
from vlm.data.worlds.language import pick

TELL = 2.5  # pixels that two values must differ by to be told apart
READ = 5.0  # least pixels between two values that can be read off an axis


class NoRoom(Exception):
    """The chart does not fit the picture: another one has to be invented."""


class Again(Exception):
    """The chart was changed and has to be drawn anew."""


@dataclass
class Style:
    ground: RGB
    ink: RGB
    rule: RGB  # grid lines
    face: tuple[str, int, int]
    frame: str  # "box", "corner", "base" or "none"
    fill: float  # of a slot by its bars
    thick: int  # of lines
    marker: str  # "" for lines without
    title_left: bool
    whole_ticks: bool  # 10 rather than 10.0 where all ticks are whole
    edges: bool
    hole: float  # of a ring chart, as a share of its radius
    joined: bool  # a slice's value stands behind its name


def mix(a: RGB, b: RGB, share: float) -> RGB:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _far(a: RGB, b: RGB) -> bool:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) > draw.CONTRAST**2


def apart(color: RGB, ground: RGB) -> bool:
    """Whether letters of a colour are read on a ground."""
    light = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b in (color, ground)]
    return abs(light[0] - light[1]) > 90


def choose_style(rng: random.Random, chart: Chart, size: int, split: str) -> Style:
    """A look in which every colour of the chart stands out against its ground."""
    u = rng.random
    paints = [PALETTES[chart.palette][c] for c in chart.colors]
    form = u()
    ground = (255, 255, 255)
    if form < 0.15:
        ground = (18 + int(u() * 30), 20 + int(u() * 30), 28 + int(u() * 30))
    elif form < 0.45:
        ground = (228 + int(u() * 28), 228 + int(u() * 28), 228 + int(u() * 28))
    if not all(_far(ground, p) for p in paints):
        ground = (255, 255, 255)
    dark = sum(ground) < 380
    ink = mix((235, 235, 235) if dark else (10, 10, 10), ground, 0.15 * u())
    frame = pick(rng, ("box", "corner", "corner", "base", "none"))
    if chart.bare or chart.legend == "ends":
        frame = "base" if frame == "box" else frame
    elif not chart.grid and not chart.written:
        frame = "box" if frame == "box" else "corner"  # something to read heights against
    return Style(
        ground=ground, ink=ink, rule=mix(ground, ink, 0.14 + 0.14 * u()), face=choose_font(rng, size, split),
        frame=frame, fill=0.55 + 0.3 * u(),
        thick=max(1, round(size / 130 * (0.7 + u()))), marker=pick(rng, ("", "circle", "circle", "square", "diamond")),
        title_left=u() < 0.3, whole_ticks=u() < 0.6, edges=u() < 0.2, hole=0.45 if u() < 0.25 else 0.0,
        joined=u() < 0.4,
    )  # fmt: skip


def over(color: RGB) -> RGB:
    """Black or white, whichever is read on a colour."""
    return (0, 0, 0) if 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 125 else (255, 255, 255)


def settle(chart: Chart, pixels: float) -> None:
    """What can be told and read where a unit is so many pixels high."""
    half = (chart.ticks[1] - chart.ticks[0]) / 2
    chart.snapped = chart.snapped and half * pixels >= READ
    chart.margin = 1 if chart.written else max(1, math.ceil(TELL / pixels))
