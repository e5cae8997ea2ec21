"""Relaxed accuracy: ChartQA (Masry et al. 2022, section 5.1, after Methani et al. 2020)."""

import re
from collections.abc import Sequence

from vlm.evaluation.metrics.common import as_list, check_variant

VARIANTS = ("official", "forgiving")
TOLERANCE = 0.05
STATED = re.compile(r"(?i)\banswer\b\**\s*(?:is\b|was\b|would be\b|equals\b|[:=])")
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
UNIT = re.compile(r"(?i)(?<=\d)\s*(?:per\s?cent|percent)$")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")


def extract_answer(text: str) -> str:
    """The stated answer of a longer output: last \\boxed{}, else what follows the last "answer is" or "answer:"; else
    the text."""
    boxed = BOXED.findall(text)
    if boxed:
        return boxed[-1].strip()
    stated = list(STATED.finditer(text))
    if stated:
        tail = text[stated[-1].end() :].lstrip(" \t\n:=*")
        text = SENTENCE_END.split(tail, maxsplit=1)[0]
    return text.strip().strip("*\"'` ").removesuffix(".").rstrip("*\"'` ")


def _number(text: str) -> float | None:
    """The number that a text is; 12% is 0.12."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _official(prediction: str, answer: str) -> bool:
    said, target = _number(prediction), _number(answer)
    if said is not None and target:
        return abs(said - target) / abs(target) <= TOLERANCE
    return prediction.lower() == answer.lower()


def _plain(text: str) -> tuple[str, bool]:
    """Text without currency signs, thousands separators, closing full stop and percent sign; whether it had the
    latter."""
    text = UNIT.sub("%", text.strip().removesuffix(".").strip().lower())
    percent = text.endswith("%")
    text = text.rstrip("%").strip()
    without = re.sub(r"^([+-]?)\s*(?:us\$|[$€£¥₹])\s*|\s*[€£¥₹]$", r"\1", text)
    if THOUSANDS.fullmatch(without):
        without = without.replace(",", "")
    return (without if _number(without) is not None else text), percent


def _forgiving(prediction: str, answer: str) -> bool:
    if _official(prediction, answer):
        return True
    (said, said_percent), (target, target_percent) = _plain(prediction), _plain(answer)
    p, t = _number(said), _number(target)
    if p is None or t is None:
        return said == target and said_percent == target_percent
    readings = [p]
    if said_percent != target_percent:  # 12% is 12 of a hundred or 0.12
        readings.append(p / 100 if said_percent else p * 100)
    return any(abs(r - t) <= TOLERANCE * abs(t) for r in readings)


def relaxed_accuracy(prediction: str, answers: str | Sequence[str], variant: str = "official") -> float:
    """1.0 if a number is within 5 % of an answer or another text equals it (case aside), else 0.0; best over the
    answers.

    `official` is the code that papers use: years pass ("2015" for "2019"), the answer 0 is compared as a string, "12"
    is not "12%", "1,000" is not "1000", "$5" is not "5", "yes." is not "yes". `forgiving` takes the stated answer out
    of a longer output (`extract_answer`) and accepts all of these; whatever `official` accepts, it accepts.
    """
    check_variant(variant, VARIANTS)
    answers = as_list(answers)
    if variant == "official":
        return float(any(_official(prediction, answer) for answer in answers))
    said = {prediction, extract_answer(prediction)}
    return float(any(_forgiving(text, answer) for text in said for answer in answers))
