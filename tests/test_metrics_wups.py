"""WUPS against the published script, with a stand-in for the similarity of words."""

import gzip
import json
import sys
import types
import zlib
from pathlib import Path

import pytest

from vlm.evaluation.metrics import wups as package_wups
from vlm.evaluation.metrics.wups import wu_palmer, wups

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/wups.json.gz").read_bytes()))


def similarity(a: str, b: str) -> float:
    """What the official results were computed with."""
    return zlib.crc32("|".join(sorted((a, b))).encode()) % 1001 / 1000


@pytest.mark.parametrize("threshold", ["0.9", "0.0"])
def test_scores_equal_the_official_ones(threshold):
    column = GOLDEN["columns"].index(threshold)
    for row in GOLDEN["rows"]:
        assert wups(row[0], row[1], threshold, similarity) == pytest.approx(row[column], abs=1e-12), row


def test_properties():
    near = {frozenset(("chair", "armchair")): 0.95, frozenset(("chair", "table")): 0.5}

    def alike(a: str, b: str) -> float:
        return near.get(frozenset((a, b)), 0.0)

    assert wups("chair", "chair", similarity=alike) == wups("b, a", "a,b", similarity=alike) == 1.0
    assert wups("armchair", "chair", similarity=alike) == 0.95
    assert (
        wups("table", "chair", similarity=alike) == pytest.approx(0.05) and wups("table", "chair", "0.0", alike) == 0.5
    )
    assert wups("table", ["chair", "table"], similarity=alike) == 1.0
    with pytest.raises(ValueError, match="threshold"):
        wups("a", "a", "strict", alike)


def test_equal_words_need_no_wordnet(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    assert package_wups("chair", "chair") == 1.0
    wu_palmer.cache_clear()
    with pytest.raises(ImportError, match="pip install nltk"):
        package_wups("chair", "sofa")


def test_wordnet_is_never_downloaded(monkeypatch):
    class Missing:
        NOUN = "n"

        def synsets(self, word, pos):
            raise LookupError("Resource wordnet not found")

    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = Missing()
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    wu_palmer.cache_clear()
    with pytest.raises(LookupError, match="nltk.downloader wordnet"):
        wu_palmer("chair", "sofa")
