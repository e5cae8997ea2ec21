"""Rows of words in four bits, each with a scale of its own, so that a guard stays small."""

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 7  # of a number in four bits


def quantize(table: Tensor) -> tuple[Tensor, Tensor]:
    """A table (N, D), two numbers to a byte, uint8 (N, ceil(D / 2)), and each row's scale, fp16 (N, 1)."""
    scale = (table.abs().amax(1, keepdim=True) / LARGEST).clamp(min=1e-7).half()
    whole = ((table / scale.float()).round().clamp(-LARGEST, LARGEST) + 8).to(torch.uint8)
    whole = F.pad(whole, (0, whole.shape[1] % 2))
    return whole[:, ::2] | whole[:, 1::2] << 4, scale


def dequantize(quantized: Tensor, scale: Tensor, dim: int) -> Tensor:
    """The table (N, dim) that `quantize` was given, rounded, in fp32."""
    halves = torch.stack([quantized & 15, quantized >> 4], -1).flatten(1)[:, :dim]
    return (halves.float() - 8) * scale.float()
