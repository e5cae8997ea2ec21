"""Gated cross-attention: how text sees pictures without a single image token in its own sequence.

Notable here:
- A text row that may see no picture gets nothing: neither cross-attention output nor gated FFN output.
- Keys and values of pictures are an argument (`KeyValue`), computed once per picture by the caller.
- Several text rows may share one picture: with R text rows and B pictures rows, R = B * Q, the Q rows of a picture
  stand side by side as queries (cross-attention has no positions), so keys and values are never copied.
- Both gates are tanh of a scalar that starts at zero: the block is the identity until it is trained
  (Flamingo, Alayrac et al. 2022, section 2.3; Llama 3, Grattafiori et al. 2024, section 7).

Shapes: R text rows, B picture rows, T text tokens, S image tokens, H heads, Hkv key/value heads, Dh head_dim, D dim.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.layers import SwiGLU, merge_heads, split_heads


class KeyValue(NamedTuple):
    """What one cross-attention layer reads of the pictures."""

    key: Tensor  # (B, Hkv, S, Dh)
    value: Tensor  # (B, Hkv, S, Dh)


class ImageMask(NamedTuple):
    """Which text token sees which image tokens, built once per forward pass and shared by all layers."""

    visible: Tensor  # (R, T, 1), 1.0 where the token sees any image token
    attend: Tensor | None  # (B, 1, Q * T, S) bool, True where attended; None when every visible token sees all

    @classmethod
    def from_intervals(
        cls, intervals: Tensor, n_image_tokens: int, picture_rows: int, dtype: torch.dtype
    ) -> "ImageMask":
        """Expand half-open intervals [start, end) of image tokens per text token, (R, T, 2), to masks.

        A token that sees nothing has start == end. Such rows attend to everything, so that softmax stays finite,
        and are multiplied by zero afterwards, as in Meta's code.
        """
        start, end = intervals.unbind(-1)  # (R, T)
        visible = end > start
        is_all = (start == 0) & (end == n_image_tokens)
        attend = None
        if intervals.device.type != "cpu" or not bool((is_all | ~visible).all()):  # no device sync on a GPU
            position = torch.arange(n_image_tokens, device=intervals.device)
            attend = (position >= start[..., None]) & (position < end[..., None]) | ~visible[..., None]  # (R, T, S)
            attend = attend.reshape(picture_rows, 1, -1, n_image_tokens)
        return cls(visible[..., None].to(dtype), attend)


class CrossAttention(nn.Module):
    """Grouped-query attention from text to pictures, with per-head RMSNorm on queries and keys and no positions."""

    def __init__(self, dim: int, n_heads: int, n_kv_heads: int, head_dim: int, norm_eps: float = 1e-5):
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, dim, bias=False)
        self.q_norm = nn.RMSNorm(head_dim, eps=norm_eps)
        self.k_norm = nn.RMSNorm(head_dim, eps=norm_eps)

    def keys_values(self, states: Tensor) -> KeyValue:
        """Project image states (B, S, D) once; every text token of every question reads the result."""
        key = self.k_norm(split_heads(self.k_proj(states), self.head_dim))  # (B, Hkv, S, Dh)
        return KeyValue(key, split_heads(self.v_proj(states), self.head_dim))

    def forward(self, x: Tensor, image: KeyValue, mask: ImageMask) -> Tensor:
        """Attend from text x (R, T, D) to the pictures; rows that see none come back as zero."""
        rows, tokens, _ = x.shape
        query = self.q_proj(x).reshape(image.key.shape[0], -1, self.q_proj.out_features)  # (B, Q * T, H * Dh)
        query = self.q_norm(split_heads(query, self.head_dim))  # (B, H, Q * T, Dh)
        out = F.scaled_dot_product_attention(query, *image, attn_mask=mask.attend, enable_gqa=True)
        out = merge_heads(out).reshape(rows, tokens, -1)
        return self.o_proj(out * mask.visible)


class GatedCrossAttention(nn.Module):
    """One cross-attention block, standing before the Llama layer that it feeds.

    x = x + tanh(attn_gate) * attn(attn_norm(x), image)
    x = x + tanh(ffn_gate)  * ffn(ffn_norm(x))            where the row sees a picture
    """

    def __init__(
        self, dim: int, n_heads: int, n_kv_heads: int, head_dim: int, hidden_dim: int,
        norm_eps: float = 1e-5, gate_init: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.attn_norm = nn.RMSNorm(dim, eps=norm_eps)
        self.attn = CrossAttention(dim, n_heads, n_kv_heads, head_dim, norm_eps)
        self.attn_gate = nn.Parameter(torch.full((1,), gate_init))
        self.ffn_norm = nn.RMSNorm(dim, eps=norm_eps)
        self.ffn = SwiGLU(dim, hidden_dim)
        self.ffn_gate = nn.Parameter(torch.full((1,), gate_init))

    def forward(self, x: Tensor, image: KeyValue, mask: ImageMask) -> Tensor:
        x = x + self.attn_gate.tanh() * self.attn(self.attn_norm(x), image, mask)
        return x + self.ffn_gate.tanh() * mask.visible * self.ffn(self.ffn_norm(x))
