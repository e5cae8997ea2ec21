"""Multiple choice against MMMU's parser and LLaVA's ScienceQA rule; open answers against MMMU's."""

import gzip
import json
from pathlib import Path

import pytest

from vlm.evaluation.metrics.choice import (
    choice,
    circular,
    mmmu,
    mmmu_open,
    parse_letter,
    parse_mmmu,
    parse_mmmu_open,
    parse_scienceqa,
    rotations,
    scienceqa,
)  # fmt: skip

GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden/metrics/choice.json.gz").read_bytes()))

OPTIONS = ["osmosis", "diffusion", "a cell", "the DNA"]


def test_mmmu_parser_equals_the_official_one():
    for text, options, letter in GOLDEN["mmmu"]:
        assert parse_mmmu(text, options) == letter, (text, options)
    guessed = [row for row in GOLDEN["mmmu"] if row[2] is None]
    assert len(guessed) > 300


def test_scienceqa_rule_equals_the_official_one():
    for text, n, letter in GOLDEN["scienceqa"]:
        assert parse_scienceqa(text, [""] * n) == letter, (text, n)


def test_open_answers_equal_the_official_ones():
    for text, answers, score, parsed in GOLDEN["mmmu_open"]:
        assert mmmu_open(text, answers) == score, (text, answers)
        assert sorted(map(repr, parse_mmmu_open(text))) == parsed, text


@pytest.mark.parametrize("text, letter", [
    ("B", "B"), ("b", "B"), ("b.", "B"), ("(B)", "B"), ("**B**", "B"), ("B) diffusion", "B"),
    ("B. diffusion", "B"), ("B: because", "B"),
    ("The answer is B.", "B"), ("The answer is (b).", "B"), ("Answer: **C**", "C"), ("answer is A", "A"),
    ("Answer:\nD", "D"),
    ("The answer is A. No, the answer is D.", "D"), ("osmosis", "A"), ("Osmosis!", "A"),
    ("It is the DNA of cells", "D"),
    ("A cell divides", "C"), ("A big surprise", None), ("The answer is a mystery", None),
    ("Answer: A dog", None), ("", None),
    ("A is right", "A"), ("Therefore, A is correct.", "A"), ("So I choose A", "A"), ("A - osmosis", "A"),
    ("options are good", None), ("The answer is A because", "A"), ("I think so", None), ("E", None),
    ("It must be (C) or (D)", "D"), ("I would go for B", "B"),
    ("sorry, I cannot tell", None),
    ("It isn't osmosis but diffusion", None), ("vitamin-C", None), ("It's B's", None), ("\nC\n", "C"),
])  # fmt: skip
def test_letters(text, letter):
    assert parse_letter(text, OPTIONS) == letter


def test_the_article_is_no_option():
    text = "A plant uses light to make sugar and so on"
    assert parse_mmmu(text, OPTIONS) == "A" and parse_letter(text, OPTIONS) is None
    assert choice(text, "A", OPTIONS, "official") == 1.0 and choice(text, "A", OPTIONS) is None


def test_scores():
    assert [choice(t, "B", OPTIONS) for t in ("B", "C", "?")] == [1.0, 0.0, None]
    assert choice("C", ["B", "C"], OPTIONS) == 1.0
    assert [scienceqa(t, "B", OPTIONS) for t in ("B", "b", "The answer is C.")] == [1.0, None, 0.0]
    assert scienceqa("b", "B", OPTIONS, "strict") == 1.0
    assert mmmu("(B)", "B", OPTIONS) == 1.0 and mmmu("so it is 30", "30", []) == 1.0 and mmmu("31", ["30"], []) == 0.0


@pytest.mark.parametrize("n", range(1, 7))
def test_rotations_keep_the_right_option(n):
    options = [f"option {i}" for i in range(n)]
    for letter, right in zip("ABCDEF", options, strict=False):
        turned = rotations(options, letter)
        assert [o["ABCDEF".index(a)] for o, a in turned] == [right] * n
        assert len({tuple(o) for o, _ in turned}) == n and sorted(a for _, a in turned) == list("ABCDEF"[:n])


def test_circular_wants_all():
    assert circular([1.0, 1.0]) == 1.0 and circular([1.0, 0.0]) == circular([1.0, None]) == 0.0
    always_a = [choice("A", answer, options) for options, answer in rotations(OPTIONS, "A")]
    assert circular(always_a) == 0.0 and sum(always_a) == 1.0


def test_errors():
    with pytest.raises(ValueError, match="1 to 26"):
        parse_letter("A", [])
    with pytest.raises(ValueError, match="none of A, B, C, D"):
        rotations(OPTIONS, "E")
    with pytest.raises(ValueError, match="one per rotation"):
        circular([])
