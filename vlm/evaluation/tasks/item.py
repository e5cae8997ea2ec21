"""One question with its pictures, not yet read."""

import dataclasses
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A handle: nothing is read before `open`, so that a data set of any size can be listed."""

    name: str  # what tells pictures apart, and what errors and reports call it
    load: Callable[[], Any]  # -> what vlm.image.open_image reads
    stamp: str = ""  # changes with the file: part of the hash of the data
    missing: bool = False

    def open(self) -> "Image.Image":
        """The picture as upright RGB; else `vlm.image.ImageError` with its name."""
        from vlm.image import open_image

        return self._guarded(open_image)

    def size(self) -> tuple[int, int]:
        """(height, width) from the header alone; `ImageError` as `open`."""
        from vlm.image import picture_size

        return self._guarded(picture_size)

    def _guarded(self, read: Callable) -> Any:
        from vlm.image import ImageError

        try:
            source = self.load()
        except (OSError, KeyError, IndexError, zipfile.BadZipFile, RuntimeError) as error:  # the last: encrypted
            raise ImageError(f"{self.name}: cannot be read ({type(error).__name__}); check the file") from None
        try:
            return read(source)
        except ImageError as error:
            raise ImageError(str(error).replace("<bytes>", self.name, 1)) from None


@dataclass(frozen=True)
class Item:
    """A sample of a task.

    Attributes:
        id: unique in its data set.
        question: as the annotators wrote it; `<image n>` marks the place of the n-th picture where there are several.
        images: handles, in order; empty for a question about no picture.
        answers: accepted answers, reference captions, or the letter of the right choice; empty where they are withheld.
        choices: texts of the choices, A first.
        group: what one picture's questions share: intervals are clustered by it.
        type: kind of question, a row of the report.
        metadata: whatever else the file holds that a metric or a submission needs.
    """

    id: str
    question: str
    images: tuple[Picture, ...] = ()
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    group: str = ""
    type: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.group:  # by picture; what has none stands for itself
            object.__setattr__(self, "group", "+".join(i.name for i in self.images) or self.id)

    def replace(self, **changes) -> "Item":
        """A copy with other fields; the group stays."""
        return dataclasses.replace(self, **changes)


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter(index: int, choices: tuple[str, ...] | list[str], where: str) -> str:
    """The letter of a choice by its index."""
    if not 0 <= index < min(len(choices), len(LETTERS)):
        raise ValueError(f"{where}: answer {index} of {len(choices)} choices; expected 0 to {len(choices) - 1}")
    return LETTERS[index]
