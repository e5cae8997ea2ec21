"""Given answers are ranked by what the plain model makes of them."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.api import VLM
from vlm.chat import IGNORE
from vlm.chat_template import TemplateChat
from vlm.choices import answer_tokens, check_choices
from vlm.image import ImageError, collate_images, preprocess

CHOICES = ["red", "a red circle", "a", "blue circles, or none at all", "é"]
CHATML = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}"
    "<|eot_id|>\n{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MERGING = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def m(model, chat):
    return VLM(model, chat)


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 56, 3), dtype=np.uint8))


def plain(model, chat, image, question, choice):
    """Sum over the answer's tokens and its end-of-turn, in one forward pass without the engine."""
    parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": choice}]
    row = chat.encode(turns, generate=False)
    pictures = collate_images([[preprocess(image, model.config.image)]])
    logprobs = model(torch.tensor([row.tokens]), *pictures, torch.tensor([row.sees]))[0].detach().log_softmax(-1)
    return sum(float(logprobs[i - 1, label]) for i, label in enumerate(row.labels) if label != IGNORE)


def test_scores_are_those_of_the_plain_model(m, model, chat):
    wanted = {c: plain(model, chat, picture(0), "How many?", c) for c in CHOICES}
    found = m.choose(picture(0), "How many?", CHOICES)
    assert {c.text: c.logprob for c in found} == pytest.approx(wanted, abs=1e-4)
    assert [c.text for c in found] == sorted(CHOICES, key=wanted.get, reverse=True) and found.best == found[0].text
    total = sum(map(math.exp, wanted.values()))
    assert [c.share for c in found] == pytest.approx([math.exp(wanted[c.text]) / total for c in found], rel=1e-3)


def test_normalised_scores_are_per_byte(m):
    plain, found = (m.choose(picture(0), "How many?", CHOICES, normalize=n) for n in (False, True))
    scores = {c.text: c.logprob / len(c.text.encode()) for c in plain}
    assert [c.text for c in found] == sorted(CHOICES, key=scores.get, reverse=True) != [c.text for c in plain]
    total = sum(map(math.exp, scores.values()))
    assert [c.share for c in found] == pytest.approx([math.exp(scores[c.text]) / total for c in found], rel=1e-3)
    assert {c.text: c.logprob for c in found} == pytest.approx({c.text: c.logprob for c in plain}, abs=1e-5)


def test_the_order_of_choices_does_not_matter(m):
    found, turned = (m.choose(picture(0), "How many?", c) for c in (CHOICES, CHOICES[::-1]))
    assert [c.text for c in found] == [c.text for c in turned]
    assert [c.logprob for c in found] == pytest.approx([c.logprob for c in turned], abs=1e-5)


def test_white_space_around_a_choice_is_not_scored(m):
    found = m.choose(picture(0), "How many?", [" red ", "blue"])
    wanted = m.choose(picture(0), "How many?", ["red", "blue"])
    assert [c.logprob for c in found] == pytest.approx([c.logprob for c in wanted], abs=1e-5)
    assert {c.text for c in found} == {" red ", "blue"}


def test_one_prompt_pass_one_choice_pass_one_encoding_per_picture(model, chat, monkeypatch):
    from vlm.engine import engine as module

    m, passes, encoded = VLM(model, chat), [], []
    run = module.forward
    monkeypatch.setattr(module, "forward", lambda *a: (passes.append(1), run(*a))[1])
    hook = model.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    try:
        m.choose(picture(0), "How many?", CHOICES)
        assert (len(passes), len(encoded)) == (2, 1)
        m.choose(picture(0), ["How many?", "Is it red?"], CHOICES)
        assert (len(passes), len(encoded)) == (6, 1)
    finally:
        hook.remove()
    scheduler = m.engine.scheduler
    assert (scheduler.pool.n_used, scheduler.cache.n_used, scheduler.busy) == (0, 0, False)


