"""The Q-Former of BLIP-2: learned queries talk to each other in every layer and to the picture in every second one.

Notable here:
- Its image half only: the text half of BLIP-2 serves its contrastive pre-training, and here the decoder has the text.
- Norms stand before the layers and the FFN is the decoder's SwiGLU, as it starts from nothing and not from BERT.

Shapes: B batch, I pictures, L tiles, N tokens per tile, C encoder dim, P real pictures, T = L * N tokens per picture,
M queries, W width, D text dim, S image tokens kept.
"""

import torch
from torch import Tensor, nn

from adapters.layers import Attention, SwiGLU
from adapters.pictures import Positions, lay_in_rows, picture_tokens


class QFormerLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the picture where the layer has it, FFN; all residual."""

    def __init__(self, width: int, features_dim: int | None, n_heads: int, head_dim: int, hidden_dim: int):
        super().__init__()
        self.attn_norm = nn.LayerNorm(width)
        self.attn = Attention(width, width, n_heads, head_dim)
        if features_dim is not None:
            self.cross_attn_norm = nn.LayerNorm(width)
            self.cross_attn = Attention(width, features_dim, n_heads, head_dim)
        self.has_cross_attn = features_dim is not None
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = SwiGLU(width, hidden_dim)

    def forward(self, x: Tensor, features: Tensor, mask: Tensor | None) -> Tensor:
        queries = self.attn_norm(x)  # (P, M, W)
        x = x + self.attn(queries, queries)
        if self.has_cross_attn:
            x = x + self.cross_attn(self.cross_attn_norm(x), features, mask)
        return x + self.ffn(self.ffn_norm(x))


class QFormer(nn.Module):
    """Queries that ask a picture, and a linear map of the answers (Li et al. 2023, section 3.1).

    Args:
        n_latents: queries, the tokens per picture.
        n_layers: half of BLIP-2's by default, whose twelve come trained from BERT.
        cross_attention_every: the first layer reads the picture, and every n-th after it.
        width: dim of the queries, min(in_dim, dim, 768) by default.
        head_dim, n_heads: of both attentions; as many heads as fit the width by default.
        hidden_dim: of the FFN, 8/3 of the width by default.
    """

    def __init__(
        self, in_dim: int, dim: int, *, n_latents: int = 32, n_layers: int = 6, cross_attention_every: int = 2,
        width: int | None = None, head_dim: int = 64, n_heads: int | None = None, hidden_dim: int | None = None,
        positions: Positions | None = None,
    ):  # fmt: skip
        super().__init__()
        width = width or min(in_dim, dim, 768)
        n_heads, hidden_dim = n_heads or max(1, width // head_dim), hidden_dim or 8 * width // 3
        self.features_norm = nn.LayerNorm(in_dim)
        self.query_embedding = nn.Parameter(torch.empty(n_latents, width).normal_())
        self.layers = nn.ModuleList(
            QFormerLayer(width, None if i % cross_attention_every else in_dim, n_heads, head_dim, hidden_dim)
            for i in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, dim)
        self.positions = positions

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, I, L, N, C), grid (B, I, 2) -> image states (B, S, D), M per real picture, lengths (B, I)."""
        if self.positions is not None:
            features = self.positions(features, grid)
        n_tiles = grid.prod(-1)  # (B, I)
        tokens, mask = picture_tokens(features, n_tiles)  # (P, T, C)
        tokens = self.features_norm(tokens)
        x = self.query_embedding.expand(len(tokens), -1, -1)  # (P, M, W)
        for layer in self.layers:
            x = layer(x, tokens, mask)
        real = n_tiles > 0
        return lay_in_rows(self.proj(self.norm(x)), real.sum(1)), real * len(self.query_embedding)
