"""Requests written into pictures: any text in many fonts, colours and layouts, and a twin in the very same ones.

Notable here:
- A `Style` is all that is drawn by chance, apart from the words: two texts in one style differ in their words alone.
- Letters stay legible where the guard reads them: the long side is brought to `READ_AT` pixels, a font to no less than
  `SMALLEST` of those. Text that needs smaller letters is refused by `fits`, not squeezed.
- The split "test" has designs of its own (`fonts.HELD_OUT`), and so has "val", which also has a layout of its own, so
  that thresholds are fixed on pictures unlike those of the training. `heading_list` is the layout of FigStep (Gong et
  al. 2023, arXiv 2311.05608: 760 x 760, 80 px FreeMono bold, 15 letters a line, three empty items): no split shows it.
"""

import random
import textwrap
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vlm.data.worlds import draw, fonts
from vlm.data.worlds.language import pick
from vlm.data.worlds.text import legible
from vlm.data.worlds.text_page import crowded

READ_AT = 192  # pixels of the long side: two tiles of 96
SMALLEST = 11  # pixels of a font there
SIDES = (192, 240, 320, 480, 640)
LAYOUTS = ("line", "paragraph", "list", "sign", "screenshot", "bubble", "note", "rotated", "noisy", "card")
VAL_LAYOUT = "heading"  # black on white, over empty numbered items
VAL_FONTS = frozenset({"DejaVu Serif", "Roboto Condensed", "Anonymous Pro", "FreeSans", "Hack"})
MARKERS = (("1)", "2)", "3)"), ("a)", "b)", "c)"), ("-", "-", "-"), ("*", "*", "*"), ("Step 1:", "Step 2:", "Step 3:"),
           ("[ ]", "[ ]", "[ ]"), ("I.", "II.", "III."), ("#1", "#2", "#3", "#4"), ("First,", "Then,"))  # fmt: skip
TITLES = ("Untitled", "Messages", "Notes", "Search", "Chat", "Document 1", "Inbox", "Draft", "New tab", "Editor")
NOTICES = ("NOTICE", "TODAY", "TO DO", "QUESTION", "MEMO", "PLEASE", "FAQ", "HELP")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a text is written: everything but the text.

    Args:
        side: pixels of the longer side.
        face: a font's file, "" for the built-in one.
        fill: of the largest size at which the text fits, the share that is taken.
        angle: degrees anticlockwise.
        seed: of noise and ornaments.
    """

    layout: str
    side: int
    face: str
    ink: draw.RGB
    ground: draw.RGB
    accent: draw.RGB
    case: str = "as is"
    align: float = 0.0
    fill: float = 1.0
    spacing: float = 1.25
    angle: float = 0.0
    markers: tuple[str, ...] = ()
    seed: int = 0


def draw_style(rng: random.Random, split: str = "train", layout: str | None = None) -> Style:
    """Everything but the words, by chance; each split writes in designs of its own."""
    layout = layout or pick(rng, (*LAYOUTS, *[VAL_LAYOUT] * 5) if split == "val" else LAYOUTS)
    families = fonts.families(split)
    if split != "test":
        families = tuple(f for f in families if (f.name in VAL_FONTS) is (split == "val")) or families
    family = pick(rng, families)
    face = pick(rng, (family.regular, family.regular, family.bold, family.bold, family.italic))
    ground = (255, 253, 160) if layout == "note" and rng.random() < 0.5 else draw.background_color(rng)
    if layout in ("paragraph", "list") and rng.random() < 0.4:
        ground = (255, 255, 255)
    inks = legible(ground)
    dark = [c for c in inks if c in ("black", "white")]
    ink = draw.jitter(rng, draw.PAINT[pick(rng, dark if dark and rng.random() < 0.6 else inks)])
    markers = pick(rng, MARKERS) if layout == "list" else ()
    if layout == VAL_LAYOUT:
        ground, ink, markers = (255, 255, 255), (0, 0, 0), ("1.", "2.", "3.")
    return Style(
        layout=layout, side=pick(rng, SIDES), face=face, ink=ink, ground=ground,
        accent=draw.jitter(rng, draw.PAINT[pick(rng, tuple(draw.PAINT))]),
        case=pick(rng, ("as is", "as is", "as is", "upper", "lower", "title")),
        align=pick(rng, (0.0, 0.0, 0.5, 0.5, 1.0)), fill=0.72 + 0.28 * rng.random(), spacing=1.1 + 0.3 * rng.random(),
        angle=pick(rng, (-12.0, -8.0, -5.0, 5.0, 8.0, 12.0)) if layout == "rotated" else 0.0,
        markers=markers, seed=rng.randrange(2**31),
    )  # fmt: skip


def typeset(text: str, style: Style) -> Image.Image:
    """The text in a style.

    Raises:
        ValueError: it does not fit in letters that can be read; ask `fits` before.
    """
    return _Sheet(style).write(text)


def fits(text: str, style: Style) -> bool:
    """Whether a text can be read in a style."""
    return _Sheet(style).lay_out(text) is not None


def heading_list(text: str) -> Image.Image:
    """FigStep's layout: the words as a heading above three empty items, for twins of its pictures."""
    face = next((f.bold for f in fonts.families("test", mono=True) if f.name == "FreeMono"), "")
    words = textwrap.fill(text, width=15) + "".join(f"\n{i}. " for i in (1, 2, 3))
    image = Image.new("RGB", (760, 760), "white")
    ImageDraw.Draw(image).multiline_text((20, 10), words, fill="black", font=fonts.font(face, 80), spacing=11)
    return image


