"""Compiled passes multiply by small weights as if they were multiplied out first."""

import pytest
import torch
from conftest import tiny_config, tiny_model
from test_engine_native import answers, calls, needs_compiler, off, second_logits
from torch import nn

import vlm.engine.quantize as q
from vlm.engine.native import BLOCK, WIDE

__all__ = ["calls"]  # a fixture
pytestmark = pytest.mark.skipif(not WIDE, reason="no AVX-512: through torch")
KINDS = ["int8", pytest.param("int4", marks=pytest.mark.skipif(q.cpu_block() != BLOCK, reason="another layout"))]
SIZES = {"dim": 256, "n_heads": 4, "n_kv_heads": 4, "head_dim": 64, "hidden_dim": 320}  # groups of 128 and of 32


def quantized(kind, **sizes):
    model = tiny_model(tiny_config(**{**SIZES, **sizes}))
    q.quantize(model, kind)
    return model


def multiplied_out(model):
    """The same model with plain layers in fp32."""
    for path, module in list(model.named_modules()):
        if isinstance(module, q.PROJECTIONS):
            plain = nn.Linear(module.in_features, module.out_features, bias=False)
            plain.weight.data = module.dequantize(torch.float32)
            q._put(model, path, plain)
    return model.float()


@pytest.fixture
def exact(monkeypatch):
    """torch multiplies int4 out too: its kernel takes activations in bfloat16."""
    monkeypatch.setattr(q, "FEW_INT4", 0)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 7, 16])
def test_logits_are_those_of_the_weights_multiplied_out(chat, kind, rows, exact):
    found = second_logits(quantized(kind), chat, rows, True)
    wanted = second_logits(multiplied_out(quantized(kind)), chat, rows, False)
    assert off(found, wanted) < 1e-5


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 8])
def test_in_bfloat16_they_err_no_more_than_through_torch(chat, kind, rows):
    model = quantized(kind).to(torch.bfloat16)
    plain, compiled = (second_logits(model, chat, rows, compile) for compile in (False, True))
    exact = second_logits(multiplied_out(model), chat, rows, False)
    assert 0 < off(compiled, exact) < 1.1 * off(plain, exact)


def both_answers(model, chat, calls):
    compiled, _ = answers(model, chat, 3, True)
    assert max(calls) == 3 and len(calls) > 15
    return zip(compiled, answers(model, chat, 3, False)[0], strict=True)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [{}, {"hidden_dim": 128, "dim": 64, "head_dim": 16, "tie_embeddings": True}])
def test_greedy_answers_are_those_of_torch(chat, calls, kind, sizes, exact):
    for a, b in both_answers(quantized(kind, **sizes), chat, calls):
        assert [s.token for s in a] == [s.token for s in b]
        assert [s.logprob for s in a] == pytest.approx([s.logprob for s in b], abs=3e-5)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_they_part_where_tokens_are_as_likely(chat, calls, kind):
    for a, b in both_answers(quantized(kind).to(torch.bfloat16), chat, calls):
        parted = next((i for i, (s, t) in enumerate(zip(a, b, strict=True)) if s.token != t.token), 19)
        assert parted > 0 and [s.logprob for s in a[: parted + 1]] == pytest.approx(
            [s.logprob for s in b[: parted + 1]], abs=0.1
        )


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_held_once(chat, kind):
    model = quantized(kind)
    before = {name: t.clone() for name, t in model.decoder.state_dict().items()}
    _, engine = answers(model, chat, 1, True)
    weights = engine.scheduler.weights
    assert weights.native is not None
    assert all(torch.equal(t, before[name]) for name, t in model.decoder.state_dict().items())
    for whole, part, block in (
        (weights.layers[0].qkv, model.decoder.layers[0].attn.q_proj, weights.native._blocks[0].q),
        (weights.layers[0].ffn.down, model.decoder.layers[0].ffn.down_proj, weights.native._blocks[0].down),
    ):
        assert whole.weight.data_ptr() == part.weight.data_ptr() == block.weight
