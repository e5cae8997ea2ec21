"""Pictures to calibrate on: drawn by the project's own worlds, clean and as they come back from other programs.

Notable here:
- A drawn picture that was enlarged, saved as JPEG or cut out of a screen is still one of ours: half of what the domain
  is fitted on, and half of what its threshold is set by, was treated so.
- Photographs and other people's pictures have no part in it.
"""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from vlm.data.sample import Sample
from vlm.data.worlds import sample
from vlm.image import ImageConfig

MIXTURE = {
    "scenes": 0.2, "text": 0.2, "charts": 0.2, "documents": 0.12, "nlvr": 0.1, "emoji": 0.1, "shapes": 0.08,
}  # fmt: skip
LARGE = (1.0, 1.5, 2.0)  # sides of a picture, in tiles, where a picture may have several
KERNELS = (
    Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """Which worlds, in which shares.

    Args:
        mixture: world -> share; those that the model was trained on.
        emoji: the zip of emoji pictures; None takes the system's font.
    """

    mixture: dict[str, float] = field(default_factory=lambda: dict(MIXTURE))
    emoji: str | None = None

    def draw(self, image: ImageConfig, n: int, *, seed: int, split: str, questions: int = 0) -> Iterator[Sample]:
        """The first n samples of the stream of (seed, split), in sizes that the model's tiles are made for."""
        for index in range(n):
            rng = random.Random(f"calibration/{split}/{seed}/{index}")
            scale = rng.choice(LARGE) if image.max_tiles >= 4 else 1.0
            yield sample(
                index, seed=seed, mixture=self.mixture, size=round(image.tile_size * scale), split=split,
                n_questions=questions, emoji_path=self.emoji,
            )  # fmt: skip


def vary(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same picture as others hand it over: resized, framed as on a screen, softened, compressed, in some order."""
    if rng.random() < 0.6:
        factor = 2.0 ** rng.uniform(-0.4, 2.0)
        size = tuple(max(16, round(side * factor * rng.uniform(0.95, 1.05))) for side in image.size)
        image = image.resize((size[0], size[1]), rng.choice(KERNELS))
    if rng.random() < 0.3:
        wide, axis = rng.random() < 0.3, rng.randrange(2)  # on a broad or a high page at times
        reach = (0.5 if wide and side % 2 == axis else 0.12 for side in range(4))
        left, top, right, bottom = (round(rng.uniform(0, r) * max(image.size)) for r in reach)
        shade = rng.choice((0, 24, 32, 128, 240, 250, 255))
        page = Image.new("RGB", (image.width + left + right, image.height + top + bottom), (shade,) * 3)
        page.paste(image, (left, top))
        image = page
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    if rng.random() < 0.15:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 5), (*image.size[::-1], 3))
        image = Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        file = io.BytesIO()
        image.save(file, rng.choice(("JPEG", "JPEG", "JPEG", "WEBP")), quality=rng.randrange(40, 96))
        image = Image.open(file).convert("RGB")
    return image
