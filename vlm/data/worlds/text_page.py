"""A page to write on: text glyph by glyph, rules and boxes, all turned by a few degrees about the middle.

Positions are those of the upright page; turning them one by one costs nothing beside turning a finished picture, and
characters keep their sharp edges and their own boxes.
"""

import math

from PIL import Image, ImageDraw

from vlm.data.sample import Thing
from vlm.data.worlds import fonts
from vlm.data.worlds.draw import RGB

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LINE = 1.25  # from baseline to baseline, of the size of the font
RISE = 0.9  # from the top of a line to its baseline
LADDER = (*range(10, 17), 18, 20, 22, 24, 28, 32, 36, 42, 48, 56, 64, 76, 90, 108, 128, 150, 180)
"""Sizes in use: few, so that glyphs are found again."""

UPRIGHT = 2.5  # degrees up to which characters need not lean with their line: less than half a pixel at text sizes

_WHAT = {c: f"char:{c}" for c in LETTERS}


def rung(size: float) -> int:
    """The largest size in use that is not above this one, the smallest where none is."""
    return next((s for s in reversed(LADDER) if s <= size), LADDER[0])


class Page:
    """Writes on a square picture, `things` are the characters written so far."""

    def __init__(self, image: Image.Image, angle: float = 0.0):
        self.image, self.angle = image, angle
        self.pen = ImageDraw.Draw(image)
        self.things: list[Thing] = []
        radians = math.radians(angle)
        self.cos, self.sin, self.middle = math.cos(radians), math.sin(radians), image.width / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the upright page is in the picture; angles run anticlockwise, as Pillow's do."""
        if not self.angle:
            return x, y
        x, y = x - self.middle, y - self.middle
        return self.middle + x * self.cos + y * self.sin, self.middle - x * self.sin + y * self.cos

    def write(self, x: float, y: float, text: str, path: str, size: int, paint: RGB, color: str = "") -> float:
        """Write from x on, on the baseline y; returns where the pen stopped. `color` names the paint."""
        paste, add, side, angle = self.image.paste, self.things.append, self.image.width, self.angle
        lean = angle if abs(angle) > UPRIGHT else 0.0
        for i, character in enumerate(text):
            alpha, right, down, advance = fonts.glyph(path, size, character, lean)
            if character != " ":
                px, py = self.at(x, y) if angle else (x, y)
                left, top = round(px) + right, round(py) + down
                paste(paint, (left, top), alpha)
                if what := _WHAT.get(character):
                    width, height = alpha.size
                    box = (max(left, 0), max(top, 0), min(left + width, side), min(top + height, side))
                    if box[0] < box[2] and box[1] < box[3]:
                        add(Thing(box=box, what=what, color=color, point=size, place=i))
            x += advance
        return x

    def rule(self, x0: float, y0: float, x1: float, y1: float, paint: RGB, width: int = 1) -> None:
        """A straight line."""
        self.pen.line((*self.at(x0, y0), *self.at(x1, y1)), fill=paint, width=width)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB | None = None, edge: RGB | None = None,
        width: int = 1,
    ) -> None:  # fmt: skip
        """A rectangle, filled, outlined or both."""
        corners = [self.at(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        if fill:
            self.pen.polygon(corners, fill=fill)
        if edge:
            self.pen.line([*corners, corners[0]], fill=edge, width=width, joint="curve")


def inset(size: int, angle: float, margin: int = 3) -> int:
    """How far from the sides of a square picture a turned page must stay to keep its corners inside."""
    return margin + math.ceil(size / 2 * abs(math.sin(math.radians(angle))))


def crowded(path: str, text: str) -> float:
    """How wide a text is in a font of size 1; sizes of fonts scale it but for rounding."""
    return fonts.width(path, 100, text) / 100
