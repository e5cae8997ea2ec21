"""Connectors that keep every image token: the linear map of Llama 3.2 and the MLP of LLaVA.

Shapes: B batch, I pictures, L tiles, N tokens per tile, C encoder dim, D text dim, S image tokens kept.
"""

import torch
from torch import Tensor, nn


def pack_tiles(x: Tensor, n_tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Lay the real tiles of each row one after another and drop padded ones, so text never pays for padding.

    x (B, I, L, N, C), n_tiles (B, I) -> states (B, S, C) zero-padded at the end, lengths (B, I) in image tokens.
    """
    n_slots, n_tokens = x.shape[2], x.shape[3]
    real = torch.arange(n_slots, device=x.device) < n_tiles[..., None]  # (B, I, L)
    lengths = n_tiles * n_tokens
    total = n_tiles.sum(1)  # (B,)
    width = int(total.max()) if total.numel() else 0
    packed = x.new_zeros(x.shape[0], width, *x.shape[3:])  # (B, tiles, N, C)
    packed[torch.arange(width, device=x.device) < total[:, None]] = x[real]
    return packed.flatten(1, 2), lengths


class Linear(nn.Module):
    """The projector of Llama 3.2 Vision: one linear map with a bias, no norm behind it."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.proj = nn.Linear(in_dim, dim)

    def forward(self, features: Tensor, n_tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, I, L, N, C) -> image states (B, S, D) of the real tiles and their lengths (B, I)."""
        packed, lengths = pack_tiles(features, n_tiles)
        return self.proj(packed), lengths
