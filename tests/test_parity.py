"""Every golden case from both layouts: what we compute is what Meta's code computes. And transformers agrees."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from benchmarks import parity
from vlm.checkpoints import load_checkpoint, meta, save_checkpoint
from vlm.checkpoints.keys import foreign_names
from vlm.image import collate_images

FOLDER = Path(__file__).parent / "golden"
GOLDEN = parity.Golden(FOLDER)
CASES = [(layout, name) for layout in parity.LAYOUTS for name in parity.cases(GOLDEN, layout)]


@cache
def checkpoint(layout: str):
    return load_checkpoint(FOLDER / layout, dtype=torch.float32)


@pytest.mark.parametrize("layout, name", CASES, ids=[f"{layout}-{name}" for layout, name in CASES])
def test_golden(layout, name):
    result = parity.run_case(GOLDEN, checkpoint(layout), layout, name)
    assert result.passed, f"{result.difference:.1e} is more than {result.limit:.0e}"


def command(*arguments: str):
    app = typer.Typer()
    app.command()(parity.main)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def small_copy(tmp_path):
    """A golden folder with few and quick cases."""
    folder = tmp_path / "golden"
    shutil.copytree(FOLDER, folder)
    index = json.loads((folder / "cases/cases.json").read_text())
    index["images"] = [image for image in index["images"] if image["name"] in ("exact_1x1", "wide_1x2")]
    index["vision"]["images"] = ["exact_1x1"]
    index["logits"] = [case for case in index["logits"] if case["name"] == "text_before_image"]
    index["generation"], index["chat"] = [], []
    (folder / "cases/cases.json").write_text(json.dumps(index))
    return folder


def test_command_is_green_and_writes_json(small_copy):
    shown = command(str(small_copy), "--json", "-")
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert data["passed"] and {r["layout"] for r in data["results"]} == {"meta", "hf"}
    lines = [line for line in shown.stderr.splitlines() if line.startswith(("ok", "FAIL"))]
    assert len(lines) == len(data["results"]) > 20


def test_one_changed_weight_turns_it_red(small_copy):
    path = small_copy / "hf/model-00001-of-00002.safetensors"
    tensors = load_file(path)
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    tensors[name][3, 5] += 0.5
    save_file(tensors, path, {"format": "pt"})
    shown = command(str(small_copy), "--json", str(small_copy / "report.json"))
    assert shown.exit_code == 1
    failed = {
        (r["layout"], r["case"])
        for r in json.loads((small_copy / "report.json").read_text())["results"]
        if not r["passed"]
    }
    assert ("hf", "logits/text_before_image") in failed and ("hf", "trace") in failed
    assert not any(layout == "meta" or case.startswith(("vision", "pixels", "rope")) for layout, case in failed)


def test_both_layouts_are_one_model():
    assert equal(checkpoint("meta").model, checkpoint("hf").model)


# transformers as the second opinion, on sizes unlike the golden ones

LLAMA3_ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip


def mllama():
    """A random transformers Mllama, every gate open and every table filled."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    vision = {
        "hidden_size": 24, "num_hidden_layers": 5, "num_global_layers": 3, "attention_heads": 3,
        "intermediate_size": 40, "image_size": 56, "intermediate_layers_indices": [1, 4], "vision_output_dim": 72,
    }  # fmt: skip
    text = {
        "hidden_size": 48, "num_hidden_layers": 9, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 96,
        "intermediate_size": 40, "cross_attention_layers": [1, 4, 7], "rope_scaling": LLAMA3_ROPE, "pad_token_id": 0,
    }  # fmt: skip
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=96)
    model = MllamaForConditionalGeneration(config).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.rand(p.shape) + 0.3 if p.ndim == 1 else torch.randn(p.shape) * p.shape[-1] ** -0.5)
        for name, table in model.named_parameters():
            if "tile_embedding" in name or "tile_positional_embedding.embedding" in name:
                table.copy_(torch.randn(table.shape) * 0.5)
                for i, (rows, cols) in enumerate(config.vision_config.supported_aspect_ratios):
                    table.view(9, 4, -1)[i + 1, rows * cols :] = 0
    return model


