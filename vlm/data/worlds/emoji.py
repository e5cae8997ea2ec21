"""Emoji: one to four everyday pictures on a plain ground; names, categories, counts and places.

- Noto emoji come from a zip (`index.jsonl` with id and images, `images/*.webp`), read when the first one is drawn and
  kept decoded; without a zip from the system font NotoColorEmoji. The images are Apache-2.0.
- Real drawings with texture and inner detail: the step between the plain scenes and photographs.
"""

import io
import json
import random
import zipfile
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlm.data.sample import Question, Sample, Thing
from vlm.data.worlds import draw
from vlm.data.worlds.captions import in_order, relation
from vlm.data.worlds.emoji_names import CATEGORY, CLASHES, CODES, NAMES
from vlm.data.worlds.language import (
    DIRECTION,
    NUMBERS,
    OPPOSITE,
    article,
    ask,
    at,
    listing,
    noun,
    phrasings,
    pick,
    plural,
    sentence,
)  # fmt: skip
from vlm.data.worlds.refer import DIRECTIONS, Look, Scene
from vlm.data.worlds.tags import ASKED, Tag, TagAsker, write_tag
from vlm.data.worlds.wording import EMOJI as PHRASINGS

FONT = "NotoColorEmoji.ttf"
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts", "/Library/Fonts")
FONT_SIZE = 109  # the only size that the bitmap font holds
CATEGORIES = tuple(c for c in NAMES if c)
ALSO = {"fruit": {"plant"}, "vegetable": {"plant"}}  # what a category may be called too: never offered as wrong
MISSED = {"animal": 3.5, "smiley": 0.7}  # how often a no names a category: as often as a yes does


@lru_cache(maxsize=2)
def _archive(path: str) -> tuple[zipfile.ZipFile, dict[str, str]]:
    """An open zip of emoji and its index, code point -> file."""
    archive = zipfile.ZipFile(io.BytesIO(Path(path).read_bytes()))  # in memory: a file offset would be shared by forks
    rows = (json.loads(line) for line in archive.read("index.jsonl").decode().splitlines())
    return archive, {row["id"]: row["images"][0] for row in rows}


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    for folder in FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob(FONT)):
            return ImageFont.truetype(str(path), FONT_SIZE)
    raise FileNotFoundError(
        f"no emoji: {FONT} is under none of {', '.join(FONT_FOLDERS)}; "
        "pass emoji_path=<zip of emoji> or install the Debian package fonts-noto-color-emoji"
    )


@lru_cache(maxsize=512)
def glyph(path: str | None, code: str) -> Image.Image:
    """An emoji, cut to what is painted, with premultiplied alpha: turning it then darkens no edge.

    Args:
        path: a zip of emoji; None for the system font.
        code: its code point in hexadecimal digits.
    """
    if path is None:
        font = _font()
        image = Image.new("RGBA", (FONT_SIZE + 40, FONT_SIZE + 40))
        ImageDraw.Draw(image).text((5, 5), chr(int(code, 16)), font=font, embedded_color=True)
    else:
        archive, files = _archive(path)
        if code not in files:
            name = next((n for n, c in CODES.items() if c == code), "")
            raise ValueError(f"{path} holds no emoji {name!r} (id {code}), index.jsonl lists {len(files)} others")
        image = Image.open(io.BytesIO(archive.read(f"images/{files[code]}"))).convert("RGBA")
    return image.crop(image.getchannel("A").point(lambda v: 255 if v > 40 else 0).getbbox()).convert("RGBa")


@lru_cache(maxsize=6000)
def picture_of(path: str | None, name: str, side: int, turn: int) -> Image.Image:
    """An emoji at a size and an angle, tight; the full cache takes some 200 MB at 96 px pictures."""
    image = glyph(path, CODES[name])
    scale = side / max(image.size)
    if turn:
        image = image.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    image = image.resize(
        (max(round(image.width * scale), 4), max(round(image.height * scale), 4)), Image.Resampling.BOX
    )
    image = image.convert("RGBA")
    return image.crop(image.getchannel("A").point(lambda v: 255 if v > 40 else 0).getbbox())


