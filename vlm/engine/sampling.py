"""From logits to tokens: greedy, or temperature with top-k and top-p (Holtzman et al. 2020), each row by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm.engine.constraints import Constraint


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one answer is chosen.

    Args:
        max_new_tokens: at most, the stop token included.
        temperature: 0 is greedy.
        top_p, top_k: keep the likeliest tokens up to this share, or this many (0: all).
        seed: of this answer's own random numbers, so that it does not depend on who shares the batch.
        lookup: tokens guessed ahead from the text so far and checked in one pass (Saxena 2023, prompt lookup
            decoding); greedy only, where it changes nothing but the speed.
        constraint: what the answer must match, from `vlm.engine.regex` or `json_schema`; log-probabilities stay those
            of the model without it.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    lookup: int = 0
    constraint: Constraint | None = None

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: found {self.max_new_tokens}, expected at least 1")
        if not self.temperature >= 0:
            raise ValueError(f"temperature: found {self.temperature}, expected 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: found {self.top_p}, expected a share above 0 and up to 1")
        if self.top_k < 0:
            raise ValueError(f"top_k: found {self.top_k}, expected 0 (all) or more")
        if self.lookup < 0 or self.lookup and self.temperature:
            raise ValueError(f"lookup: found {self.lookup}, expected 0 or more, and 0 where temperature is not 0")
        if self.lookup and self.constraint:
            raise ValueError(
                f"lookup: found {self.lookup} with a constraint, expected 0; guesses are not checked against it"
            )


def choose(logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator | None]) -> Tensor:
    """Logits (R, V) -> tokens (R,), without leaving the device."""
    tokens = logits.argmax(-1)
    warm = [i for i, s in enumerate(samplings) if s.temperature > 0]
    if not warm:
        return tokens
    settings = [samplings[i] for i in warm]
    column = lambda values: torch.tensor(values, device=logits.device)[:, None]  # noqa: E731
    logits = logits[warm].float() / column([s.temperature for s in settings])
    ordered, index = logits.sort(descending=True, dim=-1)
    if any(s.top_k for s in settings):
        kept = column([s.top_k or logits.shape[-1] for s in settings])
        ordered = ordered.masked_fill(torch.arange(logits.shape[-1], device=logits.device) >= kept, -torch.inf)
    probabilities = ordered.softmax(-1)
    if any(s.top_p < 1 for s in settings):
        before = probabilities.cumsum(-1) - probabilities
        outside = before >= column([s.top_p for s in settings])
        outside[:, 0] = False  # the first is always kept
        probabilities = probabilities.masked_fill(outside, 0)
    noise = torch.empty_like(probabilities)
    for row, i in enumerate(warm):
        noise[row].exponential_(generator=generators[i])
    drawn = (probabilities / noise).argmax(-1, keepdim=True)  # the exponential race: a draw by these probabilities
    tokens[warm] = index.gather(-1, drawn)[:, 0]
    return tokens


def generator(sampling: Sampling, device: torch.device) -> torch.Generator | None:
    """The random numbers of one answer; none where it is greedy."""
    if sampling.temperature == 0:
        return None
    own = torch.Generator(device)
    if sampling.seed is None:
        own.seed()
    else:
        own.manual_seed(sampling.seed)
    return own


def guess(tokens: list[int], n: int, longest: int = 3) -> list[int]:
    """What followed the last few tokens when they last stood in the text, up to n tokens; nothing if they did not."""
    for size in range(min(longest, len(tokens) - 1), 0, -1):
        end = tokens[-size:]
        for i in range(len(tokens) - size - 1, -1, -1):
            if tokens[i : i + size] == end:
                return tokens[i + size : i + size + n]
    return []
