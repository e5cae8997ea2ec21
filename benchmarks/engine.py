"""The engine beside transformers' generate: `python -m benchmarks.engine`.

Both run the same random weights, prompts and pictures in one process, turn by turn; between the turns the machine's
memory is read, which gives the limit that decoding has.

Notable here:
- "decode" is the median time between tokens of a running answer, of one row and of eight rows, each with a picture of
  its own. Its floor is the bytes of the weights that a token needs, by the bandwidth measured in this run.
- "first token" is from preprocessed tiles and tokens to the first token.
- "mixed" is 64 requests, four questions on each of 16 pictures of one to four tiles, as they come; transformers takes
  them sorted by length, in batches of the size that was fastest for it.
- "evaluation" is 256 requests, four on each of 64 pictures, against transformers one at a time, as lmms-eval's loop for
  this architecture runs it, and against its best batches.
- Bandwidth is the best of several ways of reading half a gigabyte of the same dtype in large pages, loops of our own
  among them (engine_read.cpp): a limit that is too low would flatter.
- "ours" is the engine as it is, with compiled passes or CUDA graphs where it has them; "torch" is the same without.
- `--quantization int8,int4` decodes with such weights too, each beside the floor of its own bytes.
- In fp32 the tokens of both are compared. transformers' ViT is given the features that Meta's code takes.
- `--dry-run` builds the real sizes without memory, runs every shape on the meta device and prints the floors.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
import typer
from torch import nn

from benchmarks.engine_alone import KINDS, alone, to_lines
from benchmarks.engine_turns import NEW, PROMPT, Bandwidth, Requests, run_ours, run_theirs
from benchmarks.memory import load_ours
from benchmarks.mllama import DTYPES, SIZES, tap_inputs, weights_folder
from benchmarks.report import DEVICES, check_options, circumstances, pick, show
from vlm.checkpoints.keys import empty_model
from vlm.config import PRESETS, ModelConfig
from vlm.engine import Engine, Sampling
from vlm.engine.forward import Piece, forward, lay_out
from vlm.engine.pages import PagePool, pages_for
from vlm.engine.pictures import Encoded
from vlm.engine.quantize import quantize
from vlm.engine.weights import DecoderWeights

ANSWER = 8  # tokens of a short answer
# the text of Llama 3.2 1B, a gated block at every fourth layer, and the small encoder
SIZES = SIZES | {"1b": replace(SIZES["1b"], decoder=replace(
    SIZES["1b"].decoder, n_layers=16, cross_attention_layers=(3, 7, 11, 15)
))}  # fmt: skip
QUANTIZED = KINDS[1:]
WORK = ("decode", "mixed", "evaluation")
SIDES = ("ours", "torch", "theirs")
AGAINST = ("transformers", "none")
GOALS = {
    "decode 1": (1.5, 0.85), "decode 8": (2.5, 0.60), "decode 64": (2.5, 0.60),  # by transformers, by the floor
    "mixed": (5.0, None),
    "evaluation, one by one": (5.0, None), "evaluation, batched": (5.0, None),
}  # fmt: skip
H200_BANDWIDTH = 4.3e12  # bytes per second, as measured on such a card by others


def decode_bytes(decoder: nn.Module) -> int:
    """Bytes of weights that one token needs where it sees a picture: no encoder, embeddings, image keys and values."""
    skipped = () if decoder.config.tie_embeddings else ("embed_tokens.",)
    unseen = (".attn.k_proj.", ".attn.v_proj.", ".attn.k_norm.")
    return sum(
        t.nbytes
        for name, t in decoder.state_dict().items()
        if not name.startswith(skipped)
        and not (name.startswith("cross_attention.") and any(part in name for part in unseen))
    )


def compare(
    preset: str, dtype_name: str, device: str, repeats: int, work: list[str], batch: int | None, kinds: list[str]
) -> dict:
    """All figures of one dtype; `batch` is transformers' on mixed requests, found here where it is not given."""
    dtype, rows = DTYPES[dtype_name], {}
    with weights_folder(SIZES[preset], dtype, device) as (folder, theirs):
        ours, theirs = load_ours(str(folder), dtype, device), tap_inputs(theirs)
        engine, n_bytes = Engine(ours, stop_ids=frozenset()), {}
        small = {kind: Engine(load_ours(str(folder), dtype, device), stop_ids=frozenset()) for kind in kinds}
        for kind, other in small.items():
            quantize(other.model, kind)
            n_bytes[kind] = decode_bytes(other.model.decoder)
        jobs = [job for name in WORK if name in work for job in jobs_of(name, ours.config, dtype, device)]
        unsettled = [asked for _, asked, their_batch in jobs if their_batch is None]
        batch = batch or (best_batch(theirs, unsettled[0], device) if unsettled else None)
        read, rates, tokens = Bandwidth(dtype, device), [], {}
        read()
        compiled = (scheduler := engine.scheduler).weights.native, scheduler.graphs
        for turn in range(repeats + 1):  # the first warms up
            for name, asked, their_batch in jobs:
                timed = name.startswith("decode")
                if not timed and not turn or name.startswith("evaluation") and turn != 1:  # too long to need it
                    continue
                new = NEW if timed else ANSWER
                sides = SIDES if timed and any(compiled) else ("ours", "theirs")
                for side in (*sides, *(small if timed else ())):
                    scheduler.weights.native, scheduler.graphs = (None, None) if side == "torch" else compiled
                    clock, said = (
                        run_theirs(theirs, asked, new, device, their_batch or batch)
                        if side == "theirs"
                        else run_ours(small.get(side, engine), asked, new, device)
                    )
                    tokens[name, side] = said
                    if not turn:
                        continue
                    row = rows.setdefault(name, {}).setdefault(side, {"seconds": [], "first_token": []})
                    row["seconds"].append(clock.between if timed else clock.end - clock.times[0])
                    row["first_token"].append(clock.times[1] - clock.times[0])
                if turn:
                    rates.append(read())
    rate, n_bytes["plain"] = statistics.median(rates), decode_bytes(ours.decoder)
    for name, row in rows.items():
        sides = list(row)
        for side in sides:
            row[side] |= {f"median_{k}": statistics.median(row[side][k]) for k in ("seconds", "first_token")}
        pairs = zip(row["theirs"]["seconds"], row["ours"]["seconds"], strict=True)
        row["ratio"] = statistics.median(a / b for a, b in pairs)
        pairs = zip(row["theirs"]["first_token"], row["ours"]["first_token"], strict=True)
        row["first_token_ratio"] = statistics.median(a / b for a, b in pairs)
        same = [a == b for a, b in zip(tokens[name, "ours"], tokens[name, "theirs"], strict=True)]
        row["equal_answers"] = sum(same) / len(same)
        row["goal"], row["goal_of_floor"] = GOALS[name]
        if name.startswith("decode"):
            row["floor"] = n_bytes["plain"] / rate
            for side in sides:
                floor = n_bytes.get(side, n_bytes["plain"]) / rate
                row[f"{side}_of_floor"] = floor / row[side]["median_seconds"]
                row[f"{side}_ratio"] = row["theirs"]["median_seconds"] / row[side]["median_seconds"]
    return {
        "dtype": dtype_name, "bandwidth": {"median": rate, "max": max(rates), "ways": read.medians},
        "decode_bytes": n_bytes, "their_batch": batch, "compiled": any(compiled), "stages": rows,
    }  # fmt: skip


