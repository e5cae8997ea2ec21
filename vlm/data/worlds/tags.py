"""Tags: a name, a price or a weight that hangs on one thing, so that the same question now has an answer, now none.

- The family "cannot-tell" asks of what is tagged, mostly, and of what is not, about equally often: the answer is what
  the tag says or "cannot tell", and the words do not give it away.
"""

import random
from dataclasses import dataclass

from PIL import Image

from vlm.data.sample import Box, Question, Thing
from vlm.data.worlds import draw, fonts
from vlm.data.worlds.documents_words import FIRST
from vlm.data.worlds.draw import Piece
from vlm.data.worlds.language import pick
from vlm.data.worlds.refer import Look, Scene
from vlm.data.worlds.text_page import RISE, Page, rung

CANNOT_TELL = "cannot tell"
TAGGED = 0.18  # of the pictures, where there is room
ASKED = 0.1  # of the pictures without a tag are asked for what they do not tell
TOLD = 0.8  # of the questions about a picture with a tag
KINDS = ("name", "price", "weight")
NEVER = ("behind", "made", "other time")  # what no picture tells
_NAMES = tuple(name for name in FIRST if len(name) <= 4)


@dataclass(slots=True)
class Tag:
    """What is written on thing number `thing`."""

    thing: int
    kind: str
    text: str


def write_tag(
    rng: random.Random, image: Image.Image, pieces: list[Piece], split: str, among: list[int]
) -> tuple[Tag | None, list[Thing]]:
    """Now and then a tag on one of the pieces, where there is room beside it; and its letters."""
    if rng.random() > TAGGED or not among:
        return None, []
    i, kind, size = pick(rng, among), pick(rng, KINDS), image.width
    text = pick(rng, _NAMES)
    if kind == "price":
        text = f"${1 + int(rng.random() * 99)}"
    elif kind == "weight":
        text = f"{1 + int(rng.random() * 99)} {pick(rng, ('kg', 'kg', 'g'))}"
    family = pick(rng, fonts.families(split))
    path, point = pick(rng, (family.regular, family.bold)), rung(max(10, size * (0.07 + 0.04 * rng.random())))
    width, height = round(fonts.width(path, point, text)) + 4, point + 3
    box = _beside(pieces[i].box, width, height, size)
    if box is None or not draw.apart(box, [p.box for k, p in enumerate(pieces) if k != i], max(3, size // 20)):
        return None, []
    dark = rng.random() < 0.3
    ground, ink = ((30, 30, 34), (250, 250, 250)) if dark else ((250, 250, 244), (20, 20, 24))
    page = Page(image)
    image.paste(ground, box)
    page.write(box[0] + 2, box[1] + 1 + RISE * point, text, path, point, ink, "white" if dark else "black")
    return Tag(i, kind, text), page.things


def _beside(box: Box, width: int, height: int, size: int) -> Box | None:
    """Where a tag hangs: below a thing, above it, or on it where it is large; None where that leaves the picture."""
    left = min(max((box[0] + box[2] - width) // 2, 1), size - width - 1)
    tops = [box[3] - 2, box[1] - height + 2]
    if box[2] - box[0] > 1.2 * width and box[3] - box[1] > 2.4 * height:
        tops.append((box[1] + box[3] - height) // 2)
    top = next((t for t in tops if t >= 1 and t + height < size), None)
    return None if top is None or left < 1 else (left, top, left + width, top + height)


class TagAsker:
    """Asks for names, prices and weights of the things of a scene."""

    rng: random.Random
    scene: Scene
    asked: list[int]
    tag: Tag | None
    unknown: bool  # whether to ask for what is unknown where there is no tag

    def tell(self, key: str, answer: str, look: Look) -> Question:
        """The question of a key about a thing."""
        raise NotImplementedError

    def cannot_tell(self) -> Question | None:
        rng, tag = self.rng, self.tag
        if tag is None and not self.unknown:
            return None
        i, key, answer = pick(rng, self.asked), pick(rng, (*KINDS, *KINDS, pick(rng, NEVER))), CANNOT_TELL
        if tag is not None and rng.random() < TOLD:
            i, key, answer = tag.thing, tag.kind, tag.text
        elif tag is not None and key == tag.kind and i == tag.thing:
            return None
        whole = self.scene.looks[i]
        look = self.scene.unique(rng, i) if whole[1] else whole if self.scene.match(whole) == 1 << i else None
        return look and self.tell(key, answer, look)
