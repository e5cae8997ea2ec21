"""Conversion writes what saving writes, goes on after an interruption, and is whole or not there."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from vlm.checkpoints import CheckpointError, convert, detect, files, load_checkpoint, save_checkpoint
from vlm.checkpoints.convert import convert_checkpoint
from vlm.cli import main

GOLDEN = Path(__file__).parent / "golden"
SMALL = 300_000  # bytes of a shard


def equal(a, b) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return a.config == b.config and x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("layout", ["native", "hub"])
@pytest.mark.parametrize("origin", ["hf", "meta"])
def test_it_writes_what_saving_writes(tmp_path, origin, layout):
    told = []
    convert_checkpoint(
        GOLDEN / origin, tmp_path / "a", layout, max_shard_bytes=SMALL, progress=lambda *args: told.append(args)
    )
    save_checkpoint(load_checkpoint(GOLDEN / origin), tmp_path / "b", layout, max_shard_bytes=SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") and detect(tmp_path / "a") == layout
    done, total = zip(*told, strict=True)
    assert done[0] == 0 and done[-1] == total[0] and list(done) == sorted(done) and len(done) > 4


def test_tied_embeddings_become_the_two_tensors_of_the_hub(tmp_path, model):
    from conftest import tiny_config, tiny_model

    tied = tiny_model(tiny_config(tie_embeddings=True))
    save_checkpoint(tied, tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "b", "hub")
    save_checkpoint(tied, tmp_path / "c", "hub")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")


class Stop:
    """Stands in for `save_file`: counts, and is interrupted at one of the shards."""

    def __init__(self, at: int, error: type[BaseException] = KeyboardInterrupt):
        self.at, self.error, self.calls, self.save = at, error, 0, files.save_file

    def __call__(self, tensors, path, metadata):
        self.calls += 1
        if self.calls == self.at:
            Path(path).write_bytes(b"half")
            raise self.error
        self.save(tensors, path, metadata)


def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch):
    stop = Stop(3)
    monkeypatch.setattr(files, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(GOLDEN / "hf", tmp_path / "a", max_shard_bytes=SMALL)
    (left,) = tmp_path.iterdir()
    assert len(list(left.glob("*.safetensors"))) == 2 and files.PARTIAL in left.name
    with pytest.raises(CheckpointError, match="interrupted conversion; delete it, or convert again"):
        load_checkpoint(left)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "a")
    stop.calls, stop.at = 0, 0
    convert_checkpoint(GOLDEN / "hf", tmp_path / "a", max_shard_bytes=SMALL)
    names = [path.name for path in (tmp_path / "a").iterdir()]
    assert stop.calls == len([n for n in names if n.endswith(".safetensors")]) - 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and not any(files.PARTIAL in n for n in names)
    assert equal(load_checkpoint(tmp_path / "a").model, load_checkpoint(GOLDEN / "hf").model)


def test_a_source_that_changed_is_begun_again(tmp_path, monkeypatch):
    source = Path(shutil.copytree(GOLDEN / "hf", tmp_path / "source"))
    stop = Stop(3)
    monkeypatch.setattr(files, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(source, tmp_path / "a", max_shard_bytes=SMALL)
    shutil.copy(GOLDEN / "hf/generation_config.json", source)  # as if fetched again
    stop.calls, stop.at = 0, 0
    convert_checkpoint(source, tmp_path / "a", max_shard_bytes=SMALL)
    assert stop.calls == len(list((tmp_path / "a").glob("*.safetensors")))


def test_a_full_disk_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    kept = save_checkpoint(load_checkpoint(GOLDEN / "meta"), tmp_path / "a")
    before = contents(kept)
    monkeypatch.setattr(files, "save_file", Stop(1, OSError))
    with pytest.raises(OSError):
        convert_checkpoint(GOLDEN / "hf", kept, max_shard_bytes=SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and contents(kept) == before


def command(monkeypatch, capsys, *args) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["vlm", *map(str, args)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return (stopped.value.code or 0, *capsys.readouterr())


def test_the_command_shows_progress_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(convert, "SHARD_BYTES", SMALL)
    code, out, err = command(monkeypatch, capsys, "convert", GOLDEN / "hf", tmp_path / "a", "--layout", "hub")
    assert code == 0 and out.strip() == str(tmp_path / "a") and "100%" in err
    monkeypatch.setattr(files, "save_file", Stop(1))
    code, out, err = command(monkeypatch, capsys, "convert", GOLDEN / "hf", tmp_path / "b")
    assert code == 130 and out == "" and "the same command goes on" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "words"),
    [(["nowhere", "x"], "no such folder"), (["GOLDEN", "x", "--layout", "hubb"], "layout is 'hubb', expected")],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, args, words):
    named = {"GOLDEN": GOLDEN / "hf", "x": tmp_path / "x", "nowhere": tmp_path / "nowhere"}
    code, out, err = command(monkeypatch, capsys, "convert", *[named.get(a, a) for a in args])
    assert code == 2 and out == "" and words in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
