"""Rows in four bits: what comes back is near, at odd widths, of rows of any size, and stays as it is from then on."""

import pytest
import torch

from vlm.guard.int4 import LARGEST, dequantize, quantize


@pytest.mark.parametrize("dim", [1, 7, 8])
def test_what_comes_back_is_near(dim):
    table = torch.randn(20, dim, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 20)[:, None]
    table[3] = 0
    rows, scale = quantize(table)
    assert rows.shape == (20, (dim + 1) // 2) and rows.dtype == torch.uint8
    again = dequantize(rows, scale, dim)
    off = (again - table).abs().amax(1)
    assert (off <= table.abs().amax(1) * 0.51 / LARGEST + 1e-7).all() and (again[3] == 0).all()
    assert (again.abs().amax(1) / table.abs().amax(1).clamp(min=1e-9) > 0.99)[[0, 1, 2, *range(4, 20)]].all()
    torch.testing.assert_close(dequantize(*quantize(again), dim), again)
