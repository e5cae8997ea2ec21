"""VQA accuracy against VQAv2's own scorer and TextVQA's evaluator."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.vqa import VARIANTS, normalize, normalize_textvqa, soft_score, vqa_accuracy

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/vqa.json.gz").read_bytes()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_equal_the_official_ones(variant):
    column = GOLDEN["columns"].index(variant)
    for row in GOLDEN["rows"]:
        assert vqa_accuracy(row[0], row[1], variant) == pytest.approx(row[column], abs=1e-12), row
    assert {round(row[column], 9) for row in GOLDEN["rows"]} == {0, 0.3, 0.6, 0.9, 1}


def test_normalised_texts_equal_the_official_ones():
    for text, vqav2, textvqa in GOLDEN["normalized"]:
        assert (normalize(text), normalize_textvqa(text)) == (vqav2, textvqa), text


def test_variants_differ_where_the_answers_agree():
    unanimous, nearly = ["yes"] * 10, ["yes"] * 9 + ["no"]
    assert [vqa_accuracy("Yes.", unanimous, v) for v in ("official", "always_normalize")] == [0.0, 1.0]
    assert vqa_accuracy("Yes.", nearly, "official") == 1.0
    assert vqa_accuracy("it's", ["it 's"] * 10, "textvqa") == 1.0 > vqa_accuracy("it's", ["it 's"] * 10)


def test_leaving_one_out():
    assert [round(soft_score(k, 10), 12) for k in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]
    for n in range(1, 12):
        scores = [soft_score(k, n) for k in range(n + 1)]
        assert scores[0] == 0 and scores[-1] == 1 and scores == sorted(scores)


def test_any_number_of_answers():
    assert vqa_accuracy("a dog", ["dog"]) == vqa_accuracy("dog", "the dog") == 1.0
    assert vqa_accuracy("dog", ["dog", "cat"]) == 0.5
    assert vqa_accuracy("dog", ["dog"] * 4 + ["cat"] * 96) == 1.0


def test_errors():
    with pytest.raises(ValueError, match="no answers"):
        vqa_accuracy("yes", [])
    with pytest.raises(ValueError, match="did you mean 'official'"):
        vqa_accuracy("yes", ["yes"], "offical")
