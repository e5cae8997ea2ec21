"""A folder or a zip, read alike, and pictures found in it whatever folders they lie in."""

import json
import os
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from vlm.evaluation.tasks.item import Picture

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")


class Files:
    """Annotations and pictures under one path.

    Args:
        path: a folder, a zip, or one annotation file of a folder that holds several.

    Raises:
        ValueError: no such path, or a file of another kind.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.zip: zipfile.ZipFile | None = None
        self.chosen: str | None = None
        if self.path.is_dir():
            self.root = self.path
        elif not self.path.is_file():
            raise ValueError(f"--data {self.path}: no such folder or file")
        elif zipfile.is_zipfile(self.path):
            self.zip = zipfile.ZipFile(self.path)
        elif self.path.suffix in (".json", ".jsonl", ".txt", ".parquet", ".npy"):
            self.root, self.chosen = self.path.parent, self.path.name
        else:
            raise ValueError(f"--data {self.path}: expected a folder, a zip or an annotation file (.json, .jsonl)")

    @cached_property
    def names(self) -> list[str]:
        """All files, relative to the root, with forward slashes, in order."""
        if self.zip:
            return sorted(n for n in self.zip.namelist() if not n.endswith("/") and not n.startswith("__MACOSX"))
        found = []
        for folder, _, files in os.walk(self.root, followlinks=True):
            found += [(Path(folder) / f).relative_to(self.root).as_posix() for f in files]
        return sorted(found)

    @cached_property
    def _by_name(self) -> dict[str, str]:
        """Endings of a picture's path, and its stem, -> full name; an ending of two pictures names neither."""
        places: dict[str, str] = {}
        ambiguous: set[str] = set()
        for name in self.names:
            path = PurePosixPath(name)
            if path.suffix.lower() in PICTURES:
                for key in (path.stem, *("/".join(path.parts[i:]) for i in range(1, len(path.parts)))):
                    if places.setdefault(key, name) != name:
                        ambiguous.add(key)
        return {k: v for k, v in places.items() if k not in ambiguous} | {n: n for n in self.names}

    def find(self, *patterns: str) -> list[str]:
        """Names whose last part fits a pattern; the annotation file that `path` names stands alone where it fits."""
        found = [n for n in self.names if any(fnmatch(n.rsplit("/", 1)[-1], p) for p in patterns)]
        return [self.chosen] if self.chosen in found else found

    def one(self, *patterns: str) -> str:
        """The one file that fits.

        Raises:
            ValueError: none, or several: then --data can name one of them.
        """
        found = self.find(*patterns)
        if not found:
            raise ValueError(
                f"{self.path}: found no {' or '.join(patterns)}; expected the official file or index.jsonl"
            )
        if len(found) > 1:
            raise ValueError(
                f"{self.path}: found {', '.join(found[:4])}; name one of them: --data {self.path}/{found[0]}"
            )
        return found[0]

    def read(self, name: str) -> bytes:
        return self.zip.read(name) if self.zip else (self.root / name).read_bytes()

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not UTF-8 at byte {error.start}; save it as UTF-8") from None

    def json(self, name: str, key: str | None = None) -> Any:
        """The file's content, or what stands under `key`."""
        try:
            content = json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}: not JSON at line {error.lineno} ({error.msg}); download it again") from None
        if key is None:
            return content
        if not isinstance(content, dict) or key not in content:
            found = ", ".join(list(content)[:5]) if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"{name}: found {found}, expected an object with {key!r}")
        return content[key]

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Objects of a JSONL file."""
        for number, line in enumerate(self.text(name).split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{name}: line {number} is not JSON ({error.msg})") from None
                if not isinstance(row, dict):
                    raise ValueError(f"{name}: line {number} is {type(row).__name__}, expected an object")
                yield row

    def picture(self, name: str) -> Picture:
        """A handle to the picture whose path ends so; a missing one says so when it is opened."""
        path = PurePosixPath(str(name).replace("\\", "/"))
        places = self._by_name
        full = next((places[k] for k in (str(path), f"images/{path}", path.name, path.stem) if k in places), None)
        if full is None:
            return Picture(str(name), lambda: _missing(str(name)), missing=True)
        if self.zip:
            pack = self.zip
            return Picture(full, lambda: pack.read(full), stamp=f"{pack.getinfo(full).CRC:08x}")
        place = self.root / full
        return Picture(full, lambda: place, stamp=str(place.stat().st_size))


def _missing(name: str) -> Any:
    from vlm.image import ImageError

    raise ImageError(f"{name}: no such picture in the data; put it beside the annotations")


def field(row: dict[str, Any], *names: str, where: str) -> Any:
    """The first of the named fields that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise ValueError(f"{where}: found {', '.join(list(row)[:6])}; expected {' or '.join(names)}")
