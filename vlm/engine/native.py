"""Decoding passes in C++: `decode.cpp`, compiled once for this processor where there is a compiler.

Notable here:
- A pass of one new token for each of a few rows takes the time to read the weights, and that of some two thousand small
  operators between. In one parallel region the reading is what remains (docs/engine.md has the figures).
- The model's own weights are what it reads: each block's are laid side by side once, in pages of 2 MB where the system
  has them, which are read half as fast again as the usual ones.
"""

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import c_int64, c_void_p
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vlm.decoder import Decoder
from vlm.engine.compiled import large_pages, struct
from vlm.engine.pages import PAGE, PagePool

FUNCTIONS = {torch.float32: "decode_fp32", torch.bfloat16: "decode_bf16"}
MAX_ROWS = 16  # above, oneDNN's products are the faster


Sizes = struct("Sizes", sizes="dim hidden n_heads n_kv head_dim vocab page n_blocks n_cross", floats="eps")
Block = struct("Block", pointers="attn_norm q k v o ffn_norm gate up down q_norm memory", floats="attn_gate ffn_gate")
Sight = struct("Sight", pointers="key value", sizes="tokens key_head key_token value_head value_token")


class Pass(ctypes.Structure):
    """One pass, as in decode.cpp."""

    _fields_ = [
        ("rows", c_int64), ("tokens", c_void_p), ("places", c_void_p), ("pages", c_void_p), ("width", c_int64),
        ("cos", c_void_p), ("sin", c_void_p), ("sights", c_void_p), ("logits", c_void_p),
    ]  # fmt: skip


def runs(decoder: Decoder) -> bool:
    """Whether this is a decoder as decode.cpp takes it: plain layers of one dtype, all in main memory."""
    dtype = decoder.embed_tokens.weight.dtype
    linears = [m for block in _blocks(decoder) for name, m in block.items() if not name.endswith("norm")]
    return (
        dtype in FUNCTIONS
        and decoder.config.hidden_dim % 16 == 0
        and all(type(m) is nn.Linear and m.bias is None for m in linears)
        and not any(hasattr(m, "_hf_hook") for m in decoder.modules())
        and all(type(p.data) is Tensor and p.device.type == "cpu" and p.dtype == dtype for p in decoder.parameters())
    )


