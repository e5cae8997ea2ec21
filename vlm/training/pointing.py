"""Labels of where answers are read, and a loss that has some heads of cross-attention look there.

Who spells a printed word goes from letter to letter, who says what is left of the star looks for the star first; from
the answers alone a model must find out that it should. So the characters of an answer are looked up among those that
were drawn, other answers know their places from their world, and attention is taught as a classifier of places: one
head of each layer but the first looks at what comes next, one of each layer but the last at what was just said or is
looked for first, so that a later layer can go on from there. It is scaffolding without weights of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.cross_attention import KeyValue
from vlm.chat import IGNORE
from vlm.data.sample import Box, Question, Sample, Thing
from vlm.image import Grid, fit_size
from vlm.training.labels import reading_order
from vlm.training.packing import Looks

PRINTED = ("read", "text retrieval", "document retrieval", "chart structure", "chart retrieval")
"""Families of questions whose answers, where they are not yes or no, stand in the picture."""

Places = list[tuple[int, Thing]]  # (its place in its word, a character), in reading order


def written(drawn: Sample) -> Places:
    """The characters of the first picture that belong to words."""
    things = [t for t in drawn.things if not t.picture]
    order = reading_order(things)
    return [(order[id(t)][0], t) for t in things if id(t) in order]


def spelled_from(pieces: Sequence[str], places: Places) -> list[Thing | None]:
    """The first character that each piece of an answer is read from; all None where it stands nowhere or twice.

    Args:
        pieces: of the answer, one a token. Only letters and digits are looked up; whole words are found alone.
    """
    found: list[Thing | None] = [None] * len(pieces)
    marked = [(i, c) for i, piece in enumerate(pieces) for c in piece if c.isascii() and c.isalnum()]
    wanted, there = "".join(c for _, c in marked), "".join(t.what[-1] for _, t in places)
    if len(wanted) < 2 or wanted in ("yes", "no"):
        return found
    begins = [
        k for k in range(len(there) - len(wanted) + 1) if there.startswith(wanted, k) and _alone(places, k, wanted)
    ]
    if len(begins) == 1:
        for k, (i, _) in reversed(list(enumerate(marked, begins[0]))):
            found[i] = places[k][1]
    return found


def _alone(places: Places, begin: int, wanted: str) -> bool:
    end = begin + len(wanted)
    return places[begin][0] == 1 and (end == len(places) or places[end][0] == 1)


class Canvas:
    """Which image token shows a place of a picture of this size, cut into this grid of tiles.

    Args:
        patches: along the side of a tile of `tile_size` pixels.
        n_tokens: of a tile, its patches last.
    """

    def __init__(self, size: tuple[int, int], grid: Grid, tile_size: int, patches: int, n_tokens: int):
        high, wide = fit_size(size[1], size[0], grid, tile_size)
        self.scale = wide / size[0] * patches / tile_size, high / size[1] * patches / tile_size  # pixels -> patches
        self.grid, self.patches, self.n_tokens = grid, patches, n_tokens

    def token(self, box: Box | None) -> int:
        """Number of the image token that the middle of a box falls into; IGNORE without one."""
        if box is None:
            return IGNORE
        x0, y0, x1, y1 = box
        col, row = (
            min(int((a + b) / 2 * s), n * self.patches - 1)
            for a, b, s, n in zip((x0, y0), (x1, y1), self.scale, (self.grid[1], self.grid[0]), strict=True)
        )
        tile = row // self.patches * self.grid[1] + col // self.patches
        within = row % self.patches * self.patches + col % self.patches
        return tile * self.n_tokens + self.n_tokens - self.patches**2 + within


def looks(question: Question, pieces: Sequence[str], places: Places | None, canvas: Canvas) -> Looks:
    """(what comes next, what was just said or is looked for first) as image tokens, before each piece of an answer.

    Args:
        pieces: of the answer, one a token.
        places: characters that it may be spelled from; None where answers are not spelled.
    """
    next_, last = [IGNORE] * len(pieces), [IGNORE] * len(pieces)
    if places is not None and question.family in PRINTED:
        next_ = [canvas.token(t.box if t else None) for t in spelled_from(pieces, places)]
        last[1:] = next_[:-1]
    if all(token == IGNORE for token in next_):
        next_[0] = canvas.token(question.place)
    last[0] = canvas.token(question.anchor)
    return list(zip(next_, last, strict=True))


class Pointing:
    """Watches the queries of a decoder's cross-attention and says how far its heads look away.

    Args:
        blocks: gated cross-attention by layer, in order.
    """

    def __init__(self, blocks: dict[int, nn.Module]):
        self.layers = list(blocks)
        self._queries: dict[int, Tensor] = {}
        for i, block in blocks.items():
            block.attn.q_norm.register_forward_hook(  # type: ignore[union-attr]
                lambda _, __, out, i=i: self._queries.__setitem__(i, out)
            )

    def loss(self, image: dict[int, KeyValue], points: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean cross-entropy of attention and the share that looks right; None where nothing is spelled.

        Args:
            image: keys and values that the last pass read, by layer.
            points: (B, T, 2) image tokens of `looks` for each text token, IGNORE where there is none.
        """
        queries, self._queries = self._queries, {}
        losses, right = [], []
        for targets, layers, head in zip(points.unbind(-1), (self.layers[1:], self.layers[:-1]), (0, -1), strict=True):
            chosen = targets != IGNORE
            if not chosen.any():
                continue
            for i in layers:
                query, key = queries[i][:, head], image[i].key[:, head]  # (B, T, Dh), (B, S, Dh)
                shares = (query @ key.transpose(1, 2))[chosen].float() / math.sqrt(key.shape[-1])  # (P, S)
                losses.append(F.cross_entropy(shares, targets[chosen]))
                right.append((shares.argmax(-1) == targets[chosen]).float().mean())
        return (torch.stack(losses).mean(), torch.stack(right).mean()) if losses else None
