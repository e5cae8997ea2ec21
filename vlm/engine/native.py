"""Decoding passes in C++: `decode.cpp`, compiled once for this processor where there is a compiler.

Notable here:
- A pass of one new token for each of a few rows takes the time to read the weights, and that of some two thousand small
  operators between. In one parallel region the reading is what remains (docs/engine.md has the figures).
- A pass is laid out without tensors, and comes with the likeliest token of each row.
- The model's own weights are what it reads, quantized ones as they are; they are moved once, see vlm/engine/memory.py.
"""

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_float, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vlm.config import DecoderConfig
from vlm.decoder import Decoder
from vlm.engine.compiled import Matrix, struct
from vlm.engine.memory import lay_side_by_side
from vlm.engine.pages import PAGE, PagePool
from vlm.engine.quantize import PROJECTIONS, SCALES, Int4Projection, cpu_block
from vlm.rope import rotary

if TYPE_CHECKING:
    from vlm.engine.forward import Piece, Seen

FUNCTIONS = {torch.float32: "decode_fp32", torch.bfloat16: "decode_bf16"}
BLOCK = 64  # rows of int4 that lie together in torch's layout for AVX-512
WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"  # else there are fewer registers, and sums are spilled
MAX_ROWS = 64 if WIDE else 16  # up to there a pass is faster than oneDNN's products and what lies between them
INTS = POINTER(c_int64)
PLACES = 1024  # for which angles are made at a time

Sizes = struct("Sizes", sizes="dim hidden n_heads n_kv head_dim vocab page n_blocks n_cross", floats="eps")
Block = struct(
    "Block", matrices="q k v o gate up down", pointers="attn_norm ffn_norm q_norm memory", floats="attn_gate ffn_gate"
)
Sight = struct("Sight", pointers="key value", sizes="tokens key_head key_token value_head value_token")


class Pass(ctypes.Structure):
    """One pass, as in decode.cpp."""

    _fields_ = [
        ("rows", c_int64), ("tokens", INTS), ("places", INTS), ("pages", INTS), ("width", c_int64), ("cos", c_void_p),
        ("sin", c_void_p), ("sights", POINTER(Sight)), ("logits", c_void_p), ("chosen", INTS),
        ("logprobs", POINTER(c_float)),
    ]  # fmt: skip


def runs(decoder: Decoder, head: nn.Module) -> bool:
    """Whether this is a decoder as decode.cpp takes it: layers of one dtype or quantized, all in main memory."""
    dtype = decoder.embed_tokens.weight.dtype
    linears = [m for block in _blocks(decoder) for name, m in block.items() if not name.endswith("norm")]
    return (
        dtype in FUNCTIONS
        and decoder.config.hidden_dim % 16 == 0
        and all(_takes(m) for m in linears)
        and (_takes(head) or head is decoder.embed_tokens)
        and not any(hasattr(m, "_hf_hook") for m in decoder.modules())
        and all(type(p.data) is Tensor and p.device.type == "cpu" and p.dtype == dtype for p in decoder.parameters())
    )


def _takes(module: Any) -> bool:
    """Whether decode.cpp multiplies by this: quantized weights with AVX-512 alone, int4 in whole blocks."""
    if type(module) not in (nn.Linear, *PROJECTIONS) or module.bias is not None:
        return False
    if isinstance(module, Int4Projection) and (cpu_block() != BLOCK or module.out_features % BLOCK):
        return False
    return type(module) is nn.Linear or (WIDE and module.scales.dtype == SCALES and module.weight.device.type == "cpu")


