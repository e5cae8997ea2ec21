"""The key/value cache of the text: preallocated, each row at its own length.

Shapes: R rows, Hkv key/value heads, T new tokens, S slots, Dh head_dim.
"""

import torch
from torch import Tensor

from vlm.config import DecoderConfig


class KVCache:
    """One preallocated block per layer; new tokens are written at their positions, so rows of any length share it."""

    def __init__(self, config: DecoderConfig, rows: int, slots: int, device: torch.device, dtype: torch.dtype):
        shape = (config.n_layers, 2, rows, config.n_kv_heads, slots, config.head_dim)
        self.data = torch.zeros(shape, device=device, dtype=dtype)
        self._slots = torch.arange(slots, device=device)

    def update(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (R, Hkv, T, Dh) at positions (R, T); return all slots of the layer."""
        index = positions[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])  # (R, Hkv, T, Dh)
        keys, values = self.data[layer]
        keys.scatter_(2, index, key.to(keys.dtype))
        values.scatter_(2, index, value.to(values.dtype))
        return keys, values

    def mask(self, positions: Tensor) -> Tensor:
        """Each token sees itself and all before it: bool (R, 1, T, S)."""
        return self._slots <= positions[:, None, :, None]

    def keep(self, rows: Tensor) -> None:
        """Drop the rows that have finished."""
        self.data = self.data[:, :, rows]
