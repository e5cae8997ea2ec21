"""A run on disk: `manifest.json`, one fsynced line per sample, and what is made of them.

manifest.json               what was asked, of what, with which code; never changed
predictions.jsonl           a row a sample, appended; predictions-0-of-4.jsonl where processes share the work
scores.jsonl, scores.json   all rows in the data's order with their scores, and the summary
report.html, .md, .json     for people
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlm.checkpoints.files import write_json

FREE = ("data.path", "scoring", "batch_size")  # of a manifest: may differ between the parts of one run


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def manifest(self) -> dict[str, Any]:
        return self.read("manifest.json")

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            ValueError: it is not there, or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{self.path}: has no {name}; expected the --output of vlm predict or vlm eval") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path / name}: not JSON ({error.msg})") from None

    def begin(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, or refuse to go on with a run that was another one."""
        manifest = json.loads(json.dumps(manifest))  # as it will be read back
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "manifest.json").exists():
            if any(self.path.glob("predictions*.jsonl")):
                raise ValueError(f"{self.path}: holds predictions without a manifest.json; choose another --output")
            return write_json(self.path / "manifest.json", manifest)
        old, new = flat(self.manifest), flat(manifest)
        changed = [k for k in {**old, **new} if old.get(k) != new.get(k) and not k.startswith(FREE)]
        if changed:
            shown = "; ".join(f"{k}: {old.get(k)!r} then, {new.get(k)!r} now" for k in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise ValueError(f"{self.path}: holds another run ({shown}{more}); choose another --output")

    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows by id, of all processes; the last one of an id counts, a line without its end does not."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.path.glob("predictions*.jsonl")):
            for row in _lines(path):
                if row["id"] not in found or found[row["id"]]["error"] or not row["error"]:
                    found[row["id"]] = row
        return found

    def scores(self) -> list[dict[str, Any]]:
        """Scored rows, in the data's order."""
        path = self.path / "scores.jsonl"
        if not path.is_file():
            raise ValueError(f"{self.path}: is not scored yet; run: vlm score {self.path}")
        return list(_lines(path))

    def append_to(self, shard: tuple[int, int]) -> "Appender":
        index, count = shard
        return Appender(self.path / ("predictions.jsonl" if count == 1 else f"predictions-{index}-of-{count}.jsonl"))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise ValueError(f"{path}: line {number} is damaged; remove that line and run again") from None


class Appender:
    """Rows appended to one file, on disk before `write` returns; one process at a time."""

    def __init__(self, path: Path):
        self.file = path.open("ab+")
        self._lock(path)
        self.file.seek(0)
        whole = self.file.read()
        self.file.truncate(whole.rfind(b"\n") + 1)  # the line that was being written when the run was stopped

    def _lock(self, path: Path) -> None:
        with contextlib.suppress(ImportError):  # not on Windows
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.file.close()
                raise ValueError(f"{path}: another process is writing it; wait, or choose another --output") from None

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace"))
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()
