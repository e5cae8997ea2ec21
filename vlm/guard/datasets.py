"""Labelled requests as they are distributed, and our own held-out ones, as `Example`s.

Notable here:
- Sets of one kind only get harmless ones beside them: FigStep's pictures twins in their own layout, AILuminate's
  prompts written requests of held-out families.
"""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vlm.guard.training import prompts
from vlm.guard.training.ailuminate import read_ailuminate
from vlm.guard.training.example import Example
from vlm.guard.words import split_words
from vlm.image import open_image


def read_xstest(path: str | os.PathLike) -> list[Example]:
    """XSTest (Roettger et al. 2024, arXiv 2308.01263): alarming but safe prompts and unsafe ones; family = type."""
    try:
        rows = list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))
        found = [
            Example(r["prompt"], (), {"unsafe": True, "safe": False}[r["label"]], "", r["type"], "xstest") for r in rows
        ]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: not XSTest ({error!r:.80}); expected a CSV with prompt, type and label") from None
    return found


def read_figstep(path: str | os.PathLike) -> list[Example]:
    """FigStep (Gong et al. 2023, arXiv 2311.05608): harmful headings over an empty list; and as many of our twins."""
    from vlm.guard.training.pictures import heading_twins

    try:
        with zipfile.ZipFile(path) as file:
            text = json.loads(file.read("META.json"))["text_prompt"]
            rows = [json.loads(line) for line in file.read("index.jsonl").splitlines()]
            found = [
                Example(text, tuple(open_image(file.read(f"images/{name}")) for name in r["images"]), True, r["s_code"],
                        r["category"], "figstep") for r in rows
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not FigStep ({error!r:.80}); expected a zip with META.json, index.jsonl, images/"
        ) from None
    return found + heading_twins(text)[: len(found)]


def read_prompts(path: str | os.PathLike | None = None, count: int = 1_500) -> list[Example]:
    """Written requests of families that were neither trained on nor used to choose anything."""
    return prompts.examples(1, count, "test")


def read_held_out(path: str | os.PathLike) -> list[Example]:
    """AILuminate's held-out prompts, all of them hazardous, and as many harmless ones of held-out families."""
    harmful = read_ailuminate(path)["test"]
    harmless = [e for e in prompts.examples(2, 4 * len(harmful), "test") if not e.unsafe]
    return harmful + harmless[: len(harmful)]


def read_pictures(path: str | os.PathLike | None = None, count: int = 400) -> list[Example]:
    """Held-out requests in pictures, emoji pairs and worlds; `path` is a zip of emoji, the system font where None."""
    from vlm.guard.training import pictures

    emoji = None if path is None else str(path)
    return [
        *pictures.typeset_pairs(read_prompts(), 1, count, "test"),
        *pictures.emoji_pairs(1, count // 2, "test", emoji),
        *pictures.worlds(1, count // 4, "test", emoji),
    ]


def read_worlds(path: str | os.PathLike | None = None, count: int = 640) -> list[Example]:
    """Held-out questions about the shipped model's own worlds, all harmless; `path` as in `read_pictures`."""
    from vlm.guard.training import pictures

    return pictures.worlds(3, count, "test", None if path is None else str(path))


DATASETS: dict[str, Callable[..., list[Example]]] = {
    "xstest": read_xstest, "figstep": read_figstep, "ailuminate": read_held_out, "templates": read_prompts,
    "pictures": read_pictures, "worlds": read_worlds,
}  # fmt: skip
OWN = ("templates", "pictures", "worlds")  # need no file


def read_dataset(name: str, path: str | os.PathLike | None) -> list[Example]:
    """The requests of a data set.

    Raises:
        ValueError: an unknown name, no path where one is needed, or a file that is not that data set.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(DATASETS)}")
    if path is None:
        if name not in OWN:
            raise ValueError(f"{name} is read from a file; give --data PATH")
        return DATASETS[name]()
    return DATASETS[name](path)


def seen_in_training(examples: Sequence[Example], trained_on: Sequence[Example]) -> list[bool]:
    """Whether the words of each request stand in the same order in a request that the guard was trained on."""
    known = {" ".join(split_words(e.read or e.text)) for e in trained_on}
    return [" ".join(split_words(e.read or e.text)) in known for e in examples]