def test_lists_in_lists_out(m, tmp_path):
    questions = ["How many?", "Is it red?"]
    each = [["one", "two"], ["yes", "no", "red"]]
    alone = [m.choose(picture(i), q, c) for i, (q, c) in enumerate(zip(questions, each, strict=True))]
    assert m.choose([picture(0), picture(1)], questions, each) == alone
    assert m.choose([], "How many?", ["yes", "no"]) == []
    bad = m.choose([picture(0), tmp_path / "no.png", picture(0)], "How many?", ["yes", "no"])
    assert [len(r) for r in bad] == [2, 0, 2] and "no such file" in bad[1].error and bad[1].best is None
    assert bad[0] == bad[2] and bad[0].error is None
    with pytest.raises(ImageError, match="no such file"):
        m.choose(tmp_path / "no.png", "How many?", ["yes", "no"])


@pytest.mark.parametrize("choices, message", [
    ([], "found 0, expected at least two"), (["yes"], "found 1, expected at least two"), (["yes", " "], "empty"),
    (["yes", "no", "yes "], "twice"), ("yes", "expected a list"), (["yes", 3], "expected a list"),
    (None, "expected a list"), ([["yes", "no"], ["a", "b"]], "2 lists of choices and 1 questions"),
    (["yes", "a " * 5000], "context holds"),
])  # fmt: skip
def test_unfit_choices_are_one_clear_line(m, choices, message):
    with pytest.raises(ValueError, match=message) as error:
        m.choose(picture(0), "How many?", choices)
    assert "\n" not in str(error.value)


def test_tokens_are_those_that_training_labels(chat):
    for layout in (chat, template(chat, CHATML)):
        messages = [{"role": "user", "content": "How many?"}]
        prompt = layout.encode(messages)
        row = layout.encode([*messages, {"role": "assistant", "content": "a star"}], generate=False)
        tokens = answer_tokens(layout, messages, prompt, "a star")
        assert tokens == [label for label in row.labels if label != IGNORE]
        assert tokens[-1] == chat.tokenizer.id("<|eot_id|>") and chat.tokenizer.decode(tokens) == "a star"


def test_a_layout_without_turns_ends_a_choice_too(chat):
    layout = template(chat, MERGING)
    messages = [{"role": "user", "content": "a lar"}]
    for text in ("ge", "red"):
        tokens = answer_tokens(layout, messages, layout.encode(messages), text)
        assert chat.tokenizer.decode(tokens) == text and tokens[-1] == chat.tokenizer.id("<|end_of_text|>")


def template(chat, source):
    special = {"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"}
    return TemplateChat(chat.tokenizer, source, special=special, stop_ids=chat.stop_ids, image_id=None)


def test_choices_stay_as_given():
    assert check_choices(("b", "a")) == ["b", "a"]


def test_the_command_line_ranks_and_constrains(m, tmp_path, monkeypatch, capsys):
    from vlm.cli import main

    m.save(tmp_path / "tiny")
    picture(0).save(tmp_path / "p.png")
    (tmp_path / "schema.json").write_text('{"enum": ["red", "blue"]}')
    (tmp_path / "bad.json").write_text("{")

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["vlm", *args, "--model", str(tmp_path / "tiny")])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, *capsys.readouterr()

    asked = (str(tmp_path / "p.png"), "How many?")
    code, out, _ = call("choose", *asked, "red", "a red circle", "--json", "-")
    found = json.loads(out)
    assert code == 0 and found["best"] == m.choose(picture(0), "How many?", ["red", "a red circle"]).best
    assert sum(c["share"] for c in found["choices"]) == pytest.approx(1)
    code, out, _ = call("choose", *asked, "red", "a red circle", "--normalize")
    assert code == 0 and len(out.splitlines()) == 2 and "%  red\n" in out
    code, _, err = call("choose", *asked, "red", "red")
    assert code == 2 and err.count("\n") == 1 and "twice" in err

    pytest.importorskip("llguidance")
    code, out, _ = call("ask", *asked, "--regex", "[0-9]{2}")
    assert code == 0 and len(out.strip()) == 2 and out.strip().isdigit()
    code, out, _ = call("ask", *asked, "--json-schema", str(tmp_path / "schema.json"))
    assert code == 0 and json.loads(out) in ("red", "blue")
    code, _, err = call("ask", *asked, "--json-schema", str(tmp_path / "bad.json"))
    assert code == 2 and err.count("\n") == 1 and "no JSON" in err
