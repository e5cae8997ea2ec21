"""Does this implementation compute what Meta's code computes? `python -m benchmarks.parity tests/golden`

Runs every case of a golden folder (layout and limits: README.md in it) from Meta's and from the hub's layout of the
same weights, in float32 on the CPU: one line per case, exit code 1 if one fails.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor

from vlm.chat import Chat, Prompt, picture_visibility
from vlm.checkpoints import Checkpoint, load_checkpoint
from vlm.config import PRESETS
from vlm.engine import Engine, Sampling
from vlm.engine.forward import Piece, forward, lay_out
from vlm.engine.pages import PagePool, pages_for
from vlm.engine.pictures import Encoded
from vlm.engine.weights import DecoderWeights
from vlm.image import choose_canvas, collate_images, fit_size, open_image, preprocess
from vlm.model import token_intervals
from vlm.rope import inverse_frequencies, rotary

LAYOUTS = ("meta", "hf")
LOGITS, VISION, PIXELS, ROPE, EXACT = 1e-4, 3e-5, 1e-6, 1e-6, 0.0


@dataclass(frozen=True)
class Result:
    """The largest difference of one case (of exact ones the number of differences) and what is allowed."""

    layout: str
    case: str
    difference: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.limit  # False for NaN


class Golden:
    """A golden folder: its index and files."""

    def __init__(self, folder: str | Path):
        self.cases = Path(folder) / "cases"
        self.index = json.loads((self.cases / "cases.json").read_text())

    def file(self, name: str) -> dict[str, Tensor]:
        return load_file(self.cases / name)

    @cached_property
    def pictures(self) -> dict[str, tuple[Tensor, tuple[int, int]]]:
        pixels = self.file(self.index["images_file"])
        return {i["name"]: (pixels[i["name"]], tuple(i["aspect_ratio"])) for i in self.index["images"]}

    @cached_property
    def prompts(self) -> dict[str, dict]:
        return {case["name"]: case for case in self.index["logits"]}


def sees(ranges: list[list[int]], position: int) -> tuple[int, int]:
    """The pictures that a token sees, of which picture i is seen by tokens [start, end), -1 for no end."""
    seen = [i for i, (start, end) in enumerate(ranges) if start <= position and (position < end or end == -1)]
    return (seen[0], seen[-1] + 1) if seen else (0, 0)


def largest(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0


def pixels(golden: Golden, checkpoint: Checkpoint, image: dict) -> tuple[float, float]:
    tiles, grid = preprocess(open_image(golden.cases / image["file"]), checkpoint.config.image)
    expected = [golden.file(golden.index["images_file"])[image["name"]]]
    if image["mode"] == "RGBA":  # Meta drops alpha, transformers lays it on white; either is right
        expected.append(golden.file("images_hf.safetensors")[image["name"]])
    same_grid = list(grid) == image["aspect_ratio"]
    return min(largest(tiles, e) for e in expected) if same_grid else float("inf"), PIXELS


def canvas(golden: Golden, checkpoint: Checkpoint, tile_size: str) -> tuple[float, float]:
    config, wrong = replace(checkpoint.config.image, tile_size=int(tile_size)), 0
    for width, height, rows, cols, new_width, new_height in json.loads(
        (golden.cases / "canvas_table.json").read_text()
    )[tile_size]:
        if new_width and new_height:  # Meta would fail at a side of 0 pixels
            grid = choose_canvas(height, width, config)
            wrong += (*grid, *fit_size(height, width, grid, config.tile_size)) != (rows, cols, new_height, new_width)
    return wrong, EXACT


def vision(golden: Golden, checkpoint: Checkpoint, name: str) -> tuple[float, float]:
    expected = golden.file(golden.index["vision"]["file"])
    tiles, grid = collate_images([[golden.pictures[name]]])
    features = checkpoint.model.encoder(tiles, grid)
    states, _ = checkpoint.model.connector(features, grid)
    n = tiles.shape[2]
    encoder = largest(features[0, 0], expected[f"{name}.encoder"][:n])
    return max(encoder, largest(states[0], expected[f"{name}.projected"][:n].flatten(0, 1))), VISION


def rows(golden: Golden, case: dict, data: dict[str, Tensor]) -> list[tuple[Prompt, list]]:
    """The rows of a case without their padding, with the pictures that each token sees by Meta's ranges."""
    out = []
    for i, (names, ranges) in enumerate(zip(case["images"], case["image_ranges"], strict=True)):
        tokens = data["input_ids"][i][data["attention_mask"][i].bool()].tolist()
        prompt = Prompt(tokens=tokens, labels=[], sees=[sees(ranges, p) for p in range(len(tokens))], images=[])
        out.append((prompt, [golden.pictures[name] for name in names]))
    return out


