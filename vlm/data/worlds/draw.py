"""Drawing for all worlds: colours that people name alike, backgrounds, antialiased shapes, placing without overlap.

- A shape is drawn once per process at four to eight times its size, reduced to an alpha mask and cached: a picture is
  then a handful of masked pastes, some tens of microseconds at 96 px.
- Every random choice comes from the `random.Random` passed in; Pillow's own noise is not seedable, so ours is used.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from vlm.data.sample import Box

RGB = tuple[int, int, int]

PAINT: dict[str, RGB] = {
    "red": (218, 34, 40),
    "orange": (245, 135, 20),
    "yellow": (248, 218, 40),
    "green": (40, 160, 70),
    "blue": (40, 85, 220),
    "purple": (130, 50, 175),
    "pink": (250, 135, 190),
    "black": (18, 18, 18),
    "white": (246, 246, 246),
}

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")

JITTER = 14  # per channel; far below half the distance of any two paints
CONTRAST = 85  # least RGB distance of a paint from the background


def jitter(rng: random.Random, color: RGB) -> RGB:
    """The colour a little off, so that a name is learned as a region and not as a point."""
    u = rng.random
    r, g, b = color
    r, g, b = r + int((u() * 2 - 1) * JITTER), g + int((u() * 2 - 1) * JITTER), b + int((u() * 2 - 1) * JITTER)
    return (min(max(r, 0), 255), min(max(g, 0), 255), min(max(b, 0), 255))


def background_color(rng: random.Random) -> RGB:
    """White, black, grey, pastel or a dark tint."""
    u = rng.random()
    if u < 0.15:
        return (255, 255, 255)
    if u < 0.25:
        return (0, 0, 0)
    if u < 0.5:
        g = rng.randrange(30, 236)
        return (g, g, g)
    low, span = (185, 70) if u < 0.8 else (12, 70)
    return (low + int(rng.random() * span), low + int(rng.random() * span), low + int(rng.random() * span))


def visible(background: RGB) -> list[str]:
    """The colour names that stand out against a background."""
    r, g, b = background
    return [n for n, (x, y, z) in PAINT.items() if (x - r) ** 2 + (y - g) ** 2 + (z - b) ** 2 > CONTRAST * CONTRAST]


@lru_cache(maxsize=4)
def _noise(side: int, strength: int) -> Image.Image:
    """A fixed field of noise twice the asked size; pictures cut a random window out of it."""
    raw = random.Random(0).randbytes(side * side * 12)
    return Image.frombytes("RGB", (2 * side, 2 * side), bytes(b * strength // 256 for b in raw))


def canvas(rng: random.Random, size: int, color: RGB) -> Image.Image:
    """A square background: mostly plain, sometimes a mild gradient or mild noise."""
    u = rng.random()
    if u < 0.2:  # gradient
        small = Image.new("RGB", (2, 2), color)
        for at in ((0, 0), (1, 0), (0, 1)):
            d = rng.randrange(-14, 15)
            small.putpixel(at, tuple(min(max(c + d, 0), 255) for c in color))
        return small.resize((size, size), Image.Resampling.BILINEAR)
    image = Image.new("RGB", (size, size), color)
    if u < 0.4:
        strength = 24
        x, y = rng.randrange(size), rng.randrange(size)
        window = _noise(size, strength).crop((x, y, x + size, y + size))
        image = ImageChops.add(image, window, 1, -strength // 2)
    return image


def _polygon(shape: str) -> list[tuple[float, float]]:
    """Corners in the unit square, y down."""
    if shape == "square":
        return [(0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96)]
    if shape == "triangle":
        return [(0.5, 0.04), (1, 0.94), (0, 0.94)]
    if shape == "diamond":
        return [(0.5, 0), (0.86, 0.5), (0.5, 1), (0.14, 0.5)]
    if shape == "cross":
        a, b = 0.33, 0.67
        return [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    if shape == "star":
        points = []
        for k in range(10):
            radius = 0.52 if k % 2 == 0 else 0.215
            angle = math.pi * (k / 5 - 0.5)
            points.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
        return points
    if shape == "heart":
        points = []
        for k in range(40):
            t = 2 * math.pi * k / 40
            x = 16 * math.sin(t) ** 3
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((0.5 + x / 33, 0.44 - y / 33))
        return points
    raise ValueError(f"no shape {shape!r}; choose from {', '.join(SHAPES)}")


@lru_cache(maxsize=2048)
def mask(shape: str, side: int, turn: int = 0) -> Image.Image:
    """The alpha of a shape of about `side` pixels, turned by `turn` degrees, cut to its tight box."""
    k = max(4, min(8, 256 // side))  # the larger, the less is gained by drawing it larger still
    big = Image.new("L", (side * k, side * k), 0)
    pen = ImageDraw.Draw(big)
    whole = side * k - 1
    if shape in ("circle", "ring"):
        pen.ellipse((0, 0, whole, whole), fill=255)
        if shape == "ring":
            d = whole * 0.25
            pen.ellipse((d, d, whole - d, whole - d), fill=0)
    else:
        pen.polygon([(x * whole, y * whole) for x, y in _polygon(shape)], fill=255)
    if turn:
        big = big.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    width, height = big.size
    padded = Image.new("L", (-(-width // k) * k, -(-height // k) * k), 0)
    padded.paste(big, (0, 0))
    alpha = padded.reduce(k)
    return alpha.crop(alpha.point(lambda v: 255 if v > 40 else 0).getbbox())


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A thing as it is pasted: its (size, colour, what), side and turn, what it is filled with, through which mask."""

    look: tuple[str, str, str]
    side: int
    turn: int
    fill: RGB | Image.Image
    mask: Image.Image
    box: Box


def composed(ground: Image.Image, pieces: Iterable[Piece]) -> Image.Image:
    """The pieces on a copy of the ground, the last uppermost."""
    image = ground.copy()
    for piece in pieces:
        image.paste(piece.fill, piece.box, piece.mask)
    return image


def apart(box: Box, others: Iterable[Box | None], gap: int) -> bool:
    """Whether a box keeps its distance from others."""
    x0, y0, x1, y1 = box
    return not any(b and x0 < b[2] + gap and x1 > b[0] - gap and y0 < b[3] + gap and y1 > b[1] - gap for b in others)


def place(rng: random.Random, sides: list[tuple[int, int]], size: int, gap: int) -> list[Box | None]:
    """Boxes of the given (width, height) in a square that do not touch; None for one that found no room."""
    boxes: list[Box | None] = []
    u = rng.random
    for width, height in sides:
        room_x, room_y = size - width - 3, size - height - 3
        for _ in range(40):
            x0, y0 = 2 + int(u() * room_x), 2 + int(u() * room_y)
            x1, y1 = x0 + width, y0 + height
            for b in boxes:
                if b and x0 < b[2] + gap and x1 > b[0] - gap and y0 < b[3] + gap and y1 > b[1] - gap:
                    break
            else:
                boxes.append((x0, y0, x1, y1))
                break
        else:
            boxes.append(None)
    return boxes
