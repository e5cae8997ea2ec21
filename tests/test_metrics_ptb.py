"""The tokenizer of caption metrics against Stanford's, as pycocoevalcap calls it."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.ptb import MARKS, tokenize

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/ptb.json.gz").read_bytes()))


def agreement(rows):
    return sum(tokenize(caption) == tokens for caption, tokens in rows) / len(rows)


def test_captions_agree():
    assert agreement(GOLDEN["captions"]) > 0.999


def test_adversarial_texts_mostly_agree():
    assert agreement(GOLDEN["adversarial"]) > 0.89


@pytest.mark.parametrize("text, tokens", [
    ("It's the man's T-shirt (50% off), isn't it?", "it 's the man 's t-shirt -lrb- 50 % off -rrb- is n't it"),
    ("cannot gonna 'tis y'all", "can not gon na 't is y' all"),
    ("the dogs' bones -- at 10:30 a.m. in St. Louis, U.S.", "the dogs bones at 10:30 a.m. in st. louis u.s."),
    ("No. 5 and no.", "no. 5 and no"), ("$5.99 for 1,000", "$ 5.99 for 1,000"),
    ("2:30pm 3-D 5.5-inch", "2:30 pm 3-d 5.5-inch"),
    ("“Stop” he’d…", "stop he 'd"), ("", ""), (" \n . ", ""), ("😀 cat", "cat"), ("the 1990's", "the 1990 's"),
])  # fmt: skip
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


def test_tokens_hold_no_marks_capitals_or_empty_words():
    for caption, _ in GOLDEN["captions"] + GOLDEN["adversarial"]:
        words = tokenize(caption).split(" ")
        assert words == [""] or not {"", *MARKS} & set(words), caption
        assert words == [word.lower() for word in words], caption
