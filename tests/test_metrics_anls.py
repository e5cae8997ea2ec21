"""ANLS against the published formula over another edit distance, and against the evaluation kits."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.anls import VARIANTS, anls, levenshtein

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/anls.json.gz").read_bytes()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_equal_the_official_ones(variant):
    column = GOLDEN["columns"].index(variant)
    for row in GOLDEN["rows"]:
        assert anls(row[0], row[1], variant) == pytest.approx(row[column], abs=1e-12), row


def test_half_wrong_is_where_the_variants_differ():
    assert [anls("abxy", "abcd", v) for v in ("official", "kits")] == [0.0, 0.5]
    assert anls("ITC", ["The company is ITC", "itc"]) == 1.0
    assert anls("The company is ITC Limited", "ITC Limited") == 0.0
    assert anls("", "") == 1.0 and anls("", "x") == 0.0


def test_edit_distance_is_a_metric():
    words = ["", "a", "ab", "ba", "kitten", "sitting", "x" * 200, "x" * 100 + "y" * 100]
    for a in words:
        assert levenshtein(a, a) == 0 and levenshtein(a, "") == len(a)
        for b in words:
            assert levenshtein(a, b) == levenshtein(b, a)
            assert all(levenshtein(a, b) <= levenshtein(a, c) + levenshtein(c, b) for c in words)
    assert levenshtein("kitten", "sitting") == 3


def test_errors():
    with pytest.raises(ValueError, match="no answers"):
        anls("yes", [])
    with pytest.raises(ValueError, match="official, kits"):
        anls("yes", "yes", "x")
