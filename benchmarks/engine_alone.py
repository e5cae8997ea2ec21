"""The engine by itself at sizes that a machine holds but once: `python -m benchmarks.engine --against none`.

- Random weights are made where they stand, in the form that files keep, so that 90B in int4 (50 GB) needs no more.
- Every stage stands beside its floor: a decoding step beside the bytes of its weights by the memory's speed of the same
  run, the encoder beside its products by the speed of a large matrix product.
"""

import statistics
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.engine_turns import NEW, Bandwidth, Clock, Requests, run_ours
from benchmarks.mllama import flops
from vlm.checkpoints.keys import empty_model
from vlm.config import ModelConfig
from vlm.engine import Engine
from vlm.engine.quantize import finish_loading, prepare_to_load
from vlm.model import VisionLanguageModel

KINDS = ("plain", "int8", "int4")
ROWS = (1, 8, 64)
GOALS = {
    ("plain", 1): 0.85, ("int8", 1): 0.75, ("int4", 1): 0.60, ("plain", 8): 0.60, ("plain", 64): 0.60,
}  # fmt: skip
ENCODE_GOAL = 1.8  # times the floor of one tile
SIDE = 4096  # of the matrices whose product is the yardstick of the encoder


@torch.no_grad()
def random_model(config: ModelConfig, dtype: torch.dtype, device: str, kind: str = "plain") -> VisionLanguageModel:
    """A model of these sizes with random weights, of `KINDS`."""
    model = empty_model(config).to(dtype).eval()
    if kind != "plain":
        prepare_to_load(model, kind, encoder=False)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            tensor.random_(0, 256 if tensor.dtype == torch.uint8 else 127, generator=generator)
        elif name.endswith("scales"):
            tensor.fill_(2e-3)
        elif tensor.ndim == 1:
            tensor.normal_(mean=0.5, std=0.1, generator=generator)
        else:
            tensor.normal_(std=0.02, generator=generator)
    finish_loading(model)
    return model


def alone(
    config: ModelConfig, dtype: torch.dtype, device: str, repeats: int, kinds: list[str], needed: Callable
) -> dict:
    """All figures of one dtype; a kind of weights after the other, so that one model is held at a time.

    Args:
        needed: the bytes of weights that a token needs, of a decoder.
    """
    rows, encoder = [], None
    read = Bandwidth(dtype, device)
    read()
    for kind in kinds:
        model = random_model(config, dtype, device, kind)
        engine = Engine(model, stop_ids=frozenset())
        n_bytes = needed(model.decoder)
        for n in ROWS:
            asked = Requests(config, dtype, device, n, 1, vary=False)
            run_ours(engine, asked, NEW, device)  # warms up
            steps, first, rates = [], [], []
            for _ in range(repeats):
                clock, _ = run_ours(engine, asked, NEW, device)
                steps.append(clock.between)
                first.append(clock.times[1] - clock.times[0])
                rates.append(read())
            step, rate = statistics.median(steps), statistics.median(rates)
            rows.append({
                "weights": kind, "rows": n, "bytes": n_bytes, "bandwidth": rate, "seconds": steps, "median": step,
                "tokens_per_second": n / step, "first_token": statistics.median(first),
                "of_floor": n_bytes / rate / step, "goal": GOALS.get((kind, n)),
            })  # fmt: skip
        encoder = encoder or encode(model, config, dtype, device, repeats)
        del model, engine
        if device == "cuda":
            torch.cuda.empty_cache()
    return {"dtype": str(dtype).removeprefix("torch."), "bandwidths": read.medians, "decode": rows, "encode": encoder}


@torch.inference_mode()
def encode(model: nn.Module, config: ModelConfig, dtype: torch.dtype, device: str, repeats: int) -> list[dict]:
    """One and four tiles through the engine's image encoder, beside their products at the speed of a large one."""
    engine, found = Engine(model, stop_ids=frozenset()), []
    a = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    for grid in ((1, 1), (2, 2)):
        size = config.image.tile_size
        pictures = [(torch.randn(grid[0] * grid[1], 3, size, size).to(dtype).float(), grid) for _ in range(repeats + 1)]
        tiles = pictures[0][0][None, None].to(device, dtype)
        work = flops(lambda t=tiles, g=grid: model.encoder(t, torch.tensor([[g]], device=device)))
        seconds, rates = [], []
        for picture in pictures:  # never the same one: pictures are kept
            clock = Clock(device)
            clock()
            engine.look(picture)
            clock()
            a @ a
            clock()
            seconds.append(clock.times[1] - clock.times[0])
            rates.append(2 * SIDE**3 / (clock.times[2] - clock.times[1]))
        time, rate = statistics.median(seconds[1:]), statistics.median(rates[1:])
        found.append({
            "tiles": grid[0] * grid[1], "flop": work, "yardstick": rate, "median": time,
            "times_floor": time * rate / work, "goal": ENCODE_GOAL if grid == (1, 1) else None,
        })  # fmt: skip
    return found


def to_lines(found: dict) -> list[str]:
    """The tables of `alone`."""
    lines = ["", f"{found['dtype']}, the engine alone", ""]
    lines += ["| weights | rows | ms a step | tokens/s | floor, ms | of the floor | goal | first token, ms |"]
    lines += ["|---" * 8 + "|"]
    for row in found["decode"]:
        goal = f"{row['goal']:.0%}" if row["goal"] else "-"
        cells = [row["weights"], str(row["rows"]), f"{row['median'] * 1e3:.2f}", f"{row['tokens_per_second']:,.0f}"]
        cells += [f"{row['bytes'] / row['bandwidth'] * 1e3:.2f}", f"{row['of_floor']:.0%}", goal]
        lines += ["| " + " | ".join([*cells, f"{row['first_token'] * 1e3:,.1f}"]) + " |"]
    lines += ["", "| picture | ms | GFLOP | times its floor | goal, at most |", "|---" * 5 + "|"]
    for row in found["encode"]:
        goal = str(row["goal"] or "-")
        cells = [f"{row['tiles']} tile(s)", f"{row['median'] * 1e3:.1f}", f"{row['flop'] / 1e9:,.1f}"]
        lines += ["| " + " | ".join([*cells, f"{row['times_floor']:.2f}", goal]) + " |"]
    return lines
