"""One judged request with its label: what every generator of the guard's training data yields.

A generator is `examples(seed, count, split) -> list[Example]`, deterministic, with split "train", "val" or "test".
Families never cross splits: what is held out shares no template, font or layout with what is trained on.
"""

from dataclasses import dataclass

from PIL import Image

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Example:
    """A request and whether it should be refused.

    Args:
        text: the words that the user typed.
        pictures: RGB pictures that came with them.
        unsafe: True where a guard should refuse.
        category: key of the taxonomy, "" where it is safe.
        family: the templates it stems from; splits run between families.
        source: the generator or data set.
        read: words that stand in the picture, as they were drawn; "" for none.
    """

    text: str
    pictures: tuple[Image.Image, ...] = ()
    unsafe: bool = False
    category: str = ""
    family: str = ""
    source: str = ""
    read: str = ""
