"""Anyone's own data without code: a folder or zip with `images/` and `index.jsonl`, one object a line.

    {"id": "1", "image": "a.png", "question": "What is it?", "answer": "a cat"}
    {"id": "2", "images": ["a.png", "b.png"], "question": "Which is red?", "choices": ["one", "two"], "answer": "B"}
    {"id": "3", "image": "c.png", "captions": ["A dog runs.", "A running dog."]}

`answers` may be a list; `type` is a row of the report; `group` overrides the picture for clustering. A picture may also
be row `row` of the BGR array `array` (.npy).
"""

import io
from functools import lru_cache
from typing import Any

import numpy as np

from vlm.evaluation.tasks.files import Files, field
from vlm.evaluation.tasks.item import LETTERS, Item, Picture, letter

INDEX = "index.jsonl"
CAPTION = "Describe the picture."
KNOWN = ("id", "image", "images", "question", "sentence", "query", "text", "answer", "answers", "label", "choices",
         "options", "captions", "caption", "type", "group", "array", "row")  # fmt: skip


def rows(files: Files) -> list[dict[str, Any]] | None:
    """Rows of the neutral form, None where the data is in an official form."""
    found = files.find(INDEX) or ([files.chosen] if files.chosen and files.chosen.endswith(".jsonl") else [])
    return list(files.lines(found[0])) if found else None


def load(files: Files) -> list[Item]:
    """Items of `index.jsonl`."""
    found = rows(files)
    if found is None:
        raise ValueError(
            f"{files.path}: found no {INDEX}; expected images/ and {INDEX}, or name a task: vlm eval-tasks"
        )
    return [to_item(files, row, number) for number, row in enumerate(found, 1)]


def to_item(files: Files, row: dict[str, Any], number: int) -> Item:
    """One row; `number` is its line, for errors and where it has no id."""
    where = f"{INDEX} line {number}"
    captions = _list(row.get("captions", row.get("caption", [])))
    choices = tuple(str(c) for c in row.get("choices", row.get("options", ())))
    answers = _list(row.get("answers", row.get("answer", row.get("label", captions))))
    if choices:
        answers = [_choice(a, choices, where) for a in answers]
    question = CAPTION if captions and "question" not in row else field(
        row, "question", "sentence", "query", "text", where=where
    )  # fmt: skip
    return Item(
        id=str(row.get("id", number)),
        question=str(question),
        images=pictures(files, row),
        answers=tuple(str(a) for a in answers),
        choices=choices,
        group=str(row.get("group", "")),
        type=str(row.get("type", "")),
        metadata={k: v for k, v in row.items() if k not in KNOWN},
    )


def pictures(files: Files, row: dict[str, Any]) -> tuple[Picture, ...]:
    """Handles to a row's pictures."""
    if "array" in row:
        name, index = row["array"], int(row["row"])
        return (Picture(f"{name}[{index}]", lambda: array_row(files, name, index)),)
    return tuple(files.picture(name) for name in _list(row.get("images", row.get("image", []))))


@lru_cache(maxsize=4)
def array(files: Files, name: str) -> np.ndarray:
    """An array of pictures, (n, H, W, 3) uint8 BGR."""
    return np.load(io.BytesIO(files.read(name)), allow_pickle=False)


def array_row(files: Files, name: str, index: int) -> np.ndarray:
    """One picture of it as RGB, (H, W, 3) uint8."""
    return np.ascontiguousarray(array(files, name)[index][..., ::-1])


def _list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _choice(answer: Any, choices: tuple[str, ...], where: str) -> str:
    """An index, a letter or the text of a choice -> its letter."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return letter(answer, choices, where)
    if answer in choices:
        return letter(choices.index(answer), choices, where)
    if isinstance(answer, str) and len(answer) == 1 and answer in LETTERS[: len(choices)]:
        return answer
    raise ValueError(f"{where}: answer {answer!r} is none of the choices {', '.join(map(repr, choices))}")
