"""Quantized layers stay near the plain ones, survive files bit for bit, and refuse what they cannot be."""

import json

import pytest
import torch
from conftest import tiny_config, tiny_model
from torch import nn
from torch.nn import functional as F

import vlm
import vlm.engine.quantize as q
from adapters.lora import add_lora, find_linears
from vlm.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from vlm.checkpoints.convert import convert_checkpoint
from vlm.checkpoints.info import describe, to_text
from vlm.engine import Engine, Limits, Sampling
from vlm.engine.quantize import stored_tensors
from vlm.engine.weights import DecoderWeights, Modules

FORMS = {"int8": q.Int8Projection, "int4": q.Int4Projection}
# A step is 1/127.5 of a row's largest weight, or 1/15 of a group's range; rounding errs by half a step, and bfloat16
# scales, zeros and clamped ends add less than another half.
STEP = {"int8": lambda w: w.abs().amax() / 127.5, "int4": lambda w: (w.amax() - w.amin()) / 15}


def off(found, wanted):
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("shape", [(64, 128), (96, 256), (80, 96), (16, 32)])
def test_weights_err_by_a_step_at_most(kind, shape):
    weight = torch.randn(shape)
    found = FORMS[kind].of(weight).dequantize(torch.float32)
    assert float((found - weight).abs().max()) <= float(STEP[kind](weight))
    assert off(found, weight) < {"int8": 0.01, "int4": 0.13}[kind]
    assert off(found, weight) > {"int8": 0.001, "int4": 0.02}[kind]  # it is of that many bits indeed


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("shape", [(64, 128), (192, 256), (80, 96)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_and_many_tokens_compute_the_same(kind, shape, dtype):
    layer, bias = FORMS[kind].of(torch.randn(shape) * 0.1), torch.randn(shape[0], dtype=dtype)
    x, add = torch.randn(40, shape[1], dtype=dtype), torch.randn(40, shape[0], dtype=dtype)
    wanted = F.linear(x.float(), layer.dequantize(torch.float32))
    many, few = layer(x), torch.cat([layer(part) for part in x.split(3)])
    assert many.dtype == few.dtype == dtype
    assert off(few, wanted) < 0.01 and off(many, wanted) < (1e-5 if dtype == torch.float32 else 0.01)
    torch.testing.assert_close(layer(x, add), add + many)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    torch.testing.assert_close(layer(x.view(2, 20, -1)), (many + bias).view(2, 20, -1))


@pytest.mark.parametrize("shape", [(64, 128), (48, 96)])
def test_int8_and_int4_are_torchaos(shape):
    primitives = pytest.importorskip("torchao.quantization.quant_primitives")
    weight, block = torch.randn(shape), (1, q.group_of(shape[1]))
    scale, zero = primitives._choose_qparams_affine_tinygemm(
        weight, primitives.MappingType.ASYMMETRIC, block, torch.int32, quant_min=0, quant_max=15,
        scale_dtype=torch.bfloat16, zero_point_dtype=torch.bfloat16,
    )  # fmt: skip
    layer = q.Int4Projection.of(weight)
    mine, mine_zero = layer.scales.transpose(0, 1).unbind(-1)
    torch.testing.assert_close(mine, scale.view(mine.shape))
    torch.testing.assert_close(mine_zero, zero.view(mine.shape), atol=0.01, rtol=0.01)
    int8 = pytest.importorskip("torchao.quantization").Int8Tensor.from_hp(
        weight, pytest.importorskip("torchao.quantization").PerRow()
    )  # fmt: skip
    assert (int8.qdata.int() - q.Int8Projection.of(weight).weight.int()).abs().max() <= 1
    torch.testing.assert_close(int8.scale.flatten(), q.Int8Projection.of(weight).scales.float(), rtol=0.004, atol=0)


@pytest.mark.parametrize("rows", [16, 48, 64, 80, 128, 208])
def test_int4_leaves_the_kernels_layout_as_it_went_in(rows, monkeypatch):
    layer = q.Int4Projection.of(torch.randn(rows, 64))
    counts, (weight, scales) = layer.counts(), layer.plain()
    assert int(counts.max()) == 15 and int(counts.min()) == 0
    again = q.Int4Projection(weight, scales, 64).pack()
    assert torch.equal(again.weight, layer.weight) and torch.equal(again.scales, layer.scales)
    monkeypatch.setattr(q, "cpu_block", lambda: None)  # a layout that nobody knows
    assert torch.equal(layer.counts(), counts)


@pytest.mark.parametrize("kind", FORMS)
def test_joined_layers_share_their_memory(kind):
    layers = [FORMS[kind].of(torch.randn(n, 64)) for n in (128, 64, 64)]
    x, before = torch.randn(2, 64), [m.weight.clone() for m in layers]
    wanted = torch.cat([m(x) for m in layers], dim=-1)
    whole = FORMS[kind].join(layers)
    torch.testing.assert_close(whole(x), wanted)
    for layer, weight in zip(layers, before, strict=True):
        assert torch.equal(layer.weight, weight)
        assert layer.weight.untyped_storage().data_ptr() == whole.weight.untyped_storage().data_ptr()
    assert torch.equal(torch.cat([m(x) for m in layers], dim=-1), wanted)


def wide_config(**decoder):
    sizes = {"dim": 64, "n_heads": 4, "n_kv_heads": 4, "head_dim": 16, "hidden_dim": 96, "vocab_size": 300}
    return tiny_config(**{**sizes, **decoder})


@pytest.fixture
def pictured(chat):
    """A prompt with a picture, and its tiles."""
    message = [{"type": "image", "image": 0}, {"type": "text", "text": "How many red circles are there?"}]
    tiles = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    return chat.encode([{"role": "user", "content": message}]), [(tiles, (1, 1))]


def answers(model, chat, prompts, pictures, **options):
    engine = Engine(model, stop_ids=frozenset(), **options)
    return engine.generate(prompts, pictures, Sampling(max_new_tokens=6))


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("tied", [False, True])
def test_the_model_answers_near_the_plain_one(kind, tied, chat, pictured):
    config = wide_config(tie_embeddings=tied)
    plain, small = tiny_model(config), tiny_model(config)
    q.quantize(small, kind)
    assert not any(type(m) is nn.Linear for m in small.decoder.modules())
    choice = [chat.tokenizer.encode("a large green star")[:3]]
    wanted = Engine(plain, stop_ids=frozenset()).rank(*pictured, choice)[0]
    found = Engine(small, stop_ids=frozenset()).rank(*pictured, choice)[0]
    assert found == pytest.approx(wanted, abs={"int8": 0.2, "int4": 1.5}[kind]) and found != wanted


@pytest.mark.parametrize("kind", FORMS)
def test_batch_equals_rows_alone(kind, chat, pictured):
    model = tiny_model(wide_config())
    q.quantize(model, kind, encoder=True)
    text = chat.encode([{"role": "user", "content": "red"}])
    together = answers(model, chat, [pictured[0], text], [pictured[1], []])
    for row, (prompt, pictures) in zip(together, [pictured, (text, [])], strict=True):
        alone = answers(model, chat, [prompt], [pictures])[0]
        assert [s.token for s in row] == [s.token for s in alone]
        assert [s.logprob for s in row] == pytest.approx([s.logprob for s in alone], abs=0.02)  # bfloat16 activations


def test_the_engine_joins_what_reads_the_same(chat):
    model = tiny_model(wide_config(hidden_dim=128))
    plain_bytes = sum(t.nbytes for t in model.decoder.state_dict().values())
    q.quantize(model, "int4")
    weights = DecoderWeights(model.decoder)
    assert isinstance(weights.layers[0].qkv, q.Int4Projection) and weights.layers[0].qkv.out_features == 192
    assert isinstance(weights.cross[1].ffn.gate_up, q.Int4Projection)
    assert isinstance(weights.lm_head, q.Int8Projection)
    small = sum(t.nbytes for t in model.decoder.state_dict().values())
    assert small < 0.45 * plain_bytes  # embeddings stay fp32
    odd = tiny_model(wide_config(hidden_dim=48))
    q.quantize(odd, "int4")
    assert isinstance(DecoderWeights(odd.decoder).layers[0].ffn.gate_up, q.PROJECTIONS + (Modules,))


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("encoder", [False, True])
def test_saved_equals_loaded(kind, encoder, chat, pictured, tmp_path):
    model = tiny_model(wide_config(hidden_dim=48 if kind == "int4" else 96))
    plain = save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path / "plain")
    q.quantize(model, kind, encoder=encoder)
    wanted = answers(model, chat, [pictured[0]], [pictured[1]])  # and the engine has joined its layers
    small = save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path / "small")
    assert json.loads((small / "config.json").read_text())["quantization"] == {"kind": kind, "encoder": encoder}
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small, plain)]
    assert sizes[0] < 0.75 * sizes[1]
    for folder in (small, convert_checkpoint(small, tmp_path / "again")):
        loaded = load_checkpoint(folder).model
        assert q.quantization_of(loaded) == {"kind": kind, "encoder": encoder}
        for (name, mine), (other, theirs) in zip(
            model.state_dict().items(), loaded.state_dict().items(), strict=True
        ):  # fmt: skip
            assert name == other and mine.dtype == theirs.dtype and torch.equal(mine, theirs), name
        assert answers(loaded, chat, [pictured[0]], [pictured[1]]) == wanted
    half = load_checkpoint(small, dtype="float16").model
    assert all(t.dtype == torch.bfloat16 for n, t in half.named_buffers() if n.endswith(".scales"))
    found = describe(small)
    assert found["quantization"] == kind and kind in to_text(found).splitlines()[0]
    assert found["parameters"] == describe(plain)["parameters"] and found["memory"] == describe(plain)["memory"]