def as_meta(model):
    """transformers' Mllama computing what Meta's code does: inputs of tapped layers, no image in rows that see none."""
    mask = {}
    model.model.vision_model.intermediate_layers_indices = [
        i - 1 for i in model.config.vision_config.intermediate_layers_indices
    ]
    for layer in model.model.language_model.layers:
        if hasattr(layer, "cross_attn"):
            layer.register_forward_pre_hook(
                lambda _, __, kwargs: mask.update(rows=kwargs["full_text_row_masked_out_mask"]), with_kwargs=True
            )
            layer.cross_attn.register_forward_hook(lambda _, __, out: (out[0] * mask["rows"][:, 0], *out[1:]))
    return model


def inputs():
    """Three rows: two pictures, none, one; as transformers wants them and as we do."""
    torch.manual_seed(5)
    grids, pictures = [[(2, 2), (1, 3)], [], [(1, 2)]], []
    for row in grids:
        pictures.append([(torch.randn(r * c, 3, 56, 56), (r, c)) for r, c in row])
    tiles, grid = collate_images(pictures)
    tokens = torch.randint(96, (3, 12))
    sees, theirs = torch.zeros(3, 12, 2, dtype=torch.long), torch.zeros(3, 12, 2, 4, dtype=torch.long)
    for row, start, end, image in [(0, 2, 7, 0), (0, 7, 12, 1), (2, 4, 12, 0)]:
        tokens[row, start] = 96
        sees[row, start:end] = torch.tensor([image, image + 1])
        theirs[row, start:end, image, : int(grid[row, image].prod())] = 1
    ids = [
        [
            {(1, 1): 1, (1, 2): 2, (1, 3): 3, (1, 4): 4, (2, 1): 5, (2, 2): 6, (3, 1): 7, (4, 1): 8}.get(tuple(g), 0)
            for g in r
        ]
        for r in grid.tolist()
    ]
    real = torch.arange(4) < grid.prod(-1, keepdim=True).clamp(min=1)
    hf = {"pixel_values": tiles, "aspect_ratio_ids": torch.tensor(ids), "aspect_ratio_mask": real.long()}
    return (tokens, tiles, grid, sees), {"input_ids": tokens, "cross_attention_mask": theirs, **hf}


@pytest.mark.parametrize("fine_tuned", [False, True], ids=["zero rows", "trained rows of padded tiles"])
def test_folder_of_transformers(tmp_path, fine_tuned):
    theirs = mllama()
    if fine_tuned:
        table = theirs.model.vision_model.pre_tile_positional_embedding.embedding.weight.data
        table.copy_(torch.randn_like(table))
        theirs.model.vision_model.post_tile_positional_embedding.embedding.weight.data.normal_()
        theirs.model.vision_model.gated_positional_embedding.tile_embedding.weight.data.normal_()
    theirs.save_pretrained(tmp_path)
    ours, (args, kwargs) = load_checkpoint(tmp_path).model, inputs()
    assert ours.config.encoder.dedupe_padding is not fine_tuned
    assert ours.config.decoder.cross_attention_layers == (1, 3, 5) and ours.config.encoder.taps == (1, 4)
    with torch.no_grad():
        exact = as_meta(theirs)(**kwargs).logits
        assert (ours(*args) - exact).abs().max() < 1e-4
        ours.encoder.dedupe_padding = True  # the shortcut for equal padded tiles
        assert ((ours(*args) - exact).abs().max() > 1e-2) == fine_tuned


