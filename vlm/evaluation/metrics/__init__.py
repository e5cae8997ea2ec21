"""Metrics of the benchmarks as pure functions.

A metric scores one item: `f(prediction, answers, variant=...) -> float in [0, 1]`, or None where the output could not
be parsed; metrics of choices take the options third. `answers` is one text or several. METRICS names them for tasks:
name -> (function, default variant, description). Caption metrics score a set of images at once (`caption_scores`),
`pope_summary` a set of yes/no questions; means, intervals and comparisons are in `stats`.
"""

from collections.abc import Callable
from typing import Any

from vlm.evaluation.metrics.anls import anls
from vlm.evaluation.metrics.captions import caption_scores
from vlm.evaluation.metrics.choice import choice, circular, mmmu, mmmu_open, rotations, scienceqa
from vlm.evaluation.metrics.exact import exact_match, gqa, nlvr, yes_no
from vlm.evaluation.metrics.pope import pope, pope_summary
from vlm.evaluation.metrics.relaxed import extract_answer, relaxed_accuracy
from vlm.evaluation.metrics.vqa import vqa_accuracy
from vlm.evaluation.metrics.wups import wups

__all__ = [
    "CHOICE_METRICS", "METRICS", "anls", "caption_scores", "choice", "circular", "exact_match", "extract_answer", "gqa",
    "mmmu", "mmmu_open", "nlvr", "pope", "pope_summary", "relaxed_accuracy", "rotations", "scienceqa", "vqa_accuracy",
    "wups", "yes_no",
]  # fmt: skip

METRICS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "vqa": (
        vqa_accuracy,
        "always_normalize",
        "VQA accuracy: soft score over the answers of ten people (VQAv2, OK-VQA, VizWiz)",
    ),
    "textvqa": (vqa_accuracy, "textvqa", "VQA accuracy with TextVQA's normalisation"),
    "anls": (anls, "official", "normalised edit similarity, 0 from half wrong (DocVQA, InfographicVQA)"),
    "relaxed": (relaxed_accuracy, "official", "numbers within 5 %, other texts equal (ChartQA)"),
    "exact": (exact_match, "strict", "the text is one of the answers"),
    "yes_no": (yes_no, "first_word", "the first word is the yes or no of the answer"),
    "gqa": (gqa, "llava", "exact match without case and closing full stop (GQA)"),
    "nlvr": (nlvr, "first_word", "true or false (NLVR2)"),
    "choice": (choice, "strict", "the letter of the right option (AI2D, MMBench)"),
    "scienceqa": (scienceqa, "llava", "the letter by LLaVA's rule (ScienceQA)"),
    "mmmu": (mmmu, "official", "the letter by MMMU's parser, or an open answer if there are no options (MMMU)"),
    "mmmu_open": (mmmu_open, "official", "an answer among the numbers and closing phrases of the output (MMMU)"),
    "pope": (pope, "official", "yes unless the first sentence says no or not (POPE)"),
    "wups": (wups, "0.9", "Wu-Palmer similarity of sets of words (DAQUAR); needs nltk's WordNet"),
}
CHOICE_METRICS = ("choice", "scienceqa", "mmmu")  # these take the options as third argument
