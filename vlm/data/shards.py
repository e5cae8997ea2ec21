"""Samples of the worlds as webdataset shards, written once and read safely.

- A shard `name-000000.tar` holds, per sample, `key.png`, `key.json` {captions, questions, things, world, pictures} and
  `key.1.png`, `key.2.png` where the questions are about several pictures. It is written under a temporary name, synced
  to disk and renamed: a shard that exists is complete, so a run that was cut off goes on where it stopped.
  `manifest.json` keeps the arguments; other arguments for the same folder are refused.
- Reading trusts nobody: webdataset's own decoder unpickles `.pkl` members, which runs whatever the writer of the
  archive wanted. Here pictures go through `vlm.image.open_image`, JSON through `json`; other members are ignored.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["WDS_SECURE"] = "1"  # read by webdataset when it is imported: no pickles, no shell pipes as addresses

from vlm.data.sample import Question, Sample, Thing  # noqa: E402
from vlm.data.worlds import SPLITS, WORLDS, sample  # noqa: E402
from vlm.image import FORMATS, ImageError, open_image  # noqa: E402

MANIFEST = "manifest.json"
PICTURES = ("png", "jpg", "jpeg", "webp")
MAX_JSON = 4_000_000  # bytes


@dataclass
class Skipped:
    """What a reader could not use; pass one in to see the counts."""

    samples: int = 0
    shards: int = 0
    last: str = ""  # why


def write_shards(
    out: str | Path,
    *,
    count: int,
    seed: int,
    mixture: dict[str, float],
    split: str = "train",
    size: int = 96,
    n_questions: int = 8,
    per_shard: int = 1000,
    name: str = "world",
    emoji: str | None = None,
    progress: Callable[[int], Any] = lambda done: None,
) -> dict[str, Any]:
    """Draw `count` samples into shards; complete shards are kept. Returns {shards, samples, written, bytes, folder}.

    Args:
        progress: called with the number of samples that are done, after each one.

    Raises:
        ValueError: arguments that differ from those of the folder's manifest, or that make no sense.
        OSError: a full disk; the unfinished shard is removed and the others stay.
    """
    numbers = (("count", count, 1), ("size", size, 32), ("n_questions", n_questions, 1), ("per_shard", per_shard, 1))
    for label, value, least in numbers:
        if value < least:
            raise ValueError(f"{label}: found {value}, expected at least {least}")
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")
    if not mixture or set(mixture) - set(WORLDS) or not all(0 < w < float("inf") for w in mixture.values()):
        raise ValueError(f"mixture: found {mixture}, expected weights above 0 for worlds of {', '.join(WORLDS)}")
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name: found {name!r}, expected letters, digits, - and _")
    if emoji is not None and not Path(emoji).is_file():
        raise ValueError(f"{emoji}: no such file; give the zip of Noto drawings, or nothing for the system font")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: this is a file, expected a folder for the shards")
    out.mkdir(parents=True, exist_ok=True)
    arguments = {
        "count": count, "seed": seed, "mixture": {k: float(mixture[k]) for k in sorted(mixture)}, "split": split,
        "size": size, "n_questions": n_questions, "per_shard": per_shard, "name": name,
        "emoji": emoji and Path(emoji).name,
    }  # fmt: skip
    _claim(out, arguments)
    n_shards = -(-count // per_shard)
    written = size_in_bytes = 0
    for shard in range(n_shards):
        first, last = shard * per_shard, min((shard + 1) * per_shard, count)
        path = out / f"{name}-{shard:06d}.tar"
        if not path.exists():
            drawn = (
                sample(i, seed=seed, mixture=mixture, size=size, split=split, n_questions=n_questions, emoji_path=emoji)
                for i in range(first, last)
            )
            _write_shard(path, drawn, first, progress)
            written += 1
        progress(last)
        size_in_bytes += path.stat().st_size
    return {"folder": str(out), "shards": n_shards, "written": written, "samples": count, "bytes": size_in_bytes}


def _claim(out: Path, arguments: dict) -> None:
    """Write the manifest, or compare with the one that is there."""
    path = out / MANIFEST
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path}: not readable as JSON; choose another folder") from None
        found = found if isinstance(found, dict) else {}
        if other := [k for k in arguments if found.get(k) != arguments[k]]:
            raise ValueError(
                f"{out}: these shards were rendered with {other[0]}={found.get(other[0])!r}, "
                f"now {other[0]}={arguments[other[0]]!r}; choose another folder or the same arguments"
            )
        return
    if next(out.glob("*.tar"), None):
        raise ValueError(f"{out}: holds shards without a {MANIFEST}; choose an empty folder")
    _replace(path, lambda file: file.write((json.dumps(arguments, indent=1) + "\n").encode()))


def _replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_shard(path: Path, samples: Iterable[Sample], first: int, progress: Callable[[int], Any]) -> None:
    def write(file) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for i, drawn in enumerate(samples, first):
                for k, image in enumerate(drawn.pictures):
                    picture = io.BytesIO()
                    image.save(picture, "PNG")
                    _add(tar, f"{i:08d}.{f'{k}.' if k else ''}png", picture.getvalue())
                _add(tar, f"{i:08d}.json", json.dumps(to_record(drawn), ensure_ascii=False).encode())
                progress(i + 1)

    _replace(path, write)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # no time and no owner: the same arguments give the same bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def to_record(drawn: Sample) -> dict[str, Any]:
    """All of a sample but its pictures, as plain data."""
    return {
        "world": drawn.world,
        "pictures": len(drawn.pictures),
        "captions": drawn.captions,
        "questions": [asdict(q) for q in drawn.questions],
        "things": [asdict(t) for t in drawn.things],
    }


def from_record(pictures: list, record: dict[str, Any]) -> Sample:
    """The opposite of `to_record`; ValueError where the record has another shape."""
    try:
        captions, world, n = record["captions"], record["world"], record.get("pictures", 1)
        if not isinstance(captions, list) or not all(isinstance(v, str) for v in (world, *captions)):
            raise ValueError("found other types, expected world: text and captions: list of texts")
        if len(pictures) != n:
            raise ValueError(f"found {len(pictures)} pictures, expected {n} as its record says")
        things = [Thing(**{**t, "box": tuple(int(v) for v in t["box"])}) for t in record["things"]]
        if not all(t.picture in range(n) for t in things):
            raise ValueError(f"found a thing in a picture that is none of its {n}")
        boxed: Iterator[dict[str, Any]] = (
            {k: tuple(v) if isinstance(v, list) else v for k, v in q.items()} for q in record["questions"]
        )
        questions = [Question(**q) for q in boxed]
        if not all(isinstance(v, str) for q in questions for v in (q.text, q.answer, q.family)):
            raise ValueError("found a question that is no text")
        first, *others = pictures
        return Sample(
            image=first, others=others, world=world, captions=captions, questions=questions, things=things
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of a sample ({type(error).__name__}: {error})") from None


def read_shards(
    paths: str | Path | Iterable[str | Path], *, skipped: Skipped | None = None, max_pixels: int = 40_000_000
) -> Iterator[Sample]:
    """Yield the samples of shards, in order; what cannot be read is counted in `skipped` and left out.

    Args:
        paths: tar files, or a folder of them.

    Raises:
        ValueError: no shard there at all, or a path that does not exist.
    """
    from webdataset.tariterators import group_by_keys, tar_file_expander

    skipped = Skipped() if skipped is None else skipped

    def note(error: Exception) -> bool:
        skipped.shards += 1
        skipped.last = f"{type(error).__name__}: {error}"
        return True

    def streams() -> Iterator[dict[str, Any]]:
        for path in shards:  # opened here: with WDS_SECURE webdataset opens no files, and without it also shell pipes
            with path.open("rb") as stream:
                yield {"url": str(path), "stream": stream}

    def wanted(name: str) -> bool:
        return name.rsplit(".", 1)[-1].lower() in (*PICTURES, "json")

    shards = _shard_paths(paths)
    for raw in group_by_keys(tar_file_expander(streams(), handler=note, select_files=wanted), handler=note):
        try:
            drawn = _decode(raw, max_pixels)
        except ValueError as error:  # ImageError and JSON errors are ValueErrors
            skipped.samples += 1
            skipped.last = f"{raw.get('__key__', '?')}: {error}"
            continue
        yield drawn


def _shard_paths(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            found += sorted(p for p in path.glob("*.tar") if not p.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such shard or folder of shards")
    if not found:
        raise ValueError(f"{', '.join(map(str, given)) or 'no paths'}: found no .tar shards")
    return found


def _decode(raw: dict[str, Any], max_pixels: int) -> Sample:
    pictures: list[bytes] = []
    while (data := _picture(raw, len(pictures))) is not None:
        pictures.append(data)
    if not pictures:
        raise ImageError(f"no picture in the sample, expected one of {', '.join(PICTURES)} ({', '.join(FORMATS)})")
    text = raw.get("json")
    if text is None:
        raise ValueError("no .json member beside the picture")
    if len(text) > MAX_JSON:
        raise ValueError(f"its .json has {len(text)} bytes, expected at most {MAX_JSON}")
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError("its .json is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"its .json is a {type(record).__name__}, expected an object")
    return from_record([open_image(data, max_pixels=max_pixels) for data in pictures], record)


def _picture(raw: dict[str, Any], number: int) -> bytes | None:
    """The bytes of a sample's picture of this number, None where it has fewer."""
    prefix = f"{number}." if number else ""
    return next((raw[prefix + k] for k in PICTURES if prefix + k in raw), None)
