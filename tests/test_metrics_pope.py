"""POPE against LLaVA's copy of the official script."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.pope import parse_pope, pope, pope_summary

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/pope.json.gz").read_bytes()))

ROWS = GOLDEN["rows"]


def test_parsed_answers_equal_the_official_ones():
    for prediction, label, official in ROWS:
        assert parse_pope(prediction) == official, prediction
        assert pope(prediction, label) == float(official == label)


def test_summaries_equal_the_official_ones():
    for start, end, official in GOLDEN["groups"]:
        summary = pope_summary([r[0] for r in ROWS[start:end]], [r[1] for r in ROWS[start:end]])
        assert {k: summary[k] for k in official} == pytest.approx(official, abs=1e-12)
        assert summary["n"] == end - start and summary["unparsed"] == 0


def test_strict_knows_what_it_does_not_know():
    said = ["yes", " No. ", "Yes, a dog", "", "no"]
    assert [parse_pope(s, "strict") for s in said] == ["yes", "no", None, None, "no"]
    assert [pope(s, "yes", "strict") for s in said] == [1.0, 0.0, None, None, 0.0]
    summary = pope_summary(said, ["yes", "no", "yes", "no", "yes"], "strict")
    assert summary["unparsed"] == 2 and summary["accuracy"] == 0.4 and summary["precision"] == 1.0
    assert summary["recall"] == pytest.approx(1 / 3) and summary["yes_ratio"] == 0.2  # labels say yes to 0.6


def test_nothing_to_divide_by():
    summary = pope_summary(["no"], ["no"])
    assert summary["accuracy"] == 1.0 and summary["precision"] == summary["recall"] == summary["f1"] == 0.0
    with pytest.raises(ValueError, match="neither yes nor no"):
        pope("yes", "maybe")
