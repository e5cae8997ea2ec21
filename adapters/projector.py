"""Connectors that keep every image token: the linear map of Llama 3.2 and the MLP of LLaVA.

Shapes: B batch, I pictures, L tiles, N tokens per tile, C encoder dim, D text dim, S image tokens kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.pictures import Positions, lay_in_rows


def pack_tiles(x: Tensor, n_tiles: Tensor, project: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Lay the real tiles of each row one after another and drop padded ones, so text never pays for padding.

    x (B, I, L, N, C), n_tiles (B, I) -> states (B, S, C) zero-padded at the end, lengths (B, I) in image tokens;
    `project` maps the real tiles (tiles, N, C) to another dim on the way.
    """
    real = torch.arange(x.shape[2], device=x.device) < n_tiles[..., None]  # (B, I, L)
    tiles = x[real]  # (tiles, N, C)
    return lay_in_rows(project(tiles) if project else tiles, n_tiles.sum(1)), n_tiles * x.shape[3]


class Linear(nn.Module):
    """The projector of Llama 3.2 Vision: one linear map with a bias, no norm behind it."""

    def __init__(self, in_dim: int, dim: int, *, positions: Positions | None = None):
        super().__init__()
        self.proj = nn.Linear(in_dim, dim)
        self.positions = positions

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, I, L, N, C), grid (B, I, 2) -> image states (B, S, D) of the real tiles, lengths (B, I)."""
        if self.positions is not None:
            features = self.positions(features, grid)
        return pack_tiles(features, grid.prod(-1), self.proj)


class MLP(nn.Module):
    """The projector of LLaVA 1.5, two linear maps with a GELU between (Liu et al. 2023, "Improved Baselines").

    Args:
        hidden_dim: between the two maps; as many as the text has by default, as in LLaVA.
    """

    def __init__(self, in_dim: int, dim: int, *, hidden_dim: int | None = None, positions: Positions | None = None):
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden_dim or dim)
        self.fc2 = nn.Linear(hidden_dim or dim, dim)
        self.positions = positions

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, I, L, N, C), grid (B, I, 2) -> image states (B, S, D) of the real tiles, lengths (B, I)."""
        if self.positions is not None:
            features = self.positions(features, grid)
        return pack_tiles(features, grid.prod(-1), lambda x: self.fc2(F.gelu(self.fc1(x))))
