"""What several metrics share."""

import difflib
import string
from collections.abc import Sequence

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def check_variant(variant: str, variants: Sequence[str]) -> None:
    """Raise ValueError for a variant that a metric does not have, with the near match."""
    if variant not in variants:
        near = difflib.get_close_matches(variant, variants, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown variant {variant!r}; expected one of {', '.join(variants)}{hint}")


def as_list(answers: str | Sequence[str]) -> list[str]:
    """One answer or several, as a list; ValueError if there is none."""
    found = [answers] if isinstance(answers, str) else list(answers)
    if not found:
        raise ValueError("got no answers; expected a string or a list of one or more")
    return found


def bare(text: str) -> str:
    """Lower case without ASCII punctuation."""
    return text.lower().translate(NO_PUNCTUATION)
