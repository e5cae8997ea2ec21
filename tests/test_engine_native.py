"""Compiled passes give what torch gives, and nobody depends on there being a compiler."""

import logging
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_config, tiny_model
from test_engine import picture, prompt

from adapters.lora import add_lora
from vlm.engine import Engine, Sampling, compiled, native
from vlm.engine.compiled import library
from vlm.engine.native import Native, runs
from vlm.engine.quantize import quantize
from vlm.engine.weights import DecoderWeights, PackedProjection, should_pack

needs_compiler = pytest.mark.skipif(library() is None, reason="no g++")
WORDS = "how many red circles are there is a blue square left of the large green star".split()
SIZES = [[(28, 28)], [], [(56, 28), (20, 90)], [(56, 56)]]  # pixels of the pictures of a row


def asked(model, chat, n):
    """Prompts of different lengths; pictures of one to four tiles, several of them, or none."""
    shown = [SIZES[i % len(SIZES)] for i in range(n)]
    prompts = [
        prompt(chat, " ".join(WORDS[: 1 + 5 * i % len(WORDS)]), len(s), "see " * (i % 3)) for i, s in enumerate(shown)
    ]
    return prompts, [[picture(model, *wh, seed=i % 4) for wh in s] for i, s in enumerate(shown)]


def answers(model, chat, n, compile):
    engine = Engine(model, stop_ids=frozenset(), compile=compile)
    prompts, pictures = asked(model, chat, n)
    return engine.generate(prompts, pictures, Sampling(max_new_tokens=20)), engine


WIDE = {"hidden_dim": 2816}  # rows of weights that are read in parts, as their activations fill the first cache


@pytest.fixture
def calls(monkeypatch):
    """Rows of every compiled pass."""
    seen = []
    plain = Native.__call__

    def spy(self, pieces, pool):
        seen.append(len(pieces))
        return plain(self, pieces, pool)

    monkeypatch.setattr(Native, "__call__", spy)
    return seen


@needs_compiler
@pytest.mark.parametrize("rows", [1, 3, 7, native.MAX_ROWS - 3])
@pytest.mark.parametrize("sizes", [{}, {"dim": 80, "head_dim": 20, "hidden_dim": 64, "tie_embeddings": True}])
def test_compiled_passes_equal_torch(chat, calls, rows, sizes):
    model = tiny_model(tiny_config(**sizes))
    compiled, _ = answers(model, chat, rows, True)
    assert max(calls) == rows and len(calls) > 15
    calls.clear()
    plain, _ = answers(model, chat, rows, False)
    assert not calls
    for a, b in zip(compiled, plain, strict=True):
        assert [s.token for s in a] == [s.token for s in b]
        assert [s.logprob for s in a] == pytest.approx([s.logprob for s in b], abs=3e-5)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])  # also more than there are key/value heads, or cores