def test_transformers_loads_what_we_save(tmp_path):
    from transformers import AutoTokenizer, MllamaForConditionalGeneration

    save_checkpoint(checkpoint("hf"), tmp_path / "a", layout="hub")
    theirs, info = MllamaForConditionalGeneration.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours, text = checkpoint("hf").model, torch.randint(280, (2, 9))
    tiles, grid = collate_images([[(torch.randn(2, 3, 42, 42), (1, 2))]])
    padded = torch.nn.functional.pad(tiles, (0,) * 7 + (2,))
    vision = dict(aspect_ratio_ids=torch.tensor([[2]]), aspect_ratio_mask=torch.tensor([[[1, 1, 0, 0]]]))
    with torch.no_grad():
        torch.testing.assert_close(ours(text), theirs(input_ids=text).logits, atol=1e-4, rtol=0)
        tower = theirs.model.vision_model
        other = tower(padded, **vision).last_hidden_state[:, :, :2]
        tower.intermediate_layers_indices = [
            i - 1 for i in tower.intermediate_layers_indices
        ]  # its outputs, our inputs
        same = tower(padded, **vision).last_hidden_state[:, :, :2]
        found = ours.encoder(tiles, grid)
        torch.testing.assert_close(found, same, atol=3e-5, rtol=0)
        assert (found - other).abs().max() > 0.1
    assert AutoTokenizer.from_pretrained(tmp_path / "a").convert_tokens_to_ids("<|image|>") == 296


def test_closed_gates_agree_with_transformers(tmp_path):
    theirs, (args, kwargs) = mllama(), inputs()
    for name, gate in theirs.named_parameters():
        if "cross_attn_attn_gate" in name or "cross_attn_mlp_gate" in name:
            gate.data.zero_()
    theirs.save_pretrained(tmp_path / "a")
    ours = load_checkpoint(tmp_path / "a")
    again = type(theirs).from_pretrained(save_checkpoint(ours, tmp_path / "b", layout="hub"))
    with torch.no_grad():
        torch.testing.assert_close(ours.model(*args), again(**kwargs).logits, atol=1e-4, rtol=0)


def equal(a, b) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return a.config == b.config and x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def llama_in_both_layouts(tmp_path, n_shards: int, by_columns: bool, tied: bool) -> tuple[Path, Path]:
    """One random Llama as transformers and as Meta would store it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=tied,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "hub")
    ours = load_checkpoint(tmp_path / "hub").model
    names = foreign_names(ours.state_dict(), meta.TABLE, {}, "Meta")
    whole = {names[k].removeprefix("text_model."): v for k, v in ours.state_dict().items()}
    for name, tensor in whole.items():
        if name.endswith(("wq.weight", "wk.weight")):  # halves -> interleaved pairs
            whole[name] = tensor.unflatten(0, (4, 2, 4)).transpose(1, 2).flatten(0, 2)
    if tied:
        whole["output.weight"] = whole["tok_embeddings.weight"]
    whole["rope.freqs"] = torch.rand(4)
    (tmp_path / "meta").mkdir()
    params = {"dim": 32, "n_layers": 2, "n_heads": 4, "multiple_of": 256, "norm_eps": 1e-5, "vocab_size": -1}
    (tmp_path / "meta/params.json").write_text(json.dumps(params))
    for i in range(n_shards):
        shard = {}
        for name, tensor in whole.items():
            dim = next((d for end, d in meta.SPLIT.items() if f"text_model.{name}".endswith(end)), None)
            dim = int(by_columns) if name.startswith("tok_embeddings") else dim
            shard[name] = (tensor if dim is None else tensor.chunk(n_shards, dim)[i]).clone()
        torch.save(shard, tmp_path / f"meta/consolidated.{i:02d}.pth")
    return tmp_path / "hub", tmp_path / "meta"


@pytest.mark.parametrize(
    "n_shards, by_columns, tied", [(1, False, False), (2, True, False), (2, False, False), (1, False, True)]
)
def test_text_models_of_meta(tmp_path, n_shards, by_columns, tied):
    a, b = (load_checkpoint(folder) for folder in llama_in_both_layouts(tmp_path, n_shards, by_columns, tied))
    assert equal(a.model, b.model) and a.config.decoder.tie_embeddings == tied
    assert a.model.decoder(torch.tensor([[1, 2, 3]])).shape == (1, 3, 64)


def test_text_model_of_ours_in_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    folder, _ = llama_in_both_layouts(tmp_path, 1, False, True)
    ours = load_checkpoint(folder).model
    theirs, info = AutoModelForCausalLM.from_pretrained(
        save_checkpoint(ours, tmp_path / "b", layout="hub"), output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.randint(64, (1, 20))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)
