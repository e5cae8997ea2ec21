"""How well a number separates two kinds, and how far a stated probability can be believed, with 95 % intervals.

Notable here:
- AUROC is the chance that of one of each kind the right one has the higher number, ties counting half; its interval is
  DeLong's (1988), which needs no resampling.
- Expected calibration error over bins of equal mass (Nixon et al. 2019, arXiv 1904.01685). It is never 0, even of
  perfect probabilities: `expected` is what those would show with as many answers.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vlm.evaluation.metrics.stats import Z, wilson

ROUNDS = 500


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[which]


def auroc(low: ArrayLike, high: ArrayLike) -> dict[str, Any]:
    """The chance that one of `high` is above one of `low`, with DeLong's interval.

    Raises:
        ValueError: one of the two is empty.
    """
    a, b = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    if not len(a) or not len(b):
        raise ValueError(f"found {len(a)} of one kind and {len(b)} of the other, expected some of both")
    both = ranks(np.concatenate([a, b]))
    above = (both[len(a) :] - ranks(b)) / len(a)  # of each of `high`, the share of `low` below it
    below = 1 - (both[: len(a)] - ranks(a)) / len(b)
    value = float(above.mean())
    parts = [v.var(ddof=1) / len(v) for v in (above, below) if len(v) > 1]
    error = math.sqrt(sum(parts))
    return {
        "auroc": value, "low": max(0.0, value - Z * error), "high": min(1.0, value + Z * error), "n_low": len(a),
        "n_high": len(b),
    }  # fmt: skip


def reliability(right: ArrayLike, sure: ArrayLike, bins: int = 12) -> list[dict[str, Any]]:
    """Bins of equal mass, the least sure first: mean confidence beside accuracy and its Wilson interval."""
    y, p = np.asarray(right, dtype=float), np.asarray(sure, dtype=float)
    table = []
    for index in np.array_split(np.argsort(p, kind="stable"), min(bins, len(p))):
        hits, n = float(y[index].sum()), len(index)
        low, high = wilson(hits, n)
        table.append({
            "n": n, "confidence": float(p[index].mean()), "accuracy": hits / n, "low": low, "high": high,
        })  # fmt: skip
    return table


def calibration_error(right: ArrayLike, sure: ArrayLike, bins: int = 12) -> float:
    """Mean distance of confidence and accuracy over bins of equal mass."""
    table = reliability(right, sure, bins)
    return sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in table) / max(1, sum(b["n"] for b in table))


def calibration(right: ArrayLike, sure: ArrayLike, bins: int = 12, seed: int = 0) -> dict[str, Any]:
    """Everything about probabilities of being right: calibration error, Brier score, AUROC, bins, risk by coverage.

    Raises:
        ValueError: no answers, or as many probabilities as answers are not there.
    """
    y, p = np.asarray(right, dtype=float), np.asarray(sure, dtype=float)
    if not len(y) or len(y) != len(p):
        raise ValueError(f"found {len(y)} answers and {len(p)} probabilities, expected as many of both, and some")
    rng = np.random.default_rng(seed)
    errors, briers, perfect = [], [], []
    for _ in range(ROUNDS):
        i = rng.integers(len(y), size=len(y))
        errors.append(calibration_error(y[i], p[i], bins))
        briers.append(float(((p[i] - y[i]) ** 2).mean()))
        perfect.append(calibration_error(rng.random(len(p)) < p, p, bins))
    spread = lambda values: dict(zip(("low", "high"), np.quantile(values, (0.025, 0.975)).tolist(), strict=True))  # noqa: E731
    low, high = wilson(float(y.sum()), len(y))
    order = np.argsort(-p, kind="stable")
    wrong = 1 - y[order]
    covered = np.arange(1, len(y) + 1)
    risk = wrong.cumsum() / covered
    return {
        "n": len(y),
        "accuracy": {"mean": float(y.mean()), "low": low, "high": high},
        "confidence": float(p.mean()),
        "ece": {"mean": calibration_error(y, p, bins), **spread(errors), "expected": float(np.mean(perfect))},
        "brier": {"mean": float(((p - y) ** 2).mean()), **spread(briers), "constant": float(y.mean() * (1 - y.mean()))},
        "auroc": auroc(p[y == 0], p[y == 1]) if 0 < y.sum() < len(y) else None,
        "bins": reliability(right, sure, bins),
        "risk_coverage": [
            {"coverage": c, "risk": float(risk[max(0, math.ceil(c * len(y)) - 1)])} for c in np.arange(1, 21) / 20
        ],
        "aurc": float(risk.mean()),
    }  # fmt: skip
