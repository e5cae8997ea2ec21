"""Scores are what they say they are."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from vlm.api import VLM
from vlm.evaluation.metrics.stats import wilson
from vlm.evaluation.world import evaluate_pack, evaluate_world, score, to_markdown


def test_wilson_interval_against_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81/263 and 15/148, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20)[0] == pytest.approx(0.0, abs=1e-9)


def test_the_share_is_always_in_its_wilson_interval():
    """Rounding once put the upper end of all-right below one, and no plot draws an error that is less than nothing."""
    for n in range(1, 60):
        assert all(wilson(k, n)[0] <= k / n <= wilson(k, n)[1] for k in range(n + 1)), n


def test_score_counts_by_family():
    rows = [{"family": f, "answer": a} for f, a in [("count", "2"), ("count", "3"), ("exist", "yes"), ("exist", "yes")]]
    table = score(rows, ["2", "2", "Yes.", "no"], ["3", "3", "yes", "yes"])
    assert [table[f]["accuracy"] for f in ("all", "count", "exist")] == [0.5, 0.5, 0.5]
    assert table["count"]["blind"] == 0.5 and table["exist"]["blind"] == 1.0
    assert table["count"]["majority"] == 0.5 and table["exist"]["majority"] == 1.0
    assert "| count | 2 | 50.0% |" in to_markdown(table)


def test_world_evaluation_asks_as_many_as_it_says(model, chat):
    table = evaluate_world(VLM(model, chat), n=12, batch_size=4, progress=False)
    assert table["all"]["n"] == 12 == sum(r["n"] for f, r in table.items() if f not in ("all", "count to 5"))


def test_counts_up_to_five_have_a_row_of_their_own():
    rows = [{"family": "count", "answer": str(n)} for n in range(9)] + [{"family": "position", "answer": "3"}]
    table = score(rows, [str(n) for n in range(6)] + ["0"] * 4, ["9"] * 10)
    assert (table["count"]["n"], table["count to 5"]["n"]) == (9, 6)
    assert table["count to 5"]["accuracy"] == 1.0 and table["count"]["accuracy"] == pytest.approx(6 / 9, abs=1e-4)


def test_packs_of_pictures_and_arrays_are_read(model, chat, tmp_path):
    array = np.zeros((2, 30, 30, 3), dtype=np.uint8)
    array[0, ..., 0] = 255  # blue, as the pack is BGR
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as pack:
        np.save(tmp_path / "a.npy", array)
        pack.write(tmp_path / "a.npy", "a.npy")
        Image.new("RGB", (40, 10), "red").save(tmp_path / "p.png")
        pack.write(tmp_path / "p.png", "images/p.png")
        rows = [
            {"array": "a.npy", "row": 0, "question": "is a square red", "answer": "false"},
            {"images": ["p.png"], "sentence": "There is a box.", "label": "true"},
        ]
        pack.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))
    asked = []

    class Recorder(VLM):
        def answer(self, image, question, **options):
            asked.extend(zip(image, question, strict=True))
            return ["no"] * len(image)

    result = evaluate_pack(Recorder(model, chat), path, progress=False)
    assert (result["n"], result["accuracy"], result["majority"]) == (2, 0.5, 0.5)
    assert asked[0][0][0].getpixel((5, 5)) == (0, 0, 255) and asked[0][1] == "is a square red"
    assert asked[1][0][0].getpixel((5, 5)) == (255, 0, 0) and asked[1][1] == "There is a box."
