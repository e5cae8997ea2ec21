"""One training picture with all that is known about it.

- Plain frozen records: nothing here imports torch, so a data worker starts fast.
- `things` is the ground truth that captions and questions were written from; dense losses and tests read it.
"""

from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question with its short answer; the family names the skill, for curricula and for reports."""

    text: str
    answer: str
    family: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """What stands where: box (left, top, right, bottom) in pixels of the picture, right and bottom exclusive."""

    box: tuple[int, int, int, int]
    what: str  # "circle" | "char:A" | "emoji:cat"
    color: str = ""
    size: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture (RGB) of one of the worlds, with captions, questions and things."""

    image: Image.Image
    world: str
    captions: list[str]
    questions: list[Question]
    things: list[Thing] = field(default_factory=list)
