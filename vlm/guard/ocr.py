"""Print in pictures, read at their own size: lines are found by their ink, letters by a small convolutional network.

Notable here:
- The guard reads at up to `LONG_SIDE` pixels, where the model sees two tiles: letters too small for the model, which a
  larger model behind the same guard would read, are read too.
- Lines: what differs from its surroundings is ink, long straight runs are frames and rules and are left out; the page
  is turned upright; then it is cut where rows and columns are empty (XY cut, Nagy and Seth 1984).
- Letters: convolutions along a line of `HEIGHT` pixels, trained with CTC (Graves et al. 2006); what is no print is
  read as nothing.

Shapes: B lines, W pixels along a line, T = W / 2 steps, A letters.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.checkpoints.files import Weights, new_folder, read_json, write_json, write_weights
from vlm.config import from_dict

FORMAT, VERSION = "gated-vlm-print", 1
SHIPPED = Path(__file__).parent / "weights_print"
ALPHABET = "".join(map(chr, range(32, 127)))  # its numbers begin at 1; 0 is CTC's blank
HEIGHT = 20
LONG_SIDE, SHORTEST = 1024, 384  # pixels of the longer side at which lines are looked for, at most and at least
LONGEST = 1600  # pixels of a line, scaled; more is cut into pieces
MOST_LINES = 64
SURE = 0.6  # mean probability of the letters of a line, below which it is no print
VALLEY = 0.14  # of the fuller rows above and below: ink of a row at which two lines touch
ANGLES = (-12, -10, -8, -6, -5, -4, -3, -2, 0, 2, 3, 4, 5, 6, 8, 10, 12)


@dataclass(frozen=True, kw_only=True)
class OcrConfig:
    """Channels of the layers of a `LineReader`."""

    channels: tuple[int, ...] = (16, 32, 48, 96)


class LineReader(nn.Module):
    """Lines of print -> letters."""

    def __init__(self, config: OcrConfig | None = None):
        super().__init__()
        self.config = config or OcrConfig()
        a, b, c, d = self.config.channels
        self.tall = nn.Sequential(
            _block(nn.Conv2d(1, a, 3, padding=1)), nn.MaxPool2d(2),
            _block(nn.Conv2d(a, b, 3, padding=1)), nn.MaxPool2d((2, 1)),
            _block(nn.Conv2d(b, c, 3, padding=1)),
            _block(nn.Conv2d(c, d, (HEIGHT // 4, 3), padding=(0, 1))),
        )  # fmt: skip
        self.along = nn.ModuleList(_block(nn.Conv1d(d, d, 3, padding=1)) for _ in range(2))
        self.out = nn.Linear(d, 1 + len(ALPHABET))

    def forward(self, lines: Tensor) -> Tensor:
        """Ink (B, HEIGHT, W) from 0 to 1 -> logits (B, T, 1 + A)."""
        x = self.tall(lines[:, None]).squeeze(2)  # (B, D, T)
        for block in self.along:
            x = x + block(x)
        return self.out(x.transpose(1, 2))

    @torch.inference_mode()
    def read(self, lines: Sequence[np.ndarray]) -> list[str]:
        """What each line of ink (HEIGHT, W) says; "" for what is no print."""
        found = [""] * len(lines)
        order = sorted(range(len(lines)), key=lambda i: lines[i].shape[1])
        for first in range(0, len(order), 16):  # of like widths
            some = order[first : first + 16]
            widths = [lines[i].shape[1] for i in some]
            padded = [
                F.pad(torch.from_numpy(lines[i]), (0, max(widths) - w)) for i, w in zip(some, widths, strict=True)
            ]
            chances, letters = self(torch.stack(padded)).softmax(-1).max(-1)  # (B, T)
            for row, (i, w) in enumerate(zip(some, widths, strict=True)):
                found[i] = _letters(letters[row, : w // 2].tolist(), chances[row, : w // 2].tolist())
        return found

    def save(self, folder: str | os.PathLike) -> None:
        """Write `config.json` and `model.safetensors` (bf16) into a folder, whole or not at all."""
        tensors = {k: t.detach().to(torch.bfloat16) for k, t in self.state_dict().items() if t.is_floating_point()}
        with new_folder(Path(folder), is_reader) as scratch:
            write_json(scratch / "config.json", {"format": FORMAT, "version": VERSION, "ocr": asdict(self.config)})
            write_weights(scratch, tensors, tensors.__getitem__, max_shard_bytes=2**40)

    @classmethod
    def load(cls, folder: str | os.PathLike = SHIPPED) -> "LineReader":
        """The reader of a folder in fp32, in evaluation mode.

        Raises:
            ValueError: the folder holds none, another version's, or weights that do not fit its config.
        """
        path = Path(folder)
        data = read_json(path / "config.json")
        if (data.get("format"), data.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"{path}: holds no reader of print of version {VERSION} (format {data.get('format')!r})")
        reader = cls(from_dict(OcrConfig, data.get("ocr", {}), f"{path}: ocr"))
        weights = Weights().add_safetensors(path / "model.safetensors")
        expected = {name: t for name, t in reader.state_dict().items() if t.is_floating_point()}
        for name, tensor in expected.items():
            if name not in weights or weights.read(name).shape != tensor.shape:
                raise ValueError(f"{path}: {name} is missing or does not fit config.json; get it again")
        reader.load_state_dict({name: weights.read(name).float() for name in expected}, strict=False)
        return reader.eval()


def is_reader(folder: str | os.PathLike) -> bool:
    """Whether a folder says of itself that it holds a `LineReader`."""
    try:
        return read_json(Path(folder) / "config.json").get("format") == FORMAT
    except (ValueError, OSError):
        return False


def _block(conv: nn.Conv1d | nn.Conv2d) -> nn.Sequential:
    wide = conv.out_channels
    norm = nn.BatchNorm1d(wide) if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d(wide)
    return nn.Sequential(conv, norm, nn.ReLU())


def _letters(best: list[int], chances: list[float]) -> str:
    """CTC's greedy reading: repeats and blanks fall away."""
    said, sure, last = [], [], 0
    for letter, chance in zip(best, chances, strict=True):
        if letter and letter != last:
            said.append(ALPHABET[letter - 1])
            sure.append(chance)
        last = letter
    return "".join(said).strip() if sure and sum(sure) / len(sure) >= SURE else ""


