"""The guard's tables in its page come from what was measured."""

import json

import pytest

from benchmarks import guard_tables


def test_the_page_says_what_was_measured(tmp_path):
    figures = {key: [0.5, 0.25, 0.75] for key in guard_tables.FIGURES.values()}
    never = figures | {"precision": None, "recall": [0.0, 0.0, 0.0]}
    guards = {"default": {"all": figures | {"n": 10, "unsafe": 0.5}}, "bag of words": {"all": never}}
    row = figures | {"n": 40, "unsafe": 0.25}
    found = {
        "templates": {"guards": guards, "seen in training": 2, "padded": {"3": figures}},
        "hazards": {"hazards": {"S10": {"left out": row, "trained on": row}}},
    }
    for name, part in found.items():
        (tmp_path / f"guard-{name}.json").write_text(json.dumps(part))
    page = "".join(f"<!-- {name} -->\nold {name}\n<!-- end of {name} -->\n" for name in guard_tables.TABLES)
    filled = guard_tables.fill(page, tmp_path)
    assert (
        "10 requests, 50.0% unsafe, 2 word for word" in filled
        and "| bag of words | - | 0 | .500 (.250-.750) |" in filled
    )
    assert "| 3 | .500 (.250-.750) |" in filled and "| Hate | 10 | .500" in filled
    assert "old templates" not in filled and "old xstest" in filled
    assert guard_tables.fill(filled, tmp_path) == filled
    with pytest.raises(ValueError, match="decoder"):
        guard_tables.fill(page.replace("<!-- decoder -->", ""), tmp_path)


def test_the_page_has_a_place_for_every_table(tmp_path):
    page = guard_tables.PAGE.read_text(encoding="utf-8")
    assert guard_tables.fill(page, tmp_path) == page
