"""Text: words, strings and numbers in any font that the system has, to be read.

- Characters are pasted one by one from a cache of glyphs, without kerning: each has a box of its own (`things`), and a
  picture costs no call of the font engine.
- Read answers keep their case and are meant to be compared verbatim; strings leave out what looks alike (0 O, 1 I l).
- Fonts differ between machines and with them the pictures; `fonts=()` asks for Pillow's built-in one, which is the same
  everywhere and the fallback where no font is installed.
"""

import random
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlm.data.sample import Question, Sample, Thing
from vlm.data.worlds import draw
from vlm.data.worlds.language import article, ask, phrasings, pick, sentence
from vlm.data.worlds.wording import TEXT as PHRASINGS

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
UNREADABLE = ("emoji", "math", "symbol", "dings", "icon", "barcode", "extralight", "music")
SAFE_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

WORDS = tuple("""
am at be by do go he if in it me my no of on or so to up us we able add age ago air all also and any apple area arm
army art ask away baby back bad bag ball band bank base bath bear beat bed bee bell belt best big bike bill bird bite
black blue board boat body bone book boot born boss both bowl box boy brain bread break brick bridge bring brown brush
build bus busy buy cake call camp can car card care cash cat chair chance cheap check cheese chief child circle city
class clean clear climb clock close cloud club coat coffee coin cold color come cook cool copy corn corner cost count
cover cow cream cross crowd cry cup cut dad dance dark date day dead deal dear deep desk dinner dirt dish doctor dog
door down draw dream dress drink drive drop dry duck dust each ear early earth east easy eat egg eight empty end enjoy
enter even every exit eye face fact fall family fan far farm fast father fear feed feel few field fight fill film find
fine finger fire first fish five flag flat floor flow flower fly fog food foot forest fork form four fox free fresh
friend frog front fruit full fun game garden gate gift girl give glad glass goal goat gold good grass gray great green
ground group grow guess guest guide gun hair half hall hand happy hard hat head hear heart heat help here high hill
hit hold hole home hope horse hot hotel hour house hungry hurt ice idea inch iron jail jam job join joke juice jump
just keep key kick kind king kiss kitchen knee knife lake lamp land large last late laugh law lazy lead leaf learn
left leg lemon less letter level life light line lion list live lock long look lost loud love low luck lunch mad mail
main man many map mark market meal mean meat meet melt metal middle mile milk mind mine mix money month moon more most
mother mouse mouth move much mud music nail name near neck need nest new news next nice night nine noise north nose
note now nurse ocean off office oil old once one open orange order other oven over page pain paint pair paper park
part party past path pay peace pen phone piano pick piece pig pink place plan plane plant plate play please point pool
poor post pot pound pretty price airport blanket captain chicken country evening february holiday january library
monster morning october penguin picture rainbow science student teacher thunder village weather airplane birthday
calendar children computer december elephant football hospital mountain notebook november sandwich sunshine triangle
umbrella
""".split())  # fmt: skip

WORDS_OF = {n: [w for w in WORDS if len(w) == n] for n in range(2, 9)}

_VOWEL_NAMES = "AEFHILMNORSXaefhilmnorsx8"  # letters and digits whose names begin with a vowel


@lru_cache(maxsize=1)
def system_fonts() -> tuple[str, ...]:
    """The files of readable fonts on this machine, sorted; empty where there is none."""
    found = []
    for folder in FONT_FOLDERS:
        for path in Path(folder).rglob("*.[to]tf"):
            if not any(word in path.name.lower() for word in UNREADABLE) and _readable(str(path)):
                found.append(str(path))
    return tuple(sorted(found)[:64])


def _readable(path: str) -> bool:
    """Whether a font draws Latin letters: fonts of other scripts give one and the same box for all of them."""
    try:
        font = ImageFont.truetype(path, 16)
        return len({bytes(font.getmask(c)) for c in "aAbg17"}) == 6
    except OSError:
        return False


@lru_cache(maxsize=512)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@lru_cache(maxsize=20000)
def _glyph(path: str, size: int, character: str) -> tuple[Image.Image, int, int, float]:
    """(alpha cut to the ink, its offset right and down from the pen, how far the pen moves on)."""
    font = _font(path, size)
    left, top, right, bottom = (int(v) for v in font.getbbox(character))
    image = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), character, fill=255, font=font)
    ink = image.getbbox()
    assert ink is not None, "a blank character has no glyph to paste"
    return image.crop(ink), left - 2 + ink[0], top - 2 + ink[1], font.getlength(character)