def read_print(reader: LineReader, image: Image.Image) -> str:
    """The print in an RGB picture, line by line from the top."""
    return "\n".join(text for text in reader.read(find_lines(image)) if text)


@dataclass(frozen=True, eq=False)
class Page:
    """A picture as its lines were looked for.

    Attributes:
        pixels: (H, W, 3), scaled and turned upright.
        angle: degrees anticlockwise by which the lines had leant.
        boxes: (left, top, right, bottom) of each line, from the top down.
    """

    pixels: np.ndarray
    angle: int
    boxes: list[tuple[int, int, int, int]]


def lay_out(image: Image.Image) -> Page:
    """Scale an RGB picture, turn it upright and find its lines, or what may be some."""
    scale = min(LONG_SIDE / max(image.size), 1.0)
    if max(image.size) < SHORTEST:  # small letters are cut more evenly when enlarged
        scale = SHORTEST / max(image.size)
    if scale != 1.0:
        sides = max(round(image.width * scale), 8), max(round(image.height * scale), 8)
        image = image.resize(sides, Image.Resampling.BILINEAR)
    mask = _ink(image)
    angle = _lean(mask)
    if angle:
        ground = tuple(int(v) for v in np.median(np.asarray(image).reshape(-1, 3), 0))
        image = image.rotate(-angle, Image.Resampling.BILINEAR, fillcolor=ground)
        mask = _ink(image)
    return Page(np.asarray(image, np.float32), angle, _cut(mask)[:MOST_LINES])


def find_lines(image: Image.Image) -> list[np.ndarray]:
    """The lines of print, or what may be some, of an RGB picture: ink (HEIGHT, W) from 0 to 1, from the top down."""
    page = lay_out(image)
    return [line for box in page.boxes for line in ink_of(page.pixels, box)]


