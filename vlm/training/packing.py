"""Packing: all conversations about a picture, or about several together, stand side by side in one text row.

- What they begin with alike (headers and the image tokens) is laid down once, as segment 0; each conversation then goes
  on as a segment of its own, at the positions that it would have alone.
- A token attends to earlier tokens of its own segment and of segment 0, so the loss is that of the conversations one
  by one, without their padding: about half the tokens of a padded batch of short questions.

Shapes: B pictures, T packed tokens.
"""

from dataclasses import dataclass, fields
from os.path import commonprefix

import numpy as np
import torch
from torch import Tensor

from vlm.chat import IGNORE, Prompt

MULTIPLE = 16  # widths are rounded up to it, so that compiled code meets few shapes
PADDING = -1  # the segment of what fills a row up
NOWHERE = (IGNORE, IGNORE)

Looks = list[tuple[int, int]]  # for each token of a prompt


@dataclass
class Rows:
    """Packed rows, one per picture or group of pictures."""

    tokens: Tensor  # (B, T)
    labels: Tensor  # (B, T), already shifted: the token that follows, IGNORE where the assistant does not speak
    sees: Tensor  # (B, T, 2)
    positions: Tensor  # (B, T)
    segments: Tensor  # (B, T): 0 shared, 1, 2, ... conversations, PADDING
    captions: Tensor  # (B, T) bool, tokens of conversations that describe the picture
    points: Tensor  # (B, T, 2) image tokens that a token should look at, IGNORE where there are none

    def to(self, device: torch.device) -> "Rows":
        return Rows(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def mask(self) -> Tensor:
        """Which tokens each token attends to, (B, 1, T, T) bool; padding attends to padding, so no row is empty."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        same = (query == key) | (key == 0) & (query != PADDING)
        causal = torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril()
        return (same & causal)[:, None]


def pack(
    conversations: list[list[Prompt]], pad_id: int, captions: list[set[int]] | None = None,
    points: list[list[Looks]] | None = None,
) -> Rows:  # fmt: skip
    """Lay the conversations of each picture in a row.

    Args:
        conversations: for each picture, or group of pictures, its prompts, all with these pictures.
        captions: for each picture the numbers of the prompts that are captions; none where absent.
        points: for each prompt and token the image tokens that it should look at or IGNORE; nothing where absent.
    """
    rows = [
        _row(
            prompts, captions[i] if captions else set(),
            points[i] if points else [[NOWHERE] * len(p.tokens) for p in prompts],
        )
        for i, prompts in enumerate(conversations)
    ]  # fmt: skip
    width = -(-max(len(row[0]) for row in rows) // MULTIPLE) * MULTIPLE
    filling = (pad_id, IGNORE, (0, 0), 0, PADDING, False, NOWHERE)
    columns = zip(*rows, strict=True)
    arrays = [
        np.array([[*values, *[fill] * (width - len(values))] for values in column])
        for column, fill in zip(columns, filling, strict=True)
    ]
    return Rows(*map(torch.from_numpy, arrays))


def _row(prompts: list[Prompt], captions: set[int], points: list[Looks]) -> tuple[list, ...]:
    """One picture's conversations as the columns of `Rows`, unpadded."""
    spoken = min(next(i for i, label in enumerate(p.labels) if label != IGNORE) for p in prompts)
    shared = min(len(commonprefix([p.tokens for p in prompts])), spoken - 1)  # the last shared token teaches nothing
    first = prompts[0]
    tokens, sees, positions = list(first.tokens[:shared]), list(first.sees[:shared]), list(range(shared))
    labels, segments, described = [IGNORE] * shared, [0] * shared, [False] * shared
    pointed = [NOWHERE] * shared
    for number, (p, of_tokens) in enumerate(zip(prompts, points, strict=True)):
        n = len(p.tokens) - shared
        tokens += p.tokens[shared:]
        labels += [*p.labels[shared + 1 :], IGNORE]
        sees += p.sees[shared:]
        positions += range(shared, len(p.tokens))
        segments += [number + 1] * n
        described += [number in captions] * n
        pointed += of_tokens[shared:]
    return tokens, labels, sees, positions, segments, described, pointed
