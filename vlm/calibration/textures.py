"""Pictures that are of no world: textures and leaves, drawn from a seed, with the statistics of natural scenes.

Notable here:
- Photographs differ from drawings by texture everywhere, soft shading and edges at all scales. Noise with a power
  spectrum of 1 / f^a, and dead leaves (opaque shapes that cover one another, their sizes by a power law), have that too
  (Lee, Mumford & Huang 2001; Baradad et al. 2021, arXiv 2106.05963), and need no photograph.
"""

import numpy as np
from PIL import Image

LEAVES = (10, 90)  # in a picture
LARGEST = 320  # pixels of a side


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured 1 / f^a noise (H, W, 3) of mean 0 and deviation 1; the channels mostly agree, as they do in nature."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    weight = radius ** -rng.uniform(0.6, 2.2)
    draw = lambda: rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape)  # noqa: E731
    common = draw()
    planes = [np.fft.irfft2((0.85 * common + 0.5 * draw()) * weight, s=(height, width)) for _ in range(3)]
    return np.stack([p / (p.std() + 1e-9) for p in planes], axis=-1)


def texture(seed: int, side: int = 192) -> Image.Image:
    """A picture of noise, or of leaves with shading and texture of their own; `side` pixels, give or take a third."""
    rng = np.random.default_rng([7, seed])
    side = min(side, LARGEST)
    height, width = round(side * rng.uniform(0.7, 1.1)), round(side * rng.uniform(0.7, 1.3))
    if rng.random() < 0.25:
        shades = rng.uniform(40, 215, 3) + rng.uniform(15, 60) * noise(rng, height, width)
        return Image.fromarray(shades.clip(0, 255).astype(np.uint8))
    grounds = [noise(rng, height, width) for _ in range(3)]
    palette = rng.uniform(20, 235, (rng.integers(3, 8), 3))
    palette = 0.5 * palette + 0.5 * palette.mean(1, keepdims=True)  # less vivid
    picture = palette[0] + rng.uniform(5, 30) * grounds[0]
    for _ in range(rng.integers(*LEAVES)):
        smallest, largest = 3.0, side / 2
        share = rng.random()
        radius = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5  # density ~ r^-3
        if rng.random() < 0.4:
            radius = rng.uniform(smallest, largest)
        y, x, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, np.pi)
        top, bottom = max(0, int(y - 1.5 * radius)), min(height, int(y + 1.5 * radius) + 1)
        left, right = max(0, int(x - 1.5 * radius)), min(width, int(x + 1.5 * radius) + 1)
        dy, dx = np.arange(top, bottom)[:, None] - y, np.arange(left, right)[None] - x
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / (radius * rng.uniform(0.4, 1))
        power = 2 if rng.random() < 0.6 else 8  # an ellipse, or a box with round corners
        inside = np.abs(u) ** power + np.abs(v) ** power < 1
        paint = palette[rng.integers(len(palette))] + rng.normal(0, 12, 3)
        light = (rng.uniform(-40, 40) * u + rng.uniform(-30, 30) * v)[..., None]
        own = rng.uniform(3, 35) * grounds[rng.integers(3)][top:bottom, left:right]
        picture[top:bottom, left:right][inside] = (paint + light + own)[inside]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))
