"""From logits to a token: greedy, or temperature with top-k and top-p (Holtzman et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    seed: int | None = None

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: found {self.max_new_tokens}, expected at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature: found {self.temperature}, expected 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: found {self.top_p}, expected a share above 0 and up to 1")
        if self.top_k < 0:
            raise ValueError(f"top_k: found {self.top_k}, expected 0 (all) or more")


def choose(logits: Tensor, sampling: Sampling, generators: list[torch.Generator | None]) -> Tensor:
    """Logits (R, V) -> tokens (R,); each row draws from its own generator, so batches do not mix randomness."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[:, -1:], -torch.inf)
    probabilities = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, index = probabilities.sort(descending=True, dim=-1)
        ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0)  # the first is always kept
        probabilities = torch.zeros_like(probabilities).scatter(-1, index, ordered)
    draws = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(draws)
