"""The side-by-side table against transformers: its figures are there, its FLOPs are exact; no time is asserted."""

import json
from dataclasses import replace

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from benchmarks import mllama
from benchmarks.memory import GRIDS
from vlm.config import ModelConfig

app = Typer()
app.command()(mllama.main)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("report") / "r.json"
    args = ["--preset", "debug", "--dtype", "fp32,bf16", "--device", "cpu", "--repeats", "1", "--no-memory"]
    shown = CliRunner().invoke(app, [*args, "--json", str(path)])
    assert shown.exit_code == 0, shown.output
    return json.loads(path.read_text()) | {"shown": shown.output}


def linear_flops(dim: int, hidden_dim: int, tokens: int) -> int:
    return 2 * tokens * (4 * dim * dim + 2 * dim * hidden_dim)


def encode_flops(config: ModelConfig, n_tiles: int, sequence: int, pairs: int, states: int) -> int:
    """By hand: patches, blocks over `sequence` tokens of which `pairs` attend to each other, projector."""
    e = config.encoder
    patches = (config.image.tile_size // e.patch_size) ** 2
    blocks = (e.n_layers + e.n_global_layers) * (linear_flops(e.dim, e.hidden_dim, sequence) + 4 * pairs * e.dim)
    width = e.dim * (1 + len(e.taps))
    return 2 * n_tiles * patches * 3 * e.patch_size**2 * e.dim + blocks + 2 * states * width * config.decoder.dim


def prefill_flops(config: ModelConfig, image_tokens: int, prompt: int, image_queries: int) -> int:
    d = config.decoder
    width, kv_width, n_cross = d.n_heads * d.head_dim, d.n_kv_heads * d.head_dim, len(d.cross_attention_layers)
    block = 2 * prompt * (2 * d.dim * width + 3 * d.dim * d.hidden_dim)
    self_attention = d.n_layers * (block + 4 * prompt * d.dim * kv_width + 4 * prompt * prompt * width)
    cross_attention = n_cross * (block + 4 * image_tokens * d.dim * kv_width + 4 * image_queries * image_tokens * width)
    return self_attention + cross_attention + 2 * d.dim * d.vocab_size


@pytest.mark.parametrize("dtype", [0, 1], ids=["fp32", "bf16"])
def test_flops_are_exact(report, dtype):
    config, stages = mllama.SIZES["debug"], report["results"][dtype]["stages"]
    n = (config.image.tile_size // config.encoder.patch_size) ** 2 + 1  # 5 tokens per tile, padded to 8
    for tiles in GRIDS:
        theirs = encode_flops(config, 4, 4 * 8, (4 * 8) ** 2, 4 * n) + 2 * (4 * 8) ** 2  # its mask is a product
        kept = 1 if tiles < 4 else 0  # one padded tile stands for all, and one padded token per tile for three
        real, padding = tiles * n, kept * n + tiles + kept
        ours = encode_flops(config, tiles, real + padding, real * (real + padding) + padding * real, real)
        row = stages[f"encode {tiles} tile{'s' * (tiles > 1)}"]
        assert (row["ours"]["flop"], row["theirs"]["flop"]) == (ours, theirs)
        row = stages[f"prefill {tiles} tile{'s' * (tiles > 1)}"]
        assert row["ours"]["flop"] == prefill_flops(config, real, mllama.PROMPT, mllama.PROMPT)
        assert row["theirs"]["flop"] == prefill_flops(config, 4 * n, mllama.PROMPT, mllama.PROMPT)
    assert stages["encode 1 tile, no padding"]["ours"]["flop"] == encode_flops(config, 1, n, n * n, n)


def test_both_compute_the_same(report):
    for found, limit in zip(report["results"], (1e-5, 0.1), strict=True):
        rows = [row for row in found["stages"].values() if "max_difference" in row]
        assert len(rows) == 2 * len(GRIDS) and all(0 <= row["max_difference"] < limit for row in rows)


def test_every_figure_is_there(report):
    assert report["date"] and report["commit"] and report["machine"]["torch"] and report["machine"]["transformers"]
    for found in report["results"]:
        assert found["yardstick_flops"]["median"] > 0 and set(mllama.GOALS) <= set(found["stages"])
        for row in found["stages"].values():
            assert row["ratio"] > 0
            for side in ("ours", "theirs"):
                assert len(row[side]["seconds"]) == 1 and row[side]["median"] >= row[side]["min"] > 0
        kept = found["image_kv_bytes"]
        assert [kept[str(n)]["theirs"] / kept[str(n)]["ours"] for n in GRIDS] == [4.0, 2.0, 1.0]
    assert "| encode 1 tile, no padding |" in report["shown"]


def test_memory_of_processes_of_their_own(tmp_path):
    with mllama.weights_folder(mllama.SIZES["debug"], torch.float32, "cpu") as (folder, theirs):
        weights = sum(p.nbytes for p in theirs.parameters())
        found = mllama.measure_memory(folder, "cpu", (("1 tile", torch.float32, 1),))
    for side in found["1 tile"].values():
        assert side["load_peak"] > side["weights"] == weights and side["encode_peak"] > 0


def test_the_sizes_are_of_the_reference_table():
    small = mllama.SIZES["small"]
    parameters = sum(p.numel() for p in mllama.empty_model(small).parameters())
    assert 235e6 < parameters < 245e6 and replace(small.image, tile_size=560) == mllama.SIZES["11b"].image


@pytest.mark.parametrize("option, value", [("--preset", "smal"), ("--dtype", "fp32,fp8"), ("--device", "tpu")])
def test_unknown_choices_are_named(option, value):
    shown = CliRunner().invoke(app, [option, value])
    assert shown.exit_code == 2 and "choose from" in shown.output and "Traceback" not in shown.output
