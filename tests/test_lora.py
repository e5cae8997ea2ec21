"""LoRA: our logits are PEFT's, merging loses nothing, and an adapter of another model is one clear error."""

import importlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MllamaForConditionalGeneration

import vlm
from adapters.lora import (
    LoRALinear,
    activate,
    add_lora,
    find_linears,
    fold,
    linears,
    lora_layers,
    merge,
    remove,
    unmerge,
)
from adapters.lora_files import CONFIG, WEIGHTS, load_lora, save_lora
from tests.conftest import tiny_config, tiny_model
from vlm.api import VLM
from vlm.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from vlm.checkpoints.peft import layer_names, load_adapter, save_adapter
from vlm.training.groups import group_layers

GOLDEN = Path(__file__).parent / "golden" / "hf"
TOKENS = torch.arange(24).reshape(2, 12) * 7 % 96
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "attention": {"target_modules": ["q_proj", "v_proj"], "lora_alpha": 12},
    "mlp": {"target_modules": ["gate_proj", "up_proj", "down_proj"], "lora_alpha": 12},
    "rslora": {"target_modules": EVERY, "use_rslora": True, "lora_alpha": 3},
    "patterns": {
        "target_modules": EVERY, "rank_pattern": {r"layers\.[01]\.self_attn\.q_proj": 6, "down_proj": 2},
        "alpha_pattern": {"^model.layers.1.mlp.up_proj": 20, "k_proj": 1},
    },
    "some-layers": {"target_modules": ["q_proj", "lm_head"], "layers_to_transform": [1]},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A random Llama in transformers' layout, on disk."""
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=96, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * p.shape[-1] ** -0.5 if p.ndim > 1 else 1 + torch.randn(p.shape) / 10)
    model.save_pretrained(folder)
    return folder


def llama(base: Path) -> nn.Module:
    return load_checkpoint(base, dtype=torch.float32).model


def trained_by_peft(model: nn.Module, folder: Path, seed: int = 3, **options) -> PeftModel:
    """A PEFT adapter that has left its beginning, saved by PEFT."""
    torch.manual_seed(seed)
    wrapped = get_peft_model(model, LoraConfig(r=4, **options)).eval()
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape) / 4)
    wrapped.save_pretrained(folder, save_embedding_layers=False)  # else it stores the head of the base beside its own
    return wrapped


def randomise(model: nn.Module, name: str = "default") -> None:
    with torch.no_grad():
        for layer in lora_layers(model, name).values():
            layer.lora_B[name].normal_(std=0.1)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# PEFT


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_those_of_peft(base, tmp_path, kind):
    theirs = trained_by_peft(LlamaForCausalLM.from_pretrained(base), tmp_path, **KINDS[kind])
    expected = theirs(TOKENS).logits
    ours = llama(base)
    plain = ours(TOKENS)
    load_adapter(ours, tmp_path)
    assert difference(expected, ours(TOKENS)) < 1e-5 < 1e-2 < difference(expected, plain)
    merge(ours)
    assert difference(expected, ours(TOKENS)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_peft_reads_what_we_write(base, tmp_path, kind):
    ours, options = llama(base), dict(KINDS[kind])
    options.pop("layers_to_transform", None)
    names = {theirs: path for path, theirs in layer_names(ours, "llama").items()}
    leaves = tuple(options.pop("target_modules"))
    targets = [path for theirs, path in names.items() if theirs.endswith(leaves)]
    alpha = options.pop("lora_alpha", 8)
    for pattern in ("rank_pattern", "alpha_pattern"):  # of their names; ours are others
        options[pattern] = {
            "^" + path.replace(".", r"\."): value for key, value in options.get(pattern, {}).items()
            for theirs, path in names.items() if peft.utils.other.get_pattern_key([key], theirs) == key
        }  # fmt: skip
    add_lora(ours, targets, "mine", rank=4, alpha=alpha, **options)
    randomise(ours, "mine")
    save_adapter(ours, tmp_path, "mine", layout="hub", base=str(base))
    theirs = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path).eval()
    assert difference(ours(TOKENS), theirs(TOKENS).logits) < 1e-5
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] == str(base)


