"""The page answers, streams and complains in words."""

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from demo.app import REFUSED, about_guard, example_pictures, reply, serve, text_of, to_messages
from tests.guards import WordGuard
from vlm.guard.shield import Shield
from vlm.result import OUTSIDE, Result


class Stub:
    """A model that says which picture size it was given, in two pieces."""

    shield = None

    def __init__(self):
        self.closed, self.end = 0, None

    def chat(self, messages, *, stream, max_new_tokens, temperature):
        def pieces():
            try:
                yield "I see "
                yield messages[-1]["content"] if isinstance(messages[-1]["content"], str) else "it"
                if self.end is not None:
                    yield self.end
            finally:
                self.closed += 1

        return pieces()


@pytest.fixture(scope="module")
def stub():
    return Stub()


@pytest.fixture(scope="module")
def client(stub):
    page = serve(stub, port=None, block=False)
    yield Client(page.local_url, verbose=False)
    page.close()


def asked(question):
    return [{"role": "user", "content": [{"type": "text", "text": question}]}]


def last_words(history):
    return text_of(history[-1]["content"])


def test_a_question_is_answered_and_the_generator_closed(client, stub, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "p.png")
    said = client.predict(handle_file(str(tmp_path / "p.png")), asked("What is it?"), 0, 16, api_name="/answer")
    assert last_words(said) == "I see it" and stub.closed == 1


@pytest.mark.parametrize(
    "end, remark",
    [
        (Result("", confidence=0.934, domain_score=0.5), "Very sure, 93 %"),
        (Result("", confidence=0.999, domain_score=1.0), "Very sure, 99 %"),
        (Result("", confidence=0.2, domain_score=0.5), "Guessing, 20 %"),
        (Result("", confidence=0.9, domain_score=1.2), OUTSIDE),
        (Result(""), ""),
    ],
)
def test_the_remark_stands_beside_the_answer_and_not_among_its_words(client, stub, tmp_path, monkeypatch, end, remark):
    monkeypatch.setattr(stub, "end", end)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "p.png")
    said = client.predict(handle_file(str(tmp_path / "p.png")), asked("What is it?"), 0, 16, api_name="/answer")
    answer, *beside = said[-1]["content"]
    assert answer["text"] == "I see it" and [remark in part["text"] for part in beside] == [True] * bool(remark)
    again = to_messages("p.png", [*asked("What?"), reply("one", end), *asked("And?")])
    assert [m["content"] for m in again[1:]] == ["one", "And?"]


def test_a_file_that_is_no_picture_gives_one_clear_line(client, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    said = client.predict(handle_file(str(tmp_path / "bad.png")), asked("What is it?"), 0, 16, api_name="/answer")
    assert last_words(said).startswith("⚠") and "bad.png" in last_words(said) and "\n" not in last_words(said)


def test_no_picture_is_said(client):
    assert "Give a picture first" in last_words(client.predict(None, asked("What is it?"), 0, 16, api_name="/answer"))


def test_history_comes_in_several_forms():
    forms = ["hi", {"type": "text", "text": "hi"}, [{"type": "text", "text": "hi"}], ["hi"]]
    assert [text_of(f) for f in forms] == ["hi"] * 4
    messages = to_messages("p.png", [{"role": "user", "content": f} for f in forms])
    assert [p["type"] for p in messages[0]["content"]] == ["image", "text"]
    assert [m["content"] for m in messages[1:]] == ["hi"] * 3


def test_examples_are_drawn(tmp_path):
    rows = example_pictures(tmp_path)
    assert len(rows) >= 6 and all(Image.open(path).size == (384, 384) and question for path, question in rows)


def test_the_page_says_who_guards(stub):
    assert "No guard" in about_guard(stub)
    stub.shield = Shield(WordGuard())
    assert "WordGuard" in about_guard(stub)
    stub.shield = None


def test_what_was_refused_is_shown_and_then_left_out():
    shown = reply("Sorry: it falls under Hate (S10).", Result("", finish_reason="content_filter"))
    assert [p["text"] for p in shown["content"]] == ["Sorry: it falls under Hate (S10).", REFUSED]
    history = [{"role": "user", "content": "bad"}, shown, {"role": "user", "content": "good"}]
    (message,) = to_messages("p.png", history)
    assert message["content"][1]["text"] == "good" and message["content"][0]["type"] == "image"
    warned = reply("yes", Result("", warnings=("prompt: Hate (S10)",)))
    assert "warns of the prompt: Hate (S10)" in warned["content"][1]["text"]
    assert to_messages("p.png", [{"role": "user", "content": "a"}, warned])[1]["content"] == "yes"
