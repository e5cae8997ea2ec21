"""One training picture with all that is known about it.

- Plain frozen records: nothing here imports torch, so a data worker starts fast.
- `things` is the ground truth that captions and questions were written from; dense losses and tests read it.
- A question may be about several pictures: `image`, then `others`; a thing says in which of them it stands.
"""

from dataclasses import dataclass, field

from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom exclusive


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question with its short answer; the family names the skill, for curricula and for reports."""

    text: str
    answer: str
    family: str
    place: Box | None = None  # what the answer is seen at, where that is one place of `image`
    anchor: Box | None = None  # what one looks for first: "the star" of what is left of the star


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """What stands where in a picture."""

    box: Box
    what: str  # "circle" | "char:A" | "emoji:cat"
    color: str = ""
    size: str = ""
    picture: int = 0  # 0 is `image`, 1 the first of `others`
    point: int = 0  # of a character: the size of its font in pixels, where it is known
    place: int = -1  # of a character: where it stands in what was written with it, spaces counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture (RGB) of one of the worlds, or several that belong together, with captions, questions and things."""

    image: Image.Image
    world: str
    captions: list[str]
    questions: list[Question]
    things: list[Thing] = field(default_factory=list)
    others: list[Image.Image] = field(default_factory=list)

    @property
    def pictures(self) -> tuple[Image.Image, ...]:
        """All that the questions are about, in order."""
        return self.image, *self.others