@torch.no_grad()
def test_an_adapter_of_a_llama_fits_the_llama_in_a_model_that_sees(tmp_path):
    seeing = tiny_model(tiny_config(n_extra_tokens=0))
    text = tiny_model(tiny_config_text())
    text.decoder.load_state_dict(seeing.decoder.state_dict(), strict=False)
    save_checkpoint(text, tmp_path / "base", "hub")
    theirs = trained_by_peft(LlamaForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "a", target_modules=EVERY)
    load_adapter(seeing, tmp_path / "a")
    assert difference(theirs(TOKENS).logits, seeing(TOKENS)) < 1e-5
    assert all(path.startswith("decoder.layers.") for path in lora_layers(seeing))
    save_adapter(seeing, tmp_path / "b", layout="llama")
    assert same(load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS))


def tiny_config_text():
    return replace(tiny_config(cross_attention_layers=(), n_extra_tokens=0), encoder=None)


@cache
def mllama_adapter(root: Path) -> Path:
    """PEFT on every linear layer of transformers' Mllama; beside it, the model with the adapter merged in."""
    model = MllamaForConditionalGeneration.from_pretrained(GOLDEN, dtype=torch.float32)
    wrapped = trained_by_peft(model, root / "adapter", target_modules="all-linear")
    wrapped.merge_and_unload().save_pretrained(root / "merged")
    return root


@pytest.fixture(scope="module")
def mllama(tmp_path_factory) -> Path:
    return mllama_adapter(tmp_path_factory.mktemp("mllama"))


@pytest.mark.parametrize("era", ["5", "4.45"])
def test_an_adapter_of_mllama_reaches_every_part(mllama, tmp_path, era):
    adapter = mllama / "adapter"
    if era == "4.45":  # the names that PEFT found in the classes of that time
        tensors = load_file(adapter / WEIGHTS)
        old = {
            "model.language_model.": "language_model.model.", "model.vision_model.": "vision_model.",
            "model.multi_modal_projector.": "multi_modal_projector.",
        }  # fmt: skip
        for new, name in old.items():
            tensors = {k.replace(f"base_model.model.{new}", f"base_model.model.{name}"): t for k, t in tensors.items()}
        save_file(tensors, tmp_path / WEIGHTS)
        (tmp_path / CONFIG).write_text((adapter / CONFIG).read_text())
        adapter = tmp_path
    ours = load_checkpoint(GOLDEN, dtype=torch.float32).model
    load_adapter(ours, adapter)
    reached = {path.split(".")[0] + "." + path.split(".")[1] for path in lora_layers(ours)}
    assert reached >= {"decoder.layers", "decoder.cross_attention", "encoder.layers", "encoder.global_layers"}
    assert "connector.proj" in lora_layers(ours)
    fold(ours)
    expected = load_checkpoint(mllama / "merged", dtype=torch.float32).model.state_dict()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5, msg=name)


