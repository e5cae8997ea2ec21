"""Constrained answers match what was asked for, whoever shares the batch and however they are drawn."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.api import VLM
from vlm.engine import Engine, Limits, Sampling, json_schema, regex
from vlm.engine.constraints import Vocabulary, mask

pytest.importorskip("llguidance")

PATTERNS = [
    "[0-9]+", "yes|no", "(red|green|blue) (circle|star)s?", "[A-Z][a-z]{2,8}", "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "^-?[0-9]+\\.[0-9]$", " x *", "(é|ü|日本)+!", "a*", "[^a-z\\n]{3}",
]  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 12},
        "inside": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "name": {"type": "string", "maxLength": 4},
    },
    "required": ["colour", "count", "inside"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def m(model, chat):
    return VLM(model, chat)


@pytest.fixture
def engine(model, chat):
    return Engine(model, stop_ids=chat.stop_ids, tokenizer=chat.tokenizer)


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8))


def ask(chat, text):
    return chat.encode([{"role": "user", "content": text}])


def run(engine, chat, samplings):
    """One request per sampling, all in one batch -> steps of each."""
    asked = ((ask(chat, f"question {i}"), [], s) for i, s in enumerate(samplings))
    return [steps for _, steps in sorted(engine.run(asked))]


def said(chat, steps):
    return chat.tokenizer.decode([s.token for s in steps if s.finish != "stop"])


def valid(answer):
    """SCHEMA, by hand."""
    found = json.loads(answer)
    assert set(found) - {"name"} == {"colour", "count", "inside"} and found["colour"] in ("red", "blue")
    assert type(found["count"]) is int and 0 <= found["count"] <= 12
    assert len(found["inside"]) <= 2 and all(type(x) is bool for x in found["inside"])
    assert isinstance(found.get("name", ""), str) and len(found.get("name", "")) <= 4
    assert json.dumps(found, ensure_ascii=False) == answer or "\\" in answer  # one line, as json.dumps lays it out
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_answer_matches_or_ends_with_length(m, pattern):
    for options in ({}, {"temperature": 2.0}):
        for answer in m.answer(picture(0), ["How many?", "red", "x"], regex=pattern, max_new_tokens=16, **options):
            assert answer.finish_reason in ("stop", "length")
            if answer.finish_reason == "stop":
                assert re.fullmatch(pattern, answer), answer
            else:
                assert answer.completion_tokens == 16


def test_a_stream_is_the_whole_answer(m):
    messages = [{"role": "user", "content": "x"}]
    stream = "".join(m.chat(messages, regex=" [0-9]{2} ", stream=True))
    assert stream == m.chat(messages, regex=" [0-9]{2} ") and re.fullmatch(" [0-9]{2} ", stream)


def test_sampled_answers_differ_and_end(m):
    answers = m.answer(picture(0), ["How many?"] * 20, regex="[0-9]{2}", temperature=3.0, batch_size=20)
    assert len(set(answers)) > 5 and {a.finish_reason for a in answers} == {"stop"}
    assert {a.completion_tokens for a in answers} == {3}  # two digits and the end


def test_a_schema_is_met(m):
    answers = m.answer(
        picture(0), ["How many?"] * 12, json_schema=SCHEMA, temperature=1.5, max_new_tokens=90, batch_size=12
    )
    whole = [valid(answer) for answer in answers if answer.finish_reason == "stop"]
    assert len(whole) > 6 and len({w["count"] for w in whole}) > 2


def test_the_likeliest_allowed_token_is_taken_and_keeps_the_models_own_probability(model, chat, engine):
    prompt = ask(chat, "How many?")
    logits = model(torch.tensor([prompt.tokens]))[0, -1].detach()
    digits = [chat.tokenizer.encode(str(d))[0] for d in range(10)]
    best = max(digits, key=lambda t: logits[t])
    first = engine.generate([prompt], [[]], Sampling(max_new_tokens=1, constraint=regex("[0-9]+")))[0][0]
    assert first.token == best and first.token != int(logits.argmax())
    assert first.logprob == pytest.approx(float(logits.log_softmax(-1)[best]), abs=2e-5)


def test_a_mixed_batch_gives_each_row_what_it_gets_alone(model, chat, engine):
    samplings = [
        Sampling(max_new_tokens=9, constraint=regex("[0-9]{3,7}")),
        Sampling(max_new_tokens=9),
        Sampling(max_new_tokens=9, constraint=regex("(red|blue)+"), temperature=1.5, seed=3),
        Sampling(max_new_tokens=9, temperature=1.5, seed=4),
        Sampling(max_new_tokens=12, constraint=json_schema({"enum": ["red", {"a": [1]}]})),
        Sampling(max_new_tokens=9, constraint=regex("[0-9]{3,7}"), top_k=2, temperature=1.0, seed=5),
    ]
    together = run(engine, chat, samplings)
    for i, (sampling, steps) in enumerate(zip(samplings, together, strict=True)):
        alone = engine.generate([ask(chat, f"question {i}")], [[]], sampling)[0]
        assert [s.token for s in alone] == [s.token for s in steps] and alone[-1].finish == steps[-1].finish
    assert re.fullmatch("[0-9]{3,7}", said(chat, together[0]))
    assert not engine.scheduler.busy and engine.scheduler.pool.n_used == 0


def test_a_sequence_that_is_put_back_goes_on_in_its_constraint(model, chat, monkeypatch):
    samplings = [Sampling(max_new_tokens=40, constraint=regex(f"[0-9a-f]{{{20 + i}}}")) for i in range(4)]
    wanted = run(Engine(model, stop_ids=chat.stop_ids, tokenizer=chat.tokenizer), chat, samplings)
    small = Engine(model, stop_ids=chat.stop_ids, tokenizer=chat.tokenizer, limits=Limits(cache_tokens=128, chunk=7))
    back = []
    put_back = small.scheduler._put_back
    monkeypatch.setattr(small.scheduler, "_put_back", lambda s: (back.append(s.made), put_back(s)))
    found = run(small, chat, samplings)
    assert any(back), "nothing was put back in the middle of its answer"
    assert [[s.token for s in steps] for steps in found] == [[s.token for s in steps] for steps in wanted]
    assert all(re.fullmatch(r"[0-9a-f]{20,23}", said(chat, steps)) for steps in found)


def test_rows_without_a_constraint_keep_their_logits(chat):
    vocabulary = Vocabulary(chat.tokenizer, chat.stop_ids)
    logits = torch.randn(3, chat.tokenizer.rust.get_vocab_size() + 13)  # the model's table may be longer
    masked = mask(logits, [None, vocabulary.matcher(regex("yes")), None])
    assert torch.equal(masked[[0, 2]], logits[[0, 2]]) and mask(logits, [None] * 3) is logits
    free = masked[1].isfinite().nonzero()[:, 0].tolist()
    assert {chat.tokenizer.decode([t]) for t in free} <= {"y", "ye", "yes"} and free
    assert torch.equal(masked[1, free], logits[1, free])


def test_an_answer_ends_only_where_it_is_whole(chat):
    vocabulary = Vocabulary(chat.tokenizer, chat.stop_ids)
    stop = min(chat.stop_ids)
    matcher, other = vocabulary.matcher(regex("ab?")), vocabulary.matcher(regex("ab?"))
    ends = lambda m: bool(m.allowed()[stop // 8] >> stop % 8 & 1)  # noqa: E731
    assert not ends(matcher)
    matcher.advance(chat.tokenizer.encode("a")[0])
    assert ends(matcher) and not ends(other), "states of two answers are one"


@pytest.mark.parametrize("pattern, message", [
    ("a(", "unclosed group"), ("(a)\\1", "backreferences"), ("(?=a)b", "look-around"), ("", "expected a pattern"),
    (7, "found 7"), ("[^\\s\\S]", "no answer can match"),
])  # fmt: skip
def test_an_impossible_pattern_is_one_clear_line(m, pattern, message):
    with pytest.raises(ValueError, match=message) as error:
        m.answer(picture(0), "How many?", regex=pattern)
    assert "\n" not in str(error.value) and str(error.value).startswith("regex")
    with pytest.raises(ValueError, match=message):
        m.answer([picture(0), picture(1)], "How many?", regex=pattern)
    assert not m.engine.scheduler.busy


@pytest.mark.parametrize("schema, message", [
    ({"type": "objekt"}, "objekt"), ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({"type": "string", "pattern": "a("}, "unclosed group"),
    ({"a": {1}}, "no plain JSON"), ("{}", "expected a dict"),
])  # fmt: skip
def test_an_invalid_schema_is_one_clear_line(m, schema, message):
    with pytest.raises(ValueError, match=message) as error:
        m.chat([{"role": "user", "content": "x"}], json_schema=schema)
    assert "\n" not in str(error.value) and str(error.value).startswith("json_schema")


def test_what_does_not_go_together_is_refused(m, model, chat):
    with pytest.raises(ValueError, match="both regex and json_schema"):
        m.answer(picture(0), "How many?", regex="a", json_schema={})
    with pytest.raises(ValueError, match="lookup.*constraint"):
        Sampling(lookup=2, constraint=regex("a"))
    with pytest.raises(ValueError, match="tokenizer="):
        Engine(model, stop_ids=chat.stop_ids).submit(ask(chat, "x"), [], Sampling(constraint=regex("a")))


def test_without_the_library_the_error_has_the_command(m, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ImportError, match=r"pip install 'gated-vlm\[constraints\]'"):
        m.answer(picture(0), "How many?", regex="[0-9]+")
    assert m.answer(picture(0), "How many?", max_new_tokens=2).completion_tokens  # all else works


def test_constraints_are_values():
    assert regex("a") == regex("a") and len({regex("a"), regex("a"), regex("b"), json_schema({})}) == 3
