"""Reports say what was measured, how, and how sure it is; they stand alone and are safe to open."""

import json
import re
import sys

import pytest
from PIL import Image

from vlm.api import Result
from vlm.evaluation.report import EXAMPLES, extreme, spread, write_report, write_submission
from vlm.evaluation.runner import make_plan, predict
from vlm.evaluation.scoring import find_metric, score_folder

NASTY = "<script>alert(1)</script> | what?"


class Scripted:
    """Answers by id."""

    def __init__(self, said):
        self.said, self.identity = said, {"kind": "fake", "name": "scripted", "weights": "abc123"}

    def generate(self, requests):
        return [Result(self.said.get(r.id, "?"), prompt_tokens=5, completion_tokens=1) for r in requests]


@pytest.fixture
def scored(tmp_path):
    """Rows of the neutral form and answers -> the folder of a scored run."""

    def make(rows, said, task="own", **options):
        data = tmp_path / "data"
        (data / "images").mkdir(parents=True, exist_ok=True)
        for row in rows:
            Image.new("RGB", (900, 500), "teal").save(data / "images" / row.get("image", "none.png"))
        (data / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
        predict(make_plan(task, data, **options), Scripted(said), tmp_path / "run", progress=False)
        score_folder(tmp_path / "run")
        return tmp_path / "run"

    return make


def rows(n=6, **more):
    return [
        {"id": f"q{i}", "image": f"{i % 3}.png", "question": NASTY if i == 0 else f"What is {i}?", "answer": str(i),
         "type": f"kind {i % 2}", **more}
        for i in range(n)
    ]  # fmt: skip


def test_a_report_says_what_was_measured(scored):
    run = scored(rows(), {"q1": "1", "q2": "2.", "q3": "3"}, task="chartqa")
    write_report(run)
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    for said in (
        "chartqa: scripted", "50.0", "kind 0", "kind 1", "clustered by picture", "Llama 3.2 11B Vision", "83.4",
        "chain of thought", "single word or phrase", "variant official", "abc123", "new tokens a second",
    ):  # fmt: skip
        assert said in page, said
        assert said in text, said
    report = json.loads((run / "report.json").read_text())
    assert report["summary"]["score"] == 0.5 and report["manifest"]["prompt"]["name"] == "short"
    low, high = report["summary"]["low"], report["summary"]["high"]
    assert 0 <= low < 0.5 < high <= 1
    assert set(report["examples"]["The worst answers"]) == {"q0", "q4", "q5"}


def test_the_page_stands_alone_and_runs_nothing(scored):
    run = scored(rows(), {"q1": NASTY})
    write_report(run)
    page = (run / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "prefers-color-scheme: dark" in page
    assert page.count("data:image/jpeg;base64,") == 6 and len(page) < 100_000  # small pictures, one each
    assert all(line.count(" | ") <= 4 for line in (run / "report.md").read_text().split("\n") if "script" in line)


def test_blind_baselines_stand_beside(scored):
    run = scored(rows(), {})
    plan = make_plan("own", run.parent / "data", blind="majority")
    predict(plan, None, run / "blind-majority", progress=False)
    score_folder(run / "blind-majority")
    write_report(run)
    assert "blind: commonest answer of each type" in (run / "report.html").read_text()
    assert json.loads((run / "report.json").read_text())["blind"]["majority"]["score"] == pytest.approx(2 / 6)


def test_a_report_without_its_data_keeps_the_words(scored):
    run = scored(rows(), {})
    (run.parent / "data").rename(run.parent / "moved")
    write_report(run)
    assert "data:image" not in (run / "report.html").read_text() and "What is 3?" in (run / "report.html").read_text()
    write_report(run, data=str(run.parent / "moved"))
    assert "data:image" in (run / "report.html").read_text()


def test_answers_withheld_are_no_score(scored):
    run = scored([{k: v for k, v in row.items() if k != "answer"} for row in rows()], {})
    write_report(run)
    assert "no score" in (run / "report.html").read_text() and "--submission" in (run / "report.md").read_text()


def test_unparsed_answers_are_counted_and_wrong(scored):
    run = scored(rows(4, choices=["0", "1", "2", "3"]), {"q0": "A", "q1": "B.", "q2": "hm", "q3": "?"})
    found = score_folder(run)
    assert (found["score"], found["unparsed"]) == (0.5, 2)
    assert found["extra"]["score of the parsed answers alone"] == "100.0"
    assert found["extra"]["score if unparsed answers were guesses"] == "62.5"
    assert any("2 of 4 answers could not be parsed" in w for w in found["warnings"])


def test_captions_are_scored_as_a_set(scored):
    texts = ["a dog runs on grass", "two cats sleep in a box", "a red car in the rain"]
    many = [{"id": f"{i}", "image": f"{i}.png", "captions": [t, t + " today"]} for i, t in enumerate(texts)]
    run = scored(many, {"0": texts[0], "1": texts[1], "2": "nothing"})
    found = score_folder(run)
    lines = [json.loads(line) for line in (run / "scores.jsonl").open()]
    assert lines[0]["score"] > 1 > lines[2]["score"] == 0 and set(found["extra"]) >= {"CIDEr", "BLEU-4", "ROUGE-L"}
    assert found["score"] == pytest.approx(sum(line["score"] for line in lines) / 3)
    assert any("not comparable" in w for w in found["warnings"])
    write_report(run)
    assert score_folder(run, metric="rouge-l")["score"] < 1


def test_pope_reports_f1_and_the_share_of_yes(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (9, 9)).save(data / "p.jpg")
    for kind in ("random", "popular"):
        lines = [{"question_id": i, "image": "p.jpg", "text": "?", "label": "yes" if i % 2 else "no"} for i in range(4)]
        (data / f"coco_pope_{kind}.json").write_text("\n".join(map(json.dumps, lines)))
    said = {f"{kind}-{i}": "Yes, it is." for kind in ("random", "popular") for i in range(4)} | {"random-0": "No."}
    predict(make_plan("pope", data), Scripted(said), tmp_path / "run", progress=False)
    extra = score_folder(tmp_path / "run")["extra"]
    assert extra["f1 random"] == "80.0" and extra["f1 popular"] == "66.7" and extra["f1, mean of the files"] == "73.3"
    assert extra["yes ratio popular"] == "100.0"


def test_submissions(scored):
    run = scored([{**r, "id": str(i)} for i, r in enumerate(rows())], {"0": "zero"}, task="own")
    with pytest.raises(ValueError, match="own has no submission file; those with one: vqav2"):
        write_submission(run, run / "s.json")
    manifest = json.loads((run / "manifest.json").read_text())
    for task, first in (
        ("vqav2", {"question_id": 0, "answer": "zero"}),
        ("docvqa", {"questionId": 0, "answer": "zero"}),
        ("gqa", {"questionId": "0", "prediction": "zero"}),
        ("coco-caption", {"image_id": 0, "caption": "zero"}),
        ("pope", {"question": NASTY, "answer": "zero"}),
    ):
        (run / "manifest.json").write_text(json.dumps({**manifest, "task": task}))
        write_submission(run, run / "s.json")
        made = json.loads((run / "s.json").read_text())
        assert made[0] == first and len(made) == 6
    write_submission(run, run / "s.jsonl")
    assert len((run / "s.jsonl").read_text().splitlines()) == 6


def test_submissions_of_choices(scored):
    run = scored(rows(3, choices=["0", "1", "2"]), {"q0": "The answer is B.", "q1": "hm"})
    manifest = json.loads((run / "manifest.json").read_text())
    for task, made in (
        ("scienceqa", {"results": {"q0": 1, "q1": -1, "q2": -1}}),
        ("mmmu", {"q0": "B", "q1": "hm", "q2": "?"}),
    ):
        (run / "manifest.json").write_text(json.dumps({**manifest, "task": task}))
        write_submission(run, run / "s.json")
        assert json.loads((run / "s.json").read_text()) == made


def test_examples_are_the_extremes_and_a_spread_of_equals():
    made = [{"id": i, "score": 0.0} for i in range(100)]
    assert [r["id"] for r in spread(made, 4)] == [0, 25, 50, 75]
    worst = extreme([{"id": -1, "score": -1.0}, *made], lambda r: r["score"])
    assert len(worst) == EXAMPLES and worst[0]["id"] == -1 and worst[-1]["id"] > 80


def test_metrics_are_tried_before_a_run():
    assert find_metric("vqa", None)[0] == "always_normalize"
    with pytest.raises(ValueError, match="did you mean 'official'"):
        find_metric("vqa", "oficial")
    with pytest.raises(ValueError, match="no variant"):
        find_metric("cider", "x")


@pytest.fixture
def command(monkeypatch, capsys):
    from vlm.cli import main

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["vlm", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, *capsys.readouterr()

    return call


def test_commands(command, scored, tmp_path, model, chat):
    from vlm.api import VLM

    run = scored(rows(), {"q1": "1"})
    VLM(model, chat).save(tmp_path / "tiny")
    args = ["own", "--data", tmp_path / "data", "--model", tmp_path / "tiny", "--limit", 4]
    code, out, _ = command("eval", *args, "--output", tmp_path / "new", "--with-blind", "--json", "-")
    assert code == 0 and json.loads(out)["n"] == 4 and (tmp_path / "new" / "report.html").is_file()
    assert {"question", "shuffled", "majority"} == set(
        json.loads((tmp_path / "new" / "report.json").read_text())["blind"]
    )
    code, out, err = command("predict", *args, "--output", tmp_path / "parts", "--shard", "0/2")
    assert code == 0 and "are left to other shards" in err
    assert command("score", tmp_path / "parts")[0] == 2
    assert command("predict", *args, "--output", tmp_path / "parts", "--shard", "1/2")[0] == 0
    assert command("score", tmp_path / "parts", "--json", tmp_path / "s.json")[0] == 0
    code, out, _ = command("eval-compare", tmp_path / "parts", tmp_path / "new")
    assert code == 0 and "B - A +0.0" in out
    assert command("report", run)[0] == 0 and "docvqa" in command("eval-tasks")[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["eval", "docvq", "--data", ".", "--output", "x"], "did you mean 'docvqa'"),
        (["eval", "own", "--data", "nowhere", "--output", "x"], "no such folder"),
        (["eval", "own", "--data", "DATA", "--output", "x", "--engine", "rya"], "expected local or ray"),
        (["eval", "own", "--data", "DATA", "--output", "x", "--model", "openai:nowhere"], "names no model"),
        (["score", "nowhere"], "has no manifest.json"),
        (["eval-compare", "a", "b"], "has no scores.json"),
    ],
)
def test_mistakes_are_one_line(command, scored, args, words):
    run = scored(rows(), {})
    code, _, err = command(*[run.parent / "data" if a == "DATA" else a for a in args])
    assert code == 2 and words in err and err.startswith("vlm: ") and err.count("\n") == 1
