"""Loading and saving: key tables, the three dialects, bad input. Agreement with transformers: test_parity.py."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.checkpoints import Checkpoint, CheckpointError, detect, files, hub, load_checkpoint, meta, save_checkpoint
from vlm.checkpoints.hub_config import model_config
from vlm.checkpoints.keys import empty_model, foreign_names
from vlm.config import PRESETS
from vlm.model import VisionLanguageModel

GOLDEN = Path(__file__).parent / "golden"
LLAMA3_ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip
TEXT_11B = {"rope_scaling": LLAMA3_ROPE}
TEXT_90B = TEXT_11B | {
    "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 100,
    "cross_attention_layers": list(range(3, 100, 5)),
}  # fmt: skip


@cache
def golden(layout: str) -> Checkpoint:
    return load_checkpoint(GOLDEN / layout)


def equal(a: VisionLanguageModel, b: VisionLanguageModel) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return a.config == b.config and x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


# Key tables


@pytest.mark.parametrize("preset, parameters, tensors", [("11b", 10_670_220_835, 906), ("90b", 88_593_355_323, 1494)])
def test_real_sizes_as_the_hub_counts_them(preset, parameters, tensors):
    model = empty_model(replace(PRESETS[preset], image=replace(PRESETS[preset].image, tile_size=560)))
    data, stored = hub.hub_tensors(model.bfloat16())
    assert len(stored) == tensors and sum(t.numel() for t in stored.values()) == parameters
    assert stored["language_model.model.layers.3.cross_attn.q_norm.weight"].shape == (128,)
    assert stored["vision_model.gated_positional_embedding.tile_embedding.weight"].shape == (9, 8197120)
    assert "language_model.model.layers.4.self_attn.q_proj.weight" in stored
    assert data["text_config"]["cross_attention_layers"][:3] == [3, 8, 13] and data["torch_dtype"] == "bfloat16"
    names = foreign_names(model.state_dict(), meta.TABLE, meta.numbers(model.config.decoder), "Meta")
    assert len(set(names.values())) == tensors  # and one more: Meta stores the extra embedding rows apart
    assert names["decoder.cross_attention.7.attn_gate"] == "text_model.cross_attention_layers.1.gate_attn"


def test_an_empty_model_does_not_import_the_compiler():
    code = "import sys; from vlm.checkpoints.keys import empty_model; from vlm.config import PRESETS"
    code += "; m = empty_model(PRESETS['11b']); sys.exit(not m.decoder.norm.weight.is_meta or 'sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_tables_have_a_row_for_every_parameter_and_no_other():
    names = {re.sub(r"\.\d+(?=\.)", ".{}", name) for name in golden("hf").model.state_dict()}
    rows = names | {name.rpartition(".")[0] for name in names}
    assert set(hub.TABLE) <= rows and set(meta.TABLE) <= rows


@pytest.mark.parametrize(
    "preset, text, vision, tile_size",
    [
        ("11b", TEXT_11B, {}, 448),
        ("11b", TEXT_11B, {"image_size": 560}, 560),
        ("90b", TEXT_90B, {"image_size": 560}, 560),
        ("11b", {"rope_parameters": LLAMA3_ROPE | {"rope_theta": 500000.0}}, {"image_size": [560, 560]}, 560),
    ],
    ids=["11b base", "11b instruct", "90b instruct", "11b of transformers 5"],
)
def test_real_configs_give_the_presets(tmp_path, preset, text, vision, tile_size):
    data = {"model_type": "mllama", "text_config": text, "vision_config": vision, "image_token_index": 128256}
    config = model_config(data, tmp_path / "config.json")
    assert config.image.tile_size == tile_size
    assert replace(config, image=PRESETS[preset].image) == PRESETS[preset]


def test_cross_attention_schedules():
    assert meta.cross_attention_schedule(32, 8) == tuple(range(3, 32, 4))
    assert meta.cross_attention_schedule(80, 20) == tuple(range(3, 80, 4))
    assert meta.cross_attention_schedule(10, 4) == (0, 3, 6, 9)  # counted from the last layer
    decoder = replace(PRESETS["debug"].decoder, n_layers=5, cross_attention_layers=(0, 1, 4))
    numbers = hub.merged_numbers(decoder)
    assert numbers["decoder.cross_attention"] == {0: 0, 1: 2, 4: 6}
    assert numbers["decoder.layers"] == {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}


# Dialects


def test_round_trip_meta_ours_hub_ours(tmp_path):
    save_checkpoint(golden("meta"), tmp_path / "native")
    native = load_checkpoint(tmp_path / "native")
    save_checkpoint(native, tmp_path / "hub", layout="hub", max_shard_bytes=300_000)
    back = load_checkpoint(tmp_path / "hub")
    assert equal(golden("meta").model, native.model) and equal(native.model, back.model)
    assert [detect(p) for p in (GOLDEN / "meta", tmp_path / "native", tmp_path / "hub")] == ["meta", "native", "hub"]
    assert len(list((tmp_path / "hub").glob("model-*.safetensors"))) > 3


def test_everything_around_the_weights_comes_back(tmp_path):
    original = golden("hf")
    messages = [{"role": "user", "content": [{"type": "image", "image": 0}, {"type": "text", "text": "What?"}]}]
    for layout in ("native", "hub"):
        back = load_checkpoint(save_checkpoint(original, tmp_path / layout, layout))
        assert equal(back.model, original.model) and back.generation == original.generation
        assert back.chat.encode(messages) == original.chat.encode(messages)
        assert (back.chat.pad_id, back.chat.image_id, back.chat.stop_ids) == (284, 296, frozenset({281, 288, 289}))
    assert original.generation == {"temperature": 0.6, "top_p": 0.9, "stop_ids": [281, 288, 289]}
    assert original.config.image.tile_size == 42


def test_own_model_with_own_layout(tmp_path, model, chat):
    parts = Checkpoint(config=model.config, model=model, chat=chat, generation={"stop_ids": sorted(chat.stop_ids)})
    save_checkpoint(parts, tmp_path / "a", max_shard_bytes=20_000)
    back = load_checkpoint(tmp_path / "a")
    messages = [{"role": "user", "content": "How many red circles?"}, {"role": "assistant", "content": "2"}]
    assert equal(model, back.model) and type(back.chat) is type(chat)
    assert back.chat.encode(messages, generate=False) == chat.encode(messages, generate=False)
    mini = empty_model(PRESETS["mini"]).to_empty(device="cpu")
    with pytest.raises(CheckpointError, match="stem 'conv'.*tile_padding 'none'.*layout='native'"):
        save_checkpoint(mini, tmp_path / "b", layout="hub")
    back = load_checkpoint(save_checkpoint(mini, tmp_path / "b"), dtype="bfloat16")
    assert {p.dtype for p in back.model.parameters()} == {torch.bfloat16} and back.chat is None


def test_names_of_transformers_5(tmp_path):
    shutil.copytree(GOLDEN / "hf", tmp_path / "a")
    new = {"language_model.lm_head.": "lm_head.", "language_model.model.": "model.language_model."}
    new |= {"vision_model.": "model.vision_model.", "multi_modal_projector.": "model.multi_modal_projector."}
    tensors = {}
    for shard in (tmp_path / "a").glob("model*.safetensors"):
        tensors |= {hub.rename(name, new): tensor for name, tensor in load_file(shard).items()}
        shard.unlink()
    (tmp_path / "a/model.safetensors.index.json").unlink()
    save_file(tensors, tmp_path / "a/model.safetensors")
    assert "model.language_model.layers.3.cross_attn_attn_gate" in tensors
    assert equal(load_checkpoint(tmp_path / "a").model, golden("hf").model)


def split(n: int, suffix: str, folder: Path, kv_heads: int = 2) -> Path:
    """The golden Meta weights as n tensor-parallel shards; key/value heads are repeated where there are more shards."""
    whole = load_file(GOLDEN / "meta/consolidated.safetensors")
    folder.mkdir()
    for name in ("params.json", "vision_overrides.json"):
        shutil.copy(GOLDEN / "meta" / name, folder)
    for i in range(n):
        shard = {}
        for name, tensor in whole.items():
            dim = 0 if "embeddings" in name else next((d for end, d in meta.SPLIT.items() if name.endswith(end)), None)
            parts, j = n, i
            if name.startswith("text_model") and name.endswith(("wk.weight", "wv.weight")) and n > kv_heads:
                parts, j = kv_heads, i * kv_heads // n
            shard[name] = (tensor if dim is None else tensor.chunk(parts, dim)[j]).clone()
        path = folder / f"consolidated.{i:02d}.{suffix}"
        torch.save(shard, path) if suffix == "pth" else save_file(shard, path)
    return folder


@pytest.mark.parametrize("n, suffix", [(1, "pth"), (2, "pth"), (2, "safetensors"), (4, "pth")])
def test_tensor_parallel_shards(tmp_path, n, suffix):
    assert equal(load_checkpoint(split(n, suffix, tmp_path / "a")).model, golden("meta").model)


def test_missing_shards_are_named(tmp_path):
    folder = split(4, "pth", tmp_path / "a")
    (folder / "consolidated.03.pth").unlink()
    with pytest.raises(CheckpointError, match="3 consolidated files hold 48 of 64 rows.*a shard is missing"):
        load_checkpoint(folder)
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(CheckpointError, match=r"consolidated\.01\.pth is missing"):
        load_checkpoint(folder)


def test_positions_of_another_tile_size(tmp_path):
    """Meta's code resizes position embeddings when params.json says another tile size; corners stay where they are."""
    shutil.copytree(GOLDEN / "meta", tmp_path / "a")
    params = json.loads((tmp_path / "a/params.json").read_text())
    (tmp_path / "a/params.json").write_text(json.dumps(params | {"vision_chunk_size": 70}))
    new, old = load_checkpoint(tmp_path / "a").model.encoder, golden("meta").model.encoder
    assert new.position_embedding.shape == (26, 32)
    patches = [(0, 0), (1, 1), (5, 3), (21, 7), (25, 9), (13, 5)]  # class token, corners, centre
    for a, b in patches:
        torch.testing.assert_close(new.position_embedding[a], old.position_embedding[b])
    one_tile = [e.tile_position_embedding.weight[1].view(4, -1, 32) for e in (new, old)]
    torch.testing.assert_close(one_tile[0][0, 1], one_tile[1][0, 1])
    assert not one_tile[0][1:].any()


