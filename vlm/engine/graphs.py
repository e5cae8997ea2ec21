"""Decoding passes on a GPU as CUDA graphs: recorded once for each size, then replayed with one launch.

Notable here:
- A graph reads fixed memory. Rows, pages and image tokens are rounded up to a few sizes; each has its own buffers, into
  which a pass is laid. Rows that are filled up read and write page 0, which belongs to nobody.
- Keys and values of pictures are laid beside each other, a row each, when a row begins to see others than in the pass
  before; what is longer than a row's pictures is masked.
- If a graph cannot be recorded, a line in the log says why and all passes go on as they were.

Shapes: R rows, W pages of a row, S image tokens of a row, Hkv key/value heads, Dh head_dim, V vocabulary.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.cross_attention import KeyValue
from vlm.engine.forward import Beside, Plan, Seen, forward
from vlm.engine.pages import PAGE, PagePool
from vlm.engine.weights import DecoderWeights

log = logging.getLogger("vlm.engine")
ROWS = (1, 2, 4, 8, 16, 32, 64)
IMAGE_TOKENS = 1024  # picture buffers hold a multiple of it
IMAGE_BYTES = 8 << 30  # of all picture buffers together
WARM_UP = 3  # passes before one is recorded, in which libraries choose their kernels

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]


def record_cuda(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Record a function that reads and writes fixed memory -> (what replays it, where its result is then)."""
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    return graph.replay, out


@dataclass
class Recorded:
    """One graph, and the memory that it reads."""

    plan: Plan
    shown: list[Seen | None]  # whose keys and values lie in the picture buffers
    replay: Callable[[], object] | None = None
    logits: Tensor | None = None  # (R, V)


class Graphs:
    """The graphs of one decoder and its page pool.

    Args:
        record: as `record_cuda`.
    """

    def __init__(self, weights: DecoderWeights, pool: PagePool, record: Record = record_cuda):
        self.weights, self.pool, self.record = weights, pool, record
        self.recorded: dict[tuple[int, int, int], Recorded] = {}
        scaling = weights.config.rope_scaling
        devices = {layer.device for layer in weights.layers} | {layer.device for layer in weights.cross.values()}
        self.works = len(devices) == 1 and (scaling is None or scaling.kind != "dynamic")  # that asks the host

    def takes(self, plan: Plan) -> bool:
        """Whether each row of a pass has one new token whose logits are wanted, and its pictures find room."""
        single = plan.table is not None and not plan.longer and plan.wanted is None
        return self.works and single and len(plan.tokens) <= ROWS[-1] and self._bytes(self._size(plan)) <= IMAGE_BYTES

    @torch.inference_mode()
    def __call__(self, plan: Plan) -> Tensor:
        """Run a pass -> logits (rows, V), which the next pass overwrites."""
        size = self._size(plan)
        if size not in self.recorded:
            if sum(map(self._bytes, self.recorded)) + self._bytes(size) > IMAGE_BYTES:
                self.recorded.clear()
            self.recorded[size] = self._empty(*size)
        found = self.recorded[size]
        self._lay(plan, found)
        if found.replay is None:
            try:
                found.replay, found.logits = self.record(lambda: forward(self.weights, self.pool, found.plan))
            except RuntimeError as error:
                log.warning("no CUDA graphs, passes go on without (%s)", str(error).split("\n")[0])
                self.works = False
                self.recorded.clear()
                return forward(self.weights, self.pool, plan)
        found.replay()
        assert found.logits is not None
        return found.logits[: len(plan.tokens)]

    def _size(self, plan: Plan) -> tuple[int, int, int]:
        """Rows, pages and image tokens of the graph that takes a pass."""
        assert plan.table is not None
        rows = next((r for r in ROWS if r >= len(plan.tokens)), len(plan.tokens))
        pages = 1 << (plan.table.shape[1] - 1).bit_length()
        longest = max((end - start for _, (_, start, end) in plan.sights), default=0)
        return rows, pages, -(-longest // IMAGE_TOKENS) * IMAGE_TOKENS

    def _bytes(self, size: tuple[int, int, int]) -> int:
        config = self.weights.config
        per_token = 2 * len(self.weights.cross) * config.n_kv_heads * config.head_dim * self.pool.dtype.itemsize
        return size[0] * size[2] * per_token

    def _empty(self, rows: int, pages: int, image_tokens: int) -> Recorded:
        config, device = self.weights.config, self.weights.embed.weight.device
        zeros = lambda *shape, dtype=torch.long: torch.zeros(shape, dtype=dtype, device=device)  # noqa: E731
        beside = None
        if image_tokens:
            shape = (rows, config.n_kv_heads, image_tokens, config.head_dim)
            image = {
                i: KeyValue(zeros(*shape, dtype=self.pool.dtype), zeros(*shape, dtype=self.pool.dtype))
                for i in self.weights.cross
            }
            beside = Beside(
                image, zeros(rows, 1, 1, image_tokens, dtype=torch.bool), zeros(rows, 1, dtype=self.pool.dtype)
            )
            beside.mask[..., 0] = True  # softmax stays finite where a row sees nothing
        plan = Plan(
            tokens=zeros(rows), positions=zeros(rows), slots=zeros(rows), wanted=None, table=zeros(rows, pages),
            table_length=pages * PAGE, table_mask=zeros(rows, 1, 1, pages * PAGE, dtype=torch.bool), longer=[],
            sights=[], seeing=None, who=[], beside=beside,
        )  # fmt: skip
        return Recorded(plan, [None] * rows)

    def _lay(self, plan: Plan, found: Recorded) -> None:
        """Bring a pass into the buffers of its graph."""
        to, n = found.plan, len(plan.tokens)
        assert plan.table is not None and to.table is not None and to.table_mask is not None
        for own, given in ((to.tokens, plan.tokens), (to.positions, plan.positions), (to.slots, plan.slots)):
            own.zero_()[:n] = given
        to.table.zero_()[:n, : plan.table.shape[1]] = plan.table
        place = torch.arange(to.table_length, device=to.tokens.device)
        to.table_mask.copy_((place <= to.positions[:, None])[:, None, None])
        if to.beside is not None:
            self._show(plan, to.beside, found.shown)

    def _show(self, plan: Plan, beside: Beside, shown: list[Seen | None]) -> None:
        """Lay what the rows see into the picture buffers, where it is not there yet."""
        now: list[Seen | None] = [None] * len(shown)
        for here, seen in plan.sights:
            for row in plan.who[here]:
                now[row] = seen
        for row, sight in enumerate(now):
            if sight == shown[row]:
                continue
            shown[row], n = sight, 0
            if sight is not None:
                pictures, start, end = sight
                n = end - start
                for number, buffers in beside.image.items():
                    for buffer, held in zip(buffers, pictures.image[number], strict=True):
                        buffer[row, :, :n] = held[0, :, start:end]
            beside.mask[row, ..., : max(n, 1)] = True
            beside.mask[row, ..., max(n, 1) :] = False
            beside.visible[row] = float(n > 0)
