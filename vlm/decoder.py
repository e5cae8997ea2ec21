"""The LLaMA-3 decoder with gated cross-attention standing beside it.

Notable here:
- `layers` is the untouched Llama; `cross_attention` holds the gated blocks, keyed by the Llama layer that each
  precedes. Text without a picture runs through `layers` alone, bit for bit the Llama it was.
- Image keys and values come in as an argument. The model keeps no state; a cache of text is the engine's affair, which
  runs these weights in its own way (vlm/engine/forward.py).

Shapes: R text rows, T tokens, D dim, H heads, Hkv key/value heads, Dh head_dim, V vocabulary, S image tokens,
B picture rows (R is a multiple of B: see adapters/cross_attention.py).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.cross_attention import GatedCrossAttention, ImageMask, KeyValue
from adapters.layers import SwiGLU, merge_heads, split_heads
from vlm.config import DecoderConfig
from vlm.rope import rotary, rotate


class SelfAttention(nn.Module):
    """Causal grouped-query attention with rotary positions, no biases."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, width, bias=False)
        self.k_proj = nn.Linear(config.dim, kv_width, bias=False)
        self.v_proj = nn.Linear(config.dim, kv_width, bias=False)
        self.o_proj = nn.Linear(width, config.dim, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        q = rotate(split_heads(self.q_proj(x), self.head_dim), *rope)  # (R, H, T, Dh)
        k = rotate(split_heads(self.k_proj(x), self.head_dim), *rope)  # (R, Hkv, T, Dh)
        v = split_heads(self.v_proj(x), self.head_dim)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        return self.o_proj(merge_heads(out))


class DecoderLayer(nn.Module):
    """One Llama layer: x += attn(norm(x)); x += ffn(norm(x))."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.attn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attn = SelfAttention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.ffn = SwiGLU(config.dim, config.hidden_dim)

    def forward(self, x: Tensor, *args) -> Tensor:
        x = x + self.attn(self.attn_norm(x), *args)
        return x + self.ffn(self.ffn_norm(x))


def cross_attention_blocks(config: DecoderConfig) -> nn.ModuleDict:
    """The gated blocks of a decoder, by the number of the Llama layer that each precedes."""
    sizes = (config.dim, config.n_heads, config.n_kv_heads, config.head_dim, config.hidden_dim)
    return nn.ModuleDict(
        {str(i): GatedCrossAttention(*sizes, config.norm_eps, config.gate_init) for i in config.cross_attention_layers}
    )


class Decoder(nn.Module):
    """Tokens and image keys/values in, logits out."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size + config.n_extra_tokens, config.dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.n_layers))
        self.cross_attention = cross_attention_blocks(config)
        self.norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)

    def image_keys_values(self, states: Tensor) -> dict[int, KeyValue]:
        """Image states (B, S, D) -> keys and values of every cross-attention layer, computed once per picture."""
        blocks = cast(dict[str, GatedCrossAttention], self.cross_attention)  # nn.ModuleDict has no type for its values
        return {int(i): block.attn.keys_values(states) for i, block in blocks.items()}

    def hidden_states(
        self, tokens: Tensor, *, image: dict[int, KeyValue] | None = None, intervals: Tensor | None = None,
        positions: Tensor | None = None, mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Run the layers and the last norm.

        Args:
            tokens: (R, T) ids.
            image: keys and values per layer from `image_keys_values`; None where there is no picture.
            intervals: (R, T, 2) half-open intervals of image tokens that each text token sees.
            positions: (R, T) places in the text; 0, 1, ... where absent.
            mask: (R, 1, T, T) bool, which tokens each attends to where that is not all earlier ones (packed rows).

        Returns:
            (R, T, D).
        """
        x = self.embed_tokens(tokens)  # (R, T, D)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        rope = rotary(positions, self.config, x.dtype)
        image, image_mask = image or {}, None
        if image:
            assert intervals is not None, "pictures come with the intervals that each token sees"
            key = next(iter(image.values())).key  # (B, Hkv, S, Dh)
            image_mask = ImageMask.from_intervals(intervals, key.shape[2], key.shape[0], x.dtype)
        for i, layer in enumerate(self.layers):
            if i in image:
                x = self.cross_attention[str(i)](x, image[i], image_mask)
            x = layer(x, rope, mask)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits (..., V)."""
        if self.config.tie_embeddings:
            return F.linear(hidden, self.embed_tokens.weight[: self.config.vocab_size])
        return self.lm_head(hidden)

    def forward(self, tokens: Tensor, **inputs) -> Tensor:
        """Tokens (R, T) and the inputs of `hidden_states` -> logits (R, T, V)."""
        return self.logits(self.hidden_states(tokens, **inputs))
