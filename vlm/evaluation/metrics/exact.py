"""Exact match and its relatives: GQA, NLVR2, yes/no questions."""

import re
from collections.abc import Sequence

from vlm.evaluation.metrics.common import as_list, bare, check_variant

MATCH_VARIANTS = ("strict", "ignore_case_punctuation")
GQA_VARIANTS = ("llava", "ignore_case_punctuation")
WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
YES_NO = {"yes": True, "yeah": True, "yep": True, "no": False, "nope": False}
TRUE_FALSE = {"true": True, "false": False, "correct": True, "incorrect": False, **YES_NO}


def exact_match(prediction: str, answers: str | Sequence[str], variant: str = "strict") -> float:
    """1.0 if the text is one of the answers. `ignore_case_punctuation`: after lower-casing and dropping ASCII
    punctuation."""
    check_variant(variant, MATCH_VARIANTS)
    if variant == "strict":
        return float(prediction in as_list(answers))
    return float(bare(prediction) in {bare(a) for a in as_list(answers)})


def gqa(prediction: str, answers: str | Sequence[str], variant: str = "llava") -> float:
    """1.0 for GQA's answer (Hudson & Manning 2019). `llava` drops closing full stops and case of the prediction alone;
    `ignore_case_punctuation` lower-cases and strips punctuation of both, so that "t-shirt" is "tshirt"."""
    check_variant(variant, GQA_VARIANTS)
    if variant == "llava":
        return float(prediction.rstrip(".").lower() in as_list(answers))
    return exact_match(prediction, answers, variant)


def _truth(text: str, words: dict[str, bool], variant: str) -> bool | None:
    found = WORD.findall(text.lower())
    if variant == "strict" and len(found) != 1:
        return None
    return words.get(found[0]) if found else None


def yes_no(prediction: str, answers: str | Sequence[str], variant: str = "first_word") -> float | None:
    """1.0 / 0.0 whether the output says the yes or no of the answer, None if it says neither.

    `first_word` reads the first word ("No, there is ..."), `strict` wants nothing but the word.
    Raises ValueError for an answer other than yes or no.
    """
    return _compare(prediction, answers, YES_NO, variant)


def nlvr(prediction: str, answers: str | Sequence[str], variant: str = "first_word") -> float | None:
    """As `yes_no` for statements (Suhr et al. 2019): true/yes/correct against false/no/incorrect."""
    return _compare(prediction, answers, TRUE_FALSE, variant)


def _compare(prediction: str, answers: str | Sequence[str], words: dict[str, bool], variant: str) -> float | None:
    check_variant(variant, ("first_word", "strict"))
    answer = as_list(answers)[0]
    truth = _truth(answer, words, "strict")
    if truth is None:
        raise ValueError(f"answer {answer!r} is none of {', '.join(words)}")
    said = _truth(prediction, words, variant)
    return None if said is None else float(said == truth)
