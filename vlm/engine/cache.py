"""The key/value cache of the text: preallocated, each row at its own length.

Shapes: R rows, Hkv key/value heads, T new tokens, S slots, Dh head_dim.
"""

import torch
from torch import Tensor

from vlm.config import DecoderConfig


class KVCache:
    """One preallocated block per layer, on its device; each row writes at its own positions, so all lengths mix."""

    def __init__(self, config: DecoderConfig, rows: int, slots: int, device: torch.device, dtype: torch.dtype):
        self._shape, self._dtype = (2, rows, config.n_kv_heads, slots, config.head_dim), dtype
        self._layers: dict[int, Tensor] = {}
        self._slots = torch.arange(slots, device=device)

    def update(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (R, Hkv, T, Dh) at positions (R, T); return all slots of the layer."""
        if layer not in self._layers:
            self._layers[layer] = torch.zeros(self._shape, device=key.device, dtype=self._dtype)
        index = positions[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])  # (R, Hkv, T, Dh)
        keys, values = self._layers[layer]
        keys.scatter_(2, index, key.to(keys.dtype))
        values.scatter_(2, index, value.to(values.dtype))
        return keys, values

    def mask(self, positions: Tensor) -> Tensor:
        """Each token sees itself and all before it: bool (R, 1, T, S)."""
        return self._slots <= positions[:, None, :, None]

    def keep(self, rows: Tensor) -> None:
        """Drop the rows that have finished."""
        for layer, block in self._layers.items():
            self._layers[layer] = block[:, rows.to(block.device)]
