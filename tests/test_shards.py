"""Shards: what goes in comes out, a cut-off run goes on, and nothing in an archive is ever executed."""

import io
import json
import os
import pickle
import tarfile

import pytest

from vlm.data import shards
from vlm.data.shards import Skipped, read_shards, write_shards
from vlm.data.worlds import sample

ARGUMENTS = {"count": 10, "seed": 3, "mixture": {"scenes": 1.0}, "size": 64, "per_shard": 4, "n_questions": 3}


def tar_of(path, members: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def good_members(key="a"):
    drawn = sample(0, seed=1, mixture={"scenes": 1.0}, size=64)
    picture = io.BytesIO()
    drawn.image.save(picture, "PNG")
    return {f"{key}.png": picture.getvalue(), f"{key}.json": json.dumps(shards.to_record(drawn)).encode()}


def test_round_trip(tmp_path):
    report = write_shards(tmp_path, **ARGUMENTS)
    assert (report["shards"], report["written"], report["samples"]) == (3, 3, 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", *(f"world-{i:06d}.tar" for i in range(3))]
    skipped = Skipped()
    read = list(read_shards(tmp_path, skipped=skipped))
    assert len(read) == 10 and skipped == Skipped()
    for i, got in enumerate(read):
        drawn = sample(i, seed=3, mixture={"scenes": 1.0}, size=64, n_questions=3)
        assert got.image.tobytes() == drawn.image.tobytes()
        assert (got.captions, got.questions, got.things, got.world) == (
            drawn.captions, drawn.questions, drawn.things, drawn.world,
        )  # fmt: skip


def test_samples_of_several_pictures_go_through(tmp_path):
    arguments = {"seed": 3, "mixture": {"pairs": 1.0}, "size": 64}
    write_shards(tmp_path, count=4, **arguments)
    read = list(read_shards(tmp_path))
    assert len(read) == 4
    for i, got in enumerate(read):
        drawn = sample(i, **arguments)
        assert len(got.others) == 1 and {t.picture for t in got.things} == {0, 1}
        assert [p.tobytes() for p in got.pictures] == [p.tobytes() for p in drawn.pictures]
        assert (got.questions, got.things) == (drawn.questions, drawn.things)


def test_a_sample_that_lacks_a_picture_is_skipped(tmp_path):
    members = good_members()
    record = {**json.loads(members["a.json"]), "pictures": 2}
    whole = {**members, "a.json": json.dumps(record).encode(), "a.1.png": members["a.png"]}
    skipped = Skipped()
    assert len(list(read_shards(tar_of(tmp_path / "w.tar", whole), skipped=skipped))) == 1 and not skipped.samples
    del whole["a.1.png"]
    assert not list(read_shards(tar_of(tmp_path / "x.tar", whole), skipped=skipped))
    assert skipped.samples == 1 and "found 1 pictures, expected 2" in skipped.last
    record["things"][0]["picture"] = 2
    whole |= {"a.json": json.dumps(record).encode(), "a.1.png": members["a.png"]}
    assert not list(read_shards(tar_of(tmp_path / "y.tar", whole), skipped=skipped))
    assert skipped.samples == 2 and "none of its 2" in skipped.last


def test_resume_writes_only_what_is_missing_and_the_same_bytes(tmp_path):
    write_shards(tmp_path, **ARGUMENTS)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "world-000001.tar").unlink()
    seen = []
    assert write_shards(tmp_path, **ARGUMENTS, progress=seen.append)["written"] == 1
    assert seen[-1] == 10 and seen == sorted(seen)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_other_arguments_are_refused(tmp_path):
    write_shards(tmp_path, **ARGUMENTS)
    with pytest.raises(ValueError, match="seed=3.*seed=4"):
        write_shards(tmp_path, **{**ARGUMENTS, "seed": 4})


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0}, {"mixture": {}}, {"mixture": {"nowhere": 1}}, {"mixture": {"scenes": -1}},
        {"mixture": {"scenes": float("nan")}}, {"split": "trian"}, {"name": "../x"}, {"emoji": "/no/such.zip"},
    ],
)  # fmt: skip
def test_senseless_arguments_are_refused(tmp_path, change):
    with pytest.raises(ValueError) as error:
        write_shards(tmp_path / "out", **{**ARGUMENTS, **change})
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_complete_shards_only(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def fsync(number):
        calls.append(number)
        if len(calls) == 5:  # manifest and its folder, the first shard and its folder, the second shard
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(shards.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write_shards(tmp_path, **ARGUMENTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "world-000000.tar"]
    monkeypatch.undo()
    assert write_shards(tmp_path, **ARGUMENTS)["written"] == 2


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("extension", ["pkl", "pickle", "pyd", "pth", "npy", "png"])
def test_pickles_are_never_executed(tmp_path, extension):
    flag = tmp_path / "executed"
    members = {**good_members(), f"b.{extension}": pickle.dumps(Bomb(flag)), **good_members("c")}
    skipped = Skipped()
    read = list(read_shards(tar_of(tmp_path / "evil.tar", members), skipped=skipped))
    assert not flag.exists()
    assert len(read) == 2


def test_bad_members_are_counted_and_skipped(tmp_path):
    good = good_members("g")
    bad = {
        "a.png": b"not a picture", "a.json": good["g.json"],
        "b.png": good["g.png"], "b.json": b"{",
        "c.png": good["g.png"], "c.json": b"[1]",
        "d.png": good["g.png"], "d.json": b'{"captions": 3}',
        "e.png": good["g.png"],
        "f.png": good["g.png"], "f.json": b"\xff\xfe",
    }  # fmt: skip
    skipped = Skipped()
    read = list(read_shards([tar_of(tmp_path / "x.tar", {**bad, **good})], skipped=skipped))
    assert len(read) == 1 and skipped.samples == 6 and skipped.last


def test_a_cut_off_shard_does_not_stop_the_others(tmp_path):
    whole = tar_of(tmp_path / "b.tar", good_members())
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "c.tar").write_bytes(whole.read_bytes()[:1500])
    skipped = Skipped()
    assert len(list(read_shards(tmp_path, skipped=skipped))) >= 1
    assert skipped.shards >= 1


def test_pipes_and_missing_paths_are_refused(tmp_path):
    for path in (f"pipe:touch {tmp_path}/executed", tmp_path / "none.tar", tmp_path):
        with pytest.raises(ValueError):
            list(read_shards(path))
    assert not (tmp_path / "executed").exists()
