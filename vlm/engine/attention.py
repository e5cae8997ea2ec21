"""Attention of many queries to the same keys: attention.cpp where it runs, torch's own elsewhere.

On a CPU torch's `scaled_dot_product_attention` multiplies bf16 at a tenth of the rate of a linear layer
(docs/engine.md has the figures), and in an encoder it is half of the work.

Shapes: B batch, H heads, Hkv key/value heads, T queries, S keys, Dh head_dim.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm.engine.compiled import library, struct

FUNCTIONS = {torch.float32: "attention_fp32", torch.bfloat16: "attention_bf16"}
Arguments = struct(
    "Arguments", sizes="batch n_kv group queries keys dim", pointers="q k v out bias",
    sizes_="causal " + " ".join(f"{name}_{of}" for name in ("q", "k", "v", "out") for of in ("batch", "head", "token")),
)  # fmt: skip

Attend = Callable[..., Tensor]


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """softmax(q k / sqrt(Dh) + bias) v through torch.

    Args:
        q: (B, H, T, Dh).
        k, v: (B, Hkv, S, Dh).
        bias: (S,) fp32, added to the scores of each key.
        causal: the queries are the last T of the S tokens, and none sees what comes after it.
        mask: (T, S) bool, who sees whom.

    Returns:
        (B, T, H, Dh).
    """
    n_heads, n_kv = q.shape[1], k.shape[1]
    if causal and q.shape[2] < k.shape[2]:
        mask, causal = q.new_ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]), False
    if causal or mask is not None:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=n_kv < n_heads)
    else:  # heads that read the same keys are queries of one call
        bias = None if bias is None else bias.to(q.dtype)[None, None, None]
        grouped = q.unflatten(1, (n_kv, -1)).flatten(2, 3)  # (B, Hkv, G * T, Dh)
        out = F.scaled_dot_product_attention(grouped, k, v, attn_mask=bias).unflatten(2, (-1, q.shape[2])).flatten(1, 2)
    return out.transpose(1, 2)


def attention(dtype: torch.dtype, device: torch.device, compile: bool = True) -> Attend:
    """What computes `plain_attention` fastest."""
    code = library() if compile and device.type == "cpu" and dtype in FUNCTIONS else None
    if code is None or not code.attention_is_fast():
        return plain_attention
    run = code[FUNCTIONS[dtype]]
    run.restype = None

    def attend(q, k, v, *, bias=None, causal=False, mask=None):
        elsewhere = q.device.type != "cpu"  # of layers that are spread over devices only some are in main memory
        if mask is not None or elsewhere or {q.dtype, k.dtype, v.dtype} != {dtype}:
            return plain_attention(q, k, v, bias=bias, causal=causal, mask=mask)
        q, k, v = (t if t.stride(3) == 1 else t.contiguous() for t in (q, k, v))
        batch, n_heads, queries, dim = q.shape
        out = q.new_empty(batch, queries, n_heads, dim)
        strides = (n for t in (q, k, v, out.transpose(1, 2)) for n in t.stride()[:3])
        arguments = Arguments(
            batch, k.shape[1], n_heads // k.shape[1], queries, k.shape[2], dim, q.data_ptr(), k.data_ptr(),
            v.data_ptr(), out.data_ptr(), None if bias is None else bias.data_ptr(), causal, *strides,
        )  # fmt: skip
        run(ctypes.byref(arguments), torch.get_num_threads())
        return out

    return attend
