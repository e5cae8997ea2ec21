"""The key/value cache of the text: one pool of equal pages, preallocated; a sequence holds a list of them.

Notable here:
- A sequence that grows takes another page; nothing is copied, nothing is reserved for answers that may stay short.
- Page 0 belongs to nobody: the tables of short sequences are filled up with it.
- Fresh memory is zero and stays finite, since what is masked out must not be NaN. On a CPU the system hands it out
  page by page as it is first written, so a large pool costs nothing until it is used.

Shapes: P pages, Z tokens per page, Hkv key/value heads, Dh head_dim, R rows, T tokens.
"""

import math

import numpy as np
import torch
from torch import Tensor

from vlm.config import DecoderConfig

PAGE = 16  # tokens


class OutOfPages(RuntimeError):
    """Every page of the pool is taken."""


class PagePool:
    """Keys and values of every layer, (P * Z, 2 * Hkv, Dh) each: first the keys of a token, then its values."""

    def __init__(self, config: DecoderConfig, n_pages: int, dtype: torch.dtype):
        self.n_pages, self.dtype = n_pages, dtype
        self._shape = (n_pages * PAGE, 2 * config.n_kv_heads, config.head_dim)
        self._layers: dict[int, Tensor] = {}
        self._free = list(range(n_pages - 1, 0, -1))  # popped from the end: low pages first

    @property
    def n_free(self) -> int:
        return len(self._free)

    @property
    def n_used(self) -> int:
        return self.n_pages - 1 - len(self._free)

    def grow(self, pages: list[int], n_tokens: int) -> None:
        """Add pages to a sequence's list until it holds n_tokens; all or nothing."""
        missing = pages_for(n_tokens) - len(pages)
        if missing > len(self._free):
            raise OutOfPages(f"{missing} pages are needed, {len(self._free)} are free")
        pages.extend(self._free.pop() for _ in range(missing))

    @torch.inference_mode()  # as the memory was made
    def release(self, pages: list[int], wipe: bool = False) -> None:
        """Take pages back; `wipe` zeroes them, for those of a sequence that went wrong."""
        if wipe and pages:
            for layer in self._layers.values():
                layer.view(self.n_pages, -1)[pages] = 0
        self._free.extend(reversed(pages))
        pages.clear()

    def layer(self, number: int, device: torch.device) -> Tensor:
        """The memory of one layer, allocated where the layer runs when it first does."""
        if number not in self._layers:
            self._layers[number] = _zeros(self._shape, self.dtype, device)
        return self._layers[number]


def pages_for(n_tokens: int) -> int:
    return -(-n_tokens // PAGE)


def token_bytes(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Memory of one token in all layers."""
    return 2 * config.n_layers * config.n_kv_heads * config.head_dim * dtype.itemsize


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)  # calloc: torch.zeros would write it all
    return torch.from_numpy(memory).view(dtype).view(shape)
