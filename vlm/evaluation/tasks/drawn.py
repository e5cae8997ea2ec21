"""NLVR, SHAPES and DAQUAR: small classics that run in minutes."""

import re
from typing import Any

from vlm.evaluation.tasks import neutral
from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item, Picture

TRUTH = {"true": "yes", "false": "no"}


def yes_no(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose answer or label true / false is said as yes / no."""
    said = str(row.get("answer", row.get("label", ""))).lower()
    return {**{k: v for k, v in row.items() if k not in ("label", "structured_rep")}, "answer": TRUTH.get(said, said)}


def load_nlvr(files: Files) -> list[Item]:
    """A pack, or NLVR's `dev.json` (JSONL), of whose six box orders the first is asked."""
    if rows := neutral.rows(files):
        return [neutral.to_item(files, yes_no(row), number) for number, row in enumerate(rows, 1)]
    name = files.one("dev.json", "test.json", "train.json")
    split = name.rsplit("/", 1)[-1].removesuffix(".json")
    return [
        Item(
            id=row["identifier"],
            question=row["sentence"],
            images=(files.picture(f"images/{row.get('directory', '')}/{split}-{row['identifier']}-0.png"),),
            answers=(TRUTH[row["label"]],),
        )
        for row in files.lines(name)
    ]


def load_shapes(files: Files) -> list[Item]:
    """A pack, or SHAPES' `val.input.npy`, `val.query_str.txt` and `val.output`."""
    if rows := neutral.rows(files):
        return [
            neutral.to_item(files, {"type": row.get("split", ""), **yes_no(row)}, n) for n, row in enumerate(rows, 1)
        ]
    queries = files.one("val.query_str.txt", "*.query_str.txt")
    stem = queries.removesuffix(".query_str.txt")
    questions, answers = (files.text(f"{stem}.{end}").split("\n") for end in ("query_str.txt", "output"))
    questions, answers = ([t.strip() for t in lines if t.strip()] for lines in (questions, answers))
    name, n = f"{stem}.input.npy", len(neutral.array(files, f"{stem}.input.npy"))
    if not n == len(questions) == len(answers):
        raise ValueError(
            f"{stem}: found {n} pictures, {len(questions)} questions and {len(answers)} answers; expected as many"
        )
    return [
        Item(f"{stem}-{i}", question, (_drawn(files, name, i),), (TRUTH[answer.lower()],))
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]


def _drawn(files: Files, name: str, index: int) -> Picture:
    return Picture(f"{name}[{index}]", lambda: neutral.array_row(files, name, index))


def load_daquar(files: Files) -> list[Item]:
    """A pack, or DAQUAR's `qa.*.test.txt`: a line of question, a line of answer; several answers are one, by commas."""
    if neutral.rows(files):
        return neutral.load(files)
    name = files.one("qa.894.raw.test.txt", "qa.37.raw.test.txt", "qa*test*.txt")
    lines = [line.strip() for line in files.text(name).split("\n") if line.strip()]
    if len(lines) % 2:
        raise ValueError(f"{name}: {len(lines)} lines; expected a question and an answer in turns")
    items = []
    for number, (question, answer) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        picture = re.search(r"\s*(?:in|on|of)? the (image\d+)\s*\?*$|(image\d+)", question)
        if not picture:
            raise ValueError(f"{name}: line {2 * number + 1} names no picture such as image3")
        asked = question[: picture.start()].strip() + " ?" if picture.group(1) else question
        file = picture.group(1) or picture.group(2)
        items.append(Item(str(number), asked, (files.picture(file),), (answer,)))
    return items
