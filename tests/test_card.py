"""A card says what was measured, of these weights, and nothing else."""

import json
import random
import re
import zipfile
from collections import Counter

import pytest
from PIL import Image

from vlm import cli_card
from vlm.api import VLM
from vlm.checkpoints import Checkpoint, save_checkpoint
from vlm.data.worlds import FAMILIES, wording_nlvr
from vlm.evaluation import card, families
from vlm.evaluation.card import content, packs, pages, reports, training, worlds
from vlm.evaluation.card.figures import Figures
from vlm.evaluation.families import Asked, Stream
from vlm.evaluation.metrics.detection import calibration
from vlm.evaluation.metrics.stats import wilson
from vlm.result import Result

SCENES = Stream(world="scenes", split="val", sizes=(96, 48))
MODEL = {
    "name": "shipped", "weights": "aaaa", "parameters": 5_500_000, "parts": {"encoder": 3_000_000}, "dtype": "float32",
    "config": {"image": {"tile_size": 96, "max_tiles": 4}, "decoder": {"vocab_size": 1024, "max_seq_len": 2048}},
}  # fmt: skip


def said(text: str, logprob: float | None = -0.1) -> Result:
    return Result(text, logprob=logprob)


def rows_of(*pairs: tuple[str, str], family: str = "exist") -> list[Asked]:
    return [
        Asked(number=i, families=(family,), family=family, question="?", answer=answer, said=told, wrong_picture="no",
              no_picture="yes") for i, (answer, told) in enumerate(pairs)
    ]  # fmt: skip


class Recorder:
    """Answers "yes" and keeps what it was asked."""

    def __init__(self):
        self.asked: list[tuple[list, str]] = []
        self.identity = {"weights": "aaaa"}

    def generate(self, conversations, **_):
        for [message] in conversations:
            pictures = [p["image"] for p in message["content"] if p["type"] == "image"]
            self.asked.append((pictures, message["content"][-1]["text"]))
        return [said("Yes.")] * len(conversations)


# ------------------------------------------------------------------------------------------------ questions


def test_questions_are_as_many_as_asked_for_and_few_of_a_family_per_picture():
    wanted = {"exist": 10, "count": 3, "two-hop": 2}
    chosen = families.choose_questions(SCENES, wanted)
    assert {f: sum(a.family == f for a in chosen) for f in wanted} == wanted
    per_picture = Counter((a.number, a.family) for a in chosen)
    assert max(per_picture.values()) == families.PER_PICTURE and len({a.number for a in chosen}) >= 4
    assert len({(a.number, a.question) for a in chosen}) == len(chosen)
    assert {f: sum(a.family == f and a.blind for a in chosen) for f in wanted} == {"exist": 5, "count": 2, "two-hop": 1}
    assert families.choose_questions(SCENES, wanted) == chosen
    again = SCENES.draw(chosen[-1].number, chosen[-1].families)  # the picture that is asked about is this one
    assert chosen[-1].question in [q.text for q in again.questions]


def test_a_family_that_a_world_does_not_offer_comes_short(monkeypatch):
    monkeypatch.setattr(families, "PATIENCE", 3)
    assert {a.family for a in families.choose_questions(SCENES, {"exist": 2, "name": 2})} == {"exist"}
    with pytest.raises(ValueError, match="scenes asks nothing of name"):
        families.choose_questions(SCENES, {"name": 2})


def test_groups_are_filled_with_questions_that_count_in_no_other_row():
    chosen = families.choose_questions(SCENES, {"count": 12, "exist": 6})
    groups = {"many": lambda a: a.family == "count" and int(a.answer) > 2, "exist": lambda a: a.family == "exist"}
    extra = families.fill_groups(SCENES, chosen, groups, 12)
    assert extra and all(a.extra for a in extra) and min(a.number for a in extra) > max(a.number for a in chosen)
    rows = {r["name"]: r["n"] for r in families.tabulate([*chosen, *extra], ["count"], groups)}
    assert rows == {"all": 18, "many": 12, "exist": 12, "count": 12}
    assert max(Counter(a.number for a in extra).values()) <= families.PER_PICTURE
    assert families.fill_groups(SCENES, chosen, groups, 12) == extra
    assert not families.fill_groups(SCENES, chosen, {"none": lambda a: False}, 5)


