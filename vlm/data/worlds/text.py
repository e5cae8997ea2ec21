"""Text: words, strings, numbers, dates, prices, signs of several lines and scattered labels, to be read.

- Read answers keep their case and are meant to be compared verbatim; strings leave out what looks alike (0 O, 1 I l).
- What is written stands out by brightness and not by hue alone, at 10 px or more (mostly 14), fewer words on small
  pictures. The fonts are those of `fonts.families(split)`: the split "test" has designs of its own.
- The pairs in HELD_OUT, (colour, colour behind), are drawn in the split "test-combos" only, there in every picture.
"""

import random

from vlm.data.sample import Sample
from vlm.data.worlds import draw, fonts
from vlm.data.worlds.language import article, ask, listing, pick, sentence
from vlm.data.worlds.text_asker import FAMILIES, OF_COVERED, SAFE_CHARACTERS, Asker, Word, Writing, nameable
from vlm.data.worlds.text_page import LETTERS as LETTERS
from vlm.data.worlds.text_page import LINE, RISE, Page, crowded, inset, rung
from vlm.data.worlds.text_words import WORDS, WORDS_OF

HELD_OUT = frozenset({
    ("white", "red"), ("yellow", "blue"), ("black", "orange"),
    ("green", "yellow"), ("pink", "black"), ("purple", "pink"),
})  # fmt: skip
ANGLES = (-8.0, -4.0, -2.0, 2.0, 4.0, 8.0)

BLOTTED = 0.22  # of the pictures where something can be covered

_BRIGHTNESS_GAP = 55  # least difference in brightness of ink and ground, of 255
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def _bright(color: draw.RGB) -> float:
    r, g, b = color
    return 0.299 * r + 0.587 * g + 0.114 * b


def legible(ground: draw.RGB) -> list[str]:
    """The colour names that can be read on a background."""
    level = _bright(ground)
    return [n for n in draw.visible(ground) if abs(_bright(draw.PAINT[n]) - level) >= _BRIGHTNESS_GAP]


def number(rng: random.Random) -> str:
    """A whole number, mostly; with commas or decimals sometimes."""
    digits, u = pick(rng, (1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6)), rng.random()
    n = rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
    return f"{n:,}" if u < 0.15 else f"{n}.{rng.randrange(1, 100)}" if u < 0.25 and digits < 4 else str(n)


def date(rng: random.Random) -> str:
    """A day in one of the usual forms."""
    d, m, y = rng.randrange(1, 29), rng.randrange(12), rng.randrange(1970, 2040)
    month, n = _MONTHS[m], m + 1
    forms = (
        f"{d:02}/{n:02}/{y}", f"{d:02}/{n:02}/{y % 100:02}", f"{d:02}-{n:02}-{y}", f"{y}-{n:02}-{d:02}", f"{d}.{n}.{y}",
        f"{d:02}.{n:02}.{y}", f"{d} {month[:3]} {y}", f"{d:02} {month[:3].upper()} {y % 100:02}",
        f"{month[:3]} {d}, {y}", f"{d:02}-{month[:3]}-{y}", f"{month} {d}", f"{n:02}/{d:02}/{y}",
        f"{d}/{n}/{y % 100:02}",
    )  # fmt: skip
    return pick(rng, forms)


def price(rng: random.Random) -> str:
    """An amount with its currency."""
    whole, cents = rng.randrange(0, pick(rng, (10, 100, 100, 1000))), pick(rng, (0, 50, 90, 95, 99, rng.randrange(100)))
    u, amount = rng.random(), f"{whole}.{cents:02}"
    return f"${amount}" if u < 0.5 else f"£{amount}" if u < 0.65 else f"€{amount}" if u < 0.8 else f"${whole}"


def time(rng: random.Random) -> str:
    """A time of day."""
    h, m, u = rng.randrange(24), pick(rng, (0, 15, 30, 45, rng.randrange(60))), rng.random()
    return f"{h:02}:{m:02}" if u < 0.6 else f"{h % 12 or 12}:{m:02} {'AM' if h < 12 else 'PM'}"


