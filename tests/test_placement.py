"""Models over several devices: accelerate's maps and hooks, or a clear word where it is not installed."""

import sys
from pathlib import Path

import pytest
import torch

import vlm
from vlm.checkpoints import CheckpointError, load_checkpoint
from vlm.checkpoints.placement import KEEP_WHOLE, infer_device_map, place_of

GOLDEN = Path(__file__).parent / "golden" / "hf"
INPUTS = (
    torch.arange(8)[None], torch.ones(1, 1, 2, 3, 42, 42), torch.tensor([[[1, 2]]]), torch.tensor([[[0, 1]] * 8]),
)  # fmt: skip


def test_the_longest_name_counts():
    device_map = {"encoder": 0, "decoder": 1, "decoder.layers.1": "cpu"}
    names = ("encoder.pre_norm.weight", "decoder.norm.weight", "decoder.layers.1.attn.q_proj.weight")
    assert [place_of(name, device_map) for name in names] == [0, 1, "cpu"]
    assert place_of("decoder.layers.10.attn.q_proj.weight", device_map) == 1
    assert place_of("connector.proj.weight", device_map) is None and place_of("x.y", {"": "cpu"}) == "cpu"


def test_without_accelerate_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match="device_map needs accelerate, which is not installed: pip install"):
        vlm.load(GOLDEN, device_map="auto")


def test_mistakes(model):
    pytest.importorskip("accelerate")
    for device_map, words in (
        ("balanced", "expected 'auto' or a dict"),
        ({"encoder": "cpu"}, "no place for connector.proj.weight"),
        ({"": "cpu", "decoder": "disk"}, "fit neither the GPUs nor main memory"),
    ):
        with pytest.raises(ValueError, match=words):
            infer_device_map(model, device_map, torch.float32)
    assert issubclass(CheckpointError, ValueError)


@torch.no_grad()
def test_one_device_needs_no_hooks():
    pytest.importorskip("accelerate")
    model = load_checkpoint(GOLDEN, device_map="auto", dtype="float32").model
    assert not any(hasattr(module, "_hf_hook") for module in model.modules()) or torch.cuda.is_available()
    assert model(*INPUTS).isfinite().all()


def test_parts_that_must_stay_together_exist(model):
    assert set(KEEP_WHOLE) <= {type(module).__name__ for module in model.modules()}


@torch.no_grad()
def test_weights_left_in_main_memory_are_brought_when_needed():
    """Hooks as for a GPU too small for the model, with the CPU in its place: logits and answers are the same."""
    accelerate = pytest.importorskip("accelerate")
    whole, spread = load_checkpoint(GOLDEN), load_checkpoint(GOLDEN)
    accelerate.cpu_offload(spread.model, execution_device="cpu", state_dict=dict(spread.model.state_dict()))
    assert {p.device.type for p in spread.model.parameters()} == {"meta"}
    torch.testing.assert_close(spread.model(*INPUTS), whole.model(*INPUTS), atol=0, rtol=0)