def test_words_carry_the_size_of_their_font():
    text = Stream(world="text", split="val", sizes=(192,))
    assert all(a.point >= 10 for a in families.choose_questions(text, {"read": 5}))
    assert all(a.point == 0 for a in families.choose_questions(SCENES, {"exist": 2}))


def test_blind_questions_have_other_pictures_or_none(monkeypatch):
    monkeypatch.setattr(families, "PICTURES_AT_ONCE", 4)
    model, questions = Recorder(), families.choose_questions(SCENES, {"exist": 5, "count": 5})
    families.ask(model, SCENES, questions, progress=False)
    asked: dict[str, list] = {}
    for pictures, text in model.asked:
        asked.setdefault(text, []).append([p.tobytes() for p in pictures])
    for a in questions:
        right = SCENES.draw(a.number, a.families).image.tobytes()
        shown = [pictures for pictures in asked[a.question] if pictures != [right]]
        assert [right] in asked[a.question] and bool(shown) == a.blind and a.said == "Yes."
        assert not a.blind or (shown.count([]) == 1 and any(len(pictures) == 1 for pictures in shown))
        assert (a.wrong_picture, a.no_picture) == (("Yes.", "Yes.") if a.blind else ("", ""))
        assert a.likelihood == pytest.approx(0.905, abs=1e-3) and a.confidence is None


def test_what_is_asked_without_pictures_is_asked_once():
    model, questions = Recorder(), [*rows_of(("yes", "")), *rows_of(("no", ""), ("no", ""))]
    families.ask(model, SCENES, questions, progress=False)
    assert [text for pictures, text in model.asked if not pictures] == ["?"]


def test_rows_have_their_blind_baselines_and_intervals():
    questions = rows_of(("yes", "Yes."), ("no", "no"), ("no", "yes"), ("no", "No"))
    table = {
        r["name"]: r for r in families.tabulate(questions, ["exist", "absent"], {"first": lambda a: a.number == 0})
    }
    assert list(table) == ["all", "first", "exist"]
    row = table["exist"]
    assert (row["n"], row["accuracy"], row["verbatim"]) == (4, 0.75, 0.25)
    assert (row["wrong_picture"], row["no_picture"], row["majority"]) == (0.75, 0.25, 0.75) and row["pictures"] == 4
    assert (row["low"], row["high"]) == pytest.approx(wilson(3, 4), abs=1e-4)
    questions[0].blind = False
    assert families.tabulate(questions, [])[0]["wrong_picture"] == 1.0
    for asked in questions:
        asked.blind = False
    [row] = families.tabulate(questions, [])
    assert (row["wrong_picture"], row["no_picture"], row["majority"]) == (None, None, 0.75)
    assert content.best_blind(row) == 0.75


