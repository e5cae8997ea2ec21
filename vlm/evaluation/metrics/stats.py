"""Means with error bars, and whether one run is better than another (Miller 2024, "Adding error bars to evals", arXiv
2411.00640).

- Questions about one picture are not independent: the standard error is clustered by picture (Miller's equation 4).
- Two runs on the same questions are compared question by question; their difference has a far smaller error than
  either mean.
- An output that could not be parsed (score None) counts as `unparsed`, 0 by default, and is reported.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
EXACT_CLUSTERS = 12  # up to 2^12 sign patterns are enumerated


def wilson(right: float, n: float, z: float = Z) -> tuple[float, float]:
    """95 % interval of a share of n independent trials (Wilson 1927); (0, 1) for none."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * spread) / (1 + z * z / n) for side in (-1, 1))
    return max(0.0, min(p, low)), min(1.0, max(p, high))  # p is in it, whatever rounding says


def _numbered(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Clusters as numbers 0, 1, 2 ... (n,); without clusters everyone is alone."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"got {n} scores and {len(clusters)} clusters; expected one cluster (picture) per score")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(c, len(numbers)) for c in clusters], dtype=int)


def clustered_error(scores: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """Standard error of the mean; questions that share a cluster may depend on one another. nan for fewer than two
    scores.

    Var(s)/n plus the cross terms of each cluster over n^2 (Miller 2024, equation 4); without clusters the usual error.
    """
    x = np.asarray(scores, dtype=float)
    n = len(x)
    groups = _numbered(clusters, n)
    if n < 2:
        return math.nan
    d = x - x.mean()
    sums = np.bincount(groups, weights=d)
    squares = float(d @ d)
    return math.sqrt(max(0.0, squares / (n - 1) / n + (float(sums @ sums) - squares) / n**2))


def mean_score(
    scores: Sequence[float | None], clusters: Sequence[Hashable] | None = None, unparsed: float = 0.0
) -> dict[str, float | int]:
    """Mean, standard error and 95 % interval of scores, clustered by picture if `clusters` names the picture of each.

    Without clusters and with scores that are all 0 or 1 the interval is Wilson's. Raises ValueError for no scores.
    """
    if not scores:
        raise ValueError("got no scores; expected one or more")
    values = [unparsed if s is None else float(s) for s in scores]
    mean, error = sum(values) / len(values), clustered_error(values, clusters)
    low, high = mean - Z * error, mean + Z * error
    if clusters is None and set(values) <= {0.0, 1.0}:
        low, high = wilson(sum(values), len(values))
    return {
        "mean": mean,
        "error": error,
        "low": low,
        "high": high,
        "n": len(values),
        "clusters": len(set(clusters)) if clusters is not None else len(values),
        "unparsed": sum(s is None for s in scores),
    }


def permutation_p(
    differences: Sequence[float], clusters: Sequence[Hashable] | None = None, rounds: int = 10_000
) -> float:
    """Two-sided p-value of a mean difference by flipping the signs of whole clusters; exact for few clusters, else
    sampled.

    Clusters without a difference do not matter and are left out. Sampled values are never 0: (hits + 1) / (rounds + 1).
    """
    d = np.asarray(differences, dtype=float)
    sums = np.bincount(_numbered(clusters, len(d)), weights=d) if len(d) else d
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    reached = abs(sums.sum()) - 1e-9
    if len(sums) <= EXACT_CLUSTERS:
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)  # (2^k, k)
        return float(np.mean(np.abs(signs @ sums) >= reached))
    rng = np.random.default_rng(0)
    hits = 0
    for start in range(0, rounds, 500):  # 500 patterns at a time keep the memory small
        signs = rng.integers(0, 2, (min(500, rounds - start), len(sums)), dtype=np.int8) * 2 - 1
        hits += int(np.sum(np.abs(signs @ sums) >= reached))
    return (hits + 1) / (rounds + 1)


def compare(
    a: Sequence[float | None],
    b: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    unparsed: float = 0.0,
) -> dict[str, Any]:
    """Paired difference b - a of two runs over the same questions, in the same order.

    Returns the two means, the difference with its clustered error and 95 % interval, `p` (normal), `p_permutation`
    (cluster signs flipped), and how many questions b scores higher (`gained`) and lower (`lost`). Raises ValueError
    for other lengths.
    """
    if len(a) != len(b) or not a:
        raise ValueError(
            f"got {len(a)} and {len(b)} scores; expected the scores of the same questions, in the same order"
        )
    first, second = ([unparsed if s is None else float(s) for s in run] for run in (a, b))
    differences = [y - x for x, y in zip(first, second, strict=True)]
    n, difference = len(differences), sum(differences) / len(differences)
    error = clustered_error(differences, clusters)
    if error > 0:
        p = math.erfc(abs(difference) / error / math.sqrt(2))
    else:  # one question, or every question differs alike: no error to measure by
        p = 1.0 if difference == 0 else math.nan
    return {
        "mean_a": sum(first) / n,
        "mean_b": sum(second) / n,
        "difference": difference,
        "error": error,
        "low": difference - Z * error,
        "high": difference + Z * error,
        "p": p,
        "p_permutation": permutation_p(differences, clusters),
        "gained": sum(d > 0 for d in differences),
        "lost": sum(d < 0 for d in differences),
        "n": n,
        "clusters": len(set(clusters)) if clusters is not None else n,
    }
