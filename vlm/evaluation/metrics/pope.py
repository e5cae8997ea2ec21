"""POPE: does a model see objects that are not there (Li et al. 2023)."""

from collections.abc import Sequence

from vlm.evaluation.metrics.common import as_list, check_variant

VARIANTS = ("official", "strict")


def parse_pope(text: str, variant: str = "official") -> str | None:
    """yes or no. `official`: in the first sentence the word No, no or not is a no, anything else (even nothing) a yes.
    `strict`: the output is yes or no but for case, white space and a closing full stop; else None."""
    check_variant(variant, VARIANTS)
    if variant == "strict":
        word = text.strip().removesuffix(".").lower()
        return word if word in ("yes", "no") else None
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def pope(prediction: str, answers: str | Sequence[str], variant: str = "official") -> float | None:
    """1.0 / 0.0 whether the output agrees with the label (yes or no); None if unparsed, which only `strict` knows."""
    said = parse_pope(prediction, variant)
    return None if said is None else float(said == _label(as_list(answers)[0]))


def _label(answer: str) -> str:
    label = answer.strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"label {answer!r} is neither yes nor no")
    return label


def pope_summary(
    predictions: Sequence[str], answers: Sequence[str], variant: str = "official"
) -> dict[str, float | int | str]:
    """Accuracy, precision, recall and F1 of "yes", and the share of outputs that say yes (not of labels).

    An unparsed output is wrong and not a yes. A ratio without a denominator is 0.0.
    """
    said = [parse_pope(p, variant) for p in predictions]
    pairs = list(zip(said, map(_label, answers), strict=True))
    n, yes = len(pairs), sum(s == "yes" for s, _ in pairs)
    hits, positives = sum(s == label == "yes" for s, label in pairs), sum(label == "yes" for _, label in pairs)
    precision, recall = hits / max(yes, 1), hits / max(positives, 1)
    return {
        "accuracy": sum(s == label for s, label in pairs) / max(n, 1),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_ratio": yes / max(n, 1),
        "n": n,
        "unparsed": sum(s is None for s in said),
        "variant": variant,
    }