def test_rows_of_several_questions_about_a_picture_are_clustered():
    independent = families.interval([True, False] * 50, range(100))
    clustered = families.interval([True, True, False, False] * 25, [i // 2 for i in range(100)])
    assert clustered[1] - clustered[0] > 1.2 * (independent[1] - independent[0])
    assert families.interval([True] * 10, [i // 2 for i in range(10)]) == wilson(5, 5)
    agreeing = families.interval([True] * 60 + [False] * 40, [i // 2 for i in range(100)])
    assert agreeing == pytest.approx(wilson(30, 50), abs=2e-3)


def test_false_premises_are_told_and_false_alarms_are_counted():
    questions = [
        *rows_of(("there is no red star", "There is no red star"), ("there is no cat", "there is no dog"),
                 ("there is no title", "Sales"), family="false-premise"),
        *rows_of(("red", "there is no circle"), ("blue", "blue"), family="attribute"),
        *rows_of(("yes", "there is no circle"), family="exist"), *rows_of(("0", "there is no circle"), family="count"),
    ]  # fmt: skip
    found = families.refusals(questions)["false_premises"]
    assert (found["detected"]["k"], found["detected"]["n"]) == (2, 3)
    assert found["exact"] == pytest.approx(1 / 3, abs=1e-4)
    assert (found["false_alarms"]["k"], found["false_alarms"]["n"]) == (1, 2)
    assert families.refusals(rows_of(("yes", "yes"))) == {"false_premises": None, "cannot_tell": None}


def test_what_a_picture_does_not_tell_is_told_and_false_alarms_are_counted():
    questions = rows_of(("cannot tell", "Cannot tell."), ("cannot tell", "$5"), ("$7", "cannot tell"), ("$8", "$8"),
                        family="cannot-tell")  # fmt: skip
    found = families.refusals(questions)
    told, alarms = found["cannot_tell"]["detected"], found["cannot_tell"]["false_alarms"]
    assert (told["k"], told["n"], alarms["k"], alarms["n"]) == (1, 2, 1, 2) and found["false_premises"] is None


def test_even_parts():
    assert [len(p) for p in families.even_parts(list(range(9)), 4)] == [3, 3, 3]
    assert list(families.even_parts([], 4)) == []


def test_examples_are_the_first_right_and_wrong_ones(tmp_path):
    questions = rows_of(("yes", "no"), ("yes", "yes"), ("no", "no"), ("no", "yes"))
    assert [a.number for a in worlds.pick_examples(questions, 1)] == [1, 0]
    pair = Asked(number=0, families=("pair same",), family="pair same", question="?", answer="yes", said="yes")
    example = worlds.to_example(pair, Stream(world="pairs", split="val"), tmp_path)
    assert len(example["pictures"]) == 2 and all((tmp_path / name).is_file() for name in example["pictures"])


def test_rows_with_goals_are_there_and_every_family_is_asked_in_every_split():
    for name, world in worlds.WORLDS.items():
        assert {g.row for g in worlds.GOALS if f"/{name}/" in g.table} <= {*world.families, *world.groups}
        assert set(world.families) == set(FAMILIES[name])
        for split in world.splits:
            if split == "test-style":
                pytest.importorskip("matplotlib")
            stream = Stream(world=name, split=split, sizes=(96,))
            wanted = world.wanted(split, 1)
            assert {a.family for a in families.choose_questions(stream, wanted)} == set(wanted), (name, split)
        never = {family for unasked in world.never.values() for family in unasked}
        assert never <= set(world.families)


# ------------------------------------------------------------------------------------------------ figures


def test_a_card_goes_on_and_refuses_figures_of_other_weights(tmp_path):
    path = tmp_path / "card.json"
    figures = Figures(path, MODEL)
    figures.put("a", {"count": 3}, {"rows": []}, 1.0)
    figures.put("free", {"n": 1}, {"x": 1}, 1.0, of_weights=False)
    again = Figures(path, MODEL)
    assert again.has("a", {"count": 3}) and not again.has("a", {"count": 4}) and not again.has("b", {})
    other = Figures(path, {**MODEL, "weights": "bbbb"})
    assert other.dropped == ["a"] and other.result("a") is None and other.has("free", {"n": 1})
    other.put("b", {}, {}, 1.0)
    assert set(json.loads(path.read_text())["tables"]) == {"free", "b"}
    path.write_text("[]")
    with pytest.raises(ValueError, match="no figures of a card"):
        Figures(path, MODEL)


@pytest.fixture
def folder(model, chat, tmp_path):
    """A tiny model in a folder."""
    return save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path / "model")


@pytest.fixture
def small(monkeypatch):
    """A card of one world with two families."""
    about = worlds.World(about="shapes", families={"exist": "is it there", "count": "how many"}, splits=("val",),
                         sizes=(48,))  # fmt: skip
    monkeypatch.setattr(worlds, "WORLDS", {"scenes": about})


def test_measured_tables_are_not_measured_again(folder, small, tmp_path, monkeypatch):
    seen = []
    request = card.Request(model=str(folder), out=tmp_path / "card", parts=("worlds",), count=4, examples=1)
    figures, failed = card.measure(request, lambda figures, failed: seen.append(len(figures.tables)))
    assert seen[0] == 1 and not failed
    rows = {r["name"]: r["n"] for r in figures.result("worlds/scenes/val")["rows"]}
    assert rows == {"all": 8, "exist": 4, "count": 4}
    monkeypatch.setattr(worlds, "measure", lambda *a, **k: pytest.fail("measured again"))
    card.measure(request, lambda *_: None)
    with pytest.raises(BaseException, match="measured again"):
        card.measure(card.Request(**{**vars(request), "count": 8}), lambda *_: None)


def test_a_table_that_fails_loses_no_other(folder, small, tmp_path, monkeypatch, run):
    monkeypatch.setattr(card, "_of_times", lambda request: iter([card.Job(name="times", settings={}, run=fail)]))
    monkeypatch.setattr(card, "_JOBS", {**card._JOBS, "times": card._of_times})
    out = tmp_path / "card"
    code, text, error = run("card", folder, "--out", out, "--only", "times,worlds", "--count", 4, "--workers", 1)
    assert code == 2 and "1 tables could not be measured: times" in error and "times: no clock" in text
    assert set(json.loads((out / "card.json").read_text())["tables"]) == {"worlds/scenes/val"}
    assert (
        "times: no clock" in (out / "index.html").read_text() and str(tmp_path) not in (out / "card.json").read_text()
    )


def fail(*_):
    raise ValueError("no clock")


@pytest.mark.parametrize("change, message", [
    ({"parts": ("word",)}, "expected some of times"), ({"count": 0}, "--count 0"), ({"workers": 0}, "--workers 0"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        card.Request(**change)


# ------------------------------------------------------------------------------------------------ packs


def test_packs_are_asked_in_their_words_with_three_baselines(tmp_path):
    path = tmp_path / "sroie_a.zip"
    with zipfile.ZipFile(path, "w") as pack:
        rows = []
        for i in range(4):
            Image.new("RGB", (8, 8), (i * 40, 0, 0)).save(tmp_path / "p.png")
            pack.write(tmp_path / "p.png", f"images/{i}.png")
            fields = {"total": "5.00" if i < 3 else "6.00", "date": "1/2/2018", "company": "X"}
            rows.append({"id": str(i), "images": [f"{i}.png"], "fields": fields})
        pack.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))
    asked = []

    class Model:
        identity = {"weights": "aaaa"}

        def generate(self, requests):
            asked.extend((r.text, len(r.images)) for r in requests)
            return [said("5.00" if r.images else "1/2/2018") for r in requests]

    found = packs.measure(Model(), {"pack": "sroie", "limit": None}, path, tmp_path / "work", progress=False)
    assert set(asked) == {("What is the total?", 1), ("What is the total?", 0), ("What is the date?", 1),
                          ("What is the date?", 0)}  # fmt: skip
    rows = {r["name"]: r for r in found["rows"]}
    assert set(rows) == {"SROIE, total", "SROIE, date"}
    total, date = rows["SROIE, total"], rows["SROIE, date"]
    assert (total["n"], total["accuracy"], total["no_picture"], total["majority"]) == (4, 0.75, 0.0, 0.75)
    assert (date["accuracy"], date["no_picture"], date["majority"]) == (0.0, 1.0, 1.0)
    asked.clear()
    assert packs.measure(Model(), {"pack": "sroie", "limit": None}, path, tmp_path / "work", progress=False) == found
    assert not asked  # the answers are on disk


def test_statements_are_asked_in_a_form_of_the_training(tmp_path):
    path = tmp_path / "nlvr_dev.zip"
    with zipfile.ZipFile(path, "w") as pack:
        Image.new("RGB", (40, 10)).save(tmp_path / "p.png")
        pack.write(tmp_path / "p.png", "images/0.png")
        row = {"id": "0", "images": ["0.png"], "sentence": "There is a blue item.", "label": True}
        pack.writestr("index.jsonl", json.dumps(row))
    plan = packs.make(packs.PACKS["nlvr"], path, None)
    assert [i.question for i in plan.items] == ["Is it true that: There is a blue item."]
    assert packs.PACKS["nlvr"].form.replace("{}", "{s}") in wording_nlvr.NLVR["bare"][0]


# ------------------------------------------------------------------------------------------------ training, pages


def runs(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "output: x\nstages:\n- {until: 10, mixture: {scenes: 1.0}}\n- {until: 40, mixture: {text: 3, scenes: 1}}\n"
    )
    rows = [{"step": s, "pictures": 10 * s, "questions": 80 * s, "seconds": t, "answer_right": s / 20}
            for s, t in ((5, 50.0), (10, 90.0), (15, 20.0), (20, 60.0))]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "runs.yaml").write_text("- {config: c.yaml, log: log.jsonl, machine: two cores}\n")
    return tmp_path / "runs.yaml"


def test_training_is_told_from_config_and_log(tmp_path):
    found = training.summarise(runs(tmp_path))
    [run] = found["runs"]
    assert (run["steps"], run["pictures"], run["questions"], run["seconds"]) == (20, 200, 1600, 150.0)  # resumed once
    assert found["mixture"] == {"scenes": 0.625, "text": 0.375}  # of the 20 steps that were made
    assert found["curves"]["answer_right"][-1] == (200, 1.0)
    assert [s["from"] for s in run["stages"]] == [0, 10]


@pytest.mark.parametrize("text, message", [
    ("{}", "found no list of runs"), ("- {config: c.yaml, log: log.jsonl}", "a run has no machine"),
    ("- {config: gone.yaml, log: log.jsonl, machine: x}", "gone.yaml: no such file"), ("[", "expected a YAML list"),
])  # fmt: skip
def test_a_bad_list_of_runs_is_refused(tmp_path, text, message):
    runs(tmp_path).write_text(text)
    with pytest.raises(ValueError, match=message):
        training.summarise(tmp_path / "runs.yaml")


def filled(path) -> Figures:
    """Figures of every kind."""
    figures = Figures(path, MODEL)
    row = {"n": 2000, "pictures": 700, "accuracy": 0.9312, "low": 0.92, "high": 0.941, "verbatim": 0.91,
           "wrong_picture": 0.21, "no_picture": 0.22, "majority": 0.23}  # fmt: skip
    alarms = {"n": 500, "k": 470, "share": 0.94, "low": 0.92, "high": 0.96}
    few = {**alarms, "k": 5, "share": 0.01}
    for name, world in worlds.WORLDS.items():
        names = ["all", *world.groups, *world.families]
        rows = [{"name": n, **row} for n in names]
        rows[0] |= {"wrong_picture": None, "no_picture": None}
        rows[-1] = {**rows[-1], "accuracy": 0.25}
        figures.put(f"worlds/{name}/val", {}, {
            "rows": rows, "false_premises": {"detected": alarms, "exact": 0.8, "false_alarms": few},
            "cannot_tell": None if name == "shapes" else {"detected": few, "exact": 0.01, "false_alarms": few},
            "examples": [{"family": "exist", "question": "Is <b> there?", "expected": "yes", "said": "", "right": False,
                          "likelihood": 0.5, "confidence": None, "pictures": ["kept.webp"]}],
        }, 1.0)  # fmt: skip
    for name, pack in packs.PACKS.items():
        figures.put(f"packs/{name}", {}, {"rows": [{"name": n, **row} for n in pack.types.values()]}, 1.0)
    seconds = {"median": 1.25, "least": 1.0, "most": 2.0, "n": 5}
    figures.put("times", {}, dict.fromkeys(("load", "again", "first_answer", "answer", "large_answer"), seconds), 1.0)
    rng = random.Random(0)
    sure = [rng.random() for _ in range(200)]
    answers = calibration([rng.random() < p for p in sure], sure)
    pictures = {"n": 50, "outside": 0.04, "low": 0.01, "high": 0.13}
    area = {"auroc": 0.987, "low": 0.97, "high": 0.995}
    figures.put("limits", {}, {
        "confidence": {"val": answers, "test": answers},
        "domain": {"inside": ["worlds, val"], "sets": {"worlds, val": pictures, "Flickr8k val": pictures},
                   "auroc": {"worlds, val": {"Flickr8k val": area}}},
    }, 1.0)  # fmt: skip
    q = {"least": 3.0, "5%": 7.0, "median": 15.0}
    seen = {"pictures": 989, "drawn": 20000, "equal": 0, "near": 2, "nearly_equal": 1, "with_question": 0,
            "difference": {"": q, "itself": q}, "frequency": {"": q, "itself": {}}}  # fmt: skip
    spoken = {"sentences": 900, "questions": 989, "generated": 5000, "equal": 9, "near": 30, "equal_questions": 10,
              "near_questions": 31, "similarity": {"median": 0.4, "itself": 0.6}}  # fmt: skip
    figures.put("contamination", {"mixture": {"scenes": 1.0}}, {
        "": {"pictures": 20000, "sentences": 5000, "seed": 1}, "nlvr_dev": {"pictures": seen, "sentences": spoken},
        "sroie_a": {"pictures": seen, "sentences": None},
    }, 1.0, of_weights=False)  # fmt: skip
    return figures


def results(folder):
    """JSON as other commands leave it."""
    folder.mkdir()
    lines = ["xstest, n 225", "", "| guard | AUROC |", "|---|---|", "| default | 0.81 (0.7 to 0.9) |"]
    guard = {"dataset": "xstest", "table": lines}
    cost = {"commit": "abc", "date": "2026-11-25T10:00", "cost": [{"guard": "with", "words": 1.5}],
            "robustness": [{"eps": 8, "kind": "attack", "n": 60, "recall": 0.5, "interval": [0.4, 0.6]}]}  # fmt: skip
    speed = {"worlds": [{"world": "scenes", "size": 96, "rounds": [1200.0, 1263.4]},
                        {"world": "scenes", "size": 192, "rounds": [500.0]},
                        {"world": "text", "size": 192, "rounds": [432.0]}]}  # fmt: skip
    for name, data in (("guard-xstest", guard), ("guard-cost", cost), ("worlds", speed), ("other", {"a": 1})):
        (folder / f"{name}.json").write_text(json.dumps(data))
    return folder


def test_reports_of_others_are_read_and_damaged_ones_are_refused(tmp_path):
    found = reports.read_reports(results(tmp_path / "r"))
    assert [r["name"] for r in found["guard"]] == ["guard-cost", "xstest"] and len(found["generators"]) == 1
    [speed] = found["generators"][0]["tables"]
    assert speed["head"][1:] == ["96 px", "192 px"]
    assert speed["rows"] == [["scenes", "1263", "500"], ["text", "-", "432"]]
    cost = found["guard"][0]
    assert cost["where"] == "commit abc, 2026-11-25" and cost["tables"][0]["rows"] == [["with", "1.50", *"-" * 5]]
    assert cost["tables"][1]["rows"] == [["8", "attack", "60", "50.0", "40.0 to 60.0"]]
    assert reports.read_reports(tmp_path / "gone") == {"guard": [], "generators": []}
    (tmp_path / "r" / "guard-x.json").write_text("{")
    with pytest.raises(ValueError, match="guard-x.json: no report"):
        reports.read_reports(tmp_path / "r")


def test_tables_are_read_out_of_markdown():
    two = reports.parse_tables("words\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n| c |\n|---|\nend")
    assert two == [{"head": ["a", "b"], "rows": [["1", "2"], ["3", "4"]]}, {"head": ["c"], "rows": []}]


@pytest.mark.parametrize("full", [False, True])
def test_pages_have_no_holes(tmp_path, full):
    figures = filled(tmp_path / "card.json") if full else Figures(tmp_path / "card.json", MODEL)
    (tmp_path / "pictures").mkdir()
    for name in ("kept.webp", "old.webp"):
        (tmp_path / "pictures" / name).write_bytes(b"")
    told = training.summarise(runs(tmp_path)) if full else None
    failed = {"worlds/charts/test-style": "needs matplotlib"} if full else {}
    told_elsewhere = reports.read_reports(results(tmp_path / "results")) if full else None
    pages.write_pages(
        figures, tmp_path, tmp_path / "README.md", command="vlm card", training=told, reports=told_elsewhere,
        failed=failed,
    )  # fmt: skip
    pages.remove_unused(figures, tmp_path / "pictures")
    html, text = (tmp_path / "index.html").read_text(), (tmp_path / "README.md").read_text()
    for page in (html, text):
        words = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
        assert not re.search(r"\b(None|nan|undefined|Undefined|\{\{|\}\})\b", words)
        assert "Contamination" in words and "Apache-2.0" in words
        assert ("93.1" in words and "needs matplotlib" in words and "62.5 %" in words) == full
        assert ("Hardly better than blind in scenes" in words) == full
        assert ("0.9870" in words and "0.81 (0.7 to 0.9)" in words and "1263" in words) == full
    assert ("| - | - | 23.0 |" in text) == full
    assert ("Is &lt;b&gt; there?" in html) == full and "<b> there" not in html
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == ({"kept.webp"} if full else set())
    assert text.startswith("---\nlicense: apache-2.0\n") and text.count("\n---\n") == 1
    header = text.split("---\n")[1]
    import yaml

    assert yaml.safe_load(header)["library_name"] == "gated-vlm"
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for before, after in zip(tables, tables[1:], strict=False):
        if set(after) <= {"|", "-"}:
            assert before.count("|") == after.count("|")


def test_the_table_of_goals_is_written_between_its_marks(tmp_path):
    figures, readme = filled(tmp_path / "card.json"), tmp_path / "README.md"
    readme.write_text(f"# Name\n\n{pages.GOALS_BEGIN}\n| old |\n{pages.GOALS_END}\n\nEnd.\n")
    for _ in range(2):
        pages.write_goals(figures, readme)
    lines = readme.read_text().splitlines()
    assert (lines[0], lines[-1], lines[2], lines[-3]) == ("# Name", "End.", pages.GOALS_BEGIN, pages.GOALS_END)
    [table] = reports.parse_tables(readme.read_text())
    assert [row[0] for row in table["rows"]] == [g["name"] for g in content.goals(figures)]
    readme.write_text("# Name\n")
    with pytest.raises(ValueError, match="README.md: found no <!-- goals"):
        pages.write_goals(figures, readme)


def test_a_readme_without_marks_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm.evaluation.card.measure", lambda *args: pytest.fail("measured"))
    (tmp_path / "README.md").write_text("# Name\n")
    with pytest.raises(ValueError, match="README.md: found no <!-- goals"):
        cli_card.card(out=str(tmp_path), readme=str(tmp_path / "README.md"))
    with pytest.raises(FileNotFoundError):
        cli_card.card(out=str(tmp_path), readme=str(tmp_path / "gone.md"))


def test_goals_are_reached_or_missed_by_what_was_measured(tmp_path):
    goals = {g["name"]: g for g in content.goals(filled(tmp_path / "card.json"))}
    assert goals["scenes, counting to eight"]["reached"] and not goals["scenes, zero and one hop"]["reached"]
    assert goals["text of 14 px and more, verbatim"]["score"] == 0.91
    assert goals["false premises told"]["reached"] and goals["false alarms (at most)"]["reached"]
    assert goals["false alarms (at most)"]["score"] == pytest.approx(0.01)
    assert goals["NLVR dev"]["blind"] == 0.23 and goals["SHAPES val"]["goal"] == 0.9


def test_worlds_are_measured_with_a_model(model, chat, tmp_path, small):
    settings = {"world": "scenes", "split": "val", "count": 8, "seed": 1, "examples": 1}
    found = worlds.measure(VLM(model, chat), settings, tmp_path, progress=False)
    assert [r["name"] for r in found["rows"]] == ["all", "exist", "count"] and found["false_premises"] is None
    assert all((tmp_path / p).is_file() for e in found["examples"] for p in e["pictures"])