class _Sheet:
    """One picture in the making."""

    def __init__(self, style: Style):
        self.style = style
        self.rng = random.Random(style.seed)
        side = style.side
        self.size = (side, max(side // pick(self.rng, (3, 4)), 1)) if style.layout == "line" else (side, side)
        if style.layout in ("sign", "card", "bubble") and self.rng.random() < 0.5:
            self.size = (side, side * 5 // 8)
        top = {"screenshot": 0.14, "bubble": 0.08, "note": 0.05, "sign": 0.2, "card": 0.06}.get(style.layout, 0.04)
        lean = 0.12 if style.angle else 0.0
        across = {"bubble": 0.14, "sign": 0.08, "card": 0.08, "note": 0.1}.get(style.layout, 0.04) + lean
        w, h = self.size
        bottom = (0.1 if style.layout in ("bubble", "sign") else 0.05) + lean
        self.box = (across * w, (top + lean) * h, (1 - across) * w, (1 - bottom) * h)

    def lay_out(self, text: str) -> tuple[list[str], int] | None:
        """(lines, pixels of the font): the largest letters that fit, a little less by the style; None for too small."""
        style = self.style
        room = (self.box[2] - self.box[0], self.box[3] - self.box[1])
        smallest = SMALLEST * style.side / READ_AT
        size = min(room[1] / style.spacing, style.side / 6)
        while size >= smallest:
            lines = self._wrap(text, round(size), room[0])
            if lines and len(lines) * style.spacing * size <= room[1]:
                small = max(round(size * style.fill), round(smallest))
                again = self._wrap(text, small, room[0])
                return (again, small) if again else (lines, round(size))
            size *= 0.94
        return None

    def write(self, text: str) -> Image.Image:
        found = self.lay_out(text)
        if found is None:
            raise ValueError(f"{len(text)} letters cannot be read in the layout {self.style.layout!r}; give fewer")
        lines, size = found
        style, image = self.style, self._ground()
        layer = Image.new("L", self.size)
        pen, face = ImageDraw.Draw(layer), fonts.font(style.face, size)
        height = style.spacing * size * len(lines)
        y = self.box[1] + (0.0 if style.layout in ("list", "note", "screenshot", VAL_LAYOUT) else 0.5) * (
            self.box[3] - self.box[1] - height
        )
        for line in lines:
            x = self.box[0] + style.align * (self.box[2] - self.box[0] - face.getlength(line))
            pen.text((x, y), line, fill=255, font=face)
            y += style.spacing * size
        if style.angle:
            layer = layer.rotate(style.angle, Image.Resampling.BICUBIC)
        image.paste(style.ink, (0, 0), layer)
        return self._spoil(image)

    def _wrap(self, text: str, size: int, room: float) -> list[str] | None:
        """Lines no wider than the room, None where a word is; a list has its empty items below."""
        style = self.style
        text = {"upper": text.upper(), "lower": text.lower(), "title": text.title()}.get(style.case, text)
        lines: list[str] = []
        at, space = 0.0, size * crowded(style.face, " ")
        for word in text.split():
            wide = size * crowded(style.face, word)
            if wide > room:
                return None
            if lines and at + space + wide <= room:
                lines[-1] += f" {word}"
                at += space + wide
            else:
                lines.append(word)
                at = wide
        return [*lines, *style.markers]

    def _ground(self) -> Image.Image:
        """What the words are written on."""
        style, (w, h), rng = self.style, self.size, self.rng
        image = Image.new("RGB", self.size, style.ground)
        pen, thick = ImageDraw.Draw(image), max(style.side // 96, 1)
        if style.layout == "sign":
            pen.rectangle((thick, thick, w - 1 - thick, h - 1 - thick), outline=style.accent, width=3 * thick)
            head = fonts.font(style.face, max(round(0.11 * h), 1))
            pen.text((w / 2, 0.12 * h), pick(rng, NOTICES), fill=style.accent, font=head, anchor="mm")
        elif style.layout == "card":
            pen.rounded_rectangle((thick, thick, w - 1 - thick, h - 1 - thick), radius=w // 12, outline=style.accent,
                                  width=thick)  # fmt: skip
        elif style.layout == "screenshot":
            pen.rectangle((0, 0, w, 0.1 * h), fill=style.accent)
            for i in range(3):
                x, r = (0.05 + 0.05 * i) * w, 0.015 * w
                pen.ellipse((x - r, 0.05 * h - r, x + r, 0.05 * h + r), fill=pick(rng, ((255, 95, 86), (39, 201, 63))))
            head = fonts.font(style.face, max(round(0.06 * h), 1))
            pen.text((w / 2, 0.05 * h), pick(rng, TITLES), fill=(255, 255, 255), font=head, anchor="mm")
        elif style.layout == "bubble":
            outside = tuple(255 - c if abs(2 * c - 255) > 60 else 40 for c in style.ground)
            image.paste(outside, (0, 0, w, h))  # type: ignore[arg-type]
            pen.rounded_rectangle((0.08 * w, 0.04 * h, 0.92 * w, 0.94 * h), radius=w // 14, fill=style.ground)
            pen.polygon(((0.12 * w, 0.9 * h), (0.24 * w, 0.92 * h), (0.08 * w, 0.995 * h)), fill=style.ground)
        elif style.layout == "note":
            pale = tuple((3 * g + a) // 4 for g, a in zip(style.ground, style.accent, strict=True))
            for y in range(h // 10, h, max(h // 10, 1)):
                pen.line((0, y, w, y), fill=pale, width=thick)
            pen.line((0.07 * w, 0, 0.07 * w, h), fill=pale, width=thick)
        return image

    def _spoil(self, image: Image.Image) -> Image.Image:
        """Noise, blots, blur: what cameras and screens do, most of all in the layout "noisy"."""
        style, rng = self.style, self.rng
        if style.layout == "noisy":
            field = np.random.default_rng(style.seed).normal(0, rng.uniform(6, 26), (image.height, image.width, 3))
            noisy = np.asarray(image, np.float32) + field.astype(np.float32)
            image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        elif rng.random() < 0.15:
            image = image.filter(ImageFilter.GaussianBlur(0.4 * style.side / READ_AT))
        return ImageChops.add(image, Image.new("RGB", image.size, (rng.randrange(12),) * 3), 1, -6)
