"""Caption metrics against pycocoevalcap on the same tokens."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.captions import bleu, caption_scores, cider, rouge_l

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/captions.json.gz").read_bytes()))


@pytest.mark.parametrize("golden", GOLDEN["sets"], ids=lambda s: f"{len(s['candidates'])} images")
def test_scores_equal_the_official_ones(golden):
    texts = golden["candidates"], golden["references"]
    for function, name in ((cider, "CIDEr"), (rouge_l, "ROUGE-L")):
        score, items = function(*texts)
        assert score == pytest.approx(golden[name][0], abs=1e-9)
        assert items == pytest.approx(golden[name][1], abs=1e-6)
    scores, items = bleu(*texts)
    assert scores == pytest.approx(golden["BLEU"][0], abs=1e-12)
    for ours, official in zip(items, golden["BLEU"][1], strict=True):
        assert ours == pytest.approx(official, abs=1e-6)


def test_cider_needs_other_images():
    said, targets = ["a dog runs on grass"], [["a dog runs on grass"]]
    assert cider(said, targets)[0] == 0.0
    assert cider([*said, "two red buses wait here"], [*targets, ["two red buses wait here"]])[0] == pytest.approx(10)


def test_captions_end_to_end():
    said = ["A man's riding a wave.", "Two cats sit on a couch!", "a red bus drives down the street"]
    scores = caption_scores(said, [[c.upper(), "something else"] for c in said])
    assert set(scores) == {"CIDEr", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"}
    assert all(len(s["items"]) == 3 for s in scores.values())
    assert scores["BLEU-4"]["score"] == pytest.approx(1) and scores["ROUGE-L"]["score"] == pytest.approx(1)
    worse = caption_scores(["a boat", *said[1:]], [[c] for c in said])
    assert all(worse[name]["score"] < scores[name]["score"] for name in ("ROUGE-L", "BLEU-1", "BLEU-4"))
    assert worse["CIDEr"]["items"][0] < min(worse["CIDEr"]["items"][1:])


def test_empty_texts_score_nothing():
    for name, score in caption_scores(["", "a cat"], [["a dog"], ["a bird"]]).items():
        assert score["items"][0] == pytest.approx(0, abs=1e-6), name
    assert bleu([""], [["a " * 5000]])[0] == [0.0] * 4


def test_errors():
    with pytest.raises(ValueError, match="2 candidates and 1 lists"):
        cider(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="list of one or more texts"):
        rouge_l(["a"], ["a"])