class Asker:
    """Asks about one or two lines of text of a kind: "word", "string" or "number"."""

    def __init__(self, lines: list[str], kind: str, color: str, rng: random.Random, split: str):
        self.lines, self.kind, self.color, self.rng, self.split = lines, kind, color, rng, split
        self.text = " ".join(lines)

    def say(self, key: str, family: str, answer: str, **words) -> Question:
        if self.kind == "number":
            words["kind"] = "digit"
        elif self.kind == "string":
            words["kind"] = "character"
        else:
            words["kind"] = "letter"
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split)).format(**words)
        return Question(text=text, answer=answer, family=family)

    def read(self) -> Question | None:
        if len(self.lines) > 1 and self.rng.random() < 0.5:
            o = pick(self.rng, (0, -1))
            return self.say("line", "read", self.lines[o], o="last" if o else "first")
        key = "string" if len(self.lines) > 1 else self.kind
        return self.say(key, "read", self.text)

    def letter(self) -> Question | None:
        rng = self.rng
        if len(self.lines) > 1:
            return None
        if rng.random() < 0.6:
            o = pick(rng, (0, -1))
            return self.say("letter", "letter", self.text[o], o="last" if o else "first")
        yes = rng.random() < 0.5
        pool = "23456789" if self.kind == "number" else "abcdefghijklmnoprstuw"
        pool = pool.upper() if self.text.isupper() else pool
        options = [c for c in (self.text if yes else pool) if (c in self.text) == yes]
        c = pick(rng, options)
        return self.say("has", "letter", "yes" if yes else "no", c=f"{'an' if c in _VOWEL_NAMES else 'a'} {c}")

    def count(self) -> Question | None:
        if len(self.lines) > 1:
            return None
        return self.say("length", "count", str(len(self.text)))

    def attribute(self) -> Question:
        return self.say("color", "attribute", self.color)

    def compare(self) -> Question | None:
        if self.kind != "number":
            return None
        number, yes = int(self.text), self.rng.random() < 0.5
        off = 1 + int(self.rng.random() * max(number, 5))
        other = number - off if yes else number + off
        return self.say("greater", "compare", "yes" if yes else "no", n=other) if other >= 0 else None


FAMILIES = {
    "read": Asker.read,
    "letter": Asker.letter,
    "count": Asker.count,
    "attribute": Asker.attribute,
    "compare": Asker.compare,
}


def _content(rng: random.Random) -> tuple[list[str], str]:
    """What is written, and its kind."""
    u = rng.random()
    if u < 0.3:
        digits = pick(rng, (1, 1, 2, 2, 2, 3, 3, 4))
        return [str(rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits))], "number"
    if u < 0.45:
        return ["".join(pick(rng, SAFE_CHARACTERS) for _ in range(pick(rng, (2, 3, 3, 4, 5))))], "string"
    lines = [pick(rng, WORDS_OF[2 + int(rng.random() * 7)]) for _ in range(2 if u < 0.58 else 1)]
    return [w.upper() for w in lines] if rng.random() < 0.3 else lines, "word"


def text(
    rng: random.Random,
    *,
    size: int,
    split: str,
    n_questions: int,
    families: tuple[str, ...] | None = None,
    fonts: tuple[str, ...] | None = None,
) -> Sample:
    """A picture with a word, two words, a string or a number; `fonts` are font files, () the built-in font."""
    lines, kind = _content(rng)
    path = pick(rng, (system_fonts() if fonts is None else fonts) or ("",))
    ground = draw.background_color(rng)
    color = pick(rng, draw.visible(ground))
    paint = draw.jitter(rng, draw.PAINT[color])
    smallest, room = max(round(size * 0.15), 8), size - 6
    point = round(size * (0.16 + 0.34 * rng.random()))
    while True:  # shrink until it fits; 15 % of the side is 14 pixels at 96
        rows = [[_glyph(path, point, c) for c in line] for line in lines]
        width = max(sum(g[3] for g in row) for row in rows)
        if point <= smallest or (width <= room and len(rows) * point * 1.25 <= room):
            break
        point = max(min(int(point * room / width), point - 1), smallest)
    height = round(len(rows) * point * 1.25)
    x0 = 3 + int(rng.random() * max(room - width, 1))
    y0 = 2 + int(rng.random() * max(room - height, 1))
    image = draw.canvas(rng, size, ground)
    things = []
    for k, (line, row) in enumerate(zip(lines, rows, strict=True)):
        pen = x0 + rng.random() * (width - sum(g[3] for g in row))
        for character, (alpha, right, down, advance) in zip(line, row, strict=True):
            left, top = round(pen) + right, y0 + round(k * point * 1.25) + down
            image.paste(paint, (left, top), alpha)
            box = (max(left, 0), max(top, 0), min(left + alpha.width, size), min(top + alpha.height, size))
            things.append(Thing(box=box, what=f"char:{character}", color=color))
            pen += advance
    asker = Asker(lines, kind, color, rng, split)
    questions = ask(asker, FAMILIES, n_questions, families)
    what = kind if len(lines) == 1 else "text"
    captions = [f'The {what} "{asker.text}" in {color}.', f"{sentence(article(color))} {what}: {asker.text}."]
    return Sample(image=image, world="text", captions=captions, questions=questions, things=things)
