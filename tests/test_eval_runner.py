"""A run loses no answer and asks none twice, whatever stops it; it never mixes two runs."""

import json

import pytest
from PIL import Image

from vlm.api import VLM, Result
from vlm.evaluation.compare import compare_runs, to_text
from vlm.evaluation.folder import RunFolder
from vlm.evaluation.models import Ours
from vlm.evaluation.runner import BatchSize, batches, make_plan, of_shard, ordered, parse_shard, predict
from vlm.evaluation.scoring import score_folder

N_PICTURES, N = 5, 15


@pytest.fixture
def data(tmp_path):
    """Three questions about each of five pictures, in an order that mixes them; the answers are colours."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    for p in range(N_PICTURES):
        Image.new("RGB", (20 + 30 * (p % 2), 20), (40 * p, 0, 0)).save(root / "images" / f"{p}.png")
    rows = [
        {"id": f"q{i}", "image": f"{i % N_PICTURES}.png", "question": f"What {'is it ' * (i % 4)}?",
         "type": f"t{i % 2}", "answer": "red" if i % 3 else "blue"}
        for i in range(N)
    ]  # fmt: skip
    (root / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


class Fake:
    """Says red; stops, or runs out of memory, where it is told to."""

    def __init__(self, name="fake", fail_at=None, room=None, error=RuntimeError("stopped")):
        self.identity = {"kind": "fake", "name": name, "weights": None}
        self.fail_at, self.room, self.error = fail_at, room, error
        self.asked, self.sizes = [], []

    def tiles(self, height, width):
        return width // 20

    def generate(self, requests):
        if self.room is not None and len(requests) > self.room:
            raise self.error
        if self.fail_at is not None and len(self.asked) + len(requests) > self.fail_at:
            raise self.error
        self.asked += [r.id for r in requests]
        self.sizes.append(len(requests))
        return [Result("Red." if r.images else "none", prompt_tokens=3, completion_tokens=2) for r in requests]


def run(data, output, model, **options):
    plan_options = {k: options.pop(k) for k in ("limit", "blind", "prompt", "seed", "metric") if k in options}
    return predict(make_plan("own", data, **plan_options), model, output, progress=False, **options)


def rows_of(folder):
    return [json.loads(line) for path in sorted(folder.path.glob("predictions*.jsonl")) for line in path.open()]


def same(row):
    return {k: v for k, v in row.items() if k != "seconds"}


def test_every_question_is_a_row(data, tmp_path):
    folder = run(data, tmp_path / "run", Fake(), batch_size=4)
    rows = rows_of(folder)
    assert sorted(r["id"] for r in rows) == sorted(f"q{i}" for i in range(N))
    first = folder.rows()["q1"]
    assert (first["prediction"], first["score"], first["type"], first["answers"]) == ("Red.", 1.0, "t1", ["red"])
    assert first["group"] == first["images"][0] == "images/1.png" and first["tokens"] == {"prompt": 3, "completion": 2}
    found = score_folder(tmp_path / "run")
    assert found["score"] == pytest.approx(10 / 15) and (found["n"], found["clusters"]) == (15, 5)
    assert [t["n"] for t in found["types"]] == [8, 7] and found["throughput"]["completion_tokens"] == 30
    assert [r["id"] for r in folder.scores()] == [f"q{i}" for i in range(N)]  # the data's order again


@pytest.mark.parametrize("cut_to", [None, 1, 7])
def test_a_stopped_run_goes_on(data, tmp_path, cut_to):
    whole = {k: same(r) for k, r in run(data, tmp_path / "whole", Fake(), batch_size=3).rows().items()}
    with pytest.raises(RuntimeError, match="stopped"):
        run(data, tmp_path / "run", Fake(fail_at=7), batch_size=3)
    path = tmp_path / "run" / "predictions.jsonl"
    kept = len(path.read_text().splitlines())
    assert 0 < kept <= 7
    if cut_to is not None:  # the machine died in the middle of a line
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-1]) + lines[-1][: -cut_to - 1])
        kept -= 1
    model = Fake()
    folder = run(data, tmp_path / "run", model, batch_size=3)
    assert len(model.asked) == N - kept and len(rows_of(folder)) == N
    assert {k: same(r) for k, r in folder.rows().items()} == whole
    again = Fake()
    run(data, tmp_path / "run", again, batch_size=5)  # nothing is left
    assert again.asked == []


def test_another_run_is_refused_in_one_line(data, tmp_path):
    run(data, tmp_path / "run", Fake(), limit=4)
    for change, model, words in (
        ({"limit": 4, "prompt": "bare"}, Fake(), "prompt.name: 'short' then, 'bare' now"),
        ({"limit": 5}, Fake(), "limit: 4 then, 5 now"),
        ({"limit": 4}, Fake("other"), "model.name: 'fake' then, 'other' now"),
        ({"limit": 4, "blind": "question"}, Fake(), "blind: None then, 'question' now"),
    ):
        with pytest.raises(ValueError) as error:
            run(data, tmp_path / "run", model, **change)
        assert words in str(error.value) and "\n" not in str(error.value) and model.asked == []
    Image.effect_noise((40, 40), 50).save(data / "images" / "0.png")
    with pytest.raises(ValueError, match="data.hash"):
        run(data, tmp_path / "run", Fake(), limit=4)


def test_data_that_moved_is_the_same_data(data, tmp_path):
    run(data, tmp_path / "run", Fake(), limit=4)
    data.rename(tmp_path / "elsewhere")
    assert run(tmp_path / "elsewhere", tmp_path / "run", Fake(fail_at=0), limit=4).rows()


def test_shards_merge_to_the_whole(data, tmp_path):
    whole = run(data, tmp_path / "whole", Fake()).rows()
    for i in (2, 0):
        run(data, tmp_path / "run", Fake(), shard=(i, 3), batch_size=2)
    with pytest.raises(ValueError, match="6 of 15 questions are not answered yet"):
        score_folder(tmp_path / "run")
    run(data, tmp_path / "run", Fake(), shard=(1, 3))
    folder = RunFolder(tmp_path / "run")
    assert len(list(folder.path.glob("predictions-*-of-3.jsonl"))) == 3
    assert {k: same(r) for k, r in folder.rows().items()} == {k: same(r) for k, r in whole.items()}
    assert score_folder(tmp_path / "run")["score"] == score_folder(tmp_path / "whole")["score"]
    left = Fake()
    run(data, tmp_path / "run", left, shard=(0, 1))  # with another number of processes nothing is asked again
    assert left.asked == []


def test_a_pictures_questions_go_to_one_shard_and_into_one_batch(data):
    plan = make_plan("own", data)
    shares = [list(of_shard(plan.items, (i, 2))) for i in range(2)]
    assert not {item.group for _, item in shares[0]} & {item.group for _, item in shares[1]}
    assert sum(map(len, shares)) == N
    placed = list(enumerate(plan.items))
    made = list(batches(ordered(placed, plan.prompt, Fake()), BatchSize(7)))
    assert sorted(place for batch in made for place, _ in batch) == list(range(N)) and max(map(len, made)) <= 7
    groups = [{item.group for _, item in batch} for batch in made]
    assert all(not a & b for i, a in enumerate(groups) for b in groups[:i])
    widths = [{item.images[0].size()[1] for _, item in batch} for batch in made]
    assert all(len(w) == 1 for w in widths)  # one number of tiles a batch
    cut = list(batches(ordered(placed, plan.prompt, Fake()), BatchSize(2)))  # less than a picture has questions
    assert sorted(place for batch in cut for place, _ in batch) == list(range(N)) and max(map(len, cut)) == 2


def memory_errors():
    import torch

    return [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")]


@pytest.mark.parametrize("error", memory_errors(), ids=lambda e: type(e).__name__)
def test_out_of_memory_halves_the_batch(data, tmp_path, error):
    model = Fake(room=2, error=error)
    folder = run(data, tmp_path / "run", model, batch_size=15)
    assert max(model.sizes) == 2 and len(rows_of(folder)) == N and len(set(model.asked)) == len(model.asked) == N


def test_what_is_too_large_alone_is_an_error_row(data, tmp_path):
    folder = run(data, tmp_path / "run", Fake(room=0, error=MemoryError()), limit=3)
    assert all("out of memory" in r["error"] and r["score"] == 0.0 for r in folder.rows().values())
    found = score_folder(tmp_path / "run")
    assert (found["score"], found["errors"]) == (0.0, 3) and "3 questions ended in an error" in found["warnings"][0]


def test_errors_are_asked_again_on_request(data, tmp_path):
    run(data, tmp_path / "run", Fake(room=0, error=MemoryError()))
    still = Fake()
    run(data, tmp_path / "run", still)
    assert still.asked == []
    folder = run(data, tmp_path / "run", Fake(), retry_errors=True)
    assert score_folder(tmp_path / "run")["errors"] == 0 and len(folder.rows()) == N


def test_two_processes_cannot_write_one_file(data, tmp_path):
    folder = run(data, tmp_path / "run", Fake(), limit=2)
    with folder.append_to((0, 1)), pytest.raises(ValueError, match="another process"):
        run(data, tmp_path / "run", Fake(), limit=2)


def test_blind_baselines(data, tmp_path):
    seen = {}

    class Spy(Fake):
        def generate(self, requests):
            seen.update({r.id: [i.name for i in r.images] for r in requests})
            return super().generate(requests)

    run(data, tmp_path / "q", Spy(), blind="question")
    assert set(map(len, seen.values())) == {0}
    run(data, tmp_path / "s", Spy(), blind="shuffled")
    plan = make_plan("own", data)
    assert all(seen[i.id] and seen[i.id] != [i.images[0].name] for i in plan.items)
    folder = run(data, tmp_path / "m", None, blind="majority")
    assert {r["prediction"] for r in folder.rows().values()} == {"red"}
    assert score_folder(tmp_path / "m")["score"] == pytest.approx(10 / 15)
    with pytest.raises(ValueError, match="--blind"):
        make_plan("own", data, blind="blnd")


def test_limits(data):
    assert [i.id for i in make_plan("own", data, limit=3).items] == ["q0", "q1", "q2"]
    some = [i.id for i in make_plan("own", data, limit=6, seed=1).items]
    assert some == sorted(some, key=lambda q: int(q[1:])) and len(set(some)) == 6
    assert some == [i.id for i in make_plan("own", data, limit=6, seed=1).items] != [f"q{i}" for i in range(6)]
    with pytest.raises(ValueError, match="--limit 0"):
        make_plan("own", data, limit=0)


def test_shards_by_name_and_by_torchrun(monkeypatch):
    assert parse_shard("2/4") == (2, 4) and parse_shard(None) == (0, 1)
    for text in ("4/4", "1", "-1/2", "a/b"):
        with pytest.raises(ValueError, match="--shard"):
            parse_shard(text)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert parse_shard(None) == (3, 8)


def test_answers_that_a_metric_cannot_judge_show_before_the_run(data):
    with pytest.raises(ValueError, match="neither yes nor no"):
        make_plan("own", data, metric="pope")
    with pytest.raises(ValueError, match="did you mean 'exact'"):
        make_plan("own", data, metric="exct")
    with pytest.raises(ValueError, match="has no choices"):
        make_plan("own", data, metric="choice")


def test_an_unreadable_picture_is_an_error_row_among_answers(data, tmp_path, model, chat):
    (data / "images" / "0.png").write_bytes(b"\x89PNG broken")
    ours = Ours.__new__(Ours)
    ours.vlm, ours.identity = VLM(model, chat), {"kind": "vlm", "name": "tiny"}
    folder = run(data, tmp_path / "run", ours, batch_size=15)
    errors = {k for k, r in folder.rows().items() if r["error"]}
    assert errors == {"q0", "q5", "q10"} and "images/0.png" in folder.rows()["q0"]["error"]
    assert len(folder.rows()) == N and all(
        r["finish_reason"] != "error" for k, r in folder.rows().items() if k not in errors
    )


def test_our_answers_do_not_depend_on_the_batch(data, tmp_path, model, chat):
    said = []
    for size in (1, 7):
        ours = Ours.__new__(Ours)
        ours.vlm, ours.identity = VLM(model, chat), {"kind": "vlm", "name": "tiny"}
        said.append(
            {k: r["prediction"] for k, r in run(data, tmp_path / f"{size}", ours, batch_size=size).rows().items()}
        )
    assert said[0] == said[1]


def test_comparison_of_two_runs(data, tmp_path):
    class Better(Fake):
        def generate(self, requests):
            super().generate(requests)
            return [Result("blue" if r.id in ("q0", "q3", "q1") else "red") for r in requests]

    for name, model in (("a", Fake()), ("b", Better("better"))):
        run(data, tmp_path / name, model)
    with pytest.raises(ValueError, match=r"has no scores.json"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    for name in "ab":
        score_folder(tmp_path / name)
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found["difference"] == pytest.approx(1 / 15) and found["n"] == 15 and found["clusters"] == 5
    assert [r["id"] for r in found["flips"]["gained"]] == ["q0", "q3"]
    assert [r["id"] for r in found["flips"]["lost"]] == ["q1"]
    text = to_text(found)
    assert "B - A +6.7" in text and "right in B only: 2" in text and "A 'Red.' | B 'blue'" in text
    score_folder(tmp_path / "b", metric="vqa")
    with pytest.raises(ValueError, match="score both by one metric"):
        compare_runs(tmp_path / "a", tmp_path / "b")
