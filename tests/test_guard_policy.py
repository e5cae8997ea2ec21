"""The taxonomy and the policy: every mistake is an error that names the nearest right word."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from vlm.guard.policy import DEFAULT, Policy, Verdict, read_policy, worst
from vlm.guard.taxonomy import CATEGORIES, find_category


@pytest.fixture
def write(tmp_path):
    def call(text):
        (tmp_path / "p.yaml").write_text(text)
        return tmp_path / "p.yaml"

    return call


def test_thirteen_categories_by_key_and_name():
    assert list(CATEGORIES) == [f"S{i}" for i in range(1, 14)]
    for key, category in CATEGORIES.items():
        assert find_category(key.lower()) is find_category(category.name.upper()) is category
        assert str(category) == f"{category.name} ({key})" and category.definition.endswith(".")


@pytest.mark.parametrize("name, near", [("Privcy", "Privacy"), ("violent crime", "Violent Crimes")])
def test_the_nearest_category_is_named(name, near):
    with pytest.raises(ValueError, match=f"unknown category '{name}' .did you mean '{near}'"):
        find_category(name)


def test_the_shipped_policy_is_the_default():
    assert read_policy() == Policy() and set(yaml.safe_load(DEFAULT.read_text())) == {
        f.name for f in dataclasses.fields(Policy)
    }


def test_the_page_for_users_has_the_same_table():
    page = (Path(__file__).parent.parent / "docs/guard.md").read_text()
    assert all(f"| {c.key} | {c.name} | {c.definition} |" in page for c in CATEGORIES.values())


def test_names_become_keys_in_order(write):
    policy = read_policy(write("categories: [Hate, s4, Violent Crimes]\nactions: {Hate: warn}\nthresholds: {S1: 0.9}"))
    assert policy.categories == ("S1", "S4", "S10") and policy.excluded == tuple(
        f"S{i}" for i in range(1, 14) if i not in (1, 4, 10)
    )
    assert (policy.action_of("S10"), policy.action_of("S1"), policy.threshold_of("S1")) == ("warn", "refuse", 0.9)
    assert policy.lowest == 0.5


@pytest.mark.parametrize(
    "text, message",
    [
        ("treshold: 0.5", r"unknown key 'treshold' .did you mean 'threshold'"),
        ("categories: [S1, S4, Hates]", r"unknown category 'Hates' .did you mean 'Hate'"),
        ("thresholds: {S99: 0.5}", "unknown category 'S99'"),
        ("threshold: 0", "threshold: found 0.0, expected a probability"),
        ("thresholds: {S1: high}", "S1: found 'high', expected a probability"),
        ("threshold: true", "found True"),
        ("action: refused", r"action: found 'refused', expected one of log, warn, refuse .did you mean 'refuse'"),
        ("actions: {S4: warn}", "S4. cannot be left out or let pass"),
        ("action: log", "S4. cannot be left out or let pass"),
        ("categories: [S1]", "S4. cannot be left out or let pass"),
        ("categories: [S1, S4]\nactions: {S2: warn}", "S2 has a threshold or an action, but is not"),
        ("actions: {S5: warn, Defamation: log}", "found S5 twice"),
        ("stages: [prompt, answer]", "stages: found 'answer'"),
        ("stages: []", "stages: found none"),
        ("stream_overlap: 64", "stream_overlap: found 64 of stream_window 64"),
        ("window: 0", "found 256 of window 0"),
        ("timeout: 0", "timeout: found 0.0"),
        ("threshold: 0.5\nthreshold: 0.9", "'threshold' stands there twice .line 2"),
        ("- S1", "expected a mapping"),
        ("a: [", "no policy can be read"),
        ("? [1]\n: 2", "no policy can be read"),
    ],
)
def test_mistakes(write, text, message):
    path = write(text)
    with pytest.raises(ValueError, match=message) as found:
        read_policy(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no.yaml: no policy can be read .No such file"):
        read_policy(tmp_path / "no.yaml")


POLICY = Policy(
    categories=tuple(c for c in CATEGORIES if c != "S6"), threshold=0.5, thresholds={"S1": 0.9, "S2": 0.2},
    actions={"S7": "warn", "S8": "log"},
)  # fmt: skip


@pytest.mark.parametrize(
    "verdict, kept, action",
    [
        (Verdict(True, (), 0.1), (), "pass"),
        (Verdict(False, ("S1",), 0.8), (), "pass"),  # below its own threshold
        (Verdict(False, ("S1",), 0.9), ("S1",), "refuse"),
        (Verdict(False, ("S2",), 0.3), ("S2",), "refuse"),
        (Verdict(False, ("S6",), 0.99), (), "pass"),  # left out
        (Verdict(False, ("S6", "S9"), 0.99), ("S9",), "refuse"),
        (Verdict(False, ("S7",), 0.99), ("S7",), "warn"),
        (Verdict(False, ("S8",), None), ("S8",), "log"),
        (Verdict(False, ("S7", "S8"), 0.99), ("S7", "S8"), "warn"),
        (Verdict(False, ("S3", "S8"), 0.99), ("S3", "S8"), "refuse"),
        (Verdict(False, (), 0.99), (), "refuse"),
        (Verdict(False, (), 0.3), (), "pass"),
        (Verdict(False, (), 0.01, reason="the guard gave no verdict"), (), "refuse"),
        (Verdict(False, ("S8",), 0.01, reason="unknown category 'S99'"), ("S8",), "refuse"),
        (Verdict(False, ("weapons",), 0.99), ("weapons",), "refuse"),  # somebody else's guard
    ],
)
def test_what_counts_and_what_is_done(verdict, kept, action):
    found = POLICY.apply(verdict)
    assert (found.categories, POLICY.action_for(found)) == (kept, action)
    assert found.safe == (action == "pass") and POLICY.apply(found) == found


def test_the_worst_verdict_counts():
    found = worst([Verdict(True, (), 0.1), Verdict(False, ("S9",), 0.7), Verdict(False, ("S1",), 0.6, reason="odd")])
    assert (found.safe, found.categories, found.score, found.reason) == (False, ("S1", "S9"), 0.7, "odd")
    assert worst([Verdict(True, (), 0.1), Verdict(True, (), 0.3)]) == Verdict(True, (), 0.3)


@pytest.mark.parametrize(
    "wrong", [{"safe": "no"}, {"safe": None}, {"safe": False, "score": float("nan")}, {"safe": False, "score": 1.5},
              {"safe": False, "categories": "S1"}, {"safe": False, "categories": (1,)}],
)  # fmt: skip
def test_a_verdict_that_nobody_can_read_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="found .*, expected"):
        Verdict(**wrong)