def jobs_of(work: str, config: ModelConfig, dtype: torch.dtype, device: str) -> list[tuple[str, Requests, int | None]]:
    """Names, requests, and the batch in which transformers takes them; None for the best."""
    ask = lambda n, per_picture=4: Requests(config, dtype, device, n, per_picture, vary=per_picture > 1)  # noqa: E731
    if work == "decode":
        return [(f"decode {n}", ask(n, 1), n) for n in ((1, 8, 64) if device == "cuda" else (1, 8))]
    if work == "mixed":
        return [("mixed", ask(64), None)]
    return [("evaluation, one by one", many := ask(256), 1), ("evaluation, batched", many, None)]


def best_batch(model: nn.Module, asked: Requests, device: str) -> int:
    """The batch size at which transformers is fastest on the mixed requests."""
    clocks = {batch: run_theirs(model, asked, ANSWER, device, batch)[0] for batch in (4, 16, 64)}
    return min(clocks, key=lambda batch: clocks[batch].end - clocks[batch].times[0])


@torch.inference_mode()
def profile(preset: str, dtype_name: str, device: str) -> list[dict]:
    """One decode step, operator by operator: transformers', the engine on the model's modules, the engine."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    found = []
    with weights_folder(SIZES[preset], DTYPES[dtype_name], device) as (folder, theirs):
        ours = load_ours(str(folder), DTYPES[dtype_name], device)
        asked = Requests(ours.config, DTYPES[dtype_name], device, 1, 1, vary=False)

        def engine_step(fuse: bool) -> Callable:
            engine = Engine(ours, stop_ids=frozenset(), fuse=fuse)
            steps = engine.steps(asked.prompts, asked.shown, Sampling(max_new_tokens=40))
            return lambda: next(steps)

        def their_step() -> Callable:
            grids = [tuple(g) for g in theirs.config.vision_config.supported_aspect_ratios]
            inputs = asked.theirs([0], grids)
            state = {"out": theirs(**inputs, use_cache=True), "n": PROMPT}

            def step():
                cache = state["out"].past_key_values
                n = state["n"] = state["n"] + 1
                state["out"] = theirs(
                    input_ids=state["out"].logits[:, -1:].argmax(-1), past_key_values=cache, use_cache=True,
                    attention_mask=torch.ones(1, n, dtype=torch.long, device=device),
                    cross_attention_mask=inputs["cross_attention_mask"][:, -1:],
                )  # fmt: skip

            return step

        for name, make in (("transformers", their_step), ("engine, modules as they are", lambda: engine_step(False)),
                           ("engine", lambda: engine_step(True))):  # fmt: skip
            step = make()
            for _ in range(4):
                step()
            with record(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
            ) as run:
                step()
            events = [e for e in run.key_averages() if e.key.startswith(("aten::", "mkldnn::"))]
            top = sorted(events, key=lambda e: -e.self_cpu_time_total)[:8]
            found.append({
                "name": name, "operators": sum(e.count for e in events),
                "ms": sum(e.self_cpu_time_total for e in events) / 1e3,
                "top": [(e.key, e.count, round(e.self_cpu_time_total / 1e3, 3)) for e in top],
            })  # fmt: skip
    return found


def dry_run() -> list[dict]:
    """The real sizes: every shape of prefill and decode on the meta device, and the floors of an H200."""
    found = []
    for name in ("11b", "90b"):
        config = PRESETS[name]
        model = empty_model(config)
        weights = DecoderWeights(model.decoder, fuse=False)
        pool, meta = PagePool(config.decoder, 1 + pages_for(65 * 600), torch.bfloat16), torch.device("meta")
        with torch.inference_mode():
            n = (config.image.tile_size // config.encoder.patch_size) ** 2 + 1  # of one tile
            image = model.decoder.image_keys_values(torch.zeros(1, n, config.decoder.dim, device="meta"))
            seen = (Encoded(image, [0, n]), 0, n)
            pages = list(range(1, 34))
            prompt = [Piece([1] * 512, 0, pages, [(512, seen)])]
            for pieces in (prompt, [Piece([1], 512, pages, [(1, seen)]) for _ in range(64)]):
                logits = forward(weights, pool, lay_out(pieces, meta)[0])
                assert logits.shape == (len(pieces), config.decoder.vocab_size)
        n_weights = decode_bytes(model.decoder) // model.decoder.embed_tokens.weight.itemsize
        for kind, size in (("bf16", 2), ("int8", 1), ("int4", 0.53)):
            n_bytes = int(n_weights * size)
            found.append({
                "model": name, "weights": kind, "bytes": n_bytes, "ms": n_bytes / H200_BANDWIDTH * 1e3,
            })  # fmt: skip
    return found


def to_markdown(report: dict) -> str:
    """The tables of a report."""
    machine = report["machine"]
    lines = [
        f"{report['preset']} on {machine['gpu'] or machine['cpu']}, {machine['threads']} threads; torch "
        f"{machine['torch']}, transformers {machine['transformers']}; {report['date']}, {report['commit']}; medians of "
        f"{report['repeats']} turns"
    ]
    for found in report.get("results", ()):
        rate, megabytes = found["bandwidth"]["median"] / 1e9, found["decode_bytes"]["plain"] / 1e6
        lines += ["", f"{found['dtype']}; memory is read at {rate:.1f} GB/s, a token needs {megabytes:,.0f} MB", ""]
        head = "| stage | ours | torch | theirs | ratio | goal | floor | ours | torch | theirs | goal | same answers |"
        lines += [head, "|---" * 12 + "|"]
        for name, row in found["stages"].items():
            unit = "ms a token" if name.startswith("decode") else "ms in all"
            times = [f"{row[s]['median_seconds'] * 1e3:,.1f}" if s in row else "-" for s in SIDES]
            of = [f"{row[f'{s}_of_floor']:.0%}" if f"{s}_of_floor" in row else "-" for s in SIDES]
            floor = f"{row['floor'] * 1e3:.1f}" if "floor" in row else "-"
            goal = f"{row['goal_of_floor']:.0%}" if row["goal_of_floor"] else "-"
            cells = [f"{name}, {unit}", *times, f"{row['ratio']:.2f}x", f"{row['goal']}x", floor, *of, goal]
            lines += ["| " + " | ".join([*cells, f"{row['equal_answers']:.0%}"]) + " |"]
        for name, row in found["stages"].items():
            if name.startswith("decode"):
                first = [f"{row[s]['median_first_token'] * 1e3:,.1f}" if s in row else "-" for s in SIDES]
                cells = [f"first token, {name.split()[1]} x 1 tile, {PROMPT} tokens, ms", *first]
                cells += [f"{row['first_token_ratio']:.2f}x", *["-"] * 7]
                lines += ["| " + " | ".join(cells) + " |"]
        quantized = [side for side in QUANTIZED if side in found["decode_bytes"]]
        if quantized:
            lines += ["", "| stage | weights | MB a token | ms a token | of its floor | by transformers as above |"]
            lines += ["|---" * 6 + "|"]
        for name, side in ((n, s) for n in found["stages"] if n.startswith("decode") for s in quantized):
            row, megabytes = found["stages"][name], found["decode_bytes"][side] / 1e6
            cells = [name, side, f"{megabytes:,.0f}", f"{row[side]['median_seconds'] * 1e3:,.2f}"]
            cells += [f"{row[f'{side}_of_floor']:.0%}", f"{row[f'{side}_ratio']:.2f}x"]
            lines += ["| " + " | ".join(cells) + " |"]
    for found in report.get("alone", ()):
        lines += to_lines(found)
    for step in report.get("profile", ()):
        lines += ["", f"One decode step of {step['name']}: {step['operators']} operators, {step['ms']:.2f} ms", ""]
        lines += ["| operator | calls | ms |", "|---|---|---|"]
        lines += [f"| {name} | {count} | {ms} |" for name, count, ms in step["top"]]
    for row in report.get("dry_run", ()):
        gigabytes = row["bytes"] / 1e9
        lines += [f"{row['model']} {row['weights']}: {gigabytes:.2f} GB a token, {row['ms']:.2f} ms on an H200"]
    return "\n".join(lines) + "\n"


def main(
    preset: Annotated[str, typer.Option(help=f"sizes: {', '.join(SIZES)}")] = "small",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or both with a comma")] = "fp32,bf16",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    against: Annotated[str, typer.Option(help="transformers, or none where only one model fits")] = "transformers",
    repeats: Annotated[int, typer.Option(help="turns", min=1)] = 5,
    work: Annotated[str, typer.Option(help=f"with commas: {', '.join(WORK)}")] = "decode,mixed",
    with_profile: Annotated[bool, typer.Option("--profile", help="count the operators of a decode step")] = False,
    quantization: Annotated[
        str, typer.Option(help=f"with commas: {', '.join(QUANTIZED)}; against none: plain, too")
    ] = "",
    their_batch: Annotated[int | None, typer.Option(help="found by an earlier run for mixed requests", min=1)] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="real sizes on the meta device, floors alone")] = False,
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here too; - for stdout")] = None,
) -> None:
    """Measure the engine and transformers' generate side by side."""
    device, kinds = pick(device), quantization.split(",") if quantization else []
    sizes, forms = (SIZES, QUANTIZED) if against != "none" else (SIZES | {"90b": PRESETS["90b"]}, KINDS)
    check_options(
        preset=([preset], sizes), dtype=(dtype.split(","), DTYPES), device=([device], DEVICES),
        work=(work.split(","), WORK), quantization=(kinds, forms), against=([against], AGAINST),
    )  # fmt: skip
    report = circumstances(device) | {"preset": preset, "device": device, "against": against, "repeats": repeats}
    if dry:
        report["dry_run"] = dry_run()
    elif against == "none":
        turns = (device, repeats, kinds or ["plain"], decode_bytes)
        report["alone"] = [alone(sizes[preset], DTYPES[name], *turns) for name in dtype.split(",")]
    else:
        turns = (device, repeats, work.split(","), their_batch, kinds)
        report["results"] = [compare(preset, name, *turns) for name in dtype.split(",")]
        if with_profile:
            report["profile"] = profile(preset, dtype.split(",")[-1], device)
    show(to_markdown(report), report, json_path)


if __name__ == "__main__":
    typer.run(main)