def string(rng: random.Random) -> str:
    """Random characters, as on plates, labels and screens."""
    u = rng.random()
    n = pick(rng, (2, 3, 3, 4, 5, 6, 7))
    if u < 0.6:
        return "".join(pick(rng, SAFE_CHARACTERS) for _ in range(n))
    if u < 0.75:
        return "".join(pick(rng, "abcdefghijkmnpqrstuvwxyz") for _ in range(n))
    if u < 0.9:
        return "".join(pick(rng, SAFE_CHARACTERS[:24]) for _ in range(1 + n // 3)) + f"-{rng.randrange(10, 10000)}"
    return f"{pick(rng, WORDS_OF[4])}.{pick(rng, ('com', 'org', 'net'))}"


VALUES = {"number": number, "date": date, "price": price, "time": time}


def _word(rng: random.Random) -> str:
    return pick(rng, WORDS_OF[2 + int(rng.random() * 8)]) if rng.random() < 0.6 else pick(rng, WORDS)


def _cased(rng: random.Random, words: list[str]) -> list[str]:
    u = rng.random()
    return words if u < 0.35 else [w.upper() for w in words] if u < 0.7 else [w.title() for w in words]


def _content(rng: random.Random, size: int) -> tuple[str, list[list[str]], tuple[str, str] | None]:
    """(kind, lines of words, the value among them)."""
    u = rng.random()
    if u < 0.12:
        return "number", [[number(rng)]], None
    if u < 0.22:
        return "string", [[string(rng)]], None
    if u < 0.32:
        kind = pick(rng, ("date", "date", "price", "price", "time"))
        return kind, [VALUES[kind](rng).split()], None
    if u < 0.44:
        return "word", [_cased(rng, [_word(rng)])], None
    if u < 0.7:
        n = 1 + int(rng.random() ** 0.9 * min(size // 28, 8))
        longest = 2 if size < 160 else 3 if n < 5 else 4
        least = 2 if n == 1 else 1
        lines = [[_word(rng) for _ in range(rng.randrange(least, longest + 1))] for _ in range(n)]
        lines = [_cased(rng, line) for line in lines] if rng.random() < 0.4 else _same_case(rng, lines)
        if n == 1 or rng.random() < 0.6:
            return "sign", lines, None
        kind = pick(rng, tuple(VALUES))
        value = VALUES[kind](rng)
        lines[pick(rng, range(n))] = value.split()
        return "sign", lines, (kind, value)
    n = 1 + int(rng.random() * min(size // 18, 7))
    words: list[str] = []
    while len(words) < n:
        word = _cased(rng, [_word(rng)])[0]
        if word.lower() not in (w.lower() for w in words):
            words.append(word)
    return "labels", [[w] for w in words], None


def _same_case(rng: random.Random, lines: list[list[str]]) -> list[list[str]]:
    u = rng.random()
    return [[w.lower() if u < 0.3 else w.upper() if u < 0.7 else w.title() for w in line] for line in lines]


def _grounds(rng: random.Random, combos: bool) -> tuple[draw.RGB, str, list[str]]:
    """A background, its name where it has one, and the colours that may be written on it."""
    if combos:
        ink, name = pick(rng, sorted(HELD_OUT))
        return draw.jitter(rng, draw.PAINT[name]), name, [ink]
    if rng.random() < 0.55:
        ground = draw.background_color(rng)
        name = "white" if ground == (255, 255, 255) else "black" if ground == (0, 0, 0) else ""
    else:
        name = pick(rng, (*draw.PAINT, "white", "white", "black"))
        ground = draw.jitter(rng, draw.PAINT[name])
    return ground, name, [c for c in legible(ground) if (c, name) not in HELD_OUT]


def text(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """A picture of one word, string, number, date or price, of a sign with lines of words, or of labels."""
    kind, lines, value = _content(rng, size)
    ground, name, inks = _grounds(rng, split == "test-combos")
    panel = kind != "labels" and rng.random() < 0.35
    angle = pick(rng, ANGLES) if kind != "labels" and rng.random() < 0.25 else 0.0
    image = draw.canvas(rng, size, draw.background_color(rng) if panel else ground)
    page = Page(image, angle)
    write = _labels if kind == "labels" else _sign
    written = write(rng, page, lines, inks, ground if panel else None, fonts.families(split))
    if value and value[1] not in (" ".join(w.text for w in line) for line in written):
        value = None  # there was no room for it
    hidden = _blot(rng, page, kind, written, value is not None)
    writing = Writing(kind=kind, lines=written, value=value, ground=name, panel=panel, hidden=hidden)
    asker = Asker(writing, rng, split)
    questions = ask(asker, FAMILIES if hidden < 0 else OF_COVERED, n_questions, families)
    return Sample(image=image, world="text", captions=_captions(writing), questions=questions, things=page.things)


def _blot(rng: random.Random, page: Page, kind: str, lines: list[list[Word]], value: bool) -> int:
    """Now and then cover a character of what stands alone, or a word of a sign; its number, -1 where nothing is."""
    words = [w.text for line in lines for w in line]
    units = list(words[0]) if kind in ("word", "number", "string") and len(words) == 1 else words
    if (
        rng.random() > BLOTTED or page.angle or value or kind == "labels" or len(units) < 2
        or sum(map(len, words)) != len(page.things)
    ):  # fmt: skip
        return -1
    i = pick(rng, nameable(len(units)))
    start = sum(map(len, units[:i]))
    covered = [t.box for t in page.things[start : start + len(units[i])]]
    lows, highs = [b[:2] for b in covered], [b[2:] for b in covered]
    (x0, y0), (x1, y1) = map(min, zip(*lows, strict=True)), map(max, zip(*highs, strict=True))
    paint = draw.jitter(rng, draw.PAINT[pick(rng, tuple(draw.PAINT))])
    page.pen.rectangle((x0, y0 - 1, x1 - 1, y1), fill=paint)
    del page.things[start : start + len(units[i])]
    return i


def _face(rng: random.Random, family: fonts.Family) -> str:
    u = rng.random()
    return family.regular if u < 0.5 else family.bold if u < 0.85 else family.italic


def _sign(
    rng: random.Random, page: Page, lines: list[list[str]], inks: list[str], ground: draw.RGB | None,
    choice: tuple[fonts.Family, ...],
) -> list[list[Word]]:  # fmt: skip
    """Write the lines one below the other, on a panel of the colour `ground` where one is given."""
    size = page.image.width
    margin = inset(size, page.angle, size // 16 if ground else 3)
    room, path = size - 2 * margin, _face(rng, pick(rng, choice))
    smallest = 10 if size < 128 else 12
    while True:  # what does not fit at the smallest size is left out
        wide = max(crowded(path, " ".join(line)) for line in lines)
        largest = min(0.97 * room / wide, room / (LINE * len(lines)), size / 2.5)
        if largest >= smallest or (len(lines) == 1 and len(lines[0]) == 1):
            break
        longest = max(range(len(lines)), key=lambda i: crowded(path, " ".join(lines[i])))
        if len(lines[longest]) > 1 and 0.97 * room / wide < smallest:
            lines[longest] = lines[longest][:-1]
        else:
            del lines[-1]
    point = rung(max(largest * (1 - 0.55 * rng.random()), min(14, largest)))
    while point > 10 and max(fonts.width(path, point, " ".join(line)) for line in lines) > room:
        point -= 1  # hinting made it wider
    space = fonts.width(path, point, " ")
    widths = [fonts.width(path, point, " ".join(line)) for line in lines]
    width, height = max(widths), LINE * point * len(lines)
    x0 = margin + rng.random() * max(room - width, 0)
    y0 = margin + rng.random() * max(room - height, 0)
    u = rng.random()
    paints = {c: draw.jitter(rng, draw.PAINT[c]) for c in inks}
    main = pick(rng, inks)
    if ground or u < 0.15:
        pad = min(2 + rng.random() * 0.5 * point, margin - inset(size, page.angle, 0) + 2 if ground else margin)
        edge = paints[main] if u < 0.4 else None
        page.box(x0 - pad, y0 - pad, x0 + width + pad, y0 + height + pad, ground, edge, 1 if point < 30 else 2)
    by = pick(rng, ("all", "all", "all", "line", "word"))
    align = pick(rng, (0.5, 0.5, 0.0))
    written = []
    for k, (line, w) in enumerate(zip(lines, widths, strict=True)):
        x, y = x0 + align * (width - w), y0 + LINE * point * k + RISE * point
        color = pick(rng, inks) if by == "line" and k else main
        row: list = []
        for word in line:
            color = pick(rng, inks) if by == "word" and (row or k) else color
            end = page.write(x, y, word, path, point, paints[color], color)
            px, py = page.at((x + end) / 2, y - 0.35 * point)
            row.append(Word(word, color, px / size, py / size))
            x = end + space
        written.append(row)
    return written


def _labels(
    rng: random.Random, page: Page, lines: list[list[str]], inks: list[str], ground: draw.RGB | None,
    choice: tuple[fonts.Family, ...],
) -> list[list[Word]]:  # fmt: skip
    """Write single words here and there, in reading order, each in its own colour and often in its own font."""
    size = page.image.width
    family, mixed, framed = pick(rng, choice), rng.random() < 0.4, rng.random() < 0.25
    faces, sides = [], []
    for [word] in lines:
        path = _face(rng, pick(rng, choice) if mixed else family)
        top = min(0.85 * (size - 10) / crowded(path, word), size / 6)
        point = rung(max(top * (0.55 + 0.45 * rng.random()), min(14, top)))
        faces.append((path, point))
        sides.append((round(fonts.width(path, point, word)) + 4, round(LINE * point) + 2))
    written = []
    for [word], (path, point), box in zip(lines, faces, draw.place(rng, sides, size, 2), strict=True):
        if box is None:
            continue
        color = pick(rng, inks)
        paint = draw.jitter(rng, draw.PAINT[color])
        page.write(box[0] + 2, box[1] + 1 + RISE * point, word, path, point, paint, color)
        if framed:
            page.box(*box, edge=paint)
        written.append(Word(word, color, (box[0] + box[2]) / 2 / size, (box[1] + box[3]) / 2 / size))
    written.sort(key=lambda w: (round(w.y * 6), w.x))
    return [[w] for w in written]


def _captions(writing: Writing) -> list[str]:
    """What is written, in reading order, and what it looks like."""
    colors = listing(list(dict.fromkeys(w.color for w in writing.words)))
    ground = f" on {writing.ground}" if writing.ground else ""
    n, kind = len(writing.lines), writing.kind
    if kind == "labels":
        what, seen = "picture", "One word" if n == 1 else f"{n} words"
    elif kind == "sign":
        what, seen = "sign", "A line of text" if n == 1 else f"{n} lines of text"
    else:
        what, seen = kind, sentence(article(kind))
    if writing.hidden >= 0:
        return [f"A part of the {what} is covered.", f"{seen} in {colors}{ground}."]
    return [f'The {what} reads "{" / ".join(writing.texts)}".', f"{seen} in {colors}{ground}."]
