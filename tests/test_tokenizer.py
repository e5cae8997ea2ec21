"""The tokenizer gives back every text, spells digits one by one and keeps its control tokens in place."""

import random

import pytest
from conftest import WORDS

from vlm.chat import IMAGE, Tokenizer
from vlm.data.tokenizer import CONTROL, N_RESERVED, train_tokenizer

VOCAB_SIZE = 300


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(train_tokenizer(WORDS * 4, VOCAB_SIZE))


def random_text(rng):
    """Any code points but surrogates, with stretches of spaces, line breaks, digits and control tokens."""

    def piece():
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice([" ", "  ", "\n", "\r\n", "\t", "\n\n ", "\u00a0", "\u200d"])
        if kind == 1:
            return str(rng.randrange(10**6))
        if kind == 2:
            return rng.choice([*CONTROL, IMAGE, "<|", "|>"])
        if kind == 3:
            return rng.choice(WORDS)
        top = rng.choice([0x80, 0x800, 0xD800, 0x110000])
        return chr(next(c for c in iter(lambda: rng.randrange(top), None) if not 0xD800 <= c < 0xE000))

    return "".join(piece() for _ in range(rng.randrange(20)))


def test_every_text_comes_back(tokenizer):
    rng = random.Random(0)
    for _ in range(1500):
        text = random_text(rng)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(0 <= i < VOCAB_SIZE - N_RESERVED for i in ids)


def test_digits_stand_alone(tokenizer):
    for text in ("1234567890", "a12b", " 42", "3.14", "2024-01-31", "٣٤"):
        digits = [c for c in text if c.isdigit()]
        pieces = [tokenizer.decode([i]) for i in tokenizer.encode(text)]
        if text.isascii():
            assert [p for p in pieces if any(c.isdigit() for c in p)] == digits
    trained = Tokenizer(train_tokenizer(["17 17 17 1717"] * 50 + WORDS * 4, VOCAB_SIZE))
    assert len(trained.encode("1717")) == 4


def test_control_tokens_have_the_last_ids_and_the_image_token_the_first_one_past(tokenizer):
    assert [tokenizer.id(c) for c in CONTROL] == list(
        range(VOCAB_SIZE - N_RESERVED, VOCAB_SIZE - N_RESERVED + len(CONTROL))
    )
    assert tokenizer.id(IMAGE) == VOCAB_SIZE
    assert tokenizer.rust.get_vocab_size() == VOCAB_SIZE + 1
    assert sorted(tokenizer.rust.get_vocab().values()) == list(range(VOCAB_SIZE + 1))
    assert tokenizer.id("<|no_such_token|>") is None


def test_control_tokens_are_read_in_templates_and_never_written(tokenizer):
    for token in (*CONTROL, IMAGE):
        assert tokenizer.encode_with_control(token) == [tokenizer.id(token)]
        assert tokenizer.decode([tokenizer.id(token)]) == ""
        assert len(tokenizer.encode(token)) > 1


def test_a_cut_character_becomes_the_replacement_character(tokenizer):
    ids = tokenizer.encode("\N{SNOWMAN}")
    assert tokenizer.decode(ids[:1]) == "\ufffd"


def test_training_is_reproducible():
    a, b = (train_tokenizer(WORDS * 4, VOCAB_SIZE).to_str() for _ in range(2))
    assert a == b


def test_too_few_sentences_are_refused():
    with pytest.raises(ValueError, match="5000 were asked for"):
        train_tokenizer(WORDS, 5000)


def test_a_file_gives_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    text = "How many <|eot_id|> 12 \N{SNOWMAN}?"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.id(IMAGE) == tokenizer.id(IMAGE)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 3}', "\x00\x01"])
def test_a_broken_tokenizer_file_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a tokenizer.json") as error:
        Tokenizer.from_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_tokenizer_file_is_named(tmp_path):
    for path in (tmp_path / "tokenizer.json", tmp_path):
        with pytest.raises(ValueError, match="no such tokenizer file"):
            Tokenizer.from_file(path)