def logits(golden: Golden, checkpoint: Checkpoint, case: dict) -> tuple[float, float]:
    data = golden.file(case["file"])
    batch = rows(golden, case, data)
    seen = torch.zeros(*data["input_ids"].shape, 2, dtype=torch.long)
    for i, (prompt, _) in enumerate(batch):
        seen[i, : len(prompt.sees)] = torch.tensor(prompt.sees)
    tiles, grid = collate_images([pictures for _, pictures in batch])
    found = checkpoint.model(data["input_ids"], tiles, grid, seen)
    real = data["attention_mask"].bool()
    return largest(found[real], data["logits_meta"][real]), LOGITS


def visibility(golden: Golden, checkpoint: Checkpoint, case: dict) -> tuple[float, float]:
    batch = rows(golden, case, golden.file(case["file"]))
    found = [picture_visibility(prompt.tokens, golden.index["image_token_id"]) for prompt, _ in batch]
    return sum(
        a != b for f, (prompt, _) in zip(found, batch, strict=True) for a, b in zip(f, prompt.sees, strict=True)
    ), EXACT


def trace(golden: Golden, checkpoint: Checkpoint, case: dict) -> tuple[float, float]:
    """Every block's output for one prompt with one picture, to say where a mistake begins."""
    expected, encoder, decoder = golden.file(case["file"]), checkpoint.model.encoder, checkpoint.model.decoder
    prompt = golden.prompts[case["case"]]
    (_, (rows_, cols)), n_tokens = golden.pictures[prompt["images"][0][0]], encoder.n_tokens
    modules = {"vision.after_ln_post": encoder.post_norm}
    modules |= {f"vision.local.{i}.output": layer for i, layer in enumerate(encoder.layers)}
    modules |= {f"vision.global.{i}.output": layer for i, layer in enumerate(encoder.global_layers)}
    modules |= {f"text.cross.{i}.output": block for i, block in enumerate(decoder.cross_attention.values())}
    modules |= {f"text.self.{i}.output": layer for i, layer in enumerate(decoder.layers)}
    found, handles = {}, []
    for name, module in modules.items():
        handles.append(module.register_forward_hook(lambda module, args, out, name=name: found.__setitem__(name, out)))
    logits(golden, checkpoint, prompt)
    for handle in handles:
        handle.remove()
    differences = {}
    for name in modules:
        ours, theirs = found[name], expected[name]
        if name.startswith("vision"):  # real tokens of real tiles
            ours = ours[:, : rows_ * cols * n_tokens]
            theirs = theirs.unflatten(1, (encoder.max_tiles, -1))[:, : rows_ * cols, :n_tokens].flatten(1, 2)
        differences[name] = largest(ours, theirs)
    if bad := next((name for name, difference in differences.items() if not difference <= LOGITS), None):
        print(f"     first block that differs: {bad} ({differences[bad]:.1e})", file=sys.stderr)
    return max(differences.values()), LOGITS


def generation(golden: Golden, checkpoint: Checkpoint, case: dict, cached: bool) -> tuple[float, float]:
    """Greedy tokens (infinite if one differs) and the logits of every step, with or without a key/value cache."""
    prompt, expected = golden.prompts[case["prompt"]], golden.file(case["file"])
    difference = 0.0
    for i, (row, pictures) in enumerate(rows(golden, prompt, golden.file(prompt["file"]))):
        steps = greedy(checkpoint, row.tokens, pictures, case["image_ranges"][i], case["new_tokens"], cached)
        tokens, step_logits = zip(*steps, strict=True)
        if list(tokens) != expected["new_tokens"][i].tolist():
            difference = float("inf")
        difference = max(difference, largest(torch.stack(step_logits), expected["step_logits_meta"][i]))
    return difference, LOGITS


