"""What `benchmarks.engine` runs: the requests, a turn of either side, and how fast memory is read."""

import statistics
import time
from ctypes import c_int64, c_void_p
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.memory import pad_picture
from vlm.chat import Prompt
from vlm.config import ModelConfig
from vlm.engine import Engine, Sampling
from vlm.engine.compiled import build, library
from vlm.engine.memory import large_pages
from vlm.engine.pictures import Picture

PROMPT = 64  # tokens
NEW = 32  # tokens of a running answer
GRIDS = ((1, 1), (1, 2), (1, 3), (2, 2))  # of one to four tiles
READ = 2**29  # bytes whose reading gives the bandwidth: more than caches hold


class Requests:
    """Prompts and pictures, as ours and as theirs."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: str, n: int, per_picture: int, vary: bool):
        generator = torch.Generator().manual_seed(n + vary)
        self.config, self.dtype, self.device = config, dtype, device
        size, vocab = config.image.tile_size, config.decoder.vocab_size
        self.pictures: list[Picture] = []
        for i in range(n // per_picture):
            grid = GRIDS[i % 4] if vary else GRIDS[0]
            tiles = torch.randn(grid[0] * grid[1], 3, size, size, generator=generator)
            self.pictures.append((tiles.to(dtype).float(), grid))
        self.prompts = []
        for _ in range(n):
            length = int(torch.randint(20, PROMPT, (1,), generator=generator)) if vary else PROMPT
            tokens = [vocab, *torch.randint(vocab, (length - 1,), generator=generator).tolist()]
            self.prompts.append(Prompt(tokens=tokens, labels=[], sees=[(0, 1)] * length, images=[None]))
        self.shown = [[self.pictures[i // per_picture]] for i in range(n)]

    def theirs(self, rows: list[int], grids: list[tuple[int, int]]) -> dict[str, Tensor]:
        """What transformers' generate wants: padded on the left, all tiles that there could be."""
        width, max_tiles = max(len(self.prompts[i].tokens) for i in rows), self.config.image.max_tiles
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask, cross = torch.zeros_like(ids), torch.zeros(len(rows), width, 1, max_tiles, dtype=torch.long)
        parts = []
        for row, i in enumerate(rows):
            tokens, (tiles, grid) = self.prompts[i].tokens, self.shown[i][0]
            ids[row, -len(tokens) :] = torch.tensor(tokens)
            mask[row, -len(tokens) :] = 1
            cross[row, -len(tokens) :, :, : len(tiles)] = 1
            parts.append(pad_picture(tiles[None, None].to(self.dtype), grids.index(grid) + 1, max_tiles))
        inputs = {"input_ids": ids, "attention_mask": mask, "cross_attention_mask": cross}
        inputs |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: value.to(self.device) for name, value in inputs.items()}


class Clock:
    """Reads the time when the device is done."""

    def __init__(self, device: str):
        self.device, self.times = device, []

    def __call__(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        return self.times[-1]

    @property
    def between(self) -> float:
        """Median seconds from one token to the next, without the first."""
        return statistics.median(b - a for a, b in zip(self.times[2:], self.times[3:], strict=False))


def run_ours(engine: Engine, asked: Requests, new: int, device: str) -> tuple[Clock, list[list[int]]]:
    """All requests at once, their pictures not yet encoded."""
    engine.scheduler.cache.clear()
    clock, out = Clock(device), [[] for _ in asked.prompts]
    clock()
    for step in engine.steps(asked.prompts, asked.shown, Sampling(max_new_tokens=new)):
        if step.row == 0:
            clock()
        out[step.row].append(step.token)
    clock.end = clock()
    clock.times.pop()
    return clock, out


def run_theirs(model: nn.Module, asked: Requests, new: int, device: str, batch: int) -> tuple[Clock, list[list[int]]]:
    """The same through generate, in batches of similar length."""
    from transformers import StoppingCriteriaList

    clock, out = Clock(device), [[] for _ in asked.prompts]
    grids = [tuple(g) for g in model.config.vision_config.supported_aspect_ratios]

    def tick(ids: Tensor, _scores, **_) -> Tensor:
        clock()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    clock()
    order = sorted(range(len(out)), key=lambda i: len(asked.prompts[i].tokens))
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        inputs = asked.theirs(rows, grids)
        found = model.generate(
            **inputs, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([tick]),
        )  # fmt: skip
        for i, tokens in zip(rows, found[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            out[i] = tokens
    clock.end = clock()
    clock.times.pop()
    return clock, out


class Bandwidth:
    """How fast weights can be read: half a gigabyte (on a GPU 2**29 numbers), in large pages on a CPU, in several ways.

    Attributes:
        rates: bytes per second of every call, by way.
    """

    def __init__(self, dtype: torch.dtype, device: str):
        on_cpu, self.device = device == "cpu", device
        room = large_pages(READ // dtype.itemsize, dtype) if on_cpu else torch.empty(2**29, device=device, dtype=dtype)
        matrix = room.view(-1, 8192).fill_(1)
        vector = torch.randn(1, matrix.shape[1], device=device).to(dtype)
        whole, ones = matrix.view(torch.int32), matrix.view(torch.float32)
        self.n_bytes, self.ways = matrix.nbytes, {
            "sum of int32": whole.sum, "sum of fp32": ones.sum, "largest of int8": matrix.view(torch.int8).amax,
            "product": lambda: nn.functional.linear(vector, matrix),
        }  # fmt: skip
        if on_cpu:
            packed = torch.ops.mkldnn._reorder_linear_weight(matrix, 1)
            pointwise = torch.ops.mkldnn._linear_pointwise
            self.ways["packed product"] = lambda: pointwise(vector, packed, None, "none", [], "")
        if on_cpu and library() and (loops := build([Path(__file__).with_name("engine_read.cpp")])):
            for streams in (1, 2, 4):
                for ahead in (0, 8192):
                    name = f"loop, {streams} streams" + ", fetching ahead" * bool(ahead)
                    where = c_void_p(matrix.data_ptr()), c_int64(self.n_bytes)
                    self.ways[name] = partial(
                        loops.read_bytes, *where, streams, c_int64(ahead), torch.get_num_threads()
                    )
        self.rates: dict[str, list[float]] = {name: [] for name in self.ways}

    def __call__(self) -> float:
        """Bytes per second of the best way, each tried three times."""
        for name, way in self.ways.items():
            best = 0.0
            for _ in range(3):
                clock = Clock(self.device)
                clock()
                way()
                best = max(best, self.n_bytes / (clock() - clock.times[0]))
            self.rates[name].append(best)
        return max(rates[-1] for rates in self.rates.values())

    @property
    def medians(self) -> dict[str, float]:
        """Bytes per second by way, the fastest first."""
        found = {name: statistics.median(rates) for name, rates in self.rates.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))