def test_mllama_names_go_out_as_they_came_in(mllama, tmp_path):
    ours = load_checkpoint(GOLDEN, dtype=torch.float32).model
    load_adapter(ours, mllama / "adapter", "pets")
    save_adapter(ours, tmp_path, "pets", layout="hub")
    assert same(load_file(mllama / "adapter" / WEIGHTS), load_file(tmp_path / WEIGHTS))
    base = MllamaForConditionalGeneration.from_pretrained(GOLDEN, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert same(peft.get_peft_model_state_dict(loaded), load_file(tmp_path / WEIGHTS))


@pytest.mark.parametrize("layout", ["native", "hub", "mllama-4.45"])
def test_what_is_saved_loads_as_it_was(tmp_path, layout):
    model = tiny_model()
    groups = ("encoder", "connector", "cross_attention", "text")
    add_lora(model, group_layers(model, groups), "one", rank=3, alpha_pattern={"fc1": 5.0, "q_proj": 2.0})
    randomise(model, "one")
    save_adapter(model, tmp_path, "one", layout=layout)
    again = tiny_model()
    load_adapter(again, tmp_path, "one")
    assert same(model.state_dict(), again.state_dict())
    assert {p: m.settings for p, m in lora_layers(model).items()} == {
        p: m.settings for p, m in lora_layers(again).items()
    }
    if layout == "native":
        assert "base_model.model.decoder.layers.0.attn.q_proj.lora_A.weight" in load_file(tmp_path / WEIGHTS)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([CONFIG, WEIGHTS])


# Swapping, switching, merging


@pytest.fixture
def adapted():
    model = tiny_model(tiny_config_text())
    plain = state(model), model(TOKENS).detach()
    for i, name in enumerate(("first", "second")):
        add_lora(model, find_linears(model, EVERY[i:]), name, rank=2 + i)
        randomise(model, name)
    return model, *plain


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing():
    model = tiny_model(tiny_config_text())
    plain, before = model(TOKENS), state(model)
    add_lora(model, find_linears(model, r"decoder\.layers\.[02]\..*"))
    assert torch.equal(model(TOKENS), plain)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())  # and keeps every name
    assert {p.split(".")[2] for p in lora_layers(model)} == {"0", "2"}


@torch.no_grad()
def test_one_adapter_speaks_at_a_time(adapted):
    model, _, plain = adapted
    said = {}
    for name in ("first", "second", None):
        activate(model, name)
        said[name] = model(TOKENS)
    assert torch.equal(said[None], plain)
    assert min(difference(said["first"], said["second"]), difference(said["first"], plain)) > 1e-3
    remove(model, "second")
    activate(model, "first")
    assert torch.equal(model(TOKENS), said["first"])
    with pytest.raises(ValueError, match="no adapter 'second'.*found: first"):
        activate(model, "second")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_merged_equals_unmerged_and_unmerging_is_exact(adapted, dtype):
    model, _, _ = adapted
    model.to(dtype)
    before = state(model)
    unmerged = model(TOKENS)
    merge(model)
    merge(model)  # again is not twice
    assert difference(model(TOKENS), unmerged) < (1e-5 if dtype == torch.float32 else 0.2)
    assert not same(before, state(model)) and before.keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match="unmerge"):
        activate(model, "first")
    unmerge(model)
    assert same(before, state(model)) and torch.equal(model(TOKENS), unmerged)


@torch.no_grad()
def test_removing_all_gives_the_model_back(adapted):
    model, before, plain = adapted
    parameters = dict(model.named_parameters())
    merge(model)
    remove(model)
    assert same(before, state(model)) and torch.equal(model(TOKENS), plain)
    assert not any(isinstance(m, LoRALinear) for m in model.modules())
    assert all(p is parameters[name] for name, p in model.named_parameters())  # those that an optimizer may hold


@torch.no_grad()
def test_fold_leaves_a_plain_model_that_has_learnt(adapted, tmp_path):
    model, before, _ = adapted
    learnt = model(TOKENS)
    with pytest.raises(CheckpointError, match="unmerged adapters"):
        save_checkpoint(model, tmp_path / "m")
    fold(model)
    assert difference(model(TOKENS), learnt) < 1e-5 and before.keys() == model.state_dict().keys()
    save_checkpoint(model, tmp_path / "m")
    assert torch.equal(load_checkpoint(tmp_path / "m").model(TOKENS), model(TOKENS))


def test_dropout_is_for_training_alone():
    model = nn.Sequential(nn.Linear(8, 8)).eval()
    add_lora(model, ["0"], dropout=0.5)
    randomise(model)
    x = torch.randn(4, 8)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_pictures_pass_through_adapted_keys_and_encoder():
    model = tiny_model().eval()
    tiles, grid = torch.randn(1, 1, 1, 3, 28, 28), torch.ones(1, 1, 2, dtype=torch.long)
    sees = torch.tensor([0, 1]).expand(1, 12, 2)
    plain = model(TOKENS[:1], tiles, grid, sees)
    for group in ("encoder", "connector", "cross_attention"):
        add_lora(model, group_layers(model, [group]), group)
        randomise(model, group)
        logits = model(TOKENS[:1], tiles, grid, sees)
        assert difference(plain, logits) > 1e-4
        logits.sum().backward()
        grads = [m.lora_A[group].grad for m in lora_layers(model, group).values()]
        assert all(g is not None and g.isfinite().all() and g.any() for g in grads)


