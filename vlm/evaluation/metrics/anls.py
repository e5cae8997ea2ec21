"""ANLS, average normalised Levenshtein similarity: DocVQA, InfographicVQA, ST-VQA (Biten et al. 2019, equation 1)."""

from collections.abc import Sequence

from vlm.evaluation.metrics.common import as_list, check_variant

VARIANTS = ("official", "kits")


def levenshtein(a: str, b: str) -> int:
    """Edit distance by Myers' bit vectors (1999, as Hyyro 2003): one column of the table is two integers."""
    if len(a) < len(b):
        a, b = b, a
    if not b:
        return len(a)
    where: dict[str, int] = {}  # character of b -> bit set of its places
    for i, character in enumerate(b):
        where[character] = where.get(character, 0) | 1 << i
    last, full = 1 << (len(b) - 1), (1 << len(b)) - 1
    up, down, distance = full, 0, len(b)  # vertical steps of +1 and -1, bottom of the column
    for character in a:
        match = where.get(character, 0)
        diagonal = ((((match & up) + up) ^ up) | match | down) & full
        right_up = down | (full & ~(diagonal | up))
        right_down = up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1 | 1) & full
        right_down = (right_down << 1) & full
        up = right_down | (full & ~(diagonal | right_up))
        down = right_up & diagonal
    return distance


def anls(prediction: str, answers: str | Sequence[str], variant: str = "official") -> float:
    """Best similarity 1 - NL over the answers, in [0, 1]; NL is the edit distance over the length of the longer text.

    Case and runs of white space do not count. `official` is the published formula: 0 unless NL < 0.5. `kits` is what
    the challenge's script and the evaluation kits compute: NL = 0.5 still scores 0.5, and lengths are those before
    white space is collapsed. Two empty texts are alike. Raises ValueError for no answers or an unknown variant.
    """
    check_variant(variant, VARIANTS)
    said = " ".join(prediction.lower().split())
    distances = []
    for answer in as_list(answers):
        target = " ".join(answer.lower().split())
        longer = max(len(target), len(said))
        if variant == "kits":
            longer = max(len(answer.upper()), len(prediction.upper()))
        distances.append(levenshtein(target, said) / longer if longer else 0.0)
    nl = min(distances)
    if variant == "kits":
        return 1 - nl if 1 - nl >= 0.5 else 0.0
    return 1 - nl if nl < 0.5 else 0.0
