"""Fonts for pictures that are to be read: the machine's own, by family, some families kept for the test split.

- Fonts differ between machines and with them the pictures. Training for real wants more than one design; on Debian:
  `apt-get install fonts-dejavu fonts-liberation fonts-freefont-ttf fonts-open-sans fonts-roboto-unhinted fonts-lato
  fonts-crosextra-carlito fonts-crosextra-caladea fonts-inconsolata fonts-courier-prime fonts-anonymous-pro fonts-hack
  fonts-jetbrains-mono fonts-firacode fonts-quicksand fonts-comic-neue fonts-vollkorn fonts-linuxlibertine
  fonts-ebgaramond fonts-cantarell`. Where a split finds no font, it gets Pillow's built-in one.
- HELD_OUT names whole designs, metric twins included: what the test split is written in, no other split ever shows.
- Glyphs are drawn once per process and pasted from a cache, without kerning: a character costs two microseconds
  instead of the twelve that the font engine takes, and each has a box of its own.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
UNREADABLE = ("emoji", "math", "symbol", "dings", "icon", "barcode", "music", "initials", "keyboard", "display",
              "light", "medium", "minus")  # fmt: skip
HELD_OUT = frozenset({
    "Liberation Serif", "FreeSerif", "Tinos", "Nimbus Roman", "Times New Roman",  # the Times design
    "Liberation Mono", "Cousine", "FreeMono", "Nimbus Mono PS", "Courier Prime Code", "Courier New",
    "Lato", "Carlito", "Calibri", "Caladea", "Cambria", "Comic Neue", "Comic Sans MS",
})  # fmt: skip
_STYLES = {
    "regular": ("Regular", "Book", "Roman", "Medium", "12 Regular", "Mono"),
    "bold": ("Bold", "12 Bold"),
    "italic": ("Italic", "Oblique", "12 Italic"),
}
_PROBE = "aAbg17"  # fonts of other scripts give one and the same box for all of these

Glyph = tuple[Image.Image, int, int, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The files of one design; a style that the machine lacks is the regular one, "" the built-in font."""

    name: str
    mono: bool
    regular: str
    bold: str
    italic: str


BUILT_IN = Family(name="built-in", mono=False, regular="", bold="", italic="")


@lru_cache(maxsize=1)
def _installed() -> tuple[Family, ...]:
    """The readable families of this machine, by name."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(p for folder in FOLDERS for p in Path(folder).rglob("*.[to]tf")):
        try:
            face = ImageFont.truetype(str(path), 16, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            continue
        name, style = face.getname()
        slot = next((s for s, names in _STYLES.items() if style in names), None)
        if not name or not slot or any(word in name.lower() for word in UNREADABLE):
            continue
        if slot != "regular" or len({bytes(face.getmask(c)) for c in _PROBE}) == len(_PROBE):
            styles = found.setdefault(name, {})
            if slot not in styles or style in ("Regular", "Bold", "Italic"):
                styles[slot] = str(path)
    return tuple(
        Family(
            name=name,
            mono=_mono(s["regular"]),
            regular=s["regular"],
            bold=s.get("bold", s["regular"]),
            italic=s.get("italic", s["regular"]),
        )  # fmt: skip
        for name, s in sorted(found.items())
        if "regular" in s
    )


def _mono(path: str) -> bool:
    font = ImageFont.truetype(path, 100)
    return font.getlength("i") == font.getlength("W")


@lru_cache(maxsize=8)
def families(split: str = "train", mono: bool | None = None) -> tuple[Family, ...]:
    """The families that a split may use, of fixed width only or of none (where there is a choice)."""
    usable = [f for f in _installed() if (f.name in HELD_OUT) == (split == "test")]
    chosen = [f for f in usable if mono is None or f.mono == mono]
    return tuple(chosen or usable or (BUILT_IN,))


@lru_cache(maxsize=4)
def fonts(split: str = "train") -> tuple[str, ...]:
    """The font files that a split may use, for `font`; ("",), the built-in one, where the machine has none of them."""
    return tuple(dict.fromkeys(p for f in families(split) for p in (f.regular, f.bold, f.italic)))


@lru_cache(maxsize=2048)
def font(path: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font at a size in pixels, kept open; path "" is Pillow's own."""
    if not path:
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=60_000)
def glyph(path: str, size: int, character: str, angle: float = 0.0) -> Glyph:
    """(alpha cut to the ink, its offset right and down from the pen on the baseline, how far the pen moves on)."""
    face = font(path, size)
    advance = face.getlength(character)
    if not angle:
        left, top, right, bottom = (int(v) for v in face.getbbox(character, anchor="ls"))
        image = Image.new("L", (max(right - left, 1) + 4, max(bottom - top, 1) + 4))
        ImageDraw.Draw(image).text((2 - left, 2 - top), character, fill=255, font=face, anchor="ls")
        x, y = 2 - left, 2 - top
    else:  # turned at twice the size about the pen, which is the centre
        half = size + size // 2
        image = Image.new("L", (4 * half, 4 * half))
        ImageDraw.Draw(image).text((2 * half, 2 * half), character, fill=255, font=font(path, 2 * size), anchor="ls")
        image = image.rotate(angle, Image.Resampling.BILINEAR).reduce(2)
        x = y = half
    ink = image.getbbox()
    if ink is None:  # a space
        return image.crop((0, 0, 1, 1)), 0, 0, advance
    return image.crop(ink), ink[0] - x, ink[1] - y, advance


def width(path: str, size: int, text: str) -> float:
    """How far the pen moves over a text, in pixels."""
    return sum(_advance(path, size, c) for c in text)


@lru_cache(maxsize=60_000)
def _advance(path: str, size: int, character: str) -> float:
    return font(path, size).getlength(character)
