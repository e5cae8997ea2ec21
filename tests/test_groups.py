"""Freezing by named groups, and the training of adapters."""

import json

import pytest
import torch

from adapters.lora import add_lora, lora_layers
from tests.conftest import tiny_config, tiny_model
from tests.test_training import OVERRIDES, config_for
from vlm.checkpoints import load_checkpoint
from vlm.checkpoints.peft import load_adapter
from vlm.model import VisionLanguageModel
from vlm.training import run
from vlm.training.config import LoRA, TrainConfig
from vlm.training.groups import GROUPS, format_table, freeze, group_layers, group_table, in_group
from vlm.training.loop import make_optimizer, train

BEGINNINGS = {
    "encoder": "encoder.", "connector": "connector.", "cross_attention": "decoder.cross_attention.",
    "text": ("decoder.embed_tokens.", "decoder.layers.", "decoder.norm.", "decoder.lm_head."),
    "embeddings": ("decoder.embed_tokens.", "decoder.lm_head."),
}  # fmt: skip


def step(model: VisionLanguageModel) -> set[str]:
    """Names of the parameters that one step of the optimizer changes."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainConfig(output="-", stages=config_for("-").stages, lr=0.1))
    tiles, grid = torch.randn(1, 1, 4, 3, 28, 28), torch.full((1, 1, 2), 2)
    logits = model(torch.arange(6)[None], tiles, grid, torch.tensor([0, 1]).expand(1, 6, 2))
    logits.square().mean().backward()
    optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize(
    "groups", [("encoder",), ("connector", "cross_attention"), ("text",), ("embeddings",), ("image_keys",), ("lora",)]
)
def test_exactly_the_wanted_parameters_change(groups):
    model = tiny_model()
    if groups == ("lora",):
        add_lora(model, group_layers(model, ["text", "cross_attention"]))
        wanted = {n for n, _ in model.named_parameters() if ".lora_A." in n or ".lora_B." in n}
    elif groups == ("image_keys",):
        wanted = {
            f"decoder.cross_attention.{i}.attn.{n}.weight" for i in (1, 3) for n in ("k_proj", "v_proj", "k_norm")
        }
    else:
        wanted = {n for n, _ in model.named_parameters() if any(n.startswith(BEGINNINGS[g]) for g in groups)}
    freeze(model, groups)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == wanted
    assert wanted and step(model) == wanted


def test_every_parameter_is_in_one_group():
    model = tiny_model()
    add_lora(model, group_layers(model, ["encoder", "text"]))
    for name, _ in model.named_parameters():
        assert sum(in_group(name, group) for group in GROUPS) == 1, name
    rows = group_table(model)
    assert [r.group for r in rows] == list(GROUPS)
    assert sum(r.parameters for r in rows) == sum(p.numel() for p in model.parameters())


def test_the_table_is_readable():
    model = tiny_model()
    model.encoder.to(torch.bfloat16)
    freeze(model, ("connector",))
    rows = {r.group: r for r in group_table(model)}
    assert rows["connector"].trainable == rows["connector"].parameters == 48 * 32 + 32
    assert rows["text"].trainable == 0 and rows["text"].dtype == "float32" and rows["encoder"].dtype == "bfloat16"
    lines = format_table(list(rows.values())).splitlines()
    assert lines[0].split() == ["group", "parameters", "trainable", "dtype"] and len({len(x) for x in lines}) <= 4
    assert lines[-1].split() == ["all", f"{sum(p.numel() for p in model.parameters()):,}", "1,568"]


def test_lora_leaves_the_head_alone():
    model = tiny_model()
    assert "decoder.lm_head" not in group_layers(model, ["text"])
    assert group_layers(model, ["image_keys"]) == [
        f"decoder.cross_attention.{i}.attn.{n}" for i in (1, 3) for n in ("k_proj", "v_proj")
    ]


def test_impossible_groups_are_named(tmp_path):
    model = tiny_model(tiny_config(cross_attention_layers=()))
    with pytest.raises(ValueError, match="trainable: found 'conector'.*did you mean 'connector'"):
        freeze(model, ("conector",))
    with pytest.raises(ValueError, match="no parameters in 'cross_attention'; it has encoder, connector, text"):
        freeze(model, ("cross_attention",))
    with pytest.raises(ValueError, match="no linear layers in cross_attention"):
        group_layers(model, ("cross_attention",))
    for changes, words in (
        ({"trainable": ("txt",)}, "trainable: found 'txt'.*did you mean 'text'"),
        ({"lora": LoRA(groups=("encodr",))}, "lora.groups: found 'encodr'.*did you mean 'encoder'"),
        ({"lora": LoRA(), "trainable": ("connector",)}, "expected 'lora' among them"),
    ):
        with pytest.raises(ValueError, match=words):
            config_for(tmp_path, **changes)


@pytest.fixture
def tokenizer(chat, tmp_path):
    path = tmp_path / "tokenizer.json"
    chat.tokenizer.rust.save(str(path))
    return str(path)


def test_a_frozen_run_stopped_and_resumed_is_the_undisturbed_one(tmp_path, chat):
    def go(output, **options):
        config = config_for(output, trainable=("cross_attention", "lora"), lora=LoRA(rank=2, groups=("text",)))
        torch.manual_seed(0)
        model = VisionLanguageModel(run.model_config(config))
        run.choose_parameters(model, config)
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        train(config, model, chat, **options)
        return start, dict(model.named_parameters())

    start, undisturbed = go(tmp_path / "a")
    go(tmp_path / "b", stop_after=2)
    _, resumed = go(tmp_path / "b")
    assert all(torch.equal(p, resumed[name]) for name, p in undisturbed.items())
    for name, p in undisturbed.items():
        moved = not torch.equal(p, start[name])
        assert moved == ("lora_" in name or "cross_attention" in name), name


def test_a_run_with_lora_leaves_a_model_and_an_adapter(tmp_path, tokenizer, capsys):
    first = run.run_training(config_for(tmp_path / "a", tokenizer=tokenizer), stop_after=1)
    assert "cross_attention" in capsys.readouterr().err
    config = config_for(
        tmp_path / "b", tokenizer=tokenizer, init=str(first), lora=LoRA(groups=("text", "image_keys"), rank=2)
    )
    learnt = run.run_training(config, stop_after=2)
    shown = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["text", "0"] in [[row[0], row[2]] for row in shown if len(row) == 4]
    base, merged = (load_checkpoint(folder, dtype=torch.float32).model for folder in (first, learnt))
    assert json.loads((tmp_path / "b/adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(first)
    tokens = torch.arange(12)[None]
    assert (base(tokens) - merged(tokens)).abs().max() > 1e-4
    load_adapter(base, tmp_path / "b" / "adapter")
    assert len(lora_layers(base)) == 4 * 7 + 2 * 2
    torch.testing.assert_close(base(tokens), merged(tokens), atol=2e-2, rtol=2e-2)  # one of them went through bf16
    assert OVERRIDES  # the sizes of these runs