class Asker(TagAsker):
    """Asks about a scene of emoji; a method returns None where the scene offers nothing of its family."""

    def __init__(self, scene: Scene, rng: random.Random, split: str, tag: Tag | None = None):
        self.scene, self.rng, self.split = scene, rng, split
        self.names, self.asked = [look[2] for look in scene.looks], list(range(scene.n))
        self.tag, self.unknown = tag, rng.random() < ASKED

    def say(
        self, key: str, family: str, answer: str, x: str = "emoji", y: str = "emoji", *, at: int = -1, by: int = -1,
        **words,
    ) -> Question:  # fmt: skip
        """Put a question into words; the answer is seen at thing `at`, found from thing `by`."""
        text = pick(self.rng, phrasings(PHRASINGS, key, self.split))
        text = text.format(x=x, ax=article(x), xs=plural(x), y=y, **words)
        place, anchor = self.scene.box(at), self.scene.box(by)
        return Question(text=text, answer=answer, family=family, place=place, anchor=anchor)

    def tell(self, key: str, answer: str, look: Look) -> Question:
        return self.say(key, "cannot-tell", answer, look[2])

    def absent(self) -> str:
        """A name that nothing here bears, half of the time of the same category as something here."""
        rng = self.rng
        near = NAMES[CATEGORY[pick(rng, self.names)]]
        for attempt in range(20):
            name = pick(rng, tuple(near if rng.random() < 0.5 and attempt < 10 else CODES))
            if name not in self.names and not any(name in CLASHES.get(n, ()) for n in self.names):
                return name
        raise AssertionError("all names are taken")

    def name(self) -> Question | None:
        return self.say("what", "name", self.names[0], at=0) if self.scene.n == 1 else None

    def exist(self) -> Question:
        yes = self.rng.random() < 0.5
        return self.say("exist", "exist", "yes" if yes else "no", pick(self.rng, self.names) if yes else self.absent())

    def count(self) -> Question | None:
        rng = self.rng
        if self.scene.n == 1 and rng.random() < 0.85:  # else most answers were 1
            return None
        counts = {n: self.names.count(n) for n in self.names}
        wanted = pick(rng, (0, *counts.values(), *(c for c in counts.values() if c > 1)))
        if rng.random() < 0.3:
            return self.say("count", "count", str(self.scene.n))
        name = pick(rng, [n for n, c in counts.items() if c == wanted]) if wanted else self.absent()
        return self.say("count", "count", str(wanted), name)

    def category(self) -> Question | None:
        """Whether this, or one of these, is an animal; what kind of thing the cat is."""
        rng, names = self.rng, self.names
        kinds = {CATEGORY[n] for n in names} - {""}
        if rng.random() < 0.4 and kinds:
            name = pick(rng, [n for n in names if CATEGORY[n]])
            right = CATEGORY[name]
            wrong = pick(rng, [c for c in CATEGORIES if c != right and c not in ALSO.get(right, ())])
            a, b = (right, wrong) if rng.random() < 0.5 else (wrong, right)
            return self.say("kind", "category", right, name, at=names.index(name), a=article(a), b=article(b))
        if not kinds and rng.random() < 0.93:  # only "no" is possible here, and this is asked several times
            return None
        yes = rng.random() < 0.57
        also = {c for k in kinds for c in ALSO.get(k, ())}
        options = [c for c in CATEGORIES if (c in kinds if yes else c not in kinds | also)]
        if not options:
            return None
        kind = pick(rng, options) if yes else rng.choices(options, [MISSED.get(c, 1) for c in options])[0]
        return self.say("is a" if self.scene.n == 1 else "there is a", "category", "yes" if yes else "no", kind)

    def relate(self) -> Question | None:
        rng, scene, names = self.rng, self.scene, self.names
        i = pick(rng, range(scene.n))
        d = pick(rng, DIRECTIONS)
        sure, maybe = scene.beside(d, i)
        if names.count(names[i]) > 1 or not sure:
            return None
        j = pick(rng, [k for k in range(scene.n) if sure >> k & 1])
        if rng.random() < 0.5:
            if sure | maybe != 1 << j:
                return None
            return self.say("beside", "relate", names[j], y=names[i], at=j, by=i, d=DIRECTION[d])
        if names.count(names[j]) > 1:
            return None
        yes = rng.random() < 0.5
        way = DIRECTION[d if yes else OPPOSITE[d]]
        return self.say("side", "relate", "yes" if yes else "no", names[j], names[i], at=j, by=i, d=way)

    def position(self) -> Question | None:
        rng, scene = self.rng, self.scene
        i = pick(rng, range(scene.n))
        cell = scene.cell(i)
        if not cell or (scene.n == 1 and rng.random() < 0.9):
            return None
        if rng.random() < 0.6:
            name = self.names[i]
            return self.say("where", "position", cell, name, at=i) if self.names.count(name) == 1 else None
        if any(scene.cell(j) in ("", cell) for j in range(scene.n) if j != i):
            return None
        return self.say("what at", "position", self.names[i], at=i, place=at(cell))

    def false_premise(self) -> Question:
        """Where something is that is not there, in the words of `position`."""
        name = self.absent()
        return self.say("where", "false-premise", f"there is no {name}", name)


