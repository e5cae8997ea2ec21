"""Side by side with transformers' Mllama: time, FLOPs, memory, difference. `python -m benchmarks.mllama`

Both run the same random weights and pictures in one process, turn by turn: ours, theirs, ours, theirs. The machine's
own yardstick, a matrix product in the same dtype, is taken between the turns.

Notable here:
- transformers takes the outputs of the tapped ViT layers, Meta's code their inputs: its indices are shifted by one in
  memory, so that features can be compared. No text row is without a picture, so its other fault has no part in this.
- "encode" is ViT and projector; "prefill" is image keys and values, the prompt, and the logits of its last token.
- FLOPs are counted at torch's operators, the fused attention of the CPU included; twice the multiplications.
- Memory is measured in a process per side (benchmarks/memory.py).
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.memory import GRIDS, load_ours, pad_picture, picture
from benchmarks.report import DEVICES, ROOT, check_options, circumstances, pick, show
from vlm.checkpoints.hub_config import to_hub_config
from vlm.checkpoints.keys import empty_model
from vlm.config import PRESETS, DecoderConfig, EncoderConfig, ModelConfig
from vlm.engine.forward import Piece, forward, lay_out
from vlm.engine.pages import PagePool, pages_for
from vlm.engine.pictures import Encoded
from vlm.engine.weights import DecoderWeights
from vlm.image import ImageConfig
from vlm.model import VisionLanguageModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZES: dict[str, ModelConfig] = {
    "debug": replace(PRESETS["debug"], encoder=replace(PRESETS["debug"].encoder, taps=(1, 2))),
    "small": ModelConfig(
        encoder=EncoderConfig(dim=512, n_layers=8, n_global_layers=2, n_heads=8, hidden_dim=2048, taps=(1, 2, 4, 6, 7)),
        decoder=DecoderConfig(
            dim=1024, n_layers=9, n_heads=16, n_kv_heads=4, head_dim=64, hidden_dim=2816, vocab_size=32000,
            n_extra_tokens=8, cross_attention_layers=(2, 5, 8),
        ),
        image=ImageConfig(tile_size=224),
    ),
    "11b": PRESETS["11b"],
}  # fmt: skip
SIZES["1b"] = replace(  # the widths of Llama 3.2 1B and half of its layers
    SIZES["small"],
    decoder=DecoderConfig(
        dim=2048, n_layers=8, n_heads=32, n_kv_heads=8, head_dim=64, hidden_dim=8192, vocab_size=128256,
        n_extra_tokens=8, cross_attention_layers=(3, 7),
    ),
)  # fmt: skip
SIZES["medium"] = replace(SIZES["small"], image=ImageConfig(tile_size=364))  # attention's share of the 11B
GOALS = {"encode 1 tile": 2.2, "encode 2 tiles": 1.4, "encode 4 tiles": 1.0, "encode 1 tile, no padding": 6.0}
LOAD_GOAL = 1.15  # peak of our load by the weights in their final dtype
PROMPT = 64


def make_theirs(config: ModelConfig, dtype: torch.dtype, device: str) -> nn.Module:
    """transformers' model of these sizes with random weights: open gates, tables that are zero for padded tiles."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    data = to_hub_config(config)
    data["text_config"] |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    with torch.device(device):
        model = MllamaForConditionalGeneration._from_config(MllamaConfig(**data), dtype=dtype).eval()
    generator = torch.Generator(device).manual_seed(0)
    for name, p in model.named_parameters():
        if "tile_embedding" in name or "tile_positional_embedding.embedding" in name:
            p.data.normal_(std=0.5, generator=generator)
            for i, (rows, cols) in enumerate(data["vision_config"]["supported_aspect_ratios"]):
                p.data.view(len(p), config.image.max_tiles, -1)[i + 1, rows * cols :] = 0
        elif p.ndim == 1:
            p.data.normal_(mean=0.5, std=0.1, generator=generator)
        else:
            p.data.normal_(std=p[0].numel() ** -0.5, generator=generator)
    return model


