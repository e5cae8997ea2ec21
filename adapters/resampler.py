"""The Perceiver resampler of Flamingo: any number of tiles in, a fixed number of tokens per picture out.

Notable here:
- Keys and values are the features followed by the latents themselves (Alayrac et al. 2022, section 3.1.1 and
  appendix A.1.1), so one attention does the work of cross- and self-attention.
- Each picture is resampled by itself, where Flamingo gives all frames of a video one set of latents: text tokens
  see some pictures of a row and not others.
- The layers have a width of their own, and the FFN is the decoder's SwiGLU in place of a squared ReLU.

Shapes: B batch, I pictures, L tiles, N tokens per tile, C encoder dim, P real pictures, T = L * N tokens per picture,
M latents, W width, D text dim, S image tokens kept.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.layers import Attention, SwiGLU
from adapters.pictures import Positions, lay_in_rows, picture_tokens


class PerceiverLayer(nn.Module):
    """x = x + attn(attn_norm(x), [features_norm(features), attn_norm(x)]);  x = x + ffn(ffn_norm(x))."""

    def __init__(self, width: int, n_heads: int, head_dim: int, hidden_dim: int):
        super().__init__()
        self.features_norm, self.attn_norm, self.ffn_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attn = Attention(width, width, n_heads, head_dim)
        self.ffn = SwiGLU(width, hidden_dim)

    def forward(self, x: Tensor, features: Tensor, mask: Tensor | None) -> Tensor:
        latents = self.attn_norm(x)  # (P, M, W)
        x = x + self.attn(latents, torch.cat([self.features_norm(features), latents], dim=1), mask)
        return x + self.ffn(self.ffn_norm(x))


class Perceiver(nn.Module):
    """Latents that read a picture, layer by layer, and stand for it.

    Args:
        n_latents: tokens per picture.
        n_layers: 6 by default, as in Flamingo.
        width: dim of the latents, min(in_dim, dim, 1024) by default.
        head_dim, n_heads: of the attention; as many heads as fit the width by default.
        hidden_dim: of the FFN, 8/3 of the width by default.
    """

    def __init__(
        self, in_dim: int, dim: int, *, n_latents: int = 64, n_layers: int = 6, width: int | None = None,
        head_dim: int = 64, n_heads: int | None = None, hidden_dim: int | None = None,
        positions: Positions | None = None,
    ):  # fmt: skip
        super().__init__()
        width = width or min(in_dim, dim, 1024)
        n_heads, hidden_dim = n_heads or max(1, width // head_dim), hidden_dim or 8 * width // 3
        self.in_proj = nn.Linear(in_dim, width)
        self.latent_embedding = nn.Parameter(torch.empty(n_latents, width).normal_())
        self.layers = nn.ModuleList(PerceiverLayer(width, n_heads, head_dim, hidden_dim) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, dim)
        self.positions = positions

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, I, L, N, C), grid (B, I, 2) -> image states (B, S, D), M per real picture, lengths (B, I)."""
        if self.positions is not None:
            features = self.positions(features, grid)
        n_tiles = grid.prod(-1)  # (B, I)
        tokens, mask = picture_tokens(features, n_tiles)  # (P, T, C)
        tokens, n_latents = self.in_proj(tokens), len(self.latent_embedding)
        if mask is not None:
            mask = F.pad(mask, (0, n_latents), value=True)  # (P, 1, 1, T + M): latents always see each other
        x = self.latent_embedding.expand(len(tokens), -1, -1)  # (P, M, W)
        for layer in self.layers:
            x = layer(x, tokens, mask)
        real = n_tiles > 0
        return lay_in_rows(self.proj(self.norm(x)), real.sum(1)), real * n_latents
