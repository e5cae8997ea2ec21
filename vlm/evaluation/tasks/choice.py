"""ScienceQA, AI2D and MMMU: a letter of several."""

import ast
import re
from typing import Any

from vlm.evaluation.tasks import neutral
from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item, Picture, letter


def load_scienceqa(files: Files) -> list[Item]:
    """The test split of `problems.json`, hints before their questions; text-only questions have no picture."""
    problems = files.json(files.one("problems.json"))
    splits = files.find("pid_splits.json")
    ids = files.json(splits[0], "test") if splits else [p for p, row in problems.items() if row["split"] == "test"]
    if unknown := [p for p in ids if p not in problems]:
        raise ValueError(f"pid_splits.json: {len(unknown)} ids are not in problems.json (the first is {unknown[0]})")
    return [_science(files, pid, problems[pid]) for pid in ids]


def _science(files: Files, pid: str, row: dict[str, Any]) -> Item:
    hint = f"Context: {row['hint']}\n" if row.get("hint") else ""
    return Item(
        id=pid,
        question=hint + row["question"],
        images=(files.picture(f"{row['split']}/{pid}/{row['image']}"),) if row.get("image") else (),
        answers=(letter(row["answer"], row["choices"], f"problem {pid}"),),
        choices=tuple(row["choices"]),
        group=f"{row['split']}/{pid}",
        type="image" if row.get("image") else "text" if row.get("hint") else "none",
        metadata={k: row.get(k) for k in ("subject", "grade", "topic")},
    )


def load_ai2d(files: Files) -> list[Item]:
    """`questions/*.json` of AI2D, those of `ai2d_test_ids.csv` alone where it is there; or the neutral form."""
    if neutral.rows(files):
        return neutral.load(files)
    tests = files.find("ai2d_test_ids.csv")
    wanted = set(files.text(tests[0]).split()) if tests else None
    items = []
    for name in files.find("*.png.json"):
        content = files.json(name)
        if "questions" not in content or wanted and name.rsplit("/", 1)[-1].split(".")[0] not in wanted:
            continue
        picture = files.picture(content["imageName"])
        for text, row in content["questions"].items():
            answer = letter(row["correctAnswer"], row["answerTexts"], row["questionId"])
            kind = "letters" if row.get("abcLabel") else "words"
            items.append(Item(row["questionId"], text, (picture,), (answer,), tuple(row["answerTexts"]), type=kind))
    if not items:
        raise ValueError(
            f"{files.path}: found no questions/*.png.json; expected the official ai2d folder or index.jsonl"
        )
    return items


def load_mmmu(files: Files) -> list[Item]:
    """Parquet as it is distributed (needs pyarrow), or JSONL with the same columns, pictures by name."""
    if rows := neutral.rows(files):
        return [_mmmu(row, lambda value: files.picture(str(value))) for row in rows]
    tables = files.find("validation*.parquet") or files.find("*.parquet")
    if not tables:
        raise ValueError(
            f"{files.path}: found no *.parquet and no index.jsonl; expected MMMU's folders of parquet files"
        )
    return [_mmmu(row, _stored) for name in tables for row in _parquet(files, name)]


def _parquet(files: Files, name: str) -> list[dict[str, Any]]:
    try:
        from pyarrow import BufferReader, parquet
    except ImportError:
        raise ImportError("reading parquet needs pyarrow: pip install pyarrow; or convert the data to JSONL") from None
    return parquet.read_table(BufferReader(files.read(name))).to_pylist()


def _stored(value: dict[str, Any]) -> Picture:
    """A picture that stands in the table itself."""
    return Picture(value.get("path") or f"<{len(value['bytes'])} bytes>", lambda: value["bytes"])


def options(value: Any, where: str) -> list[str]:
    """MMMU's options: a list, or a list written as Python text."""
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, (list, tuple)):
        raise ValueError(f"{where}: options {str(value)[:60]!r}; expected a list such as ['yes', 'no']")
    return [str(o) for o in found]


def _mmmu(row: dict[str, Any], picture: Any) -> Item:
    name = str(row["id"])
    found = [row[f"image_{i}"] if row.get(f"image_{i}") else None for i in range(1, 8)]
    images = tuple(picture(value) for value in found if value)
    choices = options(row.get("options") or [], name)
    answer = row.get("answer")
    answers = options(answer, name) if str(answer).startswith("[") else [answer]
    subject = re.sub(r"^(validation|dev|test)_|_\d+$", "", name)
    return Item(
        id=name,
        question=row["question"],
        images=images,
        answers=tuple(str(a) for a in answers if a not in (None, "?")),
        choices=tuple(choices) if row.get("question_type") != "open" else (),
        group=name,
        type=subject,
        metadata={"question_type": row.get("question_type", "multiple-choice" if choices else "open")},
    )