def tap_inputs(model: nn.Module) -> nn.Module:
    """Let transformers' model take the features that Meta's code takes."""
    tower = model.model.vision_model
    tower.intermediate_layers_indices = [i - 1 for i in tower.intermediate_layers_indices]
    return model


def without_padding(model: VisionLanguageModel) -> VisionLanguageModel:
    """The same weights as a model of real tiles only."""
    config = model.config
    lean = empty_model(replace(config, encoder=replace(config.encoder, tile_padding="none")))
    lean.load_state_dict(model.state_dict(), assign=True)
    return lean.eval()


@dataclass(frozen=True)
class Stage:
    """The same work in both; `compare` brings their results into one shape, None where they are to differ."""

    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    compare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None


class Pair:
    """Both models, the pictures and the prompt."""

    def __init__(self, ours: VisionLanguageModel, theirs: nn.Module, dtype: torch.dtype, device: str):
        self.ours, self.theirs, self.dtype, self.device = ours, tap_inputs(theirs), dtype, device
        self.config = ours.config
        generator = torch.Generator().manual_seed(1)
        vocab_size = self.config.decoder.vocab_size
        self.tokens = torch.randint(vocab_size, (1, PROMPT), generator=generator).to(device)
        self.tokens[0, 0] = vocab_size  # the picture stands first

    def encode(self, n_tiles: int, model: VisionLanguageModel | None = None) -> Stage:
        """Pixels -> image states: (1, n * N, D) of ours, (1, 1, max_tiles, N, D) of theirs."""
        model, tower = model or self.ours, self.theirs.model
        tiles = picture(n_tiles, self.config.image.tile_size, self.dtype, self.device)
        grid = torch.tensor([[GRIDS[n_tiles]]], device=self.device)
        grid_id = model.encoder.grids.index(GRIDS[n_tiles]) + 1
        inputs = pad_picture(tiles, grid_id, self.config.image.max_tiles)
        return Stage(
            ours=lambda: model.connector(model.encoder(tiles, grid), grid)[0],
            theirs=lambda: tower.multi_modal_projector(tower.vision_model(**inputs).last_hidden_state),
            compare=(lambda a, b: (a, b[0, :, :n_tiles].flatten(1, 2))) if model is self.ours else None,
        )

    def prefill(self, n_tiles: int) -> tuple[Stage, dict[str, int]]:
        """Image states -> logits of the prompt's last token, and the bytes that each keeps of the picture."""
        stage, kept = self.encode(n_tiles), {}
        states, their_states = stage.ours(), stage.theirs()[0, 0]  # (1, S, D), (L, N, D)
        device, pages = torch.device(self.device), []
        pool = PagePool(self.config.decoder, 1 + pages_for(PROMPT), self.dtype)
        pool.grow(pages, PROMPT)
        weights = DecoderWeights(self.ours.decoder, pack=False)  # as theirs are: the engine's own gains are elsewhere
        mask = (torch.arange(self.config.image.max_tiles, device=self.device) < n_tiles).long()
        blocks = self.theirs.config.text_config.cross_attention_layers

        def ours() -> Tensor:
            image = self.ours.decoder.image_keys_values(states)
            kept["ours"] = sum(t.nbytes for kv in image.values() for t in kv)
            seen = [(PROMPT, (Encoded(image, [0, states.shape[1]]), 0, states.shape[1]))]
            plan, _ = lay_out([Piece(self.tokens[0].tolist(), 0, pages, seen)], device)
            return forward(weights, pool, plan)

        def theirs() -> Tensor:
            out = self.theirs(
                input_ids=self.tokens, cross_attention_states=their_states, use_cache=True, logits_to_keep=1,
                cross_attention_mask=mask.expand(1, PROMPT, 1, -1),
            )  # fmt: skip
            layers = (out.cache if "cache" in out else out.past_key_values).layers
            kept["theirs"] = sum(layers[i].keys.nbytes + layers[i].values.nbytes for i in blocks)
            return out.logits[:, -1]

        return Stage(ours, theirs, lambda a, b: (a, b)), kept


def cpu_attention_flops(query: tuple, key: tuple, value: tuple, *args, out_shape=None, **kwargs) -> int:
    """The fused attention of the CPU, which torch's counter does not know."""
    return sdpa_flop_count(query, key, value)


