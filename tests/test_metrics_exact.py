"""Exact match and GQA against the kits; yes/no and true/false."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.exact import exact_match, gqa, nlvr, yes_no

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/exact.json.gz").read_bytes()))


def test_scores_equal_the_official_ones():
    for prediction, answer, llava, bare, strict in GOLDEN["rows"]:
        row = prediction, answer
        assert gqa(prediction, answer) == llava, row
        assert gqa(prediction, answer, "ignore_case_punctuation") == bare, row
        assert exact_match(prediction, answer, "ignore_case_punctuation") == bare, row
        assert exact_match(prediction, answer) == strict, row


def test_several_answers():
    assert exact_match("b", ["a", "b"]) == 1.0 and exact_match("c", ["a", "b"]) == 0.0


@pytest.mark.parametrize("prediction, first_word, strict", [
    ("yes", 1.0, 1.0), ("Yes.", 1.0, 1.0), ("No, there is none.", 0.0, None), ("**Yes**", 1.0, 1.0),
    ("maybe", None, None), ("", None, None),
    ("nope", 0.0, 0.0), ("Not yes", None, None), ("There is a yes", None, None),
])  # fmt: skip
def test_yes_no(prediction, first_word, strict):
    assert yes_no(prediction, "yes") == first_word
    assert yes_no(prediction, "yes", "strict") == strict


def test_true_false():
    assert nlvr("True", "true") == nlvr("yes", "True") == nlvr("false.", "no") == 1.0
    assert nlvr("incorrect", "true") == 0.0 and nlvr("perhaps", "true") is None and yes_no("true", "yes") is None
    with pytest.raises(ValueError, match="none of"):
        nlvr("true", "dog")


def test_letters_that_grow_when_lowered():
    """The kits cut the last letter off, as numpy's texts of fixed width do."""
    assert exact_match("İSTANBUL", "i̇stanbul", "ignore_case_punctuation") == 1.0