FAMILIES = {
    "name": Asker.name,
    "exist": Asker.exist,
    "count": Asker.count,
    "category": Asker.category,
    "relate": Asker.relate,
    "position": Asker.position,
    "false-premise": Asker.false_premise,
    "cannot-tell": Asker.cannot_tell,
}


def _captions(scene: Scene, rng: random.Random) -> list[str]:
    """Everything with its place, the names alone, one relation where there is one."""
    order = sorted(range(scene.n), key=lambda i: (scene.rough_cell(i), scene.xs[i]))
    counts: dict[Look, int] = {}
    for i in order:
        counts[scene.looks[i]] = counts.get(scene.looks[i], 0) + 1
    names = listing([noun(k)[1] if n == 1 else f"{NUMBERS[n]} {noun(k)[2]}" for k, n in counts.items()])
    found = [in_order(scene, order), sentence(names) + "."]
    text = relation(scene, rng)
    return [*found, text] if text else found


def invent(
    rng: random.Random, size: int, emoji_path: str | Path | None, least: int = 1
) -> tuple[Image.Image, list[draw.Piece]]:
    """A ground and the one to four emoji that stand on it."""
    path = str(emoji_path) if emoji_path else None
    n = max(pick(rng, (1, 1, 1, 2, 2, 3, 3, 4)), least)
    names: list[str] = []
    while len(names) < n:
        u = rng.random()
        if names and u < 0.25:
            name = pick(rng, names)
        elif names and u < 0.4:
            name = pick(rng, tuple(NAMES[CATEGORY[names[0]]]))
        else:  # animals and the like as often as the many things without a category
            name = pick(rng, tuple(NAMES[pick(rng, (*CATEGORIES, "animal", "animal", "", "", "", ""))]))
        if not any(name in CLASHES.get(other, ()) for other in names):
            names.append(name)
    low, high = ((0.45, 0.85), (0.32, 0.46), (0.3, 0.42), (0.28, 0.4))[n - 1]
    drawn, step = [], max(size // 24, 1)  # few sizes and angles keep the cache warm
    for name in names:
        side, turn = step * round(size * (low + rng.random() * (high - low)) / step), pick(rng, (0, 0, -13, 13))
        drawn.append((name, side, turn, picture_of(path, name, side, turn)))
    boxes = draw.place(rng, [picture.size for *_, picture in drawn], size, max(2, size // 40))
    canvas = draw.canvas(rng, size, draw.background_color(rng))
    pieces = [
        draw.Piece(("", "", name), side, turn, picture, picture, box)
        for (name, side, turn, picture), box in zip(drawn, boxes, strict=True)
        if box is not None
    ]
    return canvas, pieces


def emoji(
    rng: random.Random,
    *,
    size: int,
    split: str,
    n_questions: int,
    families: tuple[str, ...] | None = None,
    emoji_path: str | Path | None = None,
) -> Sample:
    """One to four emoji, from the zip `emoji_path` or the system font; "test-combos" is drawn as any other split."""
    ground, pieces = invent(rng, size, emoji_path)
    things = [Thing(box=p.box, what=f"emoji:{p.look[2]}") for p in pieces]
    scene = Scene(things, size, [p.look for p in pieces])
    image = draw.composed(ground, pieces)
    tag, letters = write_tag(rng, image, pieces, split, list(range(len(pieces))))
    questions = ask(Asker(scene, rng, split, tag), FAMILIES, n_questions, families)
    text = _captions(scene, rng)
    return Sample(image=image, world="emoji", captions=text, questions=questions, things=things + letters)