class Native:
    """One decoder's passes in C++; for those that `takes` accepts.

    Args:
        head: what makes logits, perhaps the embeddings themselves.
    """

    def __init__(self, decoder: Decoder, head: nn.Module, compiled: ctypes.CDLL):
        config, blocks, held = decoder.config, [], [head]
        for block in _blocks(decoder):
            plain = {name: m for name, m in block.items() if name.endswith("norm")}
            matrices = {name: m for name, m in block.items() if name not in plain}
            lay_side_by_side(list(matrices.values()))
            pointers = {name: m.weight.data_ptr() for name, m in plain.items()}
            blocks.append(Block(**pointers, **{name: _matrix(m) for name, m in matrices.items()}))
            held += block.values()
        lay_side_by_side([head])
        self.dtype, self.vocab_size = decoder.embed_tokens.weight.dtype, config.vocab_size
        self.cross = sorted(config.cross_attention_layers)
        # what the pointers point to
        self._held = [
            t.data for m in [*held, decoder.embed_tokens, decoder.norm] for t in (*m.parameters(), *m.buffers())
        ]
        self._blocks: Any = (Block * len(blocks))(*blocks)
        for crossing, number in zip((b for b in self._blocks if b.q_norm), self.cross, strict=True):
            gated: Any = decoder.cross_attention[str(number)]
            crossing.attn_gate, crossing.ffn_gate = gated.attn_gate.tanh().item(), gated.ffn_gate.tanh().item()
        self._sizes = Sizes(
            config.dim, config.hidden_dim, config.n_heads, config.n_kv_heads, config.head_dim, config.vocab_size, PAGE,
            len(blocks), len(self.cross), config.norm_eps,
        )  # fmt: skip
        embeddings, norm = (c_void_p(m.weight.data_ptr()) for m in (decoder.embed_tokens, decoder.norm))
        self._ends = (embeddings, norm, ctypes.byref(_matrix(head)))
        self._run = compiled[FUNCTIONS[self.dtype]]
        self._run.restype = None
        self._pool: PagePool | None = None
        self._angles = Angles(config, self.dtype)
        self._logits = torch.empty(MAX_ROWS, config.vocab_size)
        self._shown: list[Seen | None] = []  # by the rows of the pass before
        self._sights: Any = None  # the same as decode.cpp takes it, (gated blocks, R)

    def takes(self, pieces: Sequence["Piece"], pool: PagePool) -> bool:
        """Whether each of a few rows has one new token whose logits are wanted."""
        plain = len(pieces) <= MAX_ROWS and pool.cache_dtype is None and pool.dtype == self.dtype
        return plain and all(len(p.tokens) == p.n_logits == 1 for p in pieces)

    def __call__(self, pieces: Sequence["Piece"], pool: PagePool) -> tuple[Tensor, list[tuple[int, float]]]:
        """Run a pass and write its keys and values to the pool.

        Returns:
            Logits (R, V) in fp32, which the next pass overwrites; the likeliest token of each row and its
            log-probability in nats.
        """
        if pool is not self._pool:
            self._take_memory(pool)
        rows, width = len(pieces), max(len(p.pages) for p in pieces)
        cos, sin = self._angles.up_to(max(p.start for p in pieces))
        many = c_int64 * rows
        pages: Any = (c_int64 * (rows * width))()
        for i, p in enumerate(pieces):
            pages[i * width : i * width + len(p.pages)] = p.pages
        chosen, logprobs = many(), (c_float * rows)()
        laid = Pass(
            rows, many(*(p.tokens[0] for p in pieces)), many(*(p.start for p in pieces)), pages, width, cos.data_ptr(),
            sin.data_ptr(), self._look([p.seen[0][1] for p in pieces]), self._logits.data_ptr(), chosen, logprobs,
        )  # fmt: skip
        self._run(ctypes.byref(self._sizes), self._blocks, *self._ends, ctypes.byref(laid), torch.get_num_threads())
        return self._logits[:rows], list(zip(chosen, logprobs, strict=True))

    def _look(self, shown: list["Seen | None"]) -> Any:
        """What each row sees at each gated block, (gated blocks, R)."""
        if shown == self._shown:
            return self._sights
        rows = len(shown)
        sights: Any = (Sight * (len(self.cross) * rows))()
        for row, seen in enumerate(shown):
            if seen is None:
                continue
            pictures, start, end = seen
            for block, number in enumerate(self.cross):
                key, value = (t[0, :, start:end] for t in pictures.image[number])  # (Hkv, S, Dh)
                assert key.stride(2) == value.stride(2) == 1 and key.dtype == value.dtype == self.dtype
                sights[block * rows + row] = (
                    key.data_ptr(), value.data_ptr(), end - start, *key.stride()[:2], *value.stride()[:2]
                )  # fmt: skip
        self._shown, self._sights = shown, sights
        return sights

    def _take_memory(self, pool: PagePool) -> None:
        self._pool, number = pool, 0
        for block in self._blocks:
            if not block.q_norm:
                block.memory = pool.layer(number, torch.device("cpu")).values.data_ptr()
                number += 1


class Angles:
    """Cosines and sines of all places so far, (places, Dh / 2)."""

    def __init__(self, config: DecoderConfig, dtype: torch.dtype):
        self.config, self.dtype = config, dtype
        self.both = [torch.empty(0, config.head_dim // 2)] * 2

    def up_to(self, place: int) -> list[Tensor]:
        """With this place; in fp32, rounded as the model's dtype has them."""
        while len(self.both[0]) <= place:
            new = torch.arange(n := len(self.both[0]), n + PLACES)[:, None]
            dynamic = self.config.rope_scaling is not None and self.config.rope_scaling.kind == "dynamic"
            parts = new.split(1 if dynamic else PLACES)  # a text is stretched by its own length
            turns = [rotary(part.t(), self.config, self.dtype) for part in parts]  # (1, 1, n, Dh / 2) each
            for side, old in enumerate(self.both):
                self.both[side] = torch.cat([old, *(turn[side][0, 0].float() for turn in turns)])
        return self.both


def _matrix(module: Any) -> Matrix:
    scales = module.scales.data_ptr() if isinstance(module, PROJECTIONS) else None
    return Matrix(module.weight.data_ptr(), scales, getattr(module, "group", 0))


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
