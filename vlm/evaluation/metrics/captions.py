"""Caption metrics over a set of images: CIDEr-D (Vedantam et al. 2015), BLEU-1..4 (Papineni et al. 2002), ROUGE-L
(Lin 2004).

- Candidates are one text per image, references one or more per image, aligned. Every function takes texts whose
  tokens are separated by spaces, as `ptb.tokenize` makes them, and returns the score of the corpus and of each image.
- CIDEr weighs words by how rare they are *among the references of this set*: on one image it is 0, on a subset it
  cannot be compared with published scores. Its scale is 0 to 10; the others' is 0 to 1.
- CIDEr and ROUGE-L of the corpus are the mean over images, BLEU is not.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypedDict

from vlm.evaluation.metrics.ptb import tokenize

Texts = Sequence[str]
References = Sequence[Sequence[str]]
NGram = tuple[str, ...]
MAX_N = 4
SIGMA = 6.0  # of CIDEr-D's penalty for another length
BETA = 1.2  # ROUGE-L: recall counts more
TINY, SMALL = 1e-15, 1e-9  # keep BLEU defined where no n-gram matches, as coco-caption


class CaptionScore(TypedDict):
    """Score of the set, and of each image."""

    score: float
    items: list[float]


def _check(candidates: Texts, references: References) -> None:
    if len(candidates) != len(references) or not candidates:
        raise ValueError(
            f"got {len(candidates)} candidates and {len(references)} lists of references; expected as many, 1+"
        )
    for i, several in enumerate(references):
        if isinstance(several, str) or not several:
            raise ValueError(f"references[{i}] is {several!r}; expected a list of one or more texts")


def ngrams(text: str, n: int = MAX_N) -> Counter[NGram]:
    """How often each run of 1 to n tokens occurs."""
    words = text.split()
    return Counter(tuple(words[i : i + k]) for k in range(1, n + 1) for i in range(len(words) - k + 1))


def cider(candidates: Texts, references: References) -> tuple[float, list[float]]:
    """CIDEr-D, 0 to 10: cosine of tf-idf vectors with clipped counts, times exp(-(length difference)^2 / 72).

    The mean over 1- to 4-grams and references, times 10. The length is that of the list of bigrams. 0 on a single
    image.
    """
    _check(candidates, references)
    counts = [[ngrams(r) for r in several] for several in references]
    images_with = Counter(gram for several in counts for gram in set().union(*several))
    log_n = math.log(len(candidates))
    idf = {gram: log_n - math.log(df) for gram, df in images_with.items()}

    def vectors(grams: Counter[NGram]) -> tuple[list[dict[NGram, float]], list[float], int]:
        parts: list[dict[NGram, float]] = [{} for _ in range(MAX_N)]
        for gram, count in grams.items():
            parts[len(gram) - 1][gram] = count * idf.get(gram, log_n)
        norms = [math.sqrt(sum(v * v for v in part.values())) for part in parts]
        return parts, norms, sum(count for gram, count in grams.items() if len(gram) == 2)

    scores = []
    for candidate, several in zip(candidates, counts, strict=True):
        said, said_norms, said_length = vectors(ngrams(candidate))
        total = 0.0
        for one in several:
            target, target_norms, length = vectors(one)
            alike = 0.0
            for s, t, s_norm, t_norm in zip(said, target, said_norms, target_norms, strict=True):
                if s_norm and t_norm:
                    alike += sum(min(v, t[gram]) * t[gram] for gram, v in s.items() if gram in t) / (s_norm * t_norm)
            total += alike / MAX_N * math.exp(-((said_length - length) ** 2) / (2 * SIGMA**2))
        scores.append(10 * total / len(several))
    return sum(scores) / len(scores), scores


def bleu(candidates: Texts, references: References) -> tuple[list[float], list[list[float]]]:
    """BLEU-1..4 of the corpus, and for each n the scores of the images; the reference of the closest length counts."""
    _check(candidates, references)
    sums = [[0] * MAX_N, [0] * MAX_N, [0, 0]]  # matched, said, (length, length of reference)
    items: list[list[float]] = [[] for _ in range(MAX_N)]
    for candidate, several in zip(candidates, references, strict=True):
        length = len(candidate.split())
        closest = min((abs(len(r.split()) - length), len(r.split())) for r in several)[1]
        most: Counter[NGram] = Counter()
        for reference in several:
            most |= ngrams(reference)
        matched = [0] * MAX_N
        for gram, count in ngrams(candidate).items():
            matched[len(gram) - 1] += min(count, most[gram])
        said = [max(0, length - k) for k in range(MAX_N)]
        for n, score in enumerate(_bleu(matched, said, length, closest)):
            items[n].append(score)
        for kept, new in zip(sums, (matched, said, (length, closest)), strict=True):
            kept[:] = [a + b for a, b in zip(kept, new, strict=True)]
    return _bleu(sums[0], sums[1], *sums[2]), items


def _bleu(matched: Sequence[int], said: Sequence[int], length: int, reference: int) -> list[float]:
    """Geometric means of the precisions up to n, times the penalty for brevity."""
    ratio = (length + TINY) / (reference + SMALL)
    penalty = math.exp(min(0.0, 1 - 1 / ratio))
    scores, product = [], 1.0
    for n in range(MAX_N):
        product *= (matched[n] + TINY) / (said[n] + SMALL)
        scores.append(product ** (1 / (n + 1)) * penalty)
    return scores


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def rouge_l(candidates: Texts, references: References) -> tuple[float, list[float]]:
    """ROUGE-L, 0 to 1: F of the longest common subsequence, best precision and best recall over the references, beta
    1.2."""
    _check(candidates, references)
    scores = []
    for candidate, several in zip(candidates, references, strict=True):
        said = candidate.split(" ")
        targets = [r.split(" ") for r in several]
        common = [_common(said, t) for t in targets]
        precision, recall = max(common) / len(said), max(c / len(t) for c, t in zip(common, targets, strict=True))
        both = (1 + BETA**2) * precision * recall
        scores.append(both / (recall + BETA**2 * precision) if both else 0.0)
    return sum(scores) / len(scores), scores


def caption_scores(
    candidates: Texts, references: References, tokenizer: Callable[[str], str] = tokenize
) -> dict[str, CaptionScore]:
    """{"CIDEr" | "BLEU-1" .. "BLEU-4" | "ROUGE-L": {"score": corpus, "items": per image}} of raw texts.

    candidates: one text per image; references: a list of texts per image. A score of CIDEr over a single image is 0.
    Raises ValueError if the two do not match.
    """
    _check(candidates, references)
    said, targets = [tokenizer(c) for c in candidates], [[tokenizer(r) for r in several] for several in references]
    named = {"CIDEr": cider(said, targets), "ROUGE-L": rouge_l(said, targets)}
    corpus, items = bleu(said, targets)
    named |= {f"BLEU-{n}": (corpus[n - 1], items[n - 1]) for n in range(1, MAX_N + 1)}
    return {name: CaptionScore(score=score, items=each) for name, (score, each) in named.items()}