# Bad input


def hub_copy(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / "hf", tmp_path / "a"))


def edit(path: Path, **changes) -> None:
    data = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, leaf = key.rpartition("__")
        (data[part] if part else data)[leaf] = value
    path.write_text(json.dumps(data))


def edit_tensors(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


SHARD, CONFIG = "model-00002-of-00002.safetensors", "config.json"
BIG = "language_model.model.layers.3.mlp.up_proj.weight"


def single(folder: Path, change=lambda tensors: None) -> None:
    """Put the two shards into one file."""
    tensors = {}
    for shard in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(shard)
        shard.unlink()
    (folder / files.INDEX).unlink()
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


DAMAGE = {
    "missing shard": (lambda f: (f / SHARD).unlink(), rf"{SHARD}: this shard is missing, it holds .* more; get it"),
    "missing shard, no index": (
        lambda f: [(f / SHARD).unlink(), (f / files.INDEX).unlink()], rf"{SHARD}: this file is missing"),
    "truncated": (
        lambda f: (f / SHARD).write_bytes((f / SHARD).read_bytes()[:9999]),
        rf"{SHARD}: not a whole .*9,999 bytes.*get it"),
    "empty file": (lambda f: (f / SHARD).write_bytes(b""), rf"{SHARD}: not a whole safetensors file \(0 bytes"),
    "wrong shape": (
        lambda f: single(f, lambda t: t.update({BIG: torch.zeros(48, 63)})),
        rf"model.safetensors: {BIG} has shape \(48, 63\) where the config asks for \(48, 64\)"),
    "missing key": (
        lambda f: single(f, lambda t: t.update({BIG.replace("up_proj", "upproj"): t.pop(BIG)})),
        rf"1 tensors are missing: {BIG} \(did you mean '.*upproj.weight'"),
    "unknown key": (
        lambda f: single(f, lambda t: t.update({"extra.weight": torch.zeros(1)})), "1 unknown tensors: extra.weight;"),
    "index without its tensor": (
        lambda f: edit_tensors(f / SHARD, lambda t: t.pop("multi_modal_projector.bias")),
        "lacks multi_modal_projector.bias, which"),
    "index that points away": (
        lambda f: edit(f / files.INDEX, weight_map__x="../../secret"), "points outside its folder"),
    "quantized tensor": (
        lambda f: single(f, lambda t: t.update({BIG: torch.zeros(48, 64, dtype=torch.int8)})), f"{BIG} is torch.int8"),
    "more layers than weights": (
        lambda f: edit(f / CONFIG, text_config__num_hidden_layers=12), "18 tensors are missing: .*layers.10"),
    "model_type": (lambda f: edit(f / CONFIG, model_type="mlama"), r"model_type is 'mlama' \(did you mean 'mllama'"),
    "impossible size": (lambda f: edit(f / CONFIG, text_config__hidden_size=-64), "config.json: hidden_size is -64"),
    "size as text": (lambda f: edit(f / CONFIG, text_config__hidden_size="64"), "config.json: .*'64'"),
    "heads": (lambda f: edit(f / CONFIG, text_config__num_attention_heads=5), "num_attention_heads 5 does not divide"),
    "taps": (lambda f: edit(f / CONFIG, vision_config__intermediate_layers_indices=[1, 3, 9]), r"taps: found \[9\]"),
    "cross layers": (lambda f: edit(f / CONFIG, text_config__cross_attention_layers=[3, 9]), "has 9, which no Llama"),
    "misspelt field": (
        lambda f: edit(f / CONFIG, text_config__rope_tetha=1e4),
        r"config.json: unknown field 'text_config.rope_tetha' \(did you mean 'rope_theta'\?\); correct it, or delete"),
    "unknown field": (lambda f: edit(f / CONFIG, vision_config__window_size=7), "field 'vision_config.window_size'"),
    "grids in another order": (
        lambda f: edit(f / CONFIG, vision_config__supported_aspect_ratios=[[1, 1], [2, 1]]), "supported_aspect_ratios"),
    "biases": (lambda f: edit(f / CONFIG, text_config__attention_bias=True), "attention_bias is True, supported is"),
    "bitsandbytes": (
        lambda f: edit(f / CONFIG, quantization_config={"quant_method": "bitsandbytes"}), "quantized .bitsandbytes"),
    "broken json": (lambda f: (f / CONFIG).write_text("{"), "config.json: not valid JSON"),
    "preprocessor of another model": (
        lambda f: edit(f / "preprocessor_config.json", size={"height": 560, "width": 560}), "560 x 560, but config"),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: not a tokenizer.json"),
    "pickle": (
        lambda f: [single(f), (f / "model.safetensors").rename(f / "pytorch_model.bin")],
        "pytorch_model.bin: a pickle can run any code.*safetensors"),
    "no weights": (lambda f: [p.unlink() for p in f.glob("model*")], "has a config.json but no weights"),
    "empty folder": (lambda f: [p.unlink() for p in f.iterdir()], "the folder is empty"),
    "something else": (lambda f: [p.unlink() for p in f.glob("*config.json")], "neither config.json nor params.json"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_bad_hub_folder(tmp_path, damage):
    folder = hub_copy(tmp_path)
    change, message = DAMAGE[damage]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


META_DAMAGE = {
    "no weights": (lambda f: (f / "consolidated.safetensors").unlink(), "no weights; expected consolidated"),
    "no dim": (lambda f: edit(f / "params.json", dim=None), "params.json: dim is None"),
    "other vocabulary": (lambda f: edit(f / "params.json", vocab_size=300), "vocab_size is 300, but the weights"),
    "no taps": (lambda f: (f / "vision_overrides.json").unlink(), "vision_overrides.json"),
    "other depth": (lambda f: edit(f / "params.json", n_layers=9), r"tensors are missing: text_model.layers.8"),
    "not tensors": (
        lambda f: [(f / "consolidated.safetensors").unlink(), torch.save([1], f / "consolidated.00.pth")],
        "named tensors"),
    "a pickle in disguise": (
        lambda f: [(f / "consolidated.safetensors").unlink(), torch.save({"x": Path("x")}, f / "consolidated.00.pth")],
        "consolidated.00.pth: cannot be read as plain tensors"),
}  # fmt: skip


@pytest.mark.parametrize("damage", META_DAMAGE)
def test_bad_meta_folder(tmp_path, damage):
    folder = Path(shutil.copytree(GOLDEN / "meta", tmp_path / "a"))
    change, message = META_DAMAGE[damage]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_bad_native_folder(tmp_path, model):
    folder = save_checkpoint(model, tmp_path / "a")
    edit(folder / CONFIG, model=json.loads((folder / CONFIG).read_text())["model"] | {"encodr": None})
    with pytest.raises(CheckpointError, match=r"config.json: config: unknown key 'encodr' \(did you mean 'encoder'"):
        load_checkpoint(folder)
    edit(folder / CONFIG, version=99)
    with pytest.raises(CheckpointError, match="version 99, expected 1"):
        load_checkpoint(folder)


@pytest.mark.parametrize("when", ["weights", "end"])
def test_interrupted_conversion_leaves_nothing_that_looks_whole(tmp_path, monkeypatch, model, when):
    kept = save_checkpoint(model, tmp_path / "old")

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vlm.checkpoints.write_weights" if when == "weights" else "vlm.checkpoints.write_json", fail)
    for target in (tmp_path / "new", kept):
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(model, target)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert equal(load_checkpoint(kept).model, model)


def test_what_a_killed_conversion_leaves_is_refused(tmp_path, model):
    folder = save_checkpoint(model, tmp_path / "a").rename(tmp_path / "a.partial-0123")
    with pytest.raises(CheckpointError, match="interrupted conversion; delete it"):
        load_checkpoint(folder)


def test_saving_replaces_checkpoints_and_nothing_else(tmp_path, model):
    save_checkpoint(model, tmp_path / "a")
    save_checkpoint(golden("meta"), tmp_path / "a", layout="hub")
    assert detect(tmp_path / "a") == "hub" and [p.name for p in tmp_path.iterdir()] == ["a"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something other than a checkpoint"):
        save_checkpoint(model, tmp_path / "b")
    assert (tmp_path / "b/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "error, message",
    [
        ("GatedRepoError", "licence is not accepted.*https://huggingface.co/some/model"),
        ("RepositoryNotFoundError", "nor a repository on the hub"),
        ("RevisionNotFoundError", "no revision 'v9'"),
        ("LocalEntryNotFoundError", "nor in the cache.*go online"),
        ("OSError", "download failed"),
    ],
)
def test_hub_ids_that_cannot_be_had(monkeypatch, error, message):
    import huggingface_hub

    kind = getattr(huggingface_hub.errors, error, OSError)

    def fail(*args, **kwargs):
        raise kind.__new__(kind) if kind is not OSError else OSError("disk full")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint("some/model", revision="v9")
    assert "\n" not in str(caught.value)


def test_offline_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="nobody/nothing: neither a folder here nor in the cache"):
        load_checkpoint("nobody/nothing")
    with pytest.raises(CheckpointError, match="no such folder; check the path"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="not a folder; give the folder that holds it"):
        load_checkpoint(GOLDEN / "hf" / SHARD)
    with pytest.raises(ValueError, match="dtype is 'fp16', expected auto"):
        load_checkpoint(GOLDEN / "hf", dtype="fp16")


# As a user meets them


def text_only(folder: Path) -> None:
    """A Llama without pictures, with the tokenizer of the golden model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    for path in [*folder.glob("model*"), folder / "preprocessor_config.json"]:
        path.unlink()
    LlamaForCausalLM(LlamaConfig(vocab_size=296, **sizes)).save_pretrained(folder)


AT_THE_COMMAND_LINE = {
    "truncated": (DAMAGE["truncated"][0], "not a whole safetensors file"),
    "pickle": (DAMAGE["pickle"][0], "a pickle can run any code"),
    "misspelt field": (DAMAGE["misspelt field"][0], "did you mean 'rope_theta'"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer; put the model's tokenizer.json"),
    "text only": (text_only, "this model reads text only; leave the pictures out"),
}


@pytest.mark.parametrize("damage", AT_THE_COMMAND_LINE)
def test_bad_folders_are_one_line_and_exit_2(tmp_path, monkeypatch, capsys, damage):
    from PIL import Image

    from vlm.cli import main

    change, words = AT_THE_COMMAND_LINE[damage]
    folder = hub_copy(tmp_path)
    change(folder)
    Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["vlm", "ask", str(tmp_path / "p.png"), "What?", "--model", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "") and err.startswith("vlm: ") and err.count("\n") == 1 and words in err
