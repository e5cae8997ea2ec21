"""Every rope kind against transformers' Llama, within and past the original context; Meta's table: test_parity.py."""

import json

import pytest
import torch

from vlm.checkpoints import CheckpointError, load_checkpoint
from vlm.checkpoints.hub_config import model_config, rope_scaling
from vlm.config import RopeScaling

KINDS = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "llama3 with other numbers": {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 3.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "yarn by mscale": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "mscale": 0.7,
        "mscale_all_dim": 1.2, "beta_fast": 16.0, "beta_slow": 2.0,
    },
    "yarn, not truncated": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.3,
        "truncate": False,
    },
}  # fmt: skip
HEADS = {"MHA": (4, 4), "GQA": (4, 2), "MQA": (4, 1)}


def compare(tmp_path, lengths=(20, 90), **changes):
    """The largest difference of logits between transformers and us, on a random tiny Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    theirs = LlamaForCausalLM(LlamaConfig(**sizes | changes)).eval()
    for norm in [m for m in theirs.modules() if type(m).__name__ == "LlamaRMSNorm"]:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    theirs.save_pretrained(tmp_path)
    ours = load_checkpoint(tmp_path).model
    worst = 0.0
    for length in lengths:
        tokens = torch.randint(61, (2, length))
        with torch.no_grad():
            worst = max(worst, (ours(tokens) - theirs(tokens).logits).abs().max().item())
    return worst, ours


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(tmp_path, kind):
    worst, _ = compare(tmp_path, rope_parameters=KINDS[kind] and dict(KINDS[kind]) | {"rope_theta": 5000.0})
    assert worst < 1e-4


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_heads_and_tying(tmp_path, heads, tied):
    n_heads, n_kv_heads = HEADS[heads]
    worst, model = compare(
        tmp_path, num_attention_heads=n_heads, num_key_value_heads=n_kv_heads, tie_word_embeddings=tied, lengths=(20,)
    )
    assert worst < 1e-4
    assert model.config.decoder.tie_embeddings == tied and model.config.decoder.n_kv_heads == n_kv_heads


def test_head_dim_of_its_own(tmp_path):
    worst, model = compare(tmp_path, head_dim=16, lengths=(20,))
    assert worst < 1e-4 and model.config.decoder.head_dim == 16


def test_settings_of_transformers_4_and_5_read_alike(tmp_path):
    common = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
    for kind, rope in KINDS.items():
        old = common | {"rope_theta": 7000.0, "rope_scaling": rope}
        new = common | {"rope_parameters": (rope or {"rope_type": "default"}) | {"rope_theta": 7000.0}}
        assert model_config(old, tmp_path / "config.json") == model_config(new, tmp_path / "config.json"), kind
    older = {"type": "linear", "factor": 2}  # before 4.43
    assert rope_scaling(older, 64) == RopeScaling(kind="linear", factor=2.0, original_max_seq_len=64)


@pytest.mark.parametrize(
    "rope", [{"rope_type": "longrope", "factor": 2.0}, {"rope_type": "linear"}, {"partial_rotary_factor": 0.5}]
)
def test_other_kinds_are_refused(tmp_path, rope):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "rope_scaling": rope}))
    with pytest.raises(CheckpointError, match="config.json.*(longrope|factor)"):
        load_checkpoint(tmp_path)


def test_yarn_without_a_factor_takes_the_ratio_of_contexts():
    scaling = rope_scaling({"rope_type": "yarn", "original_max_position_embeddings": 16}, 64)
    assert scaling.factor == 4.0