def greedy(
    checkpoint: Checkpoint, tokens: list[int], pictures: list, ranges: list, n_new: int, cached: bool
) -> Iterator[tuple[int, Tensor]]:
    """The plain loop: the likeliest token and the logits it was chosen from, n_new times."""
    model, tokens = checkpoint.model, list(tokens)
    image = lengths = None
    if pictures:
        image, lengths = model.encode_images(*collate_images([pictures]))
    read = paged(checkpoint, image, lengths, ranges, len(tokens) + n_new) if cached else None
    for _ in range(n_new):
        if read:
            last = read(tokens)
        else:
            seen = torch.tensor([[sees(ranges, p) for p in range(len(tokens))]])
            intervals = None if image is None else token_intervals(seen, lengths)
            hidden = model.decoder.hidden_states(torch.tensor([tokens]), image=image, intervals=intervals)
            last = model.decoder.logits(hidden[0, -1])
        tokens.append(int(last.argmax()))
        yield tokens[-1], last


def paged(checkpoint: Checkpoint, image: dict, lengths: Tensor, ranges: list, n: int) -> Callable[[list[int]], Tensor]:
    """Logits of the last token by the engine's pass over its pages, from the tokens that it has not yet read."""
    config, pages, done = checkpoint.config.decoder, [], 0
    pool = PagePool(config, 1 + pages_for(n), torch.float32)
    pool.grow(pages, n)
    weights = DecoderWeights(checkpoint.model.decoder, fuse=False)
    encoded = None if image is None else Encoded(image, [0, *lengths[0].cumsum(0).tolist()])

    def read(tokens: list[int]) -> Tensor:
        nonlocal done
        seen = []
        for place in range(done, len(tokens)):
            a, b = sees(ranges, place)
            seen.append((1, (encoded, encoded.ends[a], encoded.ends[b]) if encoded and b > a else None))
        piece = Piece(tokens[done:], done, pages, seen)
        done = len(tokens)
        return forward(weights, pool, lay_out([piece], torch.device("cpu"))[0])[0]

    return read


def engine(golden: Golden, checkpoint: Checkpoint, case: dict) -> tuple[float, float]:
    """The engine's own loop over the whole batch; counts tokens that differ."""
    prompt = golden.prompts[case["prompt"]]
    prompts, pictures = zip(*rows(golden, prompt, golden.file(prompt["file"])), strict=True)
    runner = Engine(checkpoint.model, stop_ids=frozenset())
    out = runner.generate(list(prompts), list(pictures), Sampling(max_new_tokens=case["new_tokens"], temperature=0.0))
    found = [[step.token for step in row] for row in out]
    return sum(a != b for f, e in zip(found, case["tokens"], strict=True) for a, b in zip(f, e, strict=True)), EXACT


def long_rope(golden: Golden, checkpoint: Checkpoint, case: dict) -> tuple[float, float]:
    data, decoder = golden.file(case["file"]), checkpoint.model.decoder
    hidden = decoder.hidden_states(data["input_ids"])
    return largest(decoder.logits(hidden[:, data["positions"]]), data["logits_meta"]), LOGITS


def rope_table(golden: Golden, checkpoint: Checkpoint, name: str) -> tuple[float, float]:
    data = golden.file(golden.index["rope_table"]["file"])
    config = {"set": checkpoint.config, "real_11b": PRESETS["11b"]}[name].decoder
    cos, sin = rotary(data["positions"][None], config, torch.float32)
    freqs = inverse_frequencies(config, 0, torch.device("cpu"))
    tables = {"cos": cos[0, 0], "sin": sin[0, 0], "inv_freq": freqs}
    return max(largest(table, data[f"{name}.{key}"]) for key, table in tables.items()), ROPE


