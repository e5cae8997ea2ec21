"""Lines of print to learn letters from, drawn by seed in the machine's fonts, and the loop that trains a `LineReader`.

Notable here:
- Words are those of the world `text`, halves of two of them put together, and random signs: letters are learnt, not a
  vocabulary. Sizes, blur, noise, faint ink and loose crops are those that pictures have.
- Pieces of scenes and emoji are among the lines, with nothing to read in them.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from vlm.data.worlds import fonts, sample
from vlm.data.worlds.language import pick
from vlm.data.worlds.text_words import WORDS
from vlm.guard.ocr import ALPHABET, LineReader, OcrConfig, find_lines, ink_of

MARKS = ".,.,?!:;-'\"()%&/@#$*+="


@dataclass(frozen=True)
class Line:
    """Ink (HEIGHT, W) from 0 to 1, and what it says."""

    ink: np.ndarray
    text: str


def words(rng: random.Random) -> str:
    """What a line may say."""
    u = rng.random()
    said: list[str] = []
    for _ in range(pick(rng, (1, 1, 2, 2, 3, 3, 4))):
        v = rng.random()
        if v < 0.45:
            word = pick(rng, WORDS)
        elif v < 0.85:
            a, b = pick(rng, WORDS), pick(rng, WORDS)
            word = a[: len(a) // 2 + 1] + b[len(b) // 2 :]
        elif v < 0.95:
            word = str(rng.randrange(10 ** rng.randrange(1, 6)))
        else:
            word = "".join(pick(rng, ALPHABET[1:]) for _ in range(rng.randrange(1, 7)))
        word = word.upper() if u < 0.15 else word.title() if u < 0.35 or (u < 0.6 and not said) else word
        said.append(word + pick(rng, MARKS) if rng.random() < 0.15 else word)
    return " ".join(said)


def draw_line(rng: random.Random, split: str = "train") -> Line:
    """One line in a font, at a size, more or less clean."""
    text, family = words(rng), pick(rng, fonts.families(split))
    size = pick(rng, (13, 15, 17, 20, 24, 30, 36))
    path, x = pick(rng, (family.regular, family.bold, family.italic)), float(size)
    layer = Image.new("L", (round(fonts.width(path, size, text)) + 2 * size, 3 * size))
    for character in text:
        alpha, right, down, advance = fonts.glyph(path, size, character)
        layer.paste(255, (round(x) + right, 2 * size + down), alpha)
        x += advance
    if rng.random() < 0.3:
        layer = layer.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BILINEAR)
    if rng.random() < 0.35:  # wide and narrow designs, heavy and light ones, beyond those that are installed
        wide = max(round(layer.width * rng.uniform(0.8, 1.5)), 8)
        layer = layer.resize((wide, layer.height), Image.Resampling.BILINEAR)
    if size > 18 and rng.random() < 0.2:
        layer = layer.filter(ImageFilter.MaxFilter(3) if rng.random() < 0.75 else ImageFilter.MinFilter(3))
    box = layer.getbbox()
    if box is None:
        return Line(np.zeros((20, 8), np.float32), "")
    if size > 18 and rng.random() < 0.5:  # small letters, enlarged again
        by = rng.uniform(0.35, 0.8)
        small = layer.resize((max(round(layer.width * by), 1), max(round(layer.height * by), 1)), Image.Resampling.BOX)
        layer = small.resize(layer.size, Image.Resampling.BILINEAR)
    noise = np.random.default_rng(rng.randrange(2**31))
    ground, gap = rng.uniform(0, 255), rng.uniform(40, 255)
    shown = ground + np.asarray(layer, np.float32)[..., None] / 255 * (gap if ground < 128 else -gap)
    if rng.random() < 0.4:
        shown = shown + noise.normal(0, rng.uniform(1, 0.12 * gap), shown.shape).astype(np.float32)
    slack = size / 12
    left, top, right, bottom = (round(v + rng.uniform(-slack, slack)) for v in box)
    return Line(ink_of(shown.clip(0, 255), (max(left, 0), max(top, 0), right, bottom))[0], text)


def nothing(rng: random.Random, split: str = "train") -> list[Line]:
    """Pieces of a picture without print."""
    drawn = sample(rng.randrange(10**6), seed=77, mixture={"scenes": 1.0, "shapes": 0.5, "emoji": 1.0}, split=split)
    return [Line(ink, "") for ink in find_lines(drawn.image)]


def batches(seed: int, size: int) -> Iterator[list[Line]]:
    """Endless batches of lines of like widths."""
    rng = random.Random(f"guard/print/{seed}")
    empty: list[Line] = []
    while True:
        if len(empty) < 400:
            empty += nothing(rng)
        lines = [pick(rng, empty) if empty and rng.random() < 0.08 else draw_line(rng) for _ in range(8 * size)]
        lines = sorted((line for line in lines if line.ink.shape[1] <= 480), key=lambda line: line.ink.shape[1])
        groups = [lines[i : i + size] for i in range(0, len(lines), size)]
        rng.shuffle(groups)
        yield from groups


def train_reader(
    steps: int = 1500, size: int = 32, lr: float = 4e-3, seed: int = 0, init: LineReader | None = None,
    progress: Callable[[str], None] = print,
) -> LineReader:  # fmt: skip
    """A reader from scratch: some three minutes of one core.

    Args:
        steps, size: batches and lines in each.
        lr: the highest rate, of AdamW.
        init: a reader that learns on.
    """
    torch.manual_seed(seed)
    reader = (init or LineReader(OcrConfig())).train()
    rule = torch.optim.AdamW(reader.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(rule, max_lr=lr, total_steps=steps, pct_start=0.1)
    numbers, mean = {c: i + 1 for i, c in enumerate(ALPHABET)}, 0.0
    for step, lines in zip(range(steps), batches(seed, size), strict=False):
        widest = max(line.ink.shape[1] for line in lines)
        ink = torch.stack([F.pad(torch.from_numpy(line.ink), (0, widest - line.ink.shape[1])) for line in lines])
        logits = reader(ink).log_softmax(-1).transpose(0, 1)  # (T, B, 1 + A)
        lengths = torch.tensor([line.ink.shape[1] // 2 for line in lines])
        letters = torch.tensor([numbers[c] for line in lines for c in line.text], dtype=torch.long)
        counts = torch.tensor([len(line.text) for line in lines])
        loss = F.ctc_loss(logits, letters, lengths, counts, zero_infinity=True)
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        rule.step()
        schedule.step()
        mean = 0.98 * mean + 0.02 * loss.item() if step else loss.item()
        if step % 50 == 49:
            progress(f"step {step + 1} of {steps}: loss {mean:.3f}")
    return reader.eval()
