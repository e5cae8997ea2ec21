"""How likely an answer is right, from how likely the model found its words: logistic calibration after Platt (1999).

Notable here:
- What goes in costs nothing: the log-probabilities of the tokens, which the engine brings along with them.
- Three features: the log-odds of the whole answer, the log-odds of its weakest token, and the logarithm of its length.
  The first two never count against an answer, so a likelier token never lowers its confidence.
- Where the fit has seen no such answer (one that was cut off, or longer than all of them), confidence is None.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEATURES = ("answer", "weakest token", "length")
SURE = 1e-5  # log-probabilities nearer to 0 are rounding
RIDGE = 1e-3  # of the mean squared weight: keeps a perfect model's weights finite
Logprobs = Sequence[float]  # of an answer's tokens, its end-of-turn included, in nats


def log_odds(logprob: float) -> float:
    """log p / (1 - p) of p = exp(logprob)."""
    logprob = min(logprob, -SURE)
    return logprob - math.log(-math.expm1(logprob))


def features(logprobs: Logprobs) -> tuple[float, float, float]:
    """FEATURES of one answer."""
    return log_odds(sum(logprobs)), log_odds(min(logprobs)), math.log(len(logprobs))


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Log-probabilities of an answer's tokens -> probability that the answer is right.

    Attributes:
        weights: of FEATURES.
        longest: answer of the fit, in tokens.
    """

    weights: tuple[float, float, float]
    bias: float
    longest: int

    def __call__(self, logprobs: Logprobs) -> float | None:
        """The confidence, None where the fit says nothing about such an answer."""
        if not 0 < len(logprobs) <= self.longest:
            return None
        z = self.bias + sum(w * x for w, x in zip(self.weights, features(logprobs), strict=True))
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0

    @classmethod
    def fit(cls, answers: Sequence[Logprobs], right: Sequence[bool]) -> "Confidence":
        """Logistic regression by Newton's method; a weight that would come out negative is left out.

        Raises:
            ValueError: fewer than 100 answers, or all of them right, or all wrong: nothing can be learnt from those.
        """
        if len(answers) < 100 or len(set(map(bool, right))) < 2:
            raise ValueError(
                f"found {len(answers)} answers of which {sum(right)} are right, expected 100 or more of both kinds; "
                "calibrate on more questions, or on worlds that the model knows in part"
            )
        x = np.array([features(a) for a in answers])
        y = np.array(right, dtype=float)
        used = [0, 1, 2]
        while True:
            weights, bias = _logistic(x[:, used], y)
            negative = [i for i, w in zip(used, weights, strict=True) if i < 2 and w < 0]
            if not negative:
                break
            used.remove(min(negative, key=lambda i: weights[used.index(i)]))
        found = dict(zip(used, weights.tolist(), strict=True))
        return cls(
            weights=(found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0)), bias=float(bias),
            longest=max(map(len, answers)),
        )  # fmt: skip


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (F,) and bias of the likeliest logistic model of y (n,) by x (n, F), with a small ridge."""
    mean, std = x.mean(0), x.std(0) + 1e-9
    a = np.column_stack([(x - mean) / std, np.ones(len(x))])
    ridge = RIDGE * len(x) * np.diag([*[1.0] * x.shape[1], 0.0])
    w = np.zeros(a.shape[1])

    def loss(w: np.ndarray) -> float:
        z = a @ w
        return float((np.logaddexp(0, z) - y * z).sum() + 0.5 * w @ ridge @ w)

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (a @ w)))  # the logistic function, without overflow
        gradient = a.T @ (p - y) + ridge @ w
        step = np.linalg.solve(a.T @ (a * (p * (1 - p))[:, None]) + ridge + 1e-9 * np.eye(len(w)), gradient)
        size = 1.0
        while size > 1e-6 and loss(w - size * step) > loss(w):
            size /= 2
        w = w - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return w[:-1] / std, float(w[-1] - (w[:-1] * mean / std).sum())