class Native:
    """One decoder's passes in C++; for those that `takes` accepts."""

    def __init__(self, decoder: Decoder, compiled: ctypes.CDLL):
        config = decoder.config
        for block in _blocks(decoder):
            weights = [m.weight for name, m in block.items() if not name.endswith("norm")]
            if not _adjacent(weights):
                _lay_side_by_side(weights)
        head: Any = decoder.embed_tokens if config.tie_embeddings else decoder.lm_head
        _lay_side_by_side([head.weight])
        self.dtype, self.vocab_size = decoder.embed_tokens.weight.dtype, config.vocab_size
        self.cross = sorted(config.cross_attention_layers)
        self._held = [p.data for p in decoder.parameters()]  # what the pointers point to
        blocks = [Block(**{name: m.weight.data_ptr() for name, m in b.items()}) for b in _blocks(decoder)]
        self._blocks: Any = (Block * len(blocks))(*blocks)
        for crossing, number in zip((b for b in self._blocks if b.q_norm), self.cross, strict=True):
            gated: Any = decoder.cross_attention[str(number)]
            crossing.attn_gate, crossing.ffn_gate = gated.attn_gate.tanh().item(), gated.ffn_gate.tanh().item()
        self._sizes = Sizes(
            config.dim, config.hidden_dim, config.n_heads, config.n_kv_heads, config.head_dim, config.vocab_size, PAGE,
            len(blocks), len(self.cross), config.norm_eps,
        )  # fmt: skip
        ends = (decoder.embed_tokens.weight, decoder.norm.weight, head.weight)
        self._ends = [c_void_p(w.data_ptr()) for w in ends]
        self._run = compiled[FUNCTIONS[self.dtype]]
        self._run.restype = None
        self._pool: PagePool | None = None

    def takes(self, plan, pool: PagePool) -> bool:
        """Whether each row of a pass has one new token whose logits are wanted, and there are few rows."""
        single = plan.table is not None and not plan.longer and plan.wanted is None
        return single and len(plan.table) <= MAX_ROWS and pool.cache_dtype is None and pool.dtype == self.dtype

    def __call__(self, plan, pool: PagePool, cos: Tensor, sin: Tensor) -> Tensor:
        """Run a pass and write its keys and values to the pool.

        Args:
            cos, sin: (R, 1, Dh), the sines with the sign of the half that they meet.

        Returns:
            Logits (R, V), fp32.
        """
        if pool is not self._pool:
            self._take_memory(pool)
        cos, sin = cos.float().contiguous(), sin.float().contiguous()
        rows = len(plan.tokens)
        logits = torch.empty(rows, self.vocab_size)
        sights = self._sights(plan, rows)
        laid = Pass(
            rows, plan.tokens.data_ptr(), plan.positions.data_ptr(), plan.table.data_ptr(), plan.table.shape[1],
            cos.data_ptr(), sin.data_ptr(), ctypes.addressof(sights), logits.data_ptr(),
        )  # fmt: skip
        self._run(ctypes.byref(self._sizes), self._blocks, *self._ends, ctypes.byref(laid), torch.get_num_threads())
        return logits

    def _sights(self, plan, rows: int):
        """What each row sees at each gated block, (gated blocks, R)."""
        sights: Any = (Sight * (len(self.cross) * rows))()
        for here, (pictures, start, end) in plan.sights:
            for block, number in enumerate(self.cross):
                key, value = (t[0, :, start:end] for t in pictures.image[number])  # (Hkv, S, Dh)
                assert key.stride(2) == value.stride(2) == 1 and key.dtype == value.dtype == self.dtype
                sight = (key.data_ptr(), value.data_ptr(), end - start, *key.stride()[:2], *value.stride()[:2])
                for row in plan.who[here]:
                    sights[block * rows + row] = sight
        return sights

    def _take_memory(self, pool: PagePool) -> None:
        self._pool, number = pool, 0
        for block in self._blocks:
            if not block.q_norm:
                block.memory = pool.layer(number, torch.device("cpu")).values.data_ptr()
                number += 1


@torch.inference_mode(False)
@torch.no_grad()
def _lay_side_by_side(weights: list[nn.Parameter]) -> None:
    """Move weights to large pages; the parameters become views of them."""
    whole = large_pages(sum(w.numel() for w in weights), weights[0].dtype)
    for weight, part in zip(weights, whole.split([w.numel() for w in weights]), strict=True):
        weight.data = part.view_as(weight).copy_(weight)


def _adjacent(weights: Sequence[Tensor]) -> bool:
    storages = {w.untyped_storage().data_ptr() for w in weights}
    return len(storages) == 1 and all(b.data_ptr() == a.data_ptr() + a.nbytes for a, b in pairwise(weights))


def one_matrix(weights: Sequence[Tensor]) -> Tensor | None:
    """The matrix of which these (N, K) are the rows, in their order; None where they do not lie in one."""
    rows, k = sum(map(len, weights)), weights[0].shape[1]
    return weights[0].as_strided((rows, k), (k, 1)) if _adjacent(weights) else None


def _blocks(decoder: Decoder) -> Iterator[dict[str, Any]]:
    """The modules of layers and gated blocks, in the order in which they run; those that read the same together."""
    gated = decoder.cross_attention
    block: Any
    for number, layer in enumerate(decoder.layers):
        for block in (*([gated[str(number)]] if str(number) in gated else []), layer):
            attn, ffn = block.attn, block.ffn
            own = {"k": attn.k_proj, "v": attn.v_proj} if block is layer else {"q_norm": attn.q_norm}
            yield {
                "attn_norm": block.attn_norm, "q": attn.q_proj, **own, "o": attn.o_proj, "ffn_norm": block.ffn_norm,
                "gate": ffn.gate_proj, "up": ffn.up_proj, "down": ffn.down_proj,
            }  # fmt: skip
