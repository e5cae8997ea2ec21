"""A calibration lies beside the weights that it was fitted on, and nowhere else."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_confidence import PICTURES, PRODUCT, picture
from test_domain import drawn

import vlm
from adapters.lora import add_lora
from tests.conftest import tiny_model
from vlm.api import VLM
from vlm.calibration import Calibration
from vlm.calibration.domain import Domain, moments, statistics
from vlm.calibration.fit import Asked, Said, calibrate, half_varied, look, questions
from vlm.calibration.worlds import Worlds
from vlm.checkpoints import Checkpoint, CheckpointError, load_checkpoint, open_checkpoint, save_checkpoint
from vlm.checkpoints.calibration import fingerprint
from vlm.checkpoints.convert import convert_checkpoint
from vlm.checkpoints.peft import save_adapter
from vlm.image import preprocess
from vlm.result import OUTSIDE
from vlm.training.groups import group_layers

FILES = ("calibration.json", "domain.safetensors")
SMALL = Worlds(mixture={"scenes": 0.7, "shapes": 0.3})


@pytest.fixture(scope="module")
def own(model, chat):
    """A domain of the tiny model's own width, and a confidence."""
    points = lambda n, seed: (torch.randn(n, 96, generator=torch.Generator().manual_seed(seed)), drawn(n, seed)[1])  # noqa: E731
    pixels = torch.tensor([model.config.image.mean, model.config.image.std])
    domain = Domain.fit(pixels, points(100, 0), ["w"] * 100, points(50, 1), points(100, 2))
    return Calibration(confidence=PRODUCT, domain=domain, fitted={"seed": 3})


@pytest.fixture
def folder(model, chat, own, tmp_path):
    parts = Checkpoint(config=model.config, model=model, chat=chat, calibration=own)
    return save_checkpoint(parts, tmp_path / "m")


def mark_of(folder):
    source = open_checkpoint(folder)
    return fingerprint(source.shapes, source.read)


def test_it_comes_back_as_it_was(folder, own):
    loaded = load_checkpoint(folder).calibration
    assert loaded.confidence == own.confidence and loaded.fitted == own.fitted
    for name, tensor in own.domain.tensors().items():
        torch.testing.assert_close(loaded.domain.tensors()[name], tensor, rtol=0, atol=0)
    assert load_checkpoint(folder, calibrated=False).calibration is None


def test_a_folder_without_one_is_a_model_without_one(model, chat, tmp_path):
    folder = save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path / "m")
    assert not any((folder / name).exists() for name in FILES)
    result = vlm.load(folder, guard=None).answer(picture(0), "How many?", max_new_tokens=3)
    assert (result.confidence, result.in_domain, result.domain_score, result.remark) == (None, None, None, "")


def test_the_fingerprint_is_of_the_weights_and_not_of_how_they_are_kept(folder, model, chat, tmp_path):
    mark = mark_of(folder)
    for name, dtype, layout in (("b", torch.bfloat16, "native"), ("h", torch.float32, "hub")):
        m = VLM(tiny_model().to(dtype), chat)
        m.save(tmp_path / name, layout=layout)
        assert mark_of(tmp_path / name) == mark
    quantized = VLM(tiny_model(), chat)
    quantized.quantize("int8")
    quantized.save(tmp_path / "q")
    assert mark_of(tmp_path / "q") == mark
    other = tiny_model()
    with torch.no_grad():
        other.decoder.norm.weight[0] *= 1.05
    VLM(other, chat).save(tmp_path / "o")
    assert mark_of(tmp_path / "o") != mark


def test_those_of_another_model_are_one_clear_error(folder, chat, tmp_path):
    other = tiny_model()
    with torch.no_grad():
        other.encoder.post_norm.bias += 0.25
    VLM(other, chat).save(tmp_path / "other")
    for name in FILES:
        shutil.copy(folder / name, tmp_path / "other" / name)
    with pytest.raises(CheckpointError, match=r"calibration.json: was fitted on other weights .*vlm calibrate"):
        vlm.load(tmp_path / "other", guard=None)


