"""The command line: cheap to start, one clear line for every mistake."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from adapters.lora import add_lora, lora_layers
from tests.conftest import tiny_model
from vlm.api import VLM
from vlm.checkpoints.peft import save_adapter
from vlm.cli import app


@pytest.fixture(scope="module")
def folder(model, chat, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    VLM(model, chat).save(path)
    return str(path)


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_help_needs_no_torch():
    heavy = ("torch", "gradio", "transformers", "PIL")
    code = f"import sys, vlm, vlm.cli; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_command_takes_json(run):
    import typer

    def commands(group, path=()):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]

    found = list(commands(typer.main.get_command(app)))
    assert len(found) >= 8
    for path, command in found:
        assert any("--json" in p.opts for p in command.params), path


def test_caption_and_ask_write_json(run, folder, picture):
    code, out, _ = run("caption", picture, "--model", folder, "--max-new-tokens", 4, "--json", "-")
    (row,) = json.loads(out)
    assert code == 0 and row["image"] == str(picture) and row["completion_tokens"] <= 4 and row["error"] is None
    target = picture.with_suffix(".json")
    assert run("ask", picture, "How many?", "--model", folder, "--max-new-tokens", 4, "--json", target)[0] == 0
    assert json.loads(target.read_text())["question"] == "How many?"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes what the model says."""
    model = tiny_model()
    add_lora(model, [f"decoder.layers.{i}.attn.v_proj" for i in range(4)])
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B["default"].normal_(generator=torch.Generator().manual_seed(0))
    return save_adapter(model, tmp_path_factory.mktemp("adapter"))


def test_an_adapter_changes_the_answer(run, folder, adapter, picture):
    said = {}
    for flags in ((), ("--adapter", adapter)):
        asked = run("ask", picture, "How many?", "--model", folder, *flags, "--max-new-tokens", 6, "--json", "-")
        described = run("caption", picture, "--model", folder, *flags, "--max-new-tokens", 6, "--json", "-")
        assert asked[0] == described[0] == 0
        said[flags] = json.loads(asked[1])["logprob"], json.loads(described[1])[0]["logprob"]
    plain, adapted = said.values()
    assert all(abs(a - b) > 1e-3 for a, b in zip(plain, adapted, strict=True))


def test_composed_models_are_written_and_described(run, chat, tmp_path, picture):
    chat.tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    out, flags = tmp_path / "made", ("--encoder", "timm:resnet10t", "--connector", "perceiver:4", "--decoder", "debug")
    sizes = ("--tokenizer", tmp_path / "tokenizer.json", "--layers", "0,3", "--taps", "1,2", "--tile-size", 64)
    code, text, err = run("compose", *flags, *sizes, "--max-tiles", 2, "--out", out, "--json", tmp_path / "made.json")
    assert (code, err) == (0, "") and text == run("info", out)[1]
    config = json.loads((tmp_path / "made.json").read_text())["config"]
    assert config["encoder"] | {"name": "timm:resnet10t", "taps": [1, 2]} == config["encoder"]
    assert config["decoder"]["cross_attention_layers"] == [0, 3] and config["connector"]["name"] == "perceiver:4"
    assert (config["image"]["tile_size"], config["image"]["max_tiles"]) == (64, 2)
    assert run("ask", picture, "How many?", "--model", out, "--max-new-tokens", 2)[0] == 0


def test_encoders_are_listed(run):
    code, text, _ = run("encoders", "timm:*SigLIP_224", "--json", "-")
    names = json.loads(text)
    assert code == 0 and "timm:vit_base_patch16_siglip_224" in names and all("siglip" in name for name in names)
    assert run("encoders", "tiled")[1] == "tiled\n"


def test_one_bad_picture_does_not_lose_the_others(run, folder, picture):
    code, out, err = run("caption", "missing.png", picture, "--model", folder, "--max-new-tokens", 2)
    assert code == 2 and "missing.png" in err and str(picture) in out and "Traceback" not in err


def make_bad(kind, tmp_path):
    path = tmp_path / f"bad-{kind}.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        Image.effect_noise((90, 90), 50).save(path)
        path.write_bytes(path.read_bytes()[:600])
    elif kind == "huge":
        Image.new("1", (7000, 7000)).save(path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "svg": b"<svg xmlns='x'/>", "pdf": b"%PDF-1.4", "text": b"hello"}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "huge", "svg", "pdf", "text", "folder"])
def test_a_bad_picture_is_one_line_and_exit_2(run, folder, tmp_path, kind):
    path = make_bad(kind, tmp_path)
    code, out, err = run("ask", path, "What is it?", "--model", folder)
    assert code == 2 and out == "" and err.startswith("vlm: ") and err.count("\n") == 1 and path.name in err


@pytest.mark.parametrize("size", [(1, 60), (60, 1)])
def test_the_thinnest_picture_is_answered(run, folder, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "thin.png")
    assert run("ask", tmp_path / "thin.png", "What is it?", "--model", folder, "--max-new-tokens", 2)[0] == 0


def test_an_animated_picture_is_its_first_frame(run, folder, tmp_path):
    frames = [Image.new("RGB", (30, 30), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert run("ask", tmp_path / "a.gif", "What is it?", "--model", folder, "--max-new-tokens", 2)[0] == 0


COMPOSE = ["compose", "--encoder", "tiled", "--connector", "linear", "--out", "OUT", "--decoder"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ask", "PICTURE", " "], "question is empty"),
        (["ask", "PICTURE", "star " * 400], "context"),
        (["ask", "PICTURE", "x", "--max-new-tokens", "0"], "max_new_tokens"),
        (["ask", "PICTURE", "x", "--model", "no/such-model/here"], "no/such-model/here"),
        (["train", "no.yaml"], "no.yaml"),
        (["train", "CONFIG", "learnig_rate=1"], "learnig_rate"),
        (["data", "render", "--out", "OUT", "--world", "scened=1"], "scened"),
        (["eval-world", "--model", "FOLDER", "--split", "tset", "--count", "4"], "tset"),
        (["ask", "PICTURE", "x", "--adapter", "FOLDER"], "adapter_config.json: this file is missing"),
        (["encoders", "resnet10tt"], "did you mean 'timm:resnet10t'"),
        ([*COMPOSE, "debug"], "give one: tokenizer="),
        ([*COMPOSE, "mni"], "did you mean 'mini'"),
        ([*COMPOSE, "debug", "--layers", "3;7"], "--layers '3;7': expected numbers"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(run, folder, picture, tmp_path, args, words):
    (tmp_path / "c.yaml").write_text("output: x\nstages: [{until: 1, mixture: {scenes: 1.0}}]\n")
    named = {"PICTURE": picture, "CONFIG": tmp_path / "c.yaml", "OUT": tmp_path / "shards", "FOLDER": folder}
    args = [named.get(a, a) for a in args]
    if args[0] == "ask" and "--model" not in args:
        args += ["--model", folder]
    code, _, err = run(*args)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("vlm: ") and words in last and "Traceback" not in err


def test_render_info_and_eval_world(run, folder, tmp_path):
    out = tmp_path / "shards"
    code, text, _ = run("data", "render", "--out", out, "--count", 4, "--per-shard", 2, "--json", "-")
    assert code == 0 and json.loads(text)["written"] == 2
    code, text, _ = run("info", folder, "--json", "-")
    assert code == 0 and json.loads(text)["parameters"] > 0
    code, text, _ = run("eval-world", "--model", folder, "--count", 4, "--json", "-")
    assert code == 0 and json.loads(text)["tables"]["test"]["all"]["n"] == 4