@pytest.mark.parametrize("kind", ["timm.models.beit", "timm.models.eva", "timm.models.swin_transformer_v2", "torch"])
def test_layers_that_their_parent_never_calls_take_no_adapter(kind):
    made = {
        "timm.models.beit": lambda m: m.Attention(16, num_heads=2, qkv_bias=True),
        "timm.models.eva": lambda m: m.EvaAttention(16, num_heads=2, norm_layer=nn.LayerNorm),
        "timm.models.swin_transformer_v2": lambda m: m.WindowAttention(16, (2, 2), num_heads=2),
        "torch": lambda m: m.nn.MultiheadAttention(16, 2, batch_first=True),
    }
    model = made[kind](importlib.import_module(kind)).eval()
    x = torch.randn(1, 4, 16)
    if found := list(linears(model)):
        add_lora(model, found)
        (model(x, x, x)[0] if kind == "torch" else model(x)).sum().backward()
        assert all(m.lora_B["default"].grad is not None for m in lora_layers(model).values())
    unheard = "out_proj" if kind == "torch" else "qkv"
    with pytest.raises(ValueError, match=f"'{unheard}' is no nn.Linear .*whose weight its parent uses"):
        add_lora(model, [unheard], "more")


# What users call


def test_adapters_are_loaded_switched_and_left_out(chat, tmp_path):
    VLM(tiny_model(), chat).save(tmp_path / "m")
    model = tiny_model()
    add_lora(model, group_layers(model, ["text"]))
    randomise(model)
    save_adapter(model, tmp_path / "a")
    picture = Image.effect_noise((40, 30), 60).convert("RGB")

    def logprob(m):
        return m.answer(picture, "How many?", max_new_tokens=4).logprob

    plain, adapted = (vlm.load(tmp_path / "m", device="cpu", adapter=a) for a in (None, tmp_path / "a"))
    without, expected = logprob(plain), logprob(VLM(model, chat))
    assert abs(without - expected) > 1e-3
    assert logprob(adapted) == pytest.approx(expected, abs=1e-4)
    adapted.use_adapter(None)
    assert logprob(adapted) == pytest.approx(without, abs=1e-4)
    adapted.use_adapter("default")
    plain.load_adapter(tmp_path / "a", "cats")
    assert logprob(adapted) == pytest.approx(expected, abs=1e-4) == logprob(plain)
    with pytest.raises(ValueError, match="no adapter 'cat' .did you mean 'cats'"):
        plain.use_adapter("cat")
    with pytest.raises(ValueError, match=f"{CONFIG}: this file is missing"):
        vlm.load(tmp_path / "m", device="cpu", adapter=tmp_path / "m")


# Bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: find_linears(m, ["q_prj"]), "'q_prj' names no linear layer.*did you mean 'q_proj'"),
        (lambda m: find_linears(m, r"decoder\.q"), "names no linear layer"),
        (lambda m: add_lora(m, ["decoder.norm"]), "'decoder.norm' is no nn.Linear"),
        (lambda m: add_lora(m, []), "no layers given"),
        (lambda m: add_lora(m, find_linears(m, ["q_proj"]), "a.b"), "adapter name: found 'a.b'"),
        (lambda m: add_lora(m, find_linears(m, ["q_proj"]), "values"), "adapter name: found 'values'"),
        (lambda m: add_lora(m, find_linears(m, ["q_proj"]), "first"), "'first' exists already"),
        (lambda m: add_lora(m, find_linears(m, ["q_proj"]), "new", rank=0), "found rank 0"),
        (lambda m: add_lora(m, find_linears(m, ["q_proj"]), "new", dropout=1.0), "dropout 1.0"),
        (lambda m: activate(m, "frist"), "no adapter 'frist' .did you mean 'first'"),
        (lambda m: (activate(m, None), merge(m)), "nothing to merge"),
        (lambda m: save_adapter(m, "x", "third"), "no adapter 'third'"),
        (lambda m: save_adapter(m, "x", "first", layout="hubb"), "layout: found 'hubb'.*did you mean 'hub'"),
    ],
)
def test_impossible_calls(adapted, call, words):
    with pytest.raises(ValueError, match=words):
        call(adapted[0])


