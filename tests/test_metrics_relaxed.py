"""Relaxed accuracy against the code that ChartQA papers use."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.relaxed import extract_answer, relaxed_accuracy

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/relaxed.json.gz").read_bytes()))


def test_scores_equal_the_official_ones():
    for prediction, answer, official in GOLDEN["rows"]:
        assert relaxed_accuracy(prediction, answer) == official, (prediction, answer)
    assert 0.2 < sum(row[2] for row in GOLDEN["rows"]) / len(GOLDEN["rows"]) < 0.8


def test_forgiving_accepts_whatever_official_does():
    for prediction, answer, official in GOLDEN["rows"]:
        assert relaxed_accuracy(prediction, answer, "forgiving") >= official, (prediction, answer)


@pytest.mark.parametrize("prediction, answer, official, forgiving", [
    ("2015", "2019", 1, 1), ("0.0", "0", 0, 1), ("12", "12%", 0, 1), ("12%", "0.12", 1, 1), ("1,000", "1000", 0, 1),
    ("$5", "5", 0, 1), ("yes.", "yes", 0, 1), ("27 percent", "27%", 0, 1), ("€1,250.50", "1250.5", 0, 1),
    ("-$5", "-5", 0, 1),
    ("The answer is 42.", "42", 0, 1), ("12 + 30 = 42\n**Answer: 42**", "42", 0, 1), ("0.1", "0", 0, 0),
    ("106", "100", 0, 0),
    ("95", "100", 1, 1), ("1,00", "100", 0, 0), ("red", "Red", 1, 1), ("blue", "red", 0, 0), ("5 million", "5", 0, 0),
    ("1200%", "12%", 0, 0),
])  # fmt: skip
def test_where_the_variants_differ(prediction, answer, official, forgiving):
    assert relaxed_accuracy(prediction, answer) == official
    assert relaxed_accuracy(prediction, answer, "forgiving") == forgiving


@pytest.mark.parametrize("text, answer", [
    ("42", "42"), ("The answer is 3.5.", "3.5"), ("So, the final answer is: **Blue**.", "Blue"),
    ("answer: 1,000\nDone.", "1,000"),
    ("The answer is 3. No, the answer is 4. Sure.", "4"), (r"thus \boxed{7}", "7"), ("Answer = 'No'", "No"), ("", ""),
    ("I answered it", "I answered it"), ("The answer is", ""), ("The answer is U.S.", "U.S"),
])  # fmt: skip
def test_stated_answers(text, answer):
    assert extract_answer(text) == answer


def test_errors_and_several_answers():
    assert relaxed_accuracy("two", ["2", "two"]) == 1.0
    with pytest.raises(ValueError, match="did you mean 'forgiving'"):
        relaxed_accuracy("1", "1", "forgivin")