def flops(function: Callable[[], Tensor]) -> int:
    """Floating point operations of matrix products, convolutions and attention."""
    known = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: cpu_attention_flops}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        function()
    return counter.get_total_flops()


def seconds(function: Callable[[], object], device: str) -> float:
    """One run by the clock."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def yardstick(dtype: torch.dtype, device: str) -> Callable[[], float]:
    """How many FLOP/s a square matrix product reaches."""
    side = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: 2 * side**3 / seconds(lambda: a @ b, device)


@torch.inference_mode()
def time_stages(pair: Pair, repeats: int) -> dict:
    """Every stage of both, turn by turn."""
    stages = {f"encode {n} tile{'s' * (n > 1)}": pair.encode(n) for n in GRIDS}
    stages["encode 1 tile, no padding"] = pair.encode(1, without_padding(pair.ours))
    prefills = {n: pair.prefill(n) for n in GRIDS}
    stages |= {f"prefill {n} tile{'s' * (n > 1)}": stage for n, (stage, _) in prefills.items()}
    measure = yardstick(pair.dtype, pair.device)
    rows, rates = {}, [measure(), measure()][1:]
    for name, stage in stages.items():  # also warms up
        rows[name] = {side: {"flop": flops(getattr(stage, side)), "seconds": []} for side in ("ours", "theirs")}
        rows[name] |= {"goal": GOALS.get(name)} | difference(stage)
    for _ in range(repeats):
        for name, stage in stages.items():
            for side in ("ours", "theirs"):
                rows[name][side]["seconds"].append(seconds(getattr(stage, side), pair.device))
            rates.append(measure())
    for row in rows.values():
        pairs = zip(row["theirs"]["seconds"], row["ours"]["seconds"], strict=True)
        row["ratio"] = statistics.median(theirs / ours for theirs, ours in pairs)
        for side in (row["ours"], row["theirs"]):
            side |= {"median": statistics.median(side["seconds"]), "min": min(side["seconds"])}
            side["of_yardstick"] = side["flop"] / side["median"] / statistics.median(rates)
    found = {"yardstick_flops": {"median": statistics.median(rates), "max": max(rates)}, "stages": rows}
    return found | {"image_kv_bytes": {n: kept for n, (_, kept) in prefills.items()}}


def difference(stage: Stage) -> dict[str, float]:
    """The largest difference of what both compute, beside their largest value."""
    if stage.compare is None:
        return {}
    ours, theirs = stage.compare(stage.ours(), stage.theirs())
    return {
        "max_difference": (ours.double() - theirs.double()).abs().max().item(),
        "max_value": theirs.abs().max().item(),
    }


def memory_runs(dtype: torch.dtype) -> tuple[tuple[str, torch.dtype, int], ...]:
    """Name, dtype to load in, tiles of the picture."""
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    return ("1 tile", dtype, 1), ("4 tiles", dtype, 4), ("cast", other, 1)


def measure_memory(folder: Path, device: str, runs: tuple[tuple[str, torch.dtype, int], ...]) -> dict:
    """Loading a folder and encoding a picture, in a fresh process per side and run."""
    found: dict = {}
    for name, kind, n_tiles in runs:
        for side in ("ours", "theirs"):
            kind_name = str(kind).removeprefix("torch.")
            command = [sys.executable, "-m", "benchmarks.memory", side, str(folder), kind_name, device, str(n_tiles)]
            out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
            found.setdefault(name, {})[side] = json.loads(out.splitlines()[-1])
    return found


@contextmanager
def weights_folder(config: ModelConfig, dtype: torch.dtype, device: str) -> Iterator[tuple[Path, nn.Module]]:
    """transformers' model and the hub folder that it wrote."""
    with tempfile.TemporaryDirectory() as name:
        theirs = make_theirs(config, dtype, device)
        theirs.save_pretrained(name)
        yield Path(name), theirs


