"""WUPS: accuracy over sets of words that allows for near words (Malinowski & Fritz 2014, section 3.2; DAQUAR).

- An answer is a set of comma-separated items. Each item of one set looks for its nearest of the other; products, both
  ways, the lesser one counts.
- Under the threshold a similarity counts a tenth: WUPS@0.9 is strict, WUPS@0.0 keeps all.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod

from vlm.evaluation.metrics.common import as_list

Similarity = Callable[[str, str], float]
THRESHOLDS = {"0.9": 0.9, "0.0": 0.0}
DOWN_WEIGHT = 0.1


@lru_cache(maxsize=1 << 16)
def wu_palmer(a: str, b: str) -> float:
    """Best Wu-Palmer similarity over the noun senses of two words in WordNet, in [0, 1]; 0 for a word that is not in
    it.

    Needs nltk and its WordNet corpus, which the user fetches; nothing is downloaded here. Raises ImportError or
    LookupError with the command that is missing.
    """
    try:
        from nltk.corpus import wordnet
    except ImportError as error:
        raise ImportError("WUPS needs nltk for WordNet; pip install nltk") from error
    try:
        senses = [wordnet.synsets(word, pos=wordnet.NOUN) for word in (a, b)]
    except LookupError as error:
        raise LookupError("nltk has no WordNet corpus; python -m nltk.downloader wordnet") from error
    return max((x.wup_similarity(y) or 0.0 for x in senses[0] for y in senses[1]), default=0.0)


def wups_score(prediction: str, answer: str, threshold: float, similarity: Similarity = wu_palmer) -> float:
    """WUPS of one answer at a threshold in [0, 1]; equal words are alike without asking `similarity`."""
    said, target = ([item.strip() for item in text.split(",")] for text in (prediction, answer))

    def membership(item: str, items: list[str]) -> float:
        return max(weigh(item, other) for other in items)

    def weigh(a: str, b: str) -> float:
        if a == b:
            return 1.0
        alike = similarity(a, b)
        return alike if alike >= threshold else alike * DOWN_WEIGHT

    return min(prod(membership(t, said) for t in target), prod(membership(s, target) for s in said))


def wups(
    prediction: str, answers: str | Sequence[str], variant: str = "0.9", similarity: Similarity = wu_palmer
) -> float:
    """Best WUPS over the answers in [0, 1]; the variant is the threshold, "0.9" or "0.0" (or another number)."""
    try:
        threshold = THRESHOLDS[variant] if variant in THRESHOLDS else float(variant)
    except ValueError:
        raise ValueError(f"unknown variant {variant!r}; expected a threshold such as 0.9 or 0.0") from None
    return max(wups_score(prediction, answer, threshold, similarity) for answer in as_list(answers))
