"""White-box attacks on the small guard: a picture changed by at most eps of 255 so that harm passes (PGD, Madry et al.
2018).

Notable here:
- Everything is differentiated through: the resize to tiles, the normalisation, the model's encoder, the guard's head,
  and the reading of print, whose CTC loss for what the clean picture says is driven up. Only where lines are found is
  taken from the clean picture.
- What counts is the guard's verdict on the changed picture in whole numbers, with everything read anew.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vlm.guard.head import collate
from vlm.guard.ocr import ALPHABET, HEIGHT, LineReader, ink_of, lay_out
from vlm.guard.small import SmallGuard
from vlm.image import ImageConfig, choose_canvas, fit_size
from vlm.model import VisionLanguageModel

READING = 0.5  # weight of the CTC loss, in nats per letter, beside the head's logit


def attack(
    guard: SmallGuard, text: str, image: Image.Image, eps: int, *, steps: int = 30, seed: int = 0
) -> Image.Image:
    """A picture within `eps` of 255 of this one, on every channel, that the guard minds as little as can be found.

    Args:
        text: what is typed beside it.
        steps: of the sign of the gradient, from a random start.
    """
    reader = guard.reader
    seen = reader.look([image])[0]
    ids = guard.head.encode_text(text, seen.words)
    clean = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)  # (3, H, W)
    lines = Lines(reader.printed, image)
    model = None if reader.engine is None else reader.engine.model
    rng = torch.Generator().manual_seed(seed)
    x = clean + (torch.rand(clean.shape, generator=rng) * 2 - 1) * eps
    for _ in range(steps):
        x = x.detach().clamp(0, 255).requires_grad_()
        states = None if model is None else states_of(model, *tiles_of(x, model.config.image))
        logits, _ = guard.head(**collate([ids], [states]))
        loss = logits.sum()
        if lines.texts:
            loss = loss - READING * lines.loss(x)
        if not loss.requires_grad:
            break
        (slope,) = torch.autograd.grad(loss, x)
        x = x.detach() - max(2.5 * eps / steps, 1 / steps) * slope.sign()
        x = torch.minimum(torch.maximum(x, clean - eps), clean + eps)
    pixels = x.detach().round().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(pixels)


def tiles_of(x: Tensor, config: ImageConfig) -> tuple[Tensor, Tensor]:
    """`preprocess` that can be differentiated: pixels (3, H, W) from 0 to 255 -> tiles (L, 3, T, T) and grid (2,)."""
    side = config.tile_size
    rows, cols = choose_canvas(x.shape[1], x.shape[2], config)
    height, width = fit_size(x.shape[1], x.shape[2], (rows, cols), side)
    if (height, width) != tuple(x.shape[1:]):
        x = F.interpolate(x[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    x = F.pad(x, (0, cols * side - width, 0, rows * side - height))
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.mean, config.std))
    x = (x / 255 - mean) / std
    tiles = x.unflatten(1, (rows, side)).unflatten(3, (cols, side)).permute(1, 3, 0, 2, 4)  # (rows, cols, 3, T, T)
    return tiles.flatten(0, 1), torch.tensor([rows, cols])


def states_of(model: VisionLanguageModel, tiles: Tensor, grid: Tensor) -> Tensor:
    """What `Engine.look` returns of a picture, with its gradient."""
    image, _ = model.encode_images(tiles[None, None], grid[None, None])
    return torch.cat([t[0].transpose(0, 1).flatten(1) for kv in image.values() for t in kv], dim=-1)


class Lines:
    """The level lines that a clean picture has, read anew from changed pixels."""

    def __init__(self, reader: LineReader, image: Image.Image):
        page = lay_out(image)
        self.reader, self.size = reader, page.pixels.shape[:2]
        found = reader.read([ink_of(page.pixels, box)[0] for box in page.boxes])
        read = [] if page.angle else [(box, text) for box, text in zip(page.boxes, found, strict=True) if text]
        self.boxes, self.texts = [box for box, _ in read], [text for _, text in read]

    def loss(self, x: Tensor) -> Tensor:
        """CTC loss in nats per letter of what the clean picture says, mean over its lines."""
        if self.size != x.shape[1:]:
            x = F.interpolate(x[None], self.size, mode="bilinear", antialias=True, align_corners=False)[0]
        losses = []
        for (left, top, right, bottom), text in zip(self.boxes, self.texts, strict=True):
            pad = max((bottom - top) // 8, 1)
            part = x[:, max(top - pad, 0) : bottom + pad, max(left - pad, 0) : right + pad]
            edge = torch.cat([part[:, 0], part[:, -1], part[:, :, 0], part[:, :, -1]], 1).detach()
            ink = (part - edge.median(1).values[:, None, None]).abs().amax(0)
            ink = (ink / max(float(ink.detach().quantile(0.98)), 24.0)).clamp(0, 1)
            wide = max(round(ink.shape[1] * HEIGHT / ink.shape[0]), 8)
            line = F.interpolate(ink[None, None], (HEIGHT, wide), mode="bilinear", antialias=True)[0]
            logits = self.reader(line).log_softmax(-1).transpose(0, 1)  # (T, 1, 1 + A)
            letters = torch.tensor([[ALPHABET.index(c) + 1 for c in text]])
            n = torch.tensor([len(text)])
            losses.append(F.ctc_loss(logits, letters, torch.tensor([len(logits)]), n, zero_infinity=True))
        return torch.stack(losses).mean()
