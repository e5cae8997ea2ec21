"""One pass of the decoder over whatever the sequences need next: new tokens of some, chunks of prompts of others.

Notable here:
- All tokens of the pass lie side by side in one row, so matrices are multiplied with real tokens only: no padding
  between sequences of different lengths.
- Self-attention: sequences with one new token go together through one call over their pages; a longer piece attends
  by itself.
- Cross-attention: neighbours that see the same stretch of the same pictures are the queries of one call on the one copy
  of its keys and values, without masks. Tokens that see no picture do not enter the block at all.
- Where C++ can be compiled for a CPU, attention of prompts is vlm/engine/attention.cpp, elsewhere SDPA. FlexAttention
  was no choice: on a CPU it exists compiled only, and its masks buy nothing where every call has plain rectangles.

Shapes: N tokens of the pass, R sequences with one new token, H heads, Hkv key/value heads, G = H / Hkv, Dh head_dim,
Z tokens per page, S tokens or image tokens attended to, D dim, V vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.cross_attention import KeyValue
from vlm.engine.attention import Attend, plain_attention
from vlm.engine.pages import PAGE, Memory, PagePool, pages_for
from vlm.engine.pictures import Encoded
from vlm.engine.weights import CrossLayer, DecoderWeights, Layer
from vlm.rope import rotary

FEW = 16  # queries to a head of keys, below which laying out the keys for compiled attention costs more than it saves

Seen = tuple[Encoded, int, int]  # pictures and the half-open interval of their tokens


@dataclass(eq=False)
class Piece:
    """The next tokens of one sequence."""

    tokens: list[int]
    start: int  # place of the first token in the text
    pages: list[int]  # with room for all of them
    seen: list[tuple[int, Seen | None]]  # runs of tokens that see the same: (how many, what)
    n_logits: int = 1  # of how many tokens, counted from the last; none of a prompt's beginning
    branches: list[int] | None = None  # lengths of alternatives that follow `start` side by side, not one another


@dataclass
class Beside:
    """What rows of one token see, laid side by side; only where a pass is recorded (vlm/engine/graphs.py)."""

    image: dict[int, KeyValue]  # by layer, (R, Hkv, S, Dh)
    mask: Tensor  # (R, 1, 1, S) bool
    visible: Tensor  # (R, 1), 1.0 where a row sees anything


@dataclass
class Plan:
    """A pass, laid out on the host and brought to the device once."""

    tokens: Tensor  # (N,)
    positions: Tensor  # (N,)
    slots: Tensor  # (N,), where the keys and values are written
    wanted: Tensor | None  # tokens whose logits are asked for; None: all
    table: Tensor | None  # (R, pages) of the sequences with one new token, which come first
    table_length: int  # tokens of the longest of them
    table_mask: Tensor | None  # (R, 1, 1, S); None where all are as long
    longer: list[tuple[slice, Tensor, Tensor | None]]  # tokens, slots attended to, mask (T, S) or None: causal alone
    sights: list[tuple[slice, Seen]]  # neighbours that see the same, by their places in `seeing`
    seeing: Tensor | None  # tokens that see a picture; None: all do
    who: list[int]  # the same on the host
    beside: Beside | None = None  # in place of sights
    _moved: dict = field(default_factory=dict)

    def to(self, device: torch.device) -> "Plan":
        """The same on another device, for layers spread over several."""
        if device == self.tokens.device:
            return self
        if device not in self._moved:
            move = lambda t: None if t is None else t.to(device)  # noqa: E731
            self._moved[device] = Plan(
                self.tokens.to(device), self.positions.to(device), self.slots.to(device), move(self.wanted),
                move(self.table), self.table_length, move(self.table_mask),
                [(where, slots.to(device), move(mask)) for where, slots, mask in self.longer],
                self.sights, move(self.seeing), self.who,
            )  # fmt: skip
        return self._moved[device]


def lay_out(pieces: list[Piece], device: torch.device) -> tuple[Plan, list[int]]:
    """Pieces -> plan, and the order in which it holds them: single tokens first, neighbours share pictures."""

    first: dict[int, int] = {}  # the piece that is the first to see what is seen: the order hangs on the pieces alone
    for i, piece in enumerate(pieces):
        if seen := piece.seen[-1][1]:
            first.setdefault(id(seen[0]), i)

    def rank(i: int) -> tuple:
        seen = pieces[i].seen[-1][1]
        return len(pieces[i].tokens) > 1, first[id(seen[0])] if seen else -1, i

    order = sorted(range(len(pieces)), key=rank)
    ordered = [pieces[i] for i in order]
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    wanted: list[int] = []
    seeing: list[int] = []
    longer: list[tuple[slice, Tensor, Tensor | None]] = []
    sights: list[tuple[slice, Seen]] = []
    for piece in ordered:
        at, n = len(tokens), len(piece.tokens)
        tokens += piece.tokens
        positions += _positions(piece)
        slots += [piece.pages[i // PAGE] * PAGE + i % PAGE for i in range(piece.start, piece.start + n)]
        wanted += range(at + n - piece.n_logits, at + n)
        if n > 1:
            held = torch.tensor(piece.pages)[:, None] * PAGE + torch.arange(PAGE)
            mask = _mask(piece)
            longer.append((
                slice(at, at + n), held.flatten()[: piece.start + n].to(device),
                None if mask is None else mask.to(device),
            ))  # fmt: skip
        for count, seen in piece.seen:
            if seen:
                sights.append((slice(len(seeing), len(seeing) + count), seen))
                seeing += range(at, at + count)
            at += count
    lengths = [p.start + 1 for p in ordered if len(p.tokens) == 1]
    table, mask, longest = None, None, max(lengths, default=0)
    if lengths:
        width = pages_for(longest)
        rows = [(p.pages + [0] * (width - len(p.pages)))[:width] for p in ordered[: len(lengths)]]
        table = torch.tensor(rows, device=device)
        if min(lengths) < longest:
            mask = (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None].to(device)
    index = lambda places: torch.tensor(places, dtype=torch.long, device=device)  # noqa: E731
    plan = Plan(
        tokens=index(tokens), positions=index(positions), slots=index(slots),
        wanted=index(wanted) if len(wanted) < len(tokens) else None,
        table=table, table_length=longest, table_mask=mask, longer=longer,
        sights=list(_merge(sights)), seeing=index(seeing) if len(seeing) < len(tokens) else None,
        who=seeing,
    )  # fmt: skip
    return plan, order


def _positions(piece: Piece) -> Iterable[int]:
    if piece.branches is None:
        return range(piece.start, piece.start + len(piece.tokens))
    return [piece.start + i for length in piece.branches for i in range(length)]


def _mask(piece: Piece) -> Tensor | None:
    """Who attends to whom, (T, start + T) bool; None where each sees all before it."""
    if piece.branches is None:
        return None
    n = len(piece.tokens)
    mask = torch.ones(n, piece.start + n, dtype=torch.bool).tril(piece.start)
    branch = torch.repeat_interleave(torch.arange(len(piece.branches)), torch.tensor(piece.branches))
    mask[:, piece.start :] &= branch[:, None] == branch
    return mask


def _merge(sights: list[tuple[slice, Seen]]) -> Iterable[tuple[slice, Seen]]:
    for _, run in groupby(sights, key=lambda s: (id(s[1][0]), *s[1][1:])):
        parts = list(run)
        yield slice(parts[0][0].start, parts[-1][0].stop), parts[0][1]


@torch.inference_mode()
def forward(weights: DecoderWeights, pool: PagePool, plan: Plan) -> Tensor:
    """Run the pass and write its keys and values to the pool.

    Returns:
        Logits (wanted tokens, V), in the plan's order.
    """
    config, home = weights.config, plan.tokens.device
    cos, sin = _rope(plan, weights, weights.embed.weight.dtype)
    x = weights.embed(plan.tokens)  # (N, D)
    for i, layer in enumerate(weights.layers):
        if (plan.sights or plan.beside) and i in weights.cross:
            block = weights.cross[i]
            x = _cross_layer(block, x.to(block.device), plan.to(block.device), i, config, weights.attend)
        if layer.device != x.device:
            x = x.to(layer.device)
        here = plan.to(layer.device)
        memory = pool.layer(i, layer.device)
        x = _layer(layer, x, cos.to(x.device), sin.to(x.device), here, memory, config, weights.attend)
    x = x.to(home)
    x = x if plan.wanted is None else x[plan.wanted]
    if not len(x):
        return x.new_empty(0, config.vocab_size)
    return weights.lm_head(weights.norm(x)).to(home)


def _rope(plan: Plan, weights: DecoderWeights, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines (N, 1, Dh), and sines that bear the sign of the half that they meet."""
    config, positions = weights.config, plan.positions
    if config.rope_scaling is not None and config.rope_scaling.kind == "dynamic":  # stretched by its own text's length
        parts = [slice(i, i + 1) for i in range(0 if plan.table is None else len(plan.table))]
        both = [rotary(positions[None, p], config, dtype) for p in [*parts, *(where for where, *_ in plan.longer)]]
        cos, sin = (torch.cat([pair[side] for pair in both], dim=2) for side in (0, 1))
    else:
        cos, sin = rotary(positions[None], config, dtype)  # (1, 1, N, Dh / 2)
    cos, sin = cos[0, 0, :, None], sin[0, 0, :, None]
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def _layer(
    layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, plan: Plan, memory: Memory, config, attend: Attend
) -> Tensor:
    n_heads, n_kv, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
    qkv = layer.qkv(layer.attn_norm(x)).view(len(x), -1, head_dim)  # (N, H + 2 * Hkv, Dh)
    turned = qkv[:, : n_heads + n_kv]
    rolled = turned.roll(head_dim // 2, -1)
    turned.mul_(cos).addcmul_(rolled, sin)
    memory.write(plan.slots, qkv[:, n_heads:])
    q, out = qkv[:, :n_heads], x.new_empty(len(x), n_heads, head_dim)
    n = 0
    if plan.table is not None:
        n = len(plan.table)
        k, v = _keys_values(memory.read_pages(plan.table, x.dtype)[:, : plan.table_length], n_kv)
        grouped = q[:n].reshape(n, n_kv, -1, head_dim)  # (R, Hkv, G, Dh): one token, so its heads are the queries
        out[:n] = F.scaled_dot_product_attention(grouped, k, v, attn_mask=plan.table_mask).reshape(n, n_heads, head_dim)
    for where, slots, mask in plan.longer:
        k, v = _keys_values(memory.read(slots, x.dtype)[None], n_kv)
        out[where] = attend(q[None, where].transpose(1, 2), k, v, causal=mask is None, mask=mask)[0]
    x = layer.o(out.view(len(x), -1), x)
    return layer.ffn(layer.ffn_norm(x), x)


def _keys_values(held: Tensor, n_kv: int) -> tuple[Tensor, Tensor]:
    """(R, S, 2 * Hkv, Dh) -> keys and values (R, Hkv, S, Dh), as views."""
    return held[:, :, :n_kv].transpose(1, 2), held[:, :, n_kv:].transpose(1, 2)


def _cross_layer(layer: CrossLayer, x: Tensor, plan: Plan, number: int, config, attend: Attend) -> Tensor:
    """The gated block, for the tokens that see a picture."""
    if plan.beside is not None:
        return _cross_layer_beside(layer, x, plan.beside, number, config)
    h = x if plan.seeing is None else x[plan.seeing]  # (n, D)
    q = layer.q_norm(layer.q(layer.attn_norm(h)).view(len(h), -1, config.head_dim))  # (n, H, Dh)
    out = torch.empty_like(q)
    for here, (pictures, start, end) in plan.sights:
        key, value = (t[:, :, start:end].to(x.device) for t in pictures.image[number])  # (1, Hkv, S, Dh)
        few = (here.stop - here.start) * config.n_heads < FEW * config.n_kv_heads
        out[here] = (plain_attention if few else attend)(q[None, here].transpose(1, 2), key, value)[0]
    h = torch.addcmul(h, layer.attn_gate.tanh(), layer.o(out.flatten(1)))
    h = torch.addcmul(h, layer.ffn_gate.tanh(), layer.ffn(layer.ffn_norm(h)))
    return h if plan.seeing is None else x.index_copy(0, plan.seeing, h)


def _cross_layer_beside(layer: CrossLayer, x: Tensor, beside: Beside, number: int, config) -> Tensor:
    """The same in shapes that do not depend on who sees what."""
    q = layer.q_norm(layer.q(layer.attn_norm(x)).view(len(x), -1, config.head_dim))  # (R, H, Dh)
    grouped = q.view(len(x), config.n_kv_heads, -1, config.head_dim)  # (R, Hkv, G, Dh)
    out = F.scaled_dot_product_attention(grouped, *beside.image[number], attn_mask=beside.mask)
    x = x + beside.visible * layer.attn_gate.tanh() * layer.o(out.flatten(1))
    return x + beside.visible * layer.ffn_gate.tanh() * layer.ffn(layer.ffn_norm(x))
