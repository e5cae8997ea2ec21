"""Pieces that several modules are built from; torch only, so anyone may import it.

Shapes: B batch, T tokens, S tokens of the context, H heads, Dh head_dim, D dim (of heads: H * Dh).
"""

from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """Give attention its layout: (B, T, H * Dh) -> (B, H, T, Dh)."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: (B, H, T, Dh) -> (B, T, H * Dh)."""
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Attention of queries to a context, without positions: its tokens may stand in any order."""

    def __init__(self, dim: int, context_dim: int, n_heads: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(context_dim, n_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(context_dim, n_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) reads context (B, S, C) where mask, bool and broadcast to (B, H, T, S), is True."""
        q, k, v = (
            split_heads(h, self.head_dim)  # (B, H, T or S, Dh)
            for h in (self.q_proj(x), self.k_proj(context), self.v_proj(context))
        )
        return self.o_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class SwiGLU(nn.Module):
    """The gated feed-forward layer of LLaMA (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
