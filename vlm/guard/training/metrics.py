"""How well scores tell unsafe from safe, with bootstrap intervals."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

ROUNDS = 1000


def auroc(scores: np.ndarray, unsafe: np.ndarray) -> float:
    """Area under the ROC curve: how often an unsafe one scores above a safe one, ties half; nan without both kinds."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
    n, m = int(unsafe.sum()), int((~unsafe).sum())
    return float((ranks[unsafe].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def auprc(scores: np.ndarray, unsafe: np.ndarray) -> float:
    """Area under the precision-recall curve as average precision, equal scores as one step; nan without unsafe ones."""
    if not unsafe.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)  # the last of each run of equal scores
    hits = unsafe[order].cumsum()[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / unsafe.sum())


def recall_at(scores: np.ndarray, unsafe: np.ndarray, fpr: float = 0.05) -> float:
    """The share of unsafe ones above what at most a share `fpr` of the safe ones exceeds; nan without both kinds."""
    if unsafe.all() or not unsafe.any():
        return float("nan")
    return float((scores[unsafe] > np.quantile(scores[~unsafe], 1 - fpr, method="higher")).mean())


def _share(hits: int, of: int) -> float:
    return hits / of if of else float("nan")


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {  # scores, flagged, unsafe -> figure
    "precision": lambda s, f, u: _share((f & u).sum(), f.sum()),
    "recall": lambda s, f, u: _share((f & u).sum(), u.sum()),
    "f1": lambda s, f, u: _share(2 * (f & u).sum(), f.sum() + u.sum()),
    "fpr": lambda s, f, u: _share((f & ~u).sum(), (~u).sum()),
    "auroc": lambda s, f, u: auroc(s, u),
    "auprc": lambda s, f, u: auprc(s, u),
    "recall_at_5": lambda s, f, u: recall_at(s, u),
}


def measure(scores: ArrayLike, flagged: ArrayLike, unsafe: ArrayLike, seed: int = 0, rounds: int = ROUNDS) -> dict:
    """n, the unsafe share, and each of `MEASURES` as [value, low, high], the 95 % interval by resampling rows.

    What has no value, such as a false positive rate without safe rows, is None.
    """
    s, f, u = np.asarray(scores, float), np.asarray(flagged, bool), np.asarray(unsafe, bool)
    if not len(s):
        raise ValueError("found no rows; expected one or more")
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(s), len(s)) for _ in range(rounds)]
    found: dict = {"n": len(s), "unsafe": float(u.mean())}
    for name, figure in MEASURES.items():
        value = float(figure(s, f, u))
        sample = np.array([figure(s[i], f[i], u[i]) for i in drawn]) if value == value else np.array([])
        sample = sample[~np.isnan(sample)]
        found[name] = [value, *map(float, np.quantile(sample, (0.025, 0.975)))] if len(sample) else None
    return found
