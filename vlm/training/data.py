"""Batches from the procedural worlds: drawn in worker processes, never stored.

Notable here:
- Batch k is a pure function of (seed, k), so the data position of a run is its step number and a resumed run sees
  what an undisturbed one would have seen.
- Pictures of a batch have equally many tiles; each is encoded once and all its questions share that encode and one
  packed row of text.
"""

import random
import signal
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm.chat import Chat, Prompt
from vlm.chat_template import TemplateChat
from vlm.config import ModelConfig
from vlm.data.sample import Sample
from vlm.data.worlds import COLORS, SIZES, WHAT, sample
from vlm.image import collate_images, preprocess
from vlm.training.config import Stage, TrainConfig
from vlm.training.packing import Rows, pack

CAPTION_REQUESTS = ("Describe the picture.", "What is in the picture?", "Write a caption.")
WIDE = frozenset({"nlvr"})  # worlds whose pictures take four tiles at any size
LARGE = (1.5, 2.0, 2.0, 2.0)  # sides of other pictures of four tiles, in tiles


@dataclass
class Batch:
    tiles: Tensor  # (B, 1, L, 3, H, W)
    grid: Tensor  # (B, 1, 2)
    text: Rows | None
    n_questions: int
    dense: dict[str, Tensor]  # label per patch: what, color, size, center, each (B, L * patches)

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            tiles=self.tiles.to(device, non_blocking=True),
            grid=self.grid.to(device, non_blocking=True),
            text=None if self.text is None else self.text.to(device),
            n_questions=self.n_questions,
            dense={name: labels.to(device, non_blocking=True) for name, labels in self.dense.items()},
        )


def dense_labels(drawn: Sample, grid: tuple[int, int], patches: int) -> dict[str, np.ndarray]:
    """What stands in each patch: the thing that covers the patch's centre, and where the centres of things are."""
    rows, cols = grid[0] * patches, grid[1] * patches
    width, height = drawn.image.size
    maps = {name: np.zeros((rows, cols), dtype=np.int64) for name in ("what", "color", "size", "center")}
    for thing in sorted(drawn.things, key=lambda t: -(t.box[2] - t.box[0]) * (t.box[3] - t.box[1])):
        x0, y0, x1, y1 = (
            v * n / side for v, n, side in zip(thing.box, (cols, rows) * 2, (width, height) * 2, strict=True)
        )
        row, col = min(int((y0 + y1) / 2), rows - 1), min(int((x0 + x1) / 2), cols - 1)
        span = slice(round(y0), max(round(y1), round(y0) + 1)), slice(round(x0), max(round(x1), round(x0) + 1))
        for name, label, names in (
            ("what", thing.what, _WHAT), ("color", thing.color, _COLORS), ("size", thing.size, _SIZES)
        ):  # fmt: skip
            maps[name][span] = maps[name][row, col] = names[label]
        maps["center"][row, col] = min(maps["center"][row, col] + 1, 3)
    tiles = {n: m.reshape(grid[0], patches, grid[1], patches).swapaxes(1, 2).reshape(-1) for n, m in maps.items()}
    return tiles


_WHAT, _COLORS, _SIZES = ({name: i for i, name in enumerate(names)} for names in (WHAT, COLORS, SIZES))
DENSE_CLASSES = {"what": len(WHAT), "color": len(COLORS), "size": len(SIZES), "center": 4}


class WorldBatches(Dataset):
    """Micro-batch number k of a run; step s has those from s * per_step on, in turn for each process."""

    def __init__(
        self, config: TrainConfig, model: ModelConfig, chat: Chat | TemplateChat, *, patches: int, processes: int = 1,
        split: str = "train",
    ):  # fmt: skip
        self.config, self.model, self.chat, self.split = config, model, chat, split
        self.patches = patches  # along the side of a tile
        self.per_step = config.accumulate * processes

    def __len__(self) -> int:
        return self.config.steps * self.per_step

    def __getitem__(self, k: int) -> Batch:
        config = self.config
        stage = config.stage(k // self.per_step)
        rng = random.Random(f"{self.split}/{config.seed}/batch/{k}")
        large = {w: 1.0 if w in WIDE else stage.large.get(w, 0.0) for w in stage.mixture}
        four = rng.random() < sum(s * large[w] for w, s in stage.mixture.items()) / sum(stage.mixture.values())
        shares = {w: s * (large[w] if four else 1 - large[w]) for w, s in sorted(stage.mixture.items())}
        n = max(1, config.batch_pictures // 2) if four else config.batch_pictures
        worlds = rng.choices(list(shares), list(shares.values()), k=n)
        samples = []
        for i, world in enumerate(worlds):
            scale = rng.choice(LARGE) if four and world not in WIDE else 1.0
            samples.append(self._draw(k * config.batch_pictures + i, world, scale, stage))
        return self.collate(samples, rng, stage)

    def _draw(self, index: int, world: str, scale: float, stage: Stage) -> Sample:
        """One sample; a world that has none of the stage's families is asked about all of its own."""
        config = self.config
        draw = partial(
            sample, index, seed=config.seed, mixture={world: 1.0}, size=round(self.model.image.tile_size * scale),
            split=self.split, n_questions=config.questions if stage.text else 0, emoji_path=config.emoji or None,
            max_objects=stage.max_objects,
        )  # fmt: skip
        drawn = draw(families=stage.families or None)
        return drawn if drawn.questions or not stage.text else draw(families=None)

    def collate(self, samples: list[Sample], rng: random.Random, stage: Stage) -> Batch:
        """Samples -> tensors; a picture with too few questions repeats some of them."""
        pictures = [preprocess(s.image, self.model.image) for s in samples]
        tiles, grid = collate_images([[p] for p in pictures])
        dense = [dense_labels(s, p[1], self.patches) for s, p in zip(samples, pictures, strict=True)]
        conversations, captions = [], []
        with_captions = rng.random() < stage.caption_share
        for s in samples if stage.text else ():
            asked = list(s.questions)
            while len(asked) < self.config.questions:
                asked.append(rng.choice(s.questions))
            prompts = [self._prompt(q.text, q.answer) for q in asked]
            if with_captions:
                prompts.append(self._prompt(rng.choice(CAPTION_REQUESTS), rng.choice(s.captions)))
            conversations.append(prompts)
            captions.append({len(asked)} if with_captions else set())
        return Batch(
            tiles=tiles,
            grid=grid,
            text=pack(conversations, self.chat.pad_id, captions) if stage.text else None,
            n_questions=len(samples) * self.config.questions if stage.text else 0,
            dense={n: torch.from_numpy(np.stack([d[n] for d in dense])) for n in DENSE_CLASSES},
        )

    def _prompt(self, question: str, answer: str) -> Prompt:
        content = [{"type": "image", "image": None}, {"type": "text", "text": question}]
        messages: list[dict] = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        return self.chat.encode(messages, generate=False)


def loader(batches: WorldBatches, numbers: range, workers: int) -> DataLoader:
    """The micro-batches of these numbers, in order, drawn ahead by worker processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        generator=torch.Generator(),  # its own: the run's random state is not for the loader to draw from
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_settle,
        multiprocessing_context="spawn" if workers else None,
    )


def _settle(_: int) -> None:
    """One thread each; a signal to the whole process group (Ctrl-C, torchrun's end) is for the loop to answer."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