def test_any_number_of_threads_gives_the_same(chat, calls, threads):
    model = tiny_model()
    plain, _ = answers(model, chat, 1, False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        compiled, _ = answers(model, chat, 1, True)
    finally:
        torch.set_num_threads(before)
    assert len(calls) > 15
    assert [[s.token for s in a] for a in compiled] == [[s.token for s in a] for a in plain]


def second_logits(model, chat, n, compile):
    """Logits (n, V) of the pass behind the prompts, after a first token that is given."""
    scheduler = (engine := Engine(model, stop_ids=frozenset(), compile=compile)).scheduler
    prompts, pictures = asked(model, chat, n)
    rows = [engine.submit(p, s, Sampling(max_new_tokens=3)) for p, s in zip(prompts, pictures, strict=True)]
    while not all(s.steps for s in rows):
        scheduler.step()
    for i, s in enumerate(rows):
        s.tokens[-1] = 7 + i
    found, run = torch.empty(n, model.config.decoder.vocab_size), scheduler._run

    def spy(pieces):
        logits, order, answers = run(pieces)
        found[list(order)] = logits.float()
        return logits, order, answers

    scheduler._run = spy
    scheduler.step()
    assert (scheduler.weights.native is not None) == compile
    return found


def off(found, wanted):
    """The difference by what there is, over all logits."""
    return float((found - wanted).norm() / wanted.norm())


@needs_compiler
@pytest.mark.parametrize("rows, sizes", [(1, {}), (9, {}), (1, WIDE), (3, WIDE), (8, WIDE)])
def test_logits_in_fp32_are_those_of_torch(chat, rows, sizes):
    model = tiny_model(tiny_config(**{"dim": 96, "head_dim": 24, "hidden_dim": 112} | sizes))
    wanted = second_logits(model, chat, rows, False)
    torch.testing.assert_close(second_logits(model, chat, rows, True), wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("rows", [1, 8])
def test_logits_in_bfloat16_err_no_more_than_those_of_torch(chat, rows):
    model = tiny_model(tiny_config(dim=64, head_dim=16, hidden_dim=64)).to(torch.bfloat16)
    plain, compiled = (second_logits(model, chat, rows, compile) for compile in (False, True))
    exact = second_logits(model.float(), chat, rows, False)  # the same weights
    assert 0 < off(compiled, exact) < 1.1 * off(plain, exact)


@needs_compiler
def test_many_rows_go_through_torch(model, chat, calls, monkeypatch):
    monkeypatch.setattr(native, "MAX_ROWS", 4)
    steps, _ = answers(model, chat, 6, True)
    assert not calls and all(len(s) == 20 for s in steps)


@needs_compiler
def test_a_row_that_goes_wrong_fails_alone(chat):
    model = tiny_model()
    engine = Engine(model, stop_ids=frozenset(), compile=True)
    prompts, pictures = asked(model, chat, 3)
    unlucky = next(t for t in range(300) if all(t not in p.tokens for p in prompts))
    model.decoder.embed_tokens.weight.data[unlucky] = torch.nan
    sequences = [
        engine.submit(p, shown, Sampling(max_new_tokens=5)) for p, shown in zip(prompts, pictures, strict=True)
    ]
    engine.scheduler.step()
    sequences[1].tokens[-1] = unlucky
    while engine.scheduler.busy:
        engine.scheduler.step()
    assert [s.finish for s in sequences] == ["length", "error", "length"]
    assert "not finite" in sequences[1].steps[-1].error


@needs_compiler
def test_weights_stay_the_models_own(chat):
    model = tiny_model()
    before = {name: p.clone() for name, p in model.decoder.named_parameters()}
    weights = DecoderWeights(model.decoder, pack=False, compile=True)
    assert weights.native is not None
    for name, p in model.decoder.named_parameters():
        assert torch.equal(p, before[name])
    joined = weights.layers[0].qkv.weight
    assert joined.data_ptr() == model.decoder.layers[0].attn.q_proj.weight.data_ptr()  # a view, no second copy
    assert torch.equal(joined, torch.cat([before[f"layers.0.attn.{name}_proj.weight"] for name in "qkv"]))


def test_bfloat16_is_packed_where_the_processor_multiplies_it(monkeypatch):
    decoder = tiny_model().to(torch.bfloat16).decoder
    can = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert should_pack(decoder) == can
    if can:
        PackedProjection(torch.ones(8, 8, dtype=torch.bfloat16))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not should_pack(decoder) and should_pack(decoder.float())


def test_what_is_no_plain_decoder_goes_through_torch(monkeypatch):
    def taken(model):
        return runs(model.decoder, model.decoder.lm_head)

    assert taken(tiny_model())
    assert not taken(tiny_model().to(torch.float16))
    assert not taken(tiny_model(tiny_config(hidden_dim=40)))
    adapted = tiny_model()
    add_lora(adapted, ["decoder.layers.0.attn.q_proj"], rank=2)
    assert not taken(adapted)
    for hidden, block, fits in (
        (128, 64, native.WIDE),
        (96, 64, False),
        (128, None, False),
    ):  # whole blocks, the known layout
        small = tiny_model(tiny_config(dim=64, n_heads=4, n_kv_heads=4, head_dim=16, hidden_dim=hidden))
        quantize(small, "int4")
        monkeypatch.setattr(native, "cpu_block", lambda block=block: block)
        assert taken(small) == fits


@pytest.mark.parametrize("compiler, said", [("", "no g++"), ("/bin/false", "could not be compiled")])
def test_without_a_compiler_all_goes_through_torch(model, chat, monkeypatch, tmp_path, caplog, compiler, said):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO, "vlm.engine"):
        assert library.__wrapped__() is None
    assert said in caplog.text
    for module in ("weights", "attention"):
        monkeypatch.setattr(f"vlm.engine.{module}.library", library.__wrapped__)
    steps, engine = answers(model, chat, 2, True)
    assert engine.scheduler.weights.native is None and all(len(s) == 20 for s in steps)


def test_without_a_place_for_it_all_goes_through_torch(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="g++"))
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert library.__wrapped__() is None

    def homeless():
        raise RuntimeError("no home directory")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiled.Path, "home", homeless)
    assert library.__wrapped__() is None
    assert caplog.text.count("could not be compiled") == 2
