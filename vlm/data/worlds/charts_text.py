"""Words on charts, composed of cached glyphs and cached themselves: names and numbers come again and again.

- A piece of text is as high as its point size, whatever letters it has, so lines of it align by their boxes.
- `Sheet` is a picture that remembers where every text stands: layout asks it for room, tests for what overlaps.
"""

import random
from functools import lru_cache

from PIL import Image, ImageDraw

from vlm.data.sample import Box, Thing
from vlm.data.worlds import fonts
from vlm.data.worlds.draw import RGB
from vlm.data.worlds.language import pick
from vlm.data.worlds.text_page import LETTERS

SIZES = (7, 8, 10, 12, 14, 17, 20, 24, 30)


Letters = tuple[tuple[str, Box, int], ...]


@lru_cache(maxsize=32768)
def _laid(path: str, size: int, text: str) -> tuple[Image.Image, Letters]:
    """The alpha of a line of text, and (what it is, its box, its place) of each letter and digit in it."""
    glyphs = [fonts.glyph(path, size, c) for c in text]
    width, height = max(1, round(sum(g[3] for g in glyphs)) + 1), size + 1
    image, found = Image.new("L", (width, height)), list[tuple[str, Box, int]]()
    pen, baseline = 0.0, round(0.82 * size)
    for place, (c, (alpha, right, down, advance)) in enumerate(zip(text, glyphs, strict=True)):
        left, top = max(round(pen) + right, 0), max(baseline + down, 0)
        pen += advance
        if c == " ":
            continue
        image.paste(alpha, (left, top))
        x1, y1 = min(left + alpha.width, width), min(top + alpha.height, height)
        if c in LETTERS and left < x1 and top < y1:
            found.append((f"char:{c}", (left, top, x1, y1), place))
    return image, tuple(found)


@lru_cache(maxsize=32768)
def stamp(path: str, size: int, text: str, turned: bool = False) -> Image.Image:
    """The alpha of a line of text, `size` + 1 pixels high; turned: to be read from below."""
    image = _laid(path, size, text)[0]
    return image.transpose(Image.Transpose.ROTATE_90) if turned else image


def letters(path: str, size: int, text: str, turned: bool) -> Letters:
    """The letters and digits of a stamp with their boxes and places."""
    image, found = _laid(path, size, text)
    width = image.width
    return tuple((c, (y0, width - x1, y1, width - x0), i) for c, (x0, y0, x1, y1), i in found) if turned else found


class Sheet:
    """A picture to write on in one font."""

    def __init__(self, image: Image.Image, ink: RGB, face: tuple[str, int, int]):
        self.image, self.ink = image, ink
        self.font, self.size, self.title_size = face
        self.pen = ImageDraw.Draw(image)
        self.texts: list[tuple[str, Box]] = []
        self._stamps: list[tuple[str, int, bool, int, int]] = []

    def width(self, text: str, size: int = 0) -> int:
        return stamp(self.font, size or self.size, text).width

    def widest(self, texts: list[str]) -> int:
        return max(map(self.width, texts), default=0)

    def box(self, text: str, x: float, y: float, anchor: str = "mm", size: int = 0, turned: bool = False) -> Box:
        """Where a text would stand; the anchor is l, m or r, then t, m or b."""
        width, height = stamp(self.font, size or self.size, text, turned).size
        left = round(x - {"l": 0, "m": width / 2, "r": width}[anchor[0]])
        top = round(y - {"t": 0, "m": height / 2, "b": height}[anchor[1]])
        return left, top, left + width, top + height

    def free(self, box: Box) -> bool:
        """Whether a box is inside the picture and touches no text."""
        x0, y0, x1, y1 = box
        if x0 < 0 or y0 < 0 or x1 > self.image.width or y1 > self.image.height:
            return False
        return not any(x0 < b[2] and x1 > b[0] and y0 < b[3] and y1 > b[1] for _, b in self.texts)

    def write(
        self, text: str, x: float, y: float, anchor: str = "mm", *, size: int = 0, turned: bool = False,
        color: RGB | None = None,
    ) -> None:  # fmt: skip
        box = self.box(text, x, y, anchor, size, turned)
        self.image.paste(color or self.ink, box[:2], stamp(self.font, size or self.size, text, turned))
        self.texts.append((text, box))
        self._stamps.append((text, size or self.size, turned, box[0], box[1]))

    def things(self) -> list[Thing]:
        """The letters and digits that were written."""
        width, height = self.image.size
        found = []
        for text, size, turned, left, top in self._stamps:
            for what, (x0, y0, x1, y1), place in letters(self.font, size, text, turned):
                box = max(left + x0, 0), max(top + y0, 0), min(left + x1, width), min(top + y1, height)
                if box[0] < box[2] and box[1] < box[3]:
                    found.append(Thing(box=box, what=what, point=size, place=place))
        return found


def wrapped(sheet: Sheet, text: str, room: int) -> list[str]:
    """A heading in one or two lines of at most `room` pixels, or none."""
    size = sheet.title_size
    if sheet.width(text, size) <= room:
        return [text]
    words = text.split(" ")
    for cut in range(len(words) // 2, len(words)):
        lines = [" ".join(words[:cut]), " ".join(words[cut:])]
        if all(line and sheet.width(line, size) <= room for line in lines):
            return lines
    return []


def choose_font(rng: random.Random, size: int, split: str) -> tuple[str, int, int]:
    """(font file, size of labels, size of the title) for a picture of `size` pixels; 7 is the least that is read."""
    family = pick(rng, fonts.families(split, mono=False))
    label = size * (0.038 + 0.02 * rng.random()) if size >= 128 else 7 + 1.5 * rng.random()
    path = family.bold if rng.random() < 0.15 else family.regular
    return path, _rung(label), _rung(label * pick(rng, (1, 1.2, 1.35)))


def _rung(size: float) -> int:
    """The largest size in use that is not above this one: few sizes are in use, so that stamps are found again."""
    return max((s for s in SIZES if s <= size), default=SIZES[0])
