"""The key/value cache of the text: one pool of equal pages, preallocated; a sequence holds a list of them.

Notable here:
- A sequence that grows takes another page; nothing is copied, nothing is reserved for answers that may stay short.
- Page 0 belongs to nobody: the tables of short sequences are filled up with it.
- Fresh memory is zero and stays finite, since what is masked out must not be NaN. On a CPU the system hands it out
  as it is first written, so a large pool costs nothing until it is used.

- In 8 bits a page holds bytes: int8 with a scale for each token and head, or fp8 (e4m3), which needs none.

Shapes: P pages, Z tokens per page, Hkv key/value heads, Dh head_dim, R rows, T tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm.config import DecoderConfig
from vlm.engine.memory import large_pages

PAGE = 16  # tokens
CACHE_DTYPES = ("int8", "fp8")
FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max


class OutOfPages(RuntimeError):
    """Every page of the pool is taken."""


@dataclass(frozen=True)
class Memory:
    """Keys and values of one layer, (P * Z, 2 * Hkv, Dh): first the keys of a token, then its values."""

    values: Tensor  # in 8 bits: int8, or uint8 for the bits of fp8, which torch does not index everywhere
    scales: Tensor | None  # (P * Z, 2 * Hkv, 1) of int8

    def write(self, slots: Tensor, held: Tensor) -> None:
        """Put keys and values (N, 2 * Hkv, Dh) into slots (N,)."""
        if self.scales is not None:
            scales = (held.float().abs().amax(-1, keepdim=True) / 127).clamp_(min=1e-12).to(self.scales.dtype)
            self.scales.index_copy_(0, slots, scales)
            held = (held / scales).round().clamp_(-127, 127)
        elif self.values.dtype == torch.uint8:
            held = held.clamp(-FP8_MAX, FP8_MAX).to(FP8).view(torch.uint8)
        self.values.index_copy_(0, slots, held.to(self.values.dtype))

    def read(self, slots: Tensor, dtype: torch.dtype) -> Tensor:
        """Slots (S,) -> (S, 2 * Hkv, Dh)."""
        return self._plain(self.values[slots], None if self.scales is None else self.scales[slots], dtype)

    def read_pages(self, table: Tensor, dtype: torch.dtype) -> Tensor:
        """Pages (R, pages) -> (R, pages * Z, 2 * Hkv, Dh)."""
        rows, shape = len(table), self.values.shape[1:]
        values = _pages(self.values, table).view(rows, -1, *shape)
        if self.scales is None:
            return self._plain(values, None, dtype)
        scales = _pages(self.scales, table).view(rows, -1, shape[0], 1)
        return self._plain(values, scales, dtype)

    @staticmethod
    def _plain(values: Tensor, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
        if scales is not None:
            return values.to(dtype).mul_(scales)
        return (values.view(FP8) if values.dtype == torch.uint8 else values).to(dtype)


def _pages(memory: Tensor, table: Tensor) -> Tensor:
    """Pages (R, pages) of memory (P * Z, ...) -> (R * pages, Z * ...); six times as fast as indexing on a CPU."""
    return memory.view(-1, PAGE * memory[0].numel()).index_select(0, table.flatten())


class PagePool:
    """The memory of every layer.

    Args:
        cache_dtype: "int8" or "fp8"; None keeps keys and values in `dtype`.
    """

    def __init__(self, config: DecoderConfig, n_pages: int, dtype: torch.dtype, cache_dtype: str | None = None):
        self.n_pages, self.dtype, self.cache_dtype = n_pages, dtype, cache_dtype
        self._shape = (n_pages * PAGE, 2 * config.n_kv_heads, config.head_dim)
        self._layers: dict[int, Memory] = {}
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
                layer.values.view(self.n_pages, -1)[pages] = 0
                if layer.scales is not None:
                    layer.scales.view(self.n_pages, -1)[pages] = 0
        self._free.extend(reversed(pages))
        pages.clear()

    def layer(self, number: int, device: torch.device) -> Memory:
        """The memory of one layer, allocated where the layer runs when it first does."""
        if number not in self._layers:
            dtype, scales = {"int8": torch.int8, "fp8": torch.uint8}.get(self.cache_dtype or "", self.dtype), None
            if self.cache_dtype == "int8":
                scales = _zeros((*self._shape[:2], 1), torch.bfloat16, device)
            self._layers[number] = Memory(_zeros(self._shape, dtype, device), scales)
        return self._layers[number]


def pages_for(n_tokens: int) -> int:
    return -(-n_tokens // PAGE)


def token_bytes(config: DecoderConfig, dtype: torch.dtype, cache_dtype: str | None = None) -> int:
    """Memory of one token in all layers."""
    head = config.head_dim * (1 if cache_dtype else dtype.itemsize) + (2 if cache_dtype == "int8" else 0)
    return 2 * config.n_layers * config.n_kv_heads * head


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return large_pages(math.prod(shape), dtype).view(shape)
