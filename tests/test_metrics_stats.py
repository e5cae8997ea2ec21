"""Intervals and comparisons against lmms-eval and scipy."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from vlm.evaluation.metrics.stats import Z, clustered_error, compare, mean_score, permutation_p, wilson

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/stats.json.gz").read_bytes()))

ROWS = GOLDEN["rows"]


def test_errors_equal_the_official_ones():
    for row in ROWS:
        assert clustered_error(row["a"], row["clusters"]) == pytest.approx(row["error"], abs=1e-9)
        both = compare(row["a"], row["b"], row["clusters"])
        assert both["error"] == pytest.approx(row["difference_error"], abs=1e-9)
        assert compare(row["a"], row["b"])["error"] == pytest.approx(row["paired_error"], abs=1e-9)
        assert wilson(*row["wilson"][:2]) == pytest.approx(row["wilson"][2:], abs=1e-9)


def test_permutation_is_the_sign_test_on_flips():
    rows = [r for r in ROWS if r["sign_test"] is not None]
    exact = 0
    for row in rows:
        d = [y - x for x, y in zip(row["a"], row["b"], strict=True)]
        few = sum(x != 0 for x in d) <= 12
        assert permutation_p(d) == pytest.approx(row["sign_test"], abs=1e-9 if few else 0.03)
        exact += few
    assert 10 < exact < len(rows)


def test_clusters_of_one_are_no_clusters_and_copies_are_no_evidence():
    scores = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert clustered_error(scores, range(7)) == pytest.approx(clustered_error(scores))
    copied, pictures = scores * 50, list(range(7)) * 50
    assert clustered_error(copied, pictures) > 6 * clustered_error(copied)
    assert clustered_error(copied, pictures) == pytest.approx(clustered_error(scores) * (6 / 7) ** 0.5, rel=0.01)


def test_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    inside = loose = 0
    for _ in range(300):
        pictures = np.repeat(np.arange(60), 5)
        scores = (rng.random(300) < np.repeat(rng.random(60), 5)).astype(float).tolist()
        both = mean_score(scores, pictures.tolist())
        inside += both["low"] <= 0.5 <= both["high"]
        loose += abs(both["mean"] - 0.5) <= Z * clustered_error(scores)
    assert 0.91 < inside / 300 < 0.99 and loose < inside


def test_unparsed_scores_count_and_are_reported():
    both = mean_score([1.0, None, 0.0, 1.0])
    assert both["mean"] == 0.5 and both["unparsed"] == 1 and both["n"] == 4
    assert mean_score([None, 1.0], unparsed=0.25)["mean"] == 0.625
    assert (both["low"], both["high"]) == wilson(2, 4)
    assert mean_score([1.0] * 20)["high"] == 1.0 > mean_score([1.0] * 20)["low"] > 0.8


def test_compare():
    a, b = [0.0] * 20 + [1.0] * 80, [1.0] * 15 + [0.0] * 5 + [1.0] * 78 + [0.0] * 2
    both = compare(a, b)
    assert both["gained"] == 15 and both["lost"] == 2 and both["difference"] == pytest.approx(0.13)
    assert both["low"] > 0 and both["p"] < 0.01 and both["p_permutation"] < 0.01
    back = compare(b, a)
    assert back["difference"] == -both["difference"] and back["p"] == both["p"] and back["high"] < 0
    pictures = [0] * 20 + [1] * 80  # two pictures are no evidence
    assert compare(a, b, pictures)["p_permutation"] == 1.0
    same = compare(a, a)
    assert same["difference"] == 0 and same["p"] == same["p_permutation"] == 1.0


def test_errors():
    with pytest.raises(ValueError, match="one or more"):
        mean_score([])
    with pytest.raises(ValueError, match="2 scores and 1 clusters"):
        mean_score([1, 0], ["x"])
    with pytest.raises(ValueError, match="same order"):
        compare([1], [1, 0])
