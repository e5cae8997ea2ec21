"""Loading costs the model's own size once, in whatever dtype, and says when it has to be slow."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.checkpoints import load_checkpoint, open_checkpoint, save_checkpoint, source
from vlm.checkpoints.keys import empty_model
from vlm.config import PRESETS

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]


@cache
def plain(layout: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(GOLDEN / layout).model.state_dict()


@pytest.mark.parametrize("layout", ["hf", "meta"])
@pytest.mark.parametrize("slices", [1, 50])
def test_a_cast_in_slices_is_a_cast(monkeypatch, layout, slices):
    monkeypatch.setattr(source, "SLICES", slices)
    monkeypatch.setattr(source, "LEAST", 1)
    model = load_checkpoint(GOLDEN / layout, dtype="bfloat16").model
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, plain(layout)[name].bfloat16()), name


def test_what_needs_no_change_stays_mapped():
    opened = open_checkpoint(GOLDEN / "hf")
    model = opened.load()
    for path in sorted((GOLDEN / "hf").glob("*.safetensors")):
        assert path.name in Path("/proc/self/maps").read_text()
    assert all(torch.equal(tensor, plain("hf")[name]) for name, tensor in model.state_dict().items())


def test_the_peak_is_the_size_of_the_model(tmp_path):
    """Half as wide as it is stored, in a process of its own; 32 MB are for the modules that loading imports."""
    debug = PRESETS["debug"]
    config = replace(debug, decoder=replace(debug.decoder, dim=512, n_layers=12, hidden_dim=1536, vocab_size=8000))
    folder = save_checkpoint(empty_model(config).to_empty(device="cpu"), tmp_path / "a", max_shard_bytes=50_000_000)
    command = [sys.executable, "-m", "benchmarks.memory", "ours", str(folder), "bfloat16", "cpu", "1"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    assert found["weights"] > 75e6 and found["load_peak"] < 1.15 * found["weights"] + 32e6


def test_trained_rows_of_padded_tiles_are_said_in_the_log(tmp_path, caplog):
    folder = Path(shutil.copytree(GOLDEN / "hf", tmp_path / "a"))
    assert open_checkpoint(folder).config.encoder.dedupe_padding and not caplog.records
    name = "vision_model.pre_tile_positional_embedding.embedding.weight"
    path = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]
    tensors = load_file(path)
    tensors[name][1, -1] = 0.5  # the fourth tile of a picture of one
    save_file(tensors, path)
    assert not open_checkpoint(folder).config.encoder.dedupe_padding
    assert "padded tiles are not zero" in caplog.text and str(folder) in caplog.text
