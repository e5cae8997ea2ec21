"""What all connectors do with the pictures of a batch: place them, take them out of their slots, lay them in rows.

Shapes: B batch, I pictures, L tiles, N tokens per tile, C encoder dim, P real pictures of the whole batch,
T = L * N tokens per picture, K items, M tokens per item, D any dim.
"""

import torch
from torch import Tensor, nn


class Positions(nn.Module):
    """Learned embeddings of a tile's row and column in its picture and of a picture's number in its row of the batch.

    For encoders that see every tile alone: without them 1 x 2 and 2 x 1 tiles look alike. All start at zero, so adding
    them to a trained model changes nothing at first. Slots without a picture do not count; pictures past `max_images`
    share the embedding of the last number.
    """

    def __init__(self, dim: int, max_tiles: int, max_images: int):
        super().__init__()
        self.row_embedding = nn.Parameter(torch.zeros(max_tiles, dim))
        self.column_embedding = nn.Parameter(torch.zeros(max_tiles, dim))
        self.picture_embedding = nn.Parameter(torch.zeros(max_images, dim))

    def forward(self, features: Tensor, grid: Tensor) -> Tensor:
        """Features (B, I, L, N, C), rows and columns of tiles (B, I, 2) -> features that know their place."""
        slots, max_tiles = features.shape[2], len(self.row_embedding)
        if slots > max_tiles:
            raise ValueError(f"found pictures of {slots} tiles, expected at most the connector's max_tiles={max_tiles}")
        number = (grid.prod(-1) > 0).cumsum(1) - 1  # (B, I)
        picture = self.picture_embedding[number.clamp(0, len(self.picture_embedding) - 1)]  # (B, I, C)
        tile, columns = torch.arange(slots, device=grid.device), grid[..., 1:].clamp(min=1)  # (L,), (B, I, 1)
        place = self.row_embedding[tile // columns] + self.column_embedding[tile % columns]  # (B, I, L, C)
        return features + (place + picture[:, :, None])[:, :, :, None]


def picture_tokens(features: Tensor, n_tiles: Tensor) -> tuple[Tensor, Tensor | None]:
    """Make each real picture a sequence of its own, so that a fixed number of queries can read it.

    Features (B, I, L, N, C), n_tiles (B, I) -> tokens (P, T, C), zero where padded, and the bool mask (P, 1, 1, T) of
    real ones; None where no picture is padded.
    """
    real = n_tiles > 0
    counts, x = n_tiles[real], features[real]  # (P,), (P, L, N, C)
    if counts.numel():
        x = x[:, : int(counts.max())]
    padded = torch.arange(x.shape[1], device=x.device) >= counts[:, None]  # (P, L)
    if not padded.any():
        return x.flatten(1, 2), None
    x = x.masked_fill(padded[..., None, None], 0)
    return x.flatten(1, 2), ~padded.repeat_interleave(x.shape[2], dim=1)[:, None, None]


def lay_in_rows(items: Tensor, counts: Tensor) -> Tensor:
    """Deal items (K, M, D), in the order of the batch, to rows that hold counts (B,) of them: (B, S, D), zeros last."""
    width = int(counts.max()) if counts.numel() else 0
    rows = items.new_zeros(len(counts), width, *items.shape[1:])  # (B, items, M, D)
    rows[torch.arange(width, device=items.device) < counts[:, None]] = items
    return rows.flatten(1, 2)
