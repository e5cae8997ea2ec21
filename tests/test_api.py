"""One in, one out; a list in, a list out; what goes wrong is said in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlm
from vlm.api import VLM, Result
from vlm.chat import ChatError
from vlm.engine import Sampling, Step
from vlm.image import ImageError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def m(model, chat):
    return VLM(model, chat)


def picture(seed, width=28, height=28):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def user(text, *images):
    return {
        "role": "user",
        "content": [*({"type": "image", "image": i} for i in images), {"type": "text", "text": text}],
    }


def test_a_request_that_fails_on_the_way_loses_no_other(model, chat):
    m = VLM(model, chat)
    questions = ["red", "blue square", "star"]
    wanted = [str(r) for r in m.answer([picture(0)] * 3, questions, max_new_tokens=4)]
    weights = m.engine.scheduler.weights
    tokens = [set(chat.encode([user(q, picture(0))]).tokens) for q in questions]
    bad = torch.nn.Embedding.from_pretrained(weights.embed.weight.detach().clone())
    bad.weight[min(tokens[1] - tokens[0] - tokens[2])] = float("nan")
    whole, weights.embed = weights.embed, bad
    try:
        said = m.answer([picture(0)] * 3, questions, max_new_tokens=4)
    finally:
        weights.embed = whole
    assert [str(said[0]), str(said[2])] == [wanted[0], wanted[2]]
    assert said[1].finish_reason == "error" and "not finite" in said[1].error and str(said[1]) == ""


def test_one_in_one_out_and_list_in_list_out(m):
    assert isinstance(m.answer(picture(0), "How many?", max_new_tokens=4), Result)
    assert isinstance(m.caption(picture(0), max_new_tokens=4), Result)
    for images in ([picture(0)], [picture(0), picture(1)], []):
        assert [type(r) for r in m.caption(images, max_new_tokens=4)] == [Result] * len(images)
        assert [type(r) for r in m.answer(images, "How many?", max_new_tokens=4)] == [Result] * len(images)
    assert len(m.answer(picture(0), ["How many?", "Is it red?"], max_new_tokens=4)) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_order_is_kept_whatever_the_batches(m, batch_size):
    images = [picture(i, *size) for i, size in enumerate([(28, 28), (56, 28), (20, 90), (28, 28), (56, 56)])]
    questions = ["How many?", "Is there a blue square? Describe it.", "red", "a star", "a large green star"]
    alone = [m.answer(i, q, max_new_tokens=6) for i, q in zip(images, questions, strict=True)]
    together = m.answer(images, questions, max_new_tokens=6, batch_size=batch_size)
    assert together == alone and len(set(alone)) > 1
    assert [r.completion_tokens for r in together] == [r.completion_tokens for r in alone]
    assert [r.logprob for r in together] == pytest.approx([r.logprob for r in alone], abs=2e-5)


def test_every_kind_of_picture_gives_the_same(m, tmp_path):
    image = picture(0)
    path = tmp_path / "a.png"
    image.save(path)
    array = np.asarray(image)
    sources = [image, path, str(path), path.read_bytes(), array, torch.from_numpy(array.copy()).permute(2, 0, 1)]
    assert len(set(m.caption(sources, max_new_tokens=5))) == 1


def test_a_bad_picture_in_a_list_becomes_an_error_in_its_place(m, tmp_path):
    missing = tmp_path / "no.png"
    images = [picture(0), missing, picture(1), b"no picture", picture(2)]
    results = m.answer(images, "How many?", max_new_tokens=4, batch_size=2)
    assert [r.finish_reason == "error" for r in results] == [False, True, False, True, False]
    assert results[1] == "" and "no such file" in results[1].error and str(missing) in results[1].error
    assert (results[1].completion_tokens, results[1].logprob) == (0, None)
    assert all("\n" not in r.error for r in results if r.error)
    good = m.answer([images[0], images[2], images[4]], "How many?", max_new_tokens=4)
    assert [r for r in results if not r.error] == good
    assert all(r.error for r in m.caption([missing, missing]))


def test_conversations_of_all_kinds_share_a_batch(m):
    long = user("star " * 900)
    found = m.generate(
        [[user("How many?", picture(0))], [user("a")], [long], [user("b", picture(1), picture(2))]], max_new_tokens=4
    )
    assert [bool(r.error) for r in found] == [False, False, True, False] and "context" in found[2].error
    assert found[0] == m.answer(picture(0), "How many?", max_new_tokens=4)
    assert found[3] == m.chat([user("b", picture(1), picture(2))], max_new_tokens=4)
    with pytest.raises(ValueError, match="context"):
        m.answer(picture(0), "star " * 900)


def test_a_single_bad_picture_raises(m, tmp_path):
    for call in (lambda i: m.caption(i), lambda i: m.answer(i, "How many?")):
        with pytest.raises(ImageError, match="no such file"):
            call(tmp_path / "no.png")
        with pytest.raises(ImageError):
            call(b"no picture")
    with pytest.raises(ImageError, match="no such file"):
        m.chat([user("How many?", tmp_path / "no.png")])


@pytest.mark.parametrize("question", ["", "  \n", ["", "a"], ["a", None], [5]])
def test_an_empty_question_is_refused(m, question):
    with pytest.raises(ValueError, match="the question is empty"):
        m.answer(picture(0), question)


def test_lists_of_different_lengths_are_refused(m):
    with pytest.raises(ValueError, match="found 2 pictures and 3 questions"):
        m.answer([picture(0), picture(1)], ["a", "b", "c"])
    with pytest.raises(ValueError, match="found 0 pictures and 1 questions"):
        m.answer([], ["a"])


def test_a_result_is_a_string_with_its_circumstances(m):
    result = m.answer(picture(0), "How many?", max_new_tokens=3)
    assert isinstance(result, str) and result == str(result)
    assert result.finish_reason in ("stop", "length") and result.error is None
    assert 1 <= result.completion_tokens <= 3 and result.prompt_tokens > 10
    assert result.logprob < 0 and result.seconds >= 0
    data = result.to_dict()
    assert data.pop("text") == result and type(result.to_dict()["text"]) is str
    assert data == {n: getattr(result, n) for n in Result.__annotations__}


def test_the_end_of_turn_is_counted_and_not_said(m, monkeypatch):
    eot, red = m.chat_format.tokenizer.id("<|eot_id|>"), m.chat_format.tokenizer.encode("red")
    said = [*red, eot]
    steps = [Step(0, t, "stop" if t == eot else None, -0.5) for t in said]
    monkeypatch.setattr(m.engine, "run", lambda asked, rows: ((i, steps) for i, _ in enumerate(asked)))
    result = m.caption(picture(0))
    assert (result, result.finish_reason) == ("red", "stop")
    assert (result.completion_tokens, result.logprob) == (len(said), -0.5)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_the_pieces_of_a_stream_are_the_whole_answer(m, images):
    for seed in range(4):
        messages = [user("How many?", *(picture(seed + i) for i in range(images)))]
        options = {"max_new_tokens": 12, "temperature": 1.5, "seed": seed}
        pieces = list(m.chat(messages, stream=True, **options))
        assert "".join(pieces) == m.chat(messages, **options)
        assert all(pieces[:-1]) and pieces[-1].finish_reason in ("stop", "length")


def test_a_stream_strips_and_waits_for_whole_characters(m, monkeypatch):
    ids = m.chat_format.tokenizer.encode("  a \N{SNOWMAN} b \n")
    eot = m.chat_format.tokenizer.id("<|eot_id|>")
    steps = [Step(0, t, None, -0.5) for t in ids] + [Step(0, eot, "stop", -0.5)]
    monkeypatch.setattr(m.engine, "follow", lambda _: (s for s in steps))
    pieces = list(m.chat([user("a")], stream=True))
    assert "".join(pieces) == "a \N{SNOWMAN} b"
    assert not any("\ufffd" in p for p in pieces) and len(pieces) > 1


def test_a_stream_can_be_closed_at_once(m):
    stream = m.chat([user("How many?")], stream=True, max_new_tokens=200)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_bad_requests_fail_before_a_stream_is_made(m):
    with pytest.raises(ChatError):
        m.chat([], stream=True)
    with pytest.raises(ValueError, match="context"):
        m.chat([user("star " * 400)], stream=True)


def test_chat_sees_no_one_or_two_pictures(m):
    a, b = picture(1), picture(2)

    def ask(*images):
        return m.chat([user("Which?", *images)], max_new_tokens=6)

    both, swapped, first, none = ask(a, b), ask(b, a), ask(a), ask()
    assert len({r.logprob for r in (both, swapped, first, none)}) == 4
    assert both.prompt_tokens == first.prompt_tokens + 1 == none.prompt_tokens + 2


def test_an_unknown_option_is_named(m):
    for call in (
        lambda **o: m.caption(picture(0), **o),
        lambda **o: m.answer(picture(0), "How many?", **o),
        lambda **o: m.chat([user("a")], **o),
    ):
        with pytest.raises(
            ValueError,
            match="unknown option 'temprature'; expected temperature, top_p, top_k, seed, lookup, regex or json_schema",
        ):
            call(temprature=1.0)
        with pytest.raises(ValueError, match="max_new_tokens: found 0"):
            call(max_new_tokens=0)


def test_answers_are_greedy_and_chat_takes_the_checkpoints_settings(model, chat):
    warm = VLM(model, chat, {"temperature": 0.6, "top_p": 0.9, "stop_ids": [1]})
    assert warm._sampling(5).temperature == 0.6 and warm._sampling(5).top_p == 0.9
    assert warm._sampling(5, temperature=0.0).temperature == 0.0
    assert warm._sampling(5, greedy=True).temperature == 0.0
    assert warm._sampling(5, lookup=4) == Sampling(max_new_tokens=5, lookup=4)  # guesses are for greedy answers
    assert warm._sampling(5, greedy=True, temperature=0.3, seed=1).temperature == 0.3


def test_a_seed_makes_warm_answers_reproducible(m):
    a, b, c = (m.answer(picture(0), "How many?", max_new_tokens=10, temperature=2.0, seed=s) for s in (1, 1, 2))
    assert a == b and a.logprob == b.logprob != c.logprob


def test_a_model_describes_itself(m):
    about = m.describe()
    assert about["parameters"] == sum(about["parts"].values()) == sum(p.numel() for p in m.model.parameters())
    assert (about["device"], about["dtype"]) == ("cpu", "float32")
    assert about["config"]["decoder"]["vocab_size"] == 300


def test_a_saved_model_answers_as_before(m, tmp_path):
    m.save(tmp_path / "model")
    again = vlm.load(tmp_path / "model", device="cpu", dtype=torch.float32)
    images = [picture(0), picture(1, 56, 28)]
    assert again.caption(images, max_new_tokens=6) == m.caption(images, max_new_tokens=6)
    assert again.source == str(tmp_path / "model")


def test_import_vlm_is_cheap():
    code = "import sys, vlm; print(sorted({'torch', 'numpy', 'PIL', 'tokenizers', 'safetensors'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_the_package():
    assert {"VLM", "Result", "load"} <= set(vlm.__all__)
    assert all(getattr(vlm, name) is not None for name in vlm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = vlm.laod


def test_a_missing_folder_is_one_line(tmp_path):
    for path in ("/no/such/folder", Path("/no/such/folder")):
        with pytest.raises(ValueError, match="/no/such/folder") as error:
            vlm.load(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="the folder is empty"):
        vlm.load(tmp_path)
    with pytest.raises(ValueError, match="dtype is 'int3'"):
        vlm.load(tmp_path, dtype="int3")