def test_a_layer_without_a_name_over_there(tmp_path):
    model = tiny_model()
    add_lora(model, ["connector.proj"])
    with pytest.raises(CheckpointError, match="connector.proj has no name in the layout 'llama'"):
        save_adapter(model, tmp_path / "a", layout="llama")
    assert not (tmp_path / "a").exists()


@pytest.fixture
def saved(tmp_path):
    """A sound adapter of a model of one layer; tests spoil it."""
    model = nn.ModuleDict({"proj": nn.Linear(6, 4)})
    add_lora(model, ["proj"], rank=2)
    save_lora(model, tmp_path, base="someone/model")
    return tmp_path


CANNOT = {
    "use_dora": True, "bias": "all", "lora_bias": True, "fan_in_fan_out": True, "modules_to_save": ["lm_head"],
    "init_lora_weights": "pissa", "trainable_token_indices": [1], "layer_replication": [[0, 4]],
    "a_key_of_next_year": {"x": 1}, "use_qalora": True, "target_parameters": ["experts"],
}  # fmt: skip


@pytest.mark.parametrize("key", CANNOT)
def test_what_we_do_not_compute_is_named(saved, key):
    config = json.loads((saved / CONFIG).read_text()) | {key: CANNOT[key]}
    (saved / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{key} is .*not supported.*merge_and_unload"):
        load_lora(nn.ModuleDict({"proj": nn.Linear(6, 4)}), saved)


def replace_tensors(folder: Path, change) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def half(tensors):
    return {k: v for k, v in tensors.items() if "lora_A" in k}


STRANGE = "base_model.model.e.lora_embedding_A"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / CONFIG).unlink(), f"{CONFIG}: this file is missing"),
        (lambda f: (f / CONFIG).write_text("{"), "not valid JSON"),
        (lambda f: (f / CONFIG).write_text('{"peft_type": "IA3"}'), "found peft_type 'IA3', expected 'LORA'"),
        (lambda f: (f / CONFIG).write_text('{"peft_type": "LORA", "r": "8"}'), "r is '8', expected a positive number"),
        (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), "is missing.*a pickle.*safe_serialization"),
        (lambda f: (f / WEIGHTS).write_bytes(b"x" * 9), "not a whole safetensors file"),
        (lambda f: replace_tensors(f, lambda t: {}), "holds no tensors"),
        (lambda f: replace_tensors(f, half), "has a lora_A alone"),
        (lambda f: replace_tensors(f, lambda t: t | {STRANGE: t.popitem()[1]}), "found .*e.lora_embedding_A, ex"),
    ],
)
def test_damaged_adapters(saved, spoil, words):
    spoil(saved)
    with pytest.raises(ValueError, match=words):
        load_lora(nn.ModuleDict({"proj": nn.Linear(6, 4)}), saved)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.ModuleDict({"prj": nn.Linear(6, 4)}), "found proj .1 of its 1 layers .*expected names such as prj.*some"),
        (nn.ModuleDict({"proj": nn.Linear(8, 4)}), r"found A \(2, 6\) and B \(4, 2\), expected \(2, 8\) and \(4, 2\)"),
        (nn.ModuleDict({"proj": nn.Conv1d(6, 4, 1)}), "another model: found proj"),
        (nn.ModuleDict({"proj": nn.Linear(6, 4, device="meta")}), "not in memory"),
    ],
)
def test_an_adapter_of_another_model(saved, model, words):
    kept = list(model.children())
    with pytest.raises(ValueError, match=words):
        load_lora(model, saved)
    assert list(model.children()) == kept