def ink_of(pixels: np.ndarray, box: tuple[int, int, int, int]) -> list[np.ndarray]:
    """The ink within a box (left, top, right, bottom) of pixels (H, W, 3), scaled to lines of `HEIGHT`."""
    left, top, right, bottom = box
    pad = max((bottom - top) // 8, 1)
    part = pixels[max(top - pad, 0) : bottom + pad, max(left - pad, 0) : right + pad]
    edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    ink = np.abs(part - np.median(edge, 0)).max(-1)
    ink = ink / max(float(np.quantile(ink, 0.98)), 24.0)
    wide = max(round(ink.shape[1] * HEIGHT / ink.shape[0]), 8)
    scaled = Image.fromarray((ink.clip(0, 1) * 255).astype(np.uint8)).resize((wide, HEIGHT), Image.Resampling.BILINEAR)
    line = np.asarray(scaled, np.float32) / 255
    return [line[:, at : at + LONGEST] for at in range(0, max(wide - 8, 1), LONGEST)]


def _ink(image: Image.Image) -> np.ndarray:
    """Which pixels stand out from their surroundings (H, W) bool, long straight runs taken off.

    Ink is what covers less: it is farther than its ground from the mean of both.
    """
    pixels = np.asarray(image, np.float32)
    reach = max(max(image.size) // 16, 8)
    gap = np.abs(pixels - _box_mean(pixels, reach)).max(-1)
    usual = float(np.median(gap))  # of more than half of the pixels; above 2 it is noise
    mask = gap > np.maximum(0.6 * _block_max(gap, reach), max(22.0, 4.5 * usual if usual > 2 else 0.0))
    h, w = mask.shape
    return mask & ~_long_runs(mask, max(w // 4, 40)) & ~_long_runs(mask.T, max(h // 4, 40)).T


def _block_max(gap: np.ndarray, reach: int) -> np.ndarray:
    """The greatest value within about `reach` of each pixel, by blocks."""
    h, w = gap.shape
    rows, cols = -(-h // reach), -(-w // reach)
    blocks = np.pad(gap, ((0, rows * reach - h), (0, cols * reach - w))).reshape(rows, reach, cols, reach).max((1, 3))
    wide = np.pad(blocks, 1)
    near = np.max([wide[i : i + rows, j : j + cols] for i in range(3) for j in range(3)], 0)
    return near.repeat(reach, 0).repeat(reach, 1)[:h, :w]


def _box_mean(pixels: np.ndarray, reach: int) -> np.ndarray:
    """The mean over (2 reach + 1)^2 pixels around each, by cumulative sums."""
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (reach + 1, reach)
        total = np.pad(pixels, width, mode="edge").cumsum(axis, dtype=np.float64)
        n = pixels.shape[axis]
        first, last = np.arange(n), np.arange(n) + 2 * reach + 1
        pixels = ((total.take(last, axis) - total.take(first, axis)) / (2 * reach + 1)).astype(np.float32)
    return pixels


def _long_runs(mask: np.ndarray, least: int) -> np.ndarray:
    """Pixels that lie in a run of at least so many along the rows."""
    total = np.pad(mask, ((0, 0), (1, 0))).cumsum(1, dtype=np.int32)
    if mask.shape[1] < least:
        return np.zeros_like(mask)
    full = (total[:, least:] - total[:, :-least]) == least  # (H, W - least + 1): where such a run begins
    begins = np.pad(full, ((0, 0), (1, least))).cumsum(1, dtype=np.int32)
    last = np.arange(mask.shape[1]) + 1
    return begins[:, last] - begins[:, np.maximum(last - least, 0)] > 0


def _lean(mask: np.ndarray) -> int:
    """Degrees anticlockwise by which the lines lean: the angle at which rows are fullest and emptiest."""
    small = Image.fromarray(mask.astype(np.uint8) * 255)
    small.thumbnail((256, 256), Image.Resampling.BOX)
    sharp = {}
    for angle in ANGLES:
        rows = np.asarray(small.rotate(-angle), np.float32).sum(1)
        sharp[angle] = float((np.diff(rows) ** 2).sum()) * (1.15 if angle == 0 else 1.0)
    return max(sharp, key=sharp.__getitem__)


def _cut(mask: np.ndarray, left: int = 0, top: int = 0, depth: int = 0) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of lines: rows are cut apart, then columns, again while something is cut."""
    boxes = []
    for a, b in _rows(mask):
        across = _spans(np.asarray(mask[a:b].any(0)), max(round(1.2 * (b - a)), 6))
        for c, d in across:
            rows = np.flatnonzero(mask[a:b, c:d].any(1))
            e, f = a + int(rows[0]), a + int(rows[-1]) + 1
            if f - e < 5 or d - c < 3:
                continue
            if len(across) > 1 and depth < 4:
                boxes += _cut(mask[e:f, c:d], left + c, top + e, depth + 1)
            else:
                boxes.append((left + c, top + e, left + d, top + f))
    return boxes


def _rows(mask: np.ndarray) -> list[tuple[int, int]]:
    """Bands of lines: cut at empty rows, and where descenders touch the next line at rows that are nearly empty.

    A band much taller than the others is cut at rows that are less empty.
    """
    full = mask.sum(1).astype(np.float64)
    bands = [part for span in _spans(np.greater(full, 0), 1) for part in _valleys(full, span, VALLEY, 0)]
    usual = float(np.median([b - a for a, b in bands if b - a >= 5] or [0]))
    return [part for span in bands for part in _valleys(full, span, 3 * VALLEY, 1.55 * usual)]


def _valleys(full: np.ndarray, span: tuple[int, int], share: float, tall: float) -> list[tuple[int, int]]:
    """A band cut at its emptiest rows while they hold less than `share` of the fuller ones and it is `tall`."""
    a, b = span
    n = b - a
    if n < max(tall, 14):
        return [span]
    rows = full[a:b]
    above, below = np.maximum.accumulate(rows), np.maximum.accumulate(rows[::-1])[::-1]
    low = rows / np.minimum(above, below)
    y = int(0.3 * n) + int(low[int(0.3 * n) : int(0.7 * n) + 1].argmin())
    if low[y] >= share:
        return [span]
    return _valleys(full, (a, a + y), share, tall) + _valleys(full, (a + y, b), share, tall)


def _spans(full: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Half-open runs of what is full; those nearer than `gap` are one."""
    edges = np.flatnonzero(np.diff(np.pad(full.astype(np.int8), 1)))
    spans: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and start - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