def chat(golden: Golden, checkpoint: Checkpoint, dialog: dict, own_layout: bool) -> tuple[float, float]:
    """Tokens and the pictures they see, through the checkpoint's template and through our own layout."""
    messages = []
    for message in dialog["messages"]:
        parts = message["content"]
        if not isinstance(parts, str):
            parts = [part | {"image": None} if part["type"] == "image" else part for part in parts]
        messages.append({"role": message["role"], "content": parts})
    prompt = (Chat(checkpoint.chat.tokenizer) if own_layout else checkpoint.chat).encode(messages)
    text = prompt.tokens and checkpoint.chat.tokenizer.rust.decode(prompt.tokens, skip_special_tokens=False)
    expected = [sees(dialog["image_ranges"], p) for p in range(len(dialog["input_ids"]))]
    return (prompt.tokens != dialog["input_ids"]) + (text != dialog["text"]) + (prompt.sees != expected), EXACT


def cases(golden: Golden, layout: str) -> dict[str, tuple[Callable, tuple]]:
    """The name of every case -> the function that runs it and its arguments after (golden, checkpoint)."""
    index, out = golden.index, {}
    out |= {f"pixels/{image['name']}": (pixels, (image,)) for image in index["images"]}
    sizes = json.loads((golden.cases / "canvas_table.json").read_text())
    out |= {f"canvas/{size}": (canvas, (size,)) for size in sizes}
    out |= {f"vision/{name}": (vision, (name,)) for name in index["vision"]["images"]}
    out |= {f"logits/{case['name']}": (logits, (case,)) for case in index["logits"]}
    out |= {f"visibility/{case['name']}": (visibility, (case,)) for case in index["logits"]}
    out["trace"] = (trace, (index["trace"],))
    for case in index["generation"]:
        out[f"generation/{case['name']}/uncached"] = (generation, (case, False))
        out[f"generation/{case['name']}/cached"] = (generation, (case, True))
        if case["variant"] != "last_image_ends_at_prompt":  # Meta as written; we go on seeing the last picture
            out[f"generation/{case['name']}/engine"] = (engine, (case,))
    out["long_rope"] = (long_rope, (index["long_rope"],))
    out |= {f"rope_table/{name}": (rope_table, (name,)) for name in ("set", "real_11b")}
    if layout == "hf":  # the folder of Meta's layout has no tokenizer
        for i, dialog in enumerate(index["chat"]):
            out[f"chat/{i}/template"] = (chat, (dialog, False))
            out[f"chat/{i}/own"] = (chat, (dialog, True))
    return out


@torch.no_grad()
def run_case(golden: Golden, checkpoint: Checkpoint, layout: str, name: str) -> Result:
    """One case of `cases`."""
    function, arguments = cases(golden, layout)[name]
    difference, limit = function(golden, checkpoint, *arguments)
    return Result(layout, name, float(difference), limit)


def run(folder: Path) -> Iterator[Result]:
    """All cases from both layouts."""
    golden = Golden(folder)
    for layout in LAYOUTS:
        checkpoint = load_checkpoint(folder / layout, dtype=torch.float32)
        for name in cases(golden, layout):
            yield run_case(golden, checkpoint, layout, name)


def main(
    folder: Annotated[Path, typer.Argument(help="a golden folder: meta/, hf/ and cases/")],
    json_path: Annotated[
        str | None, typer.Option("--json", help="write the results here as well; - for stdout")
    ] = None,
) -> None:
    """Run every golden case from both weight layouts; exit code 1 if one fails."""
    out = sys.stderr if json_path == "-" else sys.stdout
    results = []
    for result in run(folder):
        results.append(result)
        mark = "ok  " if result.passed else "FAIL"
        print(
            f"{mark} {result.layout:4} {result.case:60} {result.difference:9.1e}  limit {result.limit:.0e}",
            file=out,
            flush=True,
        )
    failed = [result for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} cases pass", file=out)
    if json_path is not None:
        data = [
            asdict(r)
            | {"difference": repr(r.difference) if r.difference == float("inf") else r.difference, "passed": r.passed}
            for r in results
        ]
        text = json.dumps({"folder": str(folder), "passed": not failed, "results": data}, indent=1) + "\n"
        sys.stdout.write(text) if json_path == "-" else Path(json_path).write_text(text)
    raise typer.Exit(1 if failed or not results else 0)


if __name__ == "__main__":
    typer.run(main)