@pytest.mark.parametrize("layout", ["native", "hub"])
def test_a_converted_model_keeps_it(folder, own, tmp_path, layout):
    found = load_checkpoint(convert_checkpoint(folder, tmp_path / layout, layout)).calibration
    assert found.confidence == own.confidence and found.fitted == own.fitted


def edit(change):
    def act(folder):
        path = folder / FILES[0]
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return act


def edit_domain(change):
    def act(folder):
        path = folder / FILES[1]
        save_file(change(load_file(path)), path, {"fingerprint": mark_of(folder)})

    return act


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda f: (f / FILES[0]).unlink(), "calibration.json: this file is missing, domain.safetensors needs it"),
        (lambda f: (f / FILES[1]).unlink(), "domain.safetensors: this file is missing, calibration.json needs it"),
        (lambda f: (f / FILES[0]).write_text("{"), "calibration.json: not valid JSON"),
        (lambda f: (f / FILES[1]).write_bytes(b"x" * 99), "domain.safetensors: not a whole safetensors file"),
        (edit(lambda d: d.update(version=2)), "found 'calibration' 2, expected 'calibration' 1"),
        (edit(lambda d: d.pop("confidence")), "calibration.json: confidence is None, expected the features"),
        (edit(lambda d: d["confidence"].update(weights=[1, 2])), "confidence is .*expected the features"),
        (edit(lambda d: d["confidence"].update(weights=[-1.0, 2.0, 0.0])), "the first two not negative"),
        (edit(lambda d: d["confidence"].update(features=["a"])), "expected the features answer, weakest token, length"),
        (edit(lambda d: d.update(fingerprint="0")), "calibration.json: was fitted on other weights"),
        (edit_domain(lambda t: t | {"more": torch.ones(1)}), "domain.safetensors: found a tensor more"),
        (edit_domain(lambda t: t | {"mean": t["mean"][:5].clone()}), "domain.safetensors: mean has shape"),
    ],
)
def test_damaged_files_are_one_clear_error(folder, act, message):
    act(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(folder)
    assert "\n" not in str(raised.value) and "vlm calibrate" in str(raised.value) or "get it again" in str(raised.value)


def test_a_saved_model_keeps_it_and_an_adapted_one_has_none(folder, tmp_path):
    adapted = load_checkpoint(folder).model
    add_lora(adapted, group_layers(adapted, ("text",)), rank=2)
    save_adapter(adapted, tmp_path / "lora")
    m = vlm.load(folder, guard=None)
    m.save(tmp_path / "copy")
    assert vlm.load(tmp_path / "copy", guard=None).calibration.confidence == PRODUCT
    before = m.answer(picture(0), "How many?", max_new_tokens=3)
    m.load_adapter(tmp_path / "lora")
    during = m.answer(picture(0), "How many?", max_new_tokens=3)
    m.use_adapter(None)
    after = m.answer(picture(0), "How many?", max_new_tokens=3)
    assert during.domain_score is None and before.domain_score == pytest.approx(after.domain_score)


def test_a_picture_is_encoded_once_for_answer_and_domain(folder):
    m = vlm.load(folder, guard=None)
    results = m.answer(PICTURES * 2, "How many?", max_new_tokens=4)
    *_, last = m.chat([{"role": "user", "content": [{"type": "image", "image": p} for p in PICTURES]
                       + [{"type": "text", "text": "a star"}]}], stream=True, max_new_tokens=4)  # fmt: skip
    assert m.engine.scheduler.cache.encodes == len(PICTURES)
    assert last.domain_score == max(r.domain_score for r in results)
    for result, image in zip(results, PICTURES * 2, strict=True):
        tiles, grid = preprocess(image, m.model.config.image)
        with torch.no_grad():
            features = m.model.encoder(tiles[None, None], torch.tensor([[grid]]))[0, 0]
        domain = m.calibration.domain
        wanted = domain.score(moments(features)[None], statistics(tiles, domain.pixels)[None])
        assert result.domain_score == pytest.approx(float(wanted), rel=1e-3)
        assert result.in_domain is (result.domain_score <= 1)


def test_the_commands_say_that_a_picture_is_outside(run, folder, tmp_path):
    picture(0).save(tmp_path / "a.png")
    for edge, outside in ((1e-6, True), (1e6, False)):
        edges = {"density_edge": torch.tensor(edge), "texture_edge": torch.tensor([edge, 1.0])}
        edit_domain(lambda t, e=edges: t | e)(folder)
        options = ["--model", folder, "--guard", "none", "--max-new-tokens", 3, "--json", "-"]
        for command in (["ask", tmp_path / "a.png", "How many?"], ["caption", tmp_path / "a.png"]):
            code, out, err = run(*command, *options)
            found = json.loads(out)
            found = found if isinstance(found, dict) else found[0]
            assert code == 0 and (OUTSIDE in err) is outside and "confidence" in found
            assert (found["in_domain"], found["domain_score"] > 1) == (not outside, outside)


def test_it_is_fitted_from_one_seed(model, chat, monkeypatch):
    """By a model that knows nothing, marked right now and then: what is drawn and looked at is real."""
    monkeypatch.setattr(Said, "right", property(lambda self: len(self.asked.right[0]) % 2 == 0))
    monkeypatch.setattr("vlm.calibration.fit.LONGEST", 3)
    monkeypatch.setattr("vlm.calibration.domain.FEWEST", 5)
    m = VLM(model, chat)
    m.engine.stop_ids = frozenset(range(0, 300, 2))
    first, again = (calibrate(m, SMALL, count=200, seed=4) for _ in range(2))
    assert first.confidence == again.confidence and first.fitted == again.fitted
    points = look(m, half_varied((s.image for s in SMALL.draw(model.config.image, 60, seed=9, split="test")), 1))[0]
    torch.testing.assert_close(first.domain.score(*points), again.domain.score(*points), rtol=0, atol=0)
    assert (first.domain.score(*points) > 1).float().mean() < 0.3 and first.fitted["textures_outside"] > 0.5
    assert not m.engine.observers  # nothing is left behind
    other = calibrate(m, SMALL, count=200, seed=5)
    assert other.confidence != first.confidence


def test_right_is_one_of_the_right_answers_but_for_capitals_and_a_stop():
    one = Asked(pictures=(), text="?", right=("Two red stars.", "3"), family="caption", world="scenes")
    said = lambda text: Said(asked=one, text=text, finish="stop", logprobs=(0.0,), domain_score=None)  # noqa: E731
    assert [said(t).right for t in ("two red stars", "3", "three", "")] == [True, True, False, False]
    samples = list(SMALL.draw(tiny_model().config.image, 4, seed=1, split="val", questions=2))
    asked = list(questions(samples, captions=True))
    assert sum(a.family == "caption" for a in asked) == 4 and all(a.right for a in asked)


@pytest.mark.parametrize(
    "args, message",
    [
        (["nowhere"], "nowhere: no such folder"),
        (["{llama}"], "this model sees no pictures"),
        (["{folder}", "--count", "10"], "count: found 10, expected 200 or more"),
        (["{folder}", "--world", "moon=1"], "no world moon"),
        (["{folder}", "--count", "200", "--world", "scenes"], "expected 100 or more of both kinds"),
    ],
)
def test_the_command_says_what_is_wrong(run, folder, llama, args, message):
    before = (folder / FILES[0]).read_bytes()
    code, _, err = run("calibrate", *(a.format(folder=folder, llama=llama) for a in args))
    assert code == 2 and message in err and err.strip().splitlines()[-1].startswith("vlm: ")
    assert (folder / FILES[0]).read_bytes() == before
    assert not list(folder.glob("*partial*"))
