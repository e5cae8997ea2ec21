"""The engine's benchmark runs at the smallest sizes and says what it was asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import engine as module
from benchmarks import engine_turns
from benchmarks.engine_alone import ENCODE_GOAL, ROWS, random_model
from vlm.engine.compiled import library
from vlm.engine.quantize import quantization_of

ROOT = Path(__file__).parent.parent


def run(*options):
    command = [sys.executable, "-m", "benchmarks.engine", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("kind", ["plain", "int8", "int4"])
def test_random_models_have_their_form_and_finite_logits(kind):
    model = random_model(module.SIZES["debug"], torch.float32, "cpu", kind)
    assert (quantization_of(model) or {"kind": "plain"})["kind"] == kind
    assert torch.isfinite(model.decoder(torch.arange(8)[None])).all()


@pytest.mark.skipif(library() is None, reason="no g++")
def test_loops_read_all_of_the_memory(monkeypatch):
    monkeypatch.setattr(engine_turns, "READ", 3 * 2**20)  # evenly shared by up to four threads and six
    read = engine_turns.Bandwidth(torch.float32, "cpu")
    loops = {name: way for name, way in read.ways.items() if name.startswith("loop")}
    assert len(loops) == 6 and read() == max(rates[-1] for rates in read.rates.values())
    memory = read.ways["sum of int32"].__self__.view(-1)
    assert {way() for way in loops.values()} == {0}  # the same number, evenly often
    for place in (0, 12345, len(memory) // 2, len(memory) - 1):
        memory[place] ^= 77
        assert {way() for way in loops.values()} == {77}
        memory[place] ^= 77
    read.rates = {"slow": [1.0, 9.0, 2.0], "fast": [5.0, 4.0, 6.0]}
    assert list(read.medians.items()) == [("fast", 5.0), ("slow", 2.0)]


def test_the_engine_alone_says_every_stage_beside_its_floor(tmp_path):
    out = tmp_path / "figures.json"
    options = ("--preset", "debug", "--dtype", "bf16", "--device", "cpu", "--repeats", "1", "--json", str(out))
    done = run("--against", "none", "--quantization", "plain,int8", *options)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(out.read_text())["alone"]
    assert [(row["weights"], row["rows"]) for row in found["decode"]] == [
        (k, n) for k in ("plain", "int8") for n in ROWS
    ]
    plain, int8 = (next(r for r in found["decode"] if r["weights"] == k)["bytes"] for k in ("plain", "int8"))
    assert 0.5 * plain < int8 < 0.8 * plain
    for row in found["decode"]:
        assert row["of_floor"] == pytest.approx(row["bytes"] / row["bandwidth"] / row["median"])
    assert [row["tiles"] for row in found["encode"]] == [1, 4] and found["encode"][0]["goal"] == ENCODE_GOAL
    assert "the engine alone" in done.stdout


@pytest.mark.parametrize("options", [("--against", "vllm"), ("--preset", "90b"), ("--quantization", "plain")])
def test_what_is_no_choice_is_refused(options):
    done = run(*options)
    assert done.returncode == 2 and "choose from" in " ".join(done.stderr.split())
