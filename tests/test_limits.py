"""The figures of the limits are those of their definitions."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_calibration import SMALL
from test_confidence import calibrated, picture

from vlm.api import VLM
from vlm.calibration.fit import Said
from vlm.evaluation import limits
from vlm.evaluation.limits import evaluate_limits, plot_limits, to_markdown
from vlm.evaluation.metrics.detection import auroc, calibration, calibration_error, reliability


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 6, 40), rng.integers(2, 9, 30)  # with many ties
    pairs = [(h > a) + 0.5 * (h == a) for h in high for a in low]
    found = auroc(low, high)
    assert found["auroc"] == pytest.approx(np.mean(pairs)) and found["low"] < found["auroc"] < found["high"]
    assert auroc(high, low)["auroc"] == pytest.approx(1 - np.mean(pairs))
    assert (auroc([0, 1], [2, 3])["auroc"], auroc([1], [1])["auroc"]) == (1.0, 0.5)
    with pytest.raises(ValueError, match="found 0 of one kind and 1 of the other"):
        auroc([], [1])


def test_the_interval_of_auroc_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = auroc(rng.normal(0, 1, 60), rng.normal(1, 1, 60))
        hits += found["low"] <= 0.7602 <= found["high"]  # Phi(1 / sqrt 2)
    assert 180 <= hits <= 199


def test_confidence_that_is_true_shows_the_error_of_chance_alone():
    rng = np.random.default_rng(2)
    sure = rng.random(4000)
    right = rng.random(4000) < sure
    found = calibration(right, sure)
    assert found["ece"]["mean"] == pytest.approx(found["ece"]["expected"], abs=0.01)
    assert found["ece"]["low"] <= found["ece"]["mean"] <= found["ece"]["high"]
    assert found["brier"]["mean"] < found["brier"]["constant"] and found["auroc"]["auroc"] > 0.8
    assert calibration_error(right, sure**3) > 0.15
    assert found["confidence"] == pytest.approx(found["accuracy"]["mean"], abs=0.02)


def test_bins_hold_all_answers_and_risk_grows_to_the_whole():
    sure, right = [0.9, 0.8, 0.7, 0.6], [True, True, False, True]
    table = reliability(right, sure, bins=2)
    assert [(b["n"], b["accuracy"], round(b["confidence"], 2)) for b in table] == [(2, 0.5, 0.65), (2, 1.0, 0.85)]
    risk = {p["coverage"]: p["risk"] for p in calibration(right, sure)["risk_coverage"]}
    assert (risk[0.5], risk[0.75], risk[1.0]) == (0.0, pytest.approx(1 / 3), 0.25)
    assert calibration([True], [0.5])["auroc"] is None
    with pytest.raises(ValueError, match="found 1 answers and 2 probabilities"):
        calibration([True], [0.5, 0.6])


@pytest.fixture
def found(model, chat, tmp_path, monkeypatch):
    """A model that is right now and then, and pictures of others in a zip, of which one cannot be read."""
    monkeypatch.setattr(Said, "right", property(lambda self: len(self.asked.right[0]) % 2 == 0))
    monkeypatch.setattr("vlm.calibration.fit.LONGEST", 4)
    monkeypatch.setattr(limits, "SPLITS", ("val",))
    m = calibrated(model, chat)
    m.engine.stop_ids = frozenset(range(0, 300, 2))
    with zipfile.ZipFile(tmp_path / "flickr8k_val.zip", "w") as pack:
        for i in range(5):
            picture(i).save(tmp_path / f"{i}.png")
            pack.write(tmp_path / f"{i}.png", f"images/{i}.png")
        pack.writestr("images/bad.png", "no picture")
    return evaluate_limits(m, n=40, worlds=SMALL, data=tmp_path)


def test_both_sides_are_measured(found):
    val, domain = found["confidence"]["val"], found["domain"]
    assert val["n"] + val["without"] == 40 and sum(w["n"] for w in val["worlds"].values()) == val["n"]
    assert set(domain["inside"]) == {"worlds, val", "worlds, val, varied"} and domain["photographs"] == ["Flickr8k val"]
    assert domain["sets"]["Flickr8k val"]["n"] == 5 and domain["sets"]["worlds, val, varied"]["n"] == 20
    assert all(r["outside"] == 0 and sum(r["histogram"]) == r["n"] for r in domain["sets"].values())  # 0.5 of all
    assert domain["auroc"]["worlds, val"]["Flickr8k val"]["auroc"] == 0.5
    assert json.loads(json.dumps(found)) == found
    text = to_markdown(found)
    assert "| Flickr8k val | 5 | 0.0%" in text and text.count("\n\n") == 1


def test_they_are_drawn(found, tmp_path):
    pytest.importorskip("matplotlib")
    for path in plot_limits(found, tmp_path / "plots"):
        assert Image.open(path).size[0] > 800


def test_a_model_without_a_calibration_says_what_to_do(model, chat):
    with pytest.raises(ValueError, match="has no calibration; run `vlm calibrate`"):
        evaluate_limits(VLM(model, chat), n=10)
