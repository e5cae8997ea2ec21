"""VQAv2, OK-VQA (questions and annotations apart) and VizWiz (together): ten answers a question."""

import re
from typing import Any

from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item


def load(files: Files) -> list[Item]:
    """Items of `*_questions.json` and, where the answers are public, the `*_annotations.json` of the same split."""
    name = files.one("*OpenEnded*questions.json")
    questions = files.json(name, "questions")
    annotations = {a["question_id"]: a for a in files.json(note, "annotations")} if (note := notes(files, name)) else {}
    if note:
        _check_pairs(name, note, {q["question_id"] for q in questions}, set(annotations))
    split = re.search(r"(train|val|test)\d*", name)
    picture = f"COCO_{split.group()}_{{:012d}}.jpg" if split else "{}"
    return [_item(files, q, annotations.get(q["question_id"], {}), picture.format(q["image_id"])) for q in questions]


def notes(files: Files, questions: str) -> str | None:
    """The annotation file of a question file, None for a test split."""
    wanted = questions.rsplit("/", 1)[-1].replace("OpenEnded_", "").replace("questions.json", "annotations.json")
    found = [n for n in files.names if n.rsplit("/", 1)[-1] == wanted]
    return found[0] if found else None


def _check_pairs(name: str, note: str, asked: set, answered: set) -> None:
    for missing, what in ((asked - answered, f"of {name} have no answer in {note}"),
                          (answered - asked, f"answered in {note} are not asked in {name}")):  # fmt: skip
        if missing:
            first = min(missing)
            raise ValueError(
                f"{len(missing)} questions {what} (the first is {first}); the files are of different splits"
            )


def _item(files: Files, question: dict[str, Any], annotation: dict[str, Any], picture: str) -> Item:
    return Item(
        id=str(question["question_id"]),
        question=question["question"],
        images=(files.picture(picture),),
        answers=tuple(a["answer"] for a in annotation.get("answers", [])),
        type=annotation.get("answer_type", ""),
        metadata={"question_type": annotation.get("question_type", "")},
    )


def load_vizwiz(files: Files) -> list[Item]:
    """Items of VizWiz's `val.json`: a list of picture, question, answers, answer_type."""
    name = files.one("val.json", "train.json", "test.json")
    return [
        Item(
            id=row["image"],
            question=row["question"],
            images=(files.picture(row["image"]),),
            answers=tuple(a["answer"] for a in row.get("answers", [])),
            type=row.get("answer_type", ""),
            metadata={"answerable": row.get("answerable")},
        )
        for row in files.json(name)
    ]