def run(preset: str, dtype_name: str, device: str, repeats: int, memory: bool = True) -> dict:
    """All figures of one dtype."""
    dtype = DTYPES[dtype_name]
    with weights_folder(SIZES[preset], dtype, device) as (folder, theirs):
        ours = load_ours(str(folder), dtype, device)
        assert ours.config.encoder.dedupe_padding and ours.config.encoder.taps == SIZES[preset].encoder.taps
        found = {"dtype": dtype_name} | time_stages(Pair(ours, theirs, dtype, device), repeats)
        del ours, theirs
        if device == "cuda":
            torch.cuda.empty_cache()
        return found | ({"memory": measure_memory(folder, device, memory_runs(dtype))} if memory else {})


def to_markdown(report: dict) -> str:
    """The tables of a report."""
    machine, lines = report["machine"], []
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    lines += [
        f"{report['preset']} on {where}; torch {machine['torch']}, transformers {machine['transformers']}; "
        f"{report['date']}, {report['commit']}; median (best) of {report['repeats']} turns, ratio: the turns' median"
    ]
    for found in report["results"]:
        rate = found["yardstick_flops"]
        lines += ["", f"{found['dtype']}; matrix products here: {rate['median'] / 1e9:,.0f} GFLOP/s", ""]
        lines += ["| stage | ours ms | theirs ms | ratio | goal | ours GFLOP | theirs GFLOP | largest difference |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, row in found["stages"].items():
            times = [f"{row[s]['median'] * 1e3:,.1f} ({row[s]['min'] * 1e3:,.1f})" for s in ("ours", "theirs")]
            work = [f"{row[s]['flop'] / 1e9:,.2f}" for s in ("ours", "theirs")]
            same = f"{row['max_difference']:.1e} of {row['max_value']:.1f}" if "max_difference" in row else "-"
            goal = f"{row['goal']:.1f}x" if row["goal"] else "-"
            lines += ["| " + " | ".join([name, *times, f"{row['ratio']:.2f}x", goal, *work, same]) + " |"]
        lines += ["", "| memory, MB | ours | theirs | theirs / ours |", "|---|---|---|---|"]
        lines += [f"| {name} | {a / 1e6:,.2f} | {b / 1e6:,.2f} | {b / a:.2f} |" for name, a, b in memory_rows(found)]
        if "memory" in found:
            peaks = [f"{m['ours']['load_peak'] / m['ours']['weights']:.3f}" for m in found["memory"].values()]
            lines += ["", f"Peak of our load by the weights: {', '.join(peaks)} (goal: at most {LOAD_GOAL})"]
    return "\n".join(lines) + "\n"


def memory_rows(found: dict) -> Iterator[tuple[str, float, float]]:
    """Name, ours, theirs of what takes memory."""
    for n, kept in found["image_kv_bytes"].items():
        yield f"image keys and values, {n} of 4 tiles", kept["ours"], kept["theirs"]
    for name, sides in found.get("memory", {}).items():
        ours, theirs = sides["ours"], sides["theirs"]
        if name != "4 tiles":
            what = "load, cast to the other dtype" if name == "cast" else "load"
            yield f"{what}, peak ({ours['weights'] / 1e6:,.0f} MB of weights)", ours["load_peak"], theirs["load_peak"]
        if name != "cast":
            yield f"encode {name}, peak over the weights", ours["encode_peak"], theirs["encode_peak"]


def main(
    preset: Annotated[str, typer.Option(help=f"sizes: {', '.join(SIZES)}")] = "small",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or both with a comma")] = "fp32,bf16",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    repeats: Annotated[int, typer.Option(help="turns of each stage", min=1)] = 10,
    memory: Annotated[bool, typer.Option(help="measure memory too, in processes of their own")] = True,
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here too; - for stdout")] = None,
) -> None:
    """Measure ours and transformers' Mllama side by side."""
    device = pick(device)
    check_options(preset=([preset], SIZES), dtype=(dtype.split(","), DTYPES), device=([device], DEVICES))
    report = circumstances(device) | {
        "preset": preset, "device": device, "repeats": repeats,
        "results": [run(preset, name, device, repeats, memory) for name in dtype.split(",")],
    }  # fmt: skip
    show(to_markdown(report), report, json_path)


if __name__ == "__main__":
    typer.run(main)
