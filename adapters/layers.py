"""Pieces that several modules are built from; torch only, so anyone may import it.

Shapes: B batch, T tokens, H heads, Dh head_dim, D = H * Dh.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """Give attention its layout: (B, T, H * Dh) -> (B, H, T, Dh)."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: (B, H, T, Dh) -> (B, T, H * Dh)."""
    return x.transpose(1, 2).flatten(2)


class SwiGLU(nn.Module):
    """The gated feed-forward layer of LLaMA (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
