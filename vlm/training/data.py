"""Batches from the procedural worlds: drawn in worker processes, never stored.

Notable here:
- Batch k is a pure function of (seed, k), so the data position of a run is its step number and a resumed run sees
  what an undisturbed one would have seen.
- Pictures of a batch have equally many tiles; each is encoded once and all its questions share that encode and one
  packed row of text.
- Questions about several pictures make batches of their own: every row of a batch has equally many pictures.
"""

import math
import random
import signal
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlm.chat import IGNORE, Chat, Prompt
from vlm.chat_template import TemplateChat
from vlm.config import ModelConfig
from vlm.data.sample import Question, Sample
from vlm.data.worlds import sample
from vlm.image import Grid, collate_images, preprocess
from vlm.training.config import Stage, TrainConfig
from vlm.training.labels import dense_labels, label_cells
from vlm.training.packing import NOWHERE, Looks, Rows, pack
from vlm.training.pointing import Canvas, looks, written

CAPTION_REQUESTS = ("Describe the picture.", "What is in the picture?", "Write a caption.")
PAIR_REQUESTS = ("Describe the pictures.", "What is in the pictures?", "Write a caption for both pictures.")
PICTURES = {"pairs": 2}  # worlds that ask about several pictures at once, and how many
WIDE = frozenset({"nlvr"})  # worlds whose pictures take four tiles at any size
SPELLED = frozenset({"text", "documents", "charts"})  # worlds whose answers are printed in the picture
LARGE = (1.5, 2.0, 2.0, 2.0)  # sides of other pictures of four tiles, in tiles


@dataclass
class Batch:
    tiles: Tensor  # (B, I, L, 3, H, W)
    grid: Tensor  # (B, I, 2)
    text: Rows | None
    n_questions: int
    dense: dict[str, Tensor]  # labels of each patch, by kind: (B, I * L * patches), of several cells (.., cells)

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            tiles=self.tiles.to(device, non_blocking=True),
            grid=self.grid.to(device, non_blocking=True),
            text=None if self.text is None else self.text.to(device),
            n_questions=self.n_questions,
            dense={name: labels.to(device, non_blocking=True) for name, labels in self.dense.items()},
        )


class WorldBatches(Dataset):
    """Micro-batch number k of a run; step s has those from s * per_step on, in turn for each process."""

    def __init__(
        self, config: TrainConfig, model: ModelConfig, chat: Chat | TemplateChat, *, n_tokens: int, processes: int = 1,
        split: str = "train",
    ):  # fmt: skip
        self.config, self.model, self.chat, self.split = config, model, chat, split
        self.n_tokens, self.patches = n_tokens, math.isqrt(n_tokens)  # of a tile, and patches along its side
        self.cells = label_cells(model.encoder)
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
        several = rng.choices([PICTURES.get(w, 1) for w in shares], list(shares.values()))[0]
        shares = {w: s for w, s in shares.items() if PICTURES.get(w, 1) == several}
        n = max(1, (stage.batch_pictures or config.batch_pictures) // several // (2 if four else 1))
        worlds = rng.choices(list(shares), list(shares.values()), k=n)
        samples = []
        for i, world in enumerate(worlds):
            scale = rng.choice(LARGE) if four and world not in WIDE else 1.0
            samples.append(self._draw((k << 12) + i, world, scale, stage))
        return self.collate(samples, rng, stage)

    def _draw(self, index: int, world: str, scale: float, stage: Stage) -> Sample:
        """One sample; a world that has none of the stage's families is asked about all of its own."""
        config = self.config
        draw = partial(
            sample, index, seed=config.seed, mixture={world: 1.0}, size=round(self.model.image.tile_size * scale),
            split=self.split, n_questions=(stage.questions or config.questions) if stage.text else 0,
            emoji_path=config.emoji or None, max_objects=stage.max_objects,
        )  # fmt: skip
        drawn = draw(families=stage.families or None)
        return drawn if drawn.questions or not stage.text else draw(families=None)

    def collate(self, samples: list[Sample], rng: random.Random, stage: Stage) -> Batch:
        """Samples -> tensors; a picture with too few questions repeats some of them."""
        pictures = [[preprocess(image, self.model.image) for image in s.pictures] for s in samples]
        tiles, grid = collate_images(pictures)
        dense = [
            [
                dense_labels(s, p[1], self.patches, self.model.image.tile_size, picture=k, cells=self.cells)
                for k, p in enumerate(row)
            ]
            for s, row in zip(samples, pictures, strict=True)
        ]
        conversations, captions, points = [], [], []
        questions = stage.questions or self.config.questions
        with_captions = rng.random() < stage.caption_share
        for s, row in zip(samples, pictures, strict=True) if stage.text else ():
            asked = list(s.questions)
            while len(asked) < questions:
                asked.append(rng.choice(s.questions))
            pairs = [(q.text, q.answer) for q in asked]
            if with_captions:
                requests = CAPTION_REQUESTS if len(s.pictures) == 1 else PAIR_REQUESTS
                pairs.append((rng.choice(requests), rng.choice(s.captions)))
            prompts = [self._prompt(s, *pair) for pair in pairs]
            conversations.append(prompts)
            points.append(self._points(s, row[0][1], asked, prompts))
            captions.append({len(asked)} if with_captions else set())
        return Batch(
            tiles=tiles,
            grid=grid,
            text=pack(conversations, self.chat.pad_id, captions, points) if stage.text else None,
            n_questions=len(samples) * questions if stage.text else 0,
            dense={
                name: torch.from_numpy(np.stack([np.concatenate([d[name] for d in row]) for row in dense]))
                for name in self.cells
            },
        )

    def _prompt(self, drawn: Sample, question: str, answer: str) -> Prompt:
        content = [*[{"type": "image", "image": None}] * len(drawn.pictures), {"type": "text", "text": question}]
        messages: list[dict] = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        if drawn.world in SPELLED and isinstance(self.chat, Chat):
            return self.chat.encode(messages, generate=False, spell=True)
        return self.chat.encode(messages, generate=False)

    def _points(self, drawn: Sample, grid: Grid, asked: list[Question], prompts: list[Prompt]) -> list[Looks]:
        """Where each token of each prompt should look; nowhere in what is about several pictures, or in captions."""
        points: list[Looks] = [[NOWHERE] * len(p.tokens) for p in prompts]
        if drawn.others:
            return points
        canvas = Canvas(drawn.image.size, grid, self.model.image.tile_size, self.patches, self.n_tokens)
        spells = drawn.world in SPELLED and isinstance(self.chat, Chat)
        places = written(drawn) if spells else None
        for of_tokens, prompt, question in zip(points, prompts, asked, strict=False):
            answer = [k for k, label in enumerate(prompt.labels) if label != IGNORE]
            pieces = [self.chat.tokenizer.decode([prompt.tokens[k]]) for k in answer] if spells else [""] * len(answer)
            of_tokens[answer[0] - 1 : answer[-1]] = looks(question, pieces, places, canvas)
        return points


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
