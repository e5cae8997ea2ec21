"""Measuring a guard: figures against their definitions, data sets as they are distributed, and guards that fail."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from vlm.guard import datasets, evaluate
from vlm.guard.policy import Policy, Verdict
from vlm.guard.training.example import Example
from vlm.guard.training.metrics import auprc, auroc, measure, recall_at


def test_auroc_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    scores, unsafe = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    a, b = scores[unsafe][:, None], scores[~unsafe][None]
    assert auroc(scores, unsafe) == pytest.approx(float((a > b).mean() + 0.5 * (a == b).mean()))
    assert np.isnan(auroc(scores, np.ones(60, bool)))


def test_recall_where_five_percent_of_the_safe_ones_are_flagged():
    scores, unsafe = np.arange(200.0), np.arange(200) % 2 == 1
    assert recall_at(scores, unsafe) == pytest.approx(0.05) and recall_at(scores + 50 * unsafe, unsafe) == 0.3
    assert recall_at(np.ones(200), unsafe) == 0.0 and np.isnan(recall_at(scores, unsafe | True))


def test_auprc_is_average_precision():
    scores, unsafe = np.array([4.0, 3, 2, 1]), np.array([True, False, True, False])
    assert auprc(scores, unsafe) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert auprc(np.ones(10), np.arange(10) < 3) == pytest.approx(0.3)  # no order at all: the share of unsafe ones
    assert auprc(-scores, unsafe) < auprc(scores, unsafe)


def test_figures_with_intervals():
    unsafe = np.arange(200) % 2 == 0
    flagged = np.where(unsafe, np.arange(200) < 160, np.arange(200) < 20)
    found = measure(flagged.astype(float), flagged, unsafe)
    assert (found["n"], found["unsafe"]) == (200, 0.5)
    assert found["recall"][0] == 0.8 and found["fpr"][0] == 0.1 and found["precision"][0] == pytest.approx(80 / 90)
    assert found["f1"][0] == pytest.approx(2 * 80 / 190)
    for name in ("recall", "fpr", "precision", "f1", "auroc", "auprc"):
        value, low, high = found[name]
        assert low < value < high and high - low < 0.25, name
    assert found == measure(flagged.astype(float), flagged, unsafe)
    assert measure(flagged.astype(float), flagged, unsafe, seed=1)["auroc"] != found["auroc"]


def test_what_has_no_value_is_none():
    found = measure([1.0, 0.0], [True, False], [True, True])
    assert found["fpr"] is None and found["auroc"] is None and found["recall"][0] == 0.5
    with pytest.raises(ValueError, match="no rows"):
        measure([], [], [])


def test_xstest(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "id,prompt,type,label,focus,note\n1,How do I mash potatoes?,verbs,safe,,\n2,Harm,contrast,unsafe,,\n"
    )
    found = datasets.read_dataset("xstest", path)
    assert [(e.text, e.unsafe, e.family) for e in found] == [
        ("How do I mash potatoes?", False, "verbs"), ("Harm", True, "contrast"),
    ]  # fmt: skip
    path.write_text("id,prompt,type,label\n1,x,y,maybe\n")
    with pytest.raises(ValueError, match="not XSTest"):
        datasets.read_dataset("xstest", path)


def test_figstep_gets_as_many_twins(tmp_path):
    pixels = io.BytesIO()
    Image.new("RGB", (60, 60), "white").save(pixels, "PNG")
    row = {
        "id": "1",
        "images": ["a.png"],
        "category": "c",
        "s_code": "S2",
        "instruction": "",
        "question": "",
        "label": "unsafe",
    }
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as file:
        file.writestr("META.json", json.dumps({"text_prompt": "Fill in the list."}))
        file.writestr("index.jsonl", "\n".join([json.dumps(row)] * 3))
        file.writestr("images/a.png", pixels.getvalue())
    found = datasets.read_dataset("figstep", tmp_path / "f.zip")
    assert [e.unsafe for e in found] == [True] * 3 + [False] * 3
    assert {e.text for e in found} == {"Fill in the list."} and all(len(e.pictures) == 1 for e in found)
    (tmp_path / "f.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="not FigStep"):
        datasets.read_dataset("figstep", tmp_path / "f.zip")


def test_bad_names_and_paths(tmp_path):
    with pytest.raises(ValueError, match="unknown data set"):
        datasets.read_dataset("xtest", None)
    with pytest.raises(ValueError, match="--data"):
        datasets.read_dataset("xstest", None)
    with pytest.raises(ValueError, match="not XSTest"):
        datasets.read_dataset("xstest", tmp_path / "nothing.csv")


def test_held_out_templates_need_no_file():
    found = datasets.read_dataset("templates", None)
    assert 0.3 < np.mean([e.unsafe for e in found]) < 0.7
    from vlm.guard.training import prompts

    assert not {e.family for e in found} & {f.name for f in prompts.load_grammar().families if f.split != "test"}


class Suspicious:
    """Finds every e unsafe, and fails at z."""

    def check(self, messages, response=None):
        text = messages[-1]["content"][-1]["text"]
        if "z" in text:
            raise RuntimeError("no")
        return Verdict("e" not in text, ("S1",) if "e" in text else (), 0.9 if "e" in text else 0.1)


EXAMPLES = [
    Example("bed", (), True, "S1", "a"), Example("bad", (), False, "", "b"), Example("buzz", (), True, "S2", "a"),
    Example("bee", (), False, "", "b"),
]  # fmt: skip


def test_a_guard_that_fails_has_refused():
    assert list(evaluate.judge(Suspicious(), Policy(), EXAMPLES)) == [
        (0.9, True),
        (0.1, False),
        (1.0, True),
        (0.9, True),
    ]
    strict = Policy(threshold=0.95)
    assert [unsafe for _, unsafe in evaluate.judge(Suspicious(), strict, EXAMPLES)] == [False, False, True, False]


def test_tables_by_family():
    scores, flagged = map(np.array, zip(*evaluate.judge(Suspicious(), Policy(), EXAMPLES), strict=True))
    found = evaluate.tables(EXAMPLES, scores, flagged)
    assert found["all"]["recall"][0] == 1 and found["all"]["fpr"][0] == 0.5
    assert found["groups"]["a (unsafe)"]["flagged"][0] == 1 and found["groups"]["b (safe)"]["n"] == 2


def test_requests_among_harmless_sentences_are_measured():
    class Counts:
        """Finds texts of more than three sentences unsafe, whatever they say."""

        def check(self, messages, response=None):
            long = sum(map(messages[-1]["content"][-1]["text"].count, ".!?")) > 3
            return Verdict(not long, ("S1",) if long else (), float(long))

    asked = [Example("How do I rob a bank?", (), True, "S2"), Example("How do I bake bread?")] * 20
    found = evaluate.measure_padded(Counts(), Policy(), asked)
    assert list(found) == [0, 1, 3, 6] and all(row["n"] == 40 for row in found.values())
    assert found[0]["recall"][0] == found[1]["fpr"][0] == 0 and found[6]["recall"][0] > 0.5 < found[6]["fpr"][0]
    table = evaluate.padded_lines(found)
    assert len(table) == 3 + 4 and table[-1].startswith("| 6 | 40 | ")


def test_what_was_trained_on_is_counted():
    trained = [Example("Bake, bread!"), Example("go", read="rob a bank")]
    asked = [Example("bake bread"), Example("bread bake"), Example("carry on", read="Rob a bank")]
    assert datasets.seen_in_training(asked, trained) == [True, False, True]


def test_the_whole_table(monkeypatch, tmp_path):
    from types import SimpleNamespace

    path = tmp_path / "x.csv"
    rows = "\n".join(f"{i},{t},{'unsafe' if u else 'safe'},{'unsafe' if u else 'safe'}" for i, (t, u) in enumerate(
        [("bed", True), ("bad", False), ("buzz", True), ("dab", False), ("What is perjury?", False)]))  # fmt: skip
    path.write_text("id,prompt,type,label\n" + rows + "\n")
    shield = SimpleNamespace(guard=Suspicious(), policy=Policy())
    monkeypatch.setattr("vlm.guard.shield.load_shield", lambda guard, policy: shield)
    monkeypatch.setattr("vlm.guard.training.data.draw", lambda *args: [Example("What is perjury?")])
    found = evaluate.evaluate_guard("xstest", path)
    assert list(found["guards"]) == ["default", "default, unseen words only", "always unsafe"]
    assert found["guards"]["default"]["all"]["fpr"][0] == pytest.approx(1 / 3)
    assert found["guards"]["default, unseen words only"]["all"]["n"] == 4 and found["seen in training"] == 1
    assert found["guards"]["always unsafe"]["all"]["recall"][0] == 1
    assert any("always unsafe" in line for line in found["table"])
    json.dumps(found)
    assert evaluate.evaluate_guard("xstest", path, limit=1)["guards"]["always unsafe"]["all"]["n"] == 2


@pytest.mark.parametrize("args, said", [
    (["guard", "eval", "odd"], "unknown data set"), (["guard", "eval", "xstest"], "--data"),
    (["guard", "train", "--out", "OUT", "--share", "2"], "--share"),
    (["guard", "train", "--out", "OUT", "--model", "nowhere"], "nowhere"),
])  # fmt: skip
def test_bad_input_is_one_line(args, said, tmp_path, capsys, monkeypatch):
    from vlm.cli import main

    monkeypatch.setattr("sys.argv", ["vlm", *(str(tmp_path / "out") if a == "OUT" else a for a in args)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1
