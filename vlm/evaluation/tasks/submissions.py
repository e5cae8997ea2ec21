"""Scored rows in the data's order -> the file that a benchmark's server takes."""

from typing import Any

from vlm.evaluation.metrics.choice import parse_letter

Rows = list[dict[str, Any]]


def vqa(rows: Rows) -> list[dict]:
    """VQAv2, OK-VQA, TextVQA: every question of the split must be there, unanswered ones with ''."""
    return [{"question_id": int(r["id"]), "answer": r["prediction"]} for r in rows]


def docvqa(rows: Rows) -> list[dict]:
    """DocVQA and InfographicVQA at rrc.cvc.uab.es."""
    return [{"questionId": int(r["id"]), "answer": r["prediction"]} for r in rows]


def gqa(rows: Rows) -> list[dict]:
    """GQA's evaluation script compares lower-case words without a full stop."""
    return [{"questionId": r["id"], "prediction": r["prediction"].lower().strip(" .")} for r in rows]


def letters(rows: Rows) -> dict[str, str]:
    """MMMU: the letter where one was found, else what was said."""
    return {r["id"]: r["choices"] and parse_letter(r["prediction"], r["choices"]) or r["prediction"] for r in rows}


def choices(rows: Rows) -> dict[str, dict[str, int]]:
    """ScienceQA: the index of the choice, -1 where none was found."""
    return {"results": {r["id"]: "ABCDEFGHIJ".find(parse_letter(r["prediction"], r["choices"]) or "?") for r in rows}}


def pope(rows: Rows) -> list[dict]:
    """POPE: one object a line, in the order of the questions."""
    return [{"question": r["question"], "answer": r["prediction"]} for r in rows]


def coco(rows: Rows) -> list[dict]:
    """COCO and NoCaps captions."""
    return [{"image_id": int(r["id"]), "caption": r["prediction"]} for r in rows]