def test_the_hubs_layout_is_refused(chat, tmp_path):
    model = tiny_model(wide_config())
    q.quantize(model, "int8")
    parts = Checkpoint(config=model.config, model=model, chat=chat)
    small = save_checkpoint(parts, tmp_path / "small")
    for write in (
        lambda: convert_checkpoint(small, tmp_path / "hub", layout="hub"),
        lambda: save_checkpoint(parts, tmp_path / "hub", layout="hub"),
    ):
        with pytest.raises(CheckpointError, match="int8.*unquantized"):
            write()
    assert not (tmp_path / "hub").exists()


def test_fp8_is_not_saved(model, monkeypatch):
    monkeypatch.setattr("vlm.engine.quantize.quantization_of", lambda model: {"kind": "fp8", "encoder": False})
    with pytest.raises(ValueError, match="fp8 weights cannot be saved"):
        stored_tensors(model)


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="did you mean 'int8'"):
        q.quantize(model, "int88")
    with pytest.raises(ValueError, match="fp8 needs a GPU.*int8"):
        q.quantize(model, "fp8")
    fresh = tiny_model(wide_config())
    q.quantize(fresh, "int8")
    with pytest.raises(ValueError, match="already"):
        q.quantize(fresh, "int4")
    with pytest.raises(ValueError):
        add_lora(fresh, ["decoder.layers.0.attn.q_proj"])
    adapted = tiny_model(wide_config())
    add_lora(adapted, find_linears(adapted, ["q_proj"]))
    with pytest.raises(ValueError, match="fold"):
        q.quantize(adapted, "int8")
    assert any(type(m) is nn.Linear for m in adapted.modules())


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_cache_of_eight_bits_changes_little(kind, model, chat, pictured):
    text = chat.encode([{"role": "user", "content": "a large green star and a red circle"}])
    choice = [chat.tokenizer.encode("a large blue star")[:4]]
    for prompt, pictures in (pictured, (text, [])):
        wanted = Engine(model, stop_ids=frozenset()).rank(prompt, pictures, choice)[0]
        engine = Engine(model, stop_ids=frozenset(), limits=Limits(cache_dtype=kind))
        found = engine.rank(prompt, pictures, choice)[0]
        # keys and values err by 0.4 % (int8) or 3 % (three bits of mantissa), logits of this model by as much
        assert found == pytest.approx(wanted, abs={"int8": 0.05, "fp8": 0.3}[kind]) and found != wanted


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_cache_of_eight_bits_batches(kind, model, chat, pictured):
    text, limits = chat.encode([{"role": "user", "content": "red"}]), Limits(cache_dtype=kind)
    together = answers(model, chat, [pictured[0], text], [pictured[1], []], limits=limits)
    for row, (prompt, pictures) in zip(together, [pictured, (text, [])], strict=True):
        alone = answers(model, chat, [prompt], [pictures], limits=limits)[0]
        assert [s.logprob for s in row] == pytest.approx([s.logprob for s in alone], abs=0.02)


def test_the_cache_takes_the_kinds_that_there_are(model):
    with pytest.raises(ValueError, match="did you mean 'int8'"):
        Limits(cache_dtype="int")


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.95), ("int4", 0.85)])
def test_the_shipped_model_answers_as_before(kind, share):
    from vlm.data.worlds import sample

    plain, small = vlm.load(device="cpu"), vlm.load(device="cpu", quantization=kind)
    assert small.describe()["quantization"] == kind
    drawn = [sample(i, seed=9, mixture={"scenes": 1.0}, size=96, split="val", n_questions=3) for i in range(17)]
    pictures = [s.image for s in drawn for _ in s.questions][:50]
    asked = [q.text for s in drawn for q in s.questions][:50]
    same = [str(a) == str(b) for a, b in zip(plain.answer(pictures, asked), small.answer(pictures, asked), strict=True)]
    assert sum(same) >= share * len(same)  # on questions of all families, many of which it only guesses
