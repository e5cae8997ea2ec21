"""Which sequences take part in the next pass, and what becomes of them.

Notable here:
- Requests join and leave at every pass. Prompts are read in chunks, so that a long one does not hold up the others.
- Waiting clients take turns, each client's requests in their order. The queue is bounded: a full one refuses.
- When the pages run out, the sequence that came last gives its pages back and is read again later, from the tokens
  that it has; when memory runs out, half the sequences do, and fewer run from then on.
- A sequence whose logits are not finite fails alone. Its pages are wiped.
- Every way out of a sequence (stop, length, error, cancel) passes `_leave`, which gives back pages and pictures.
"""

import itertools
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlm.chat import Prompt
from vlm.config import near_match
from vlm.engine.constraints import Matcher, mask
from vlm.engine.forward import Piece, Seen, forward, lay_out
from vlm.engine.graphs import Graphs
from vlm.engine.pages import CACHE_DTYPES, OutOfPages, PagePool, pages_for
from vlm.engine.pictures import Encoded, Key, Notes, Picture, PictureCache
from vlm.engine.sampling import Sampling, choose, generator, guess
from vlm.engine.weights import DecoderWeights

log = logging.getLogger("vlm.engine")

Answers = list[tuple[int, float]]  # of each row: a token and its log-probability


class RequestFailed(ValueError):
    """A request that began and could not be answered."""


class QueueFull(RuntimeError):
    """More requests wait than the engine was told to keep."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an engine may take.

    Args:
        rows: sequences that run at once.
        waiting: requests in the queue.
        chunk: prompt tokens per pass.
        pictures: per request.
        cache_tokens: text tokens in the page pool; None for `cache_bytes` of them.
        cache_bytes: memory of the page pool, at most half of what a GPU has free; on a CPU it is taken as it is used.
        cache_dtype: "int8" or "fp8" keeps the text's keys and values in 8 bits; None in the model's own dtype.
        picture_bytes: memory of encoded pictures; those in use stay in any case.
        seconds: of one request, waiting included; None for no end.
    """

    rows: int = 64
    waiting: int = 4096
    chunk: int = 512
    pictures: int = 16
    cache_tokens: int | None = None
    cache_bytes: int = 2 << 30
    cache_dtype: str | None = None
    picture_bytes: int = 1 << 30
    seconds: float | None = None

    def __post_init__(self):
        for name in ("rows", "waiting", "chunk", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if self.cache_dtype is not None and self.cache_dtype not in CACHE_DTYPES:
            hint = near_match(str(self.cache_dtype), CACHE_DTYPES)
            raise ValueError(f"cache_dtype: found {self.cache_dtype!r}, expected int8, fp8 or None{hint}")


@dataclass(frozen=True)
class Step:
    """One new token of one row.

    Attributes:
        finish: set on the last one: "stop", "length", "cancelled" or "error".
        logprob: of the token, in nats, under the model itself: before temperature, top-k, top-p and constraint.
        notes: on the last one, what the engine's observers noted of each picture of the request.
    """

    row: int
    token: int
    finish: str | None
    logprob: float
    error: str | None = None
    notes: tuple[Notes, ...] = ()

    @property
    def says(self) -> bool:
        """Whether its token belongs to the answer: that of "stop" does not, an error or a cancelled row has none."""
        return self.token >= 0 and self.finish != "stop"


@dataclass(eq=False)
class Sequence:
    """A request and how far it has come."""

    prompt: Prompt
    pictures: list[Picture]
    sampling: Sampling
    row: int = 0  # the caller's name for it, on its steps
    client: str = ""
    tokens: list[int] = field(default_factory=list)  # prompt and answer
    done: int = 0  # tokens whose keys and values are in the pages
    pages: list[int] = field(default_factory=list)
    keys: tuple[Key, ...] = ()
    encoded: Encoded | None = None
    random: torch.Generator | None = None
    matcher: Matcher | None = None  # how far the answer has come in its constraint
    steps: deque[Step] = field(default_factory=deque)  # made and not yet fetched
    made: int = 0
    finish: str | None = None
    began: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=itertools.count().__next__)

    def __post_init__(self):
        self.tokens = self.tokens or list(self.prompt.tokens)

    def seen(self, first: int, n: int) -> list[tuple[int, Seen | None]]:
        """What the tokens from `first` on see, in runs; the answer goes on seeing what the prompt's end sees."""
        if self.encoded is None:
            return [(n, None)]
        sees, ends = self.prompt.sees, self.encoded.ends
        last = len(sees) - 1
        runs: list[tuple[int, Seen | None]] = []
        for (a, b), run in itertools.groupby(sees[min(i, last)] for i in range(first, first + n)):
            runs.append((len(list(run)), (self.encoded, ends[a], ends[b]) if b > a else None))
        return runs


class Scheduler:
    """The sequences of one engine."""

    def __init__(self, weights: DecoderWeights, pool: PagePool, cache: PictureCache | None, stop_ids: frozenset[int],
                 limits: Limits, graphs: Graphs | None = None):  # fmt: skip
        self.weights, self.pool, self.cache, self.stop_ids, self.limits = weights, pool, cache, stop_ids, limits
        self.graphs, self.max_rows = graphs, limits.rows
        self.waiting: OrderedDict[str, deque[Sequence]] = OrderedDict()  # by client, whose turn is next in front
        self.running: list[Sequence] = []

    @property
    def n_waiting(self) -> int:
        return sum(len(q) for q in self.waiting.values())

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def submit(self, sequence: Sequence) -> None:
        """Put a request into the queue."""
        if (n := self.n_waiting) >= self.limits.waiting:
            raise QueueFull(f"{n} requests wait already; try again later")
        self.waiting.setdefault(sequence.client, deque()).append(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """Take a request out, wherever it is."""
        if sequence.finish is None:
            self._end(sequence, "cancelled")

    def step(self) -> None:
        """One pass: let requests in, run everybody's next tokens, hand out what came of it."""
        self._expire()
        self._admit()
        try:
            pieces = self._pieces()
            if not pieces:
                return
            logits, order, answers = self._run([piece for _, piece, _ in pieces])
        except (torch.OutOfMemoryError, MemoryError) as error:
            self._shrink(error)
            return
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # how torch says it on a CPU
                raise
            self._shrink(error)
            return
        self._take(logits, [pieces[i] for i in order], answers)

    def _run(self, pieces: list[Piece]) -> tuple[Tensor, Iterable[int], Answers | None]:
        """Logits of a pass, the order in which they stand, and the likeliest tokens where they are known already."""
        native = self.weights.native
        if native is not None and native.takes(pieces, self.pool):
            logits, answers = native(pieces, self.pool)
            return logits, range(len(pieces)), answers
        plan, order = lay_out(pieces, self.device)
        if self.graphs is not None and self.graphs.takes(plan):
            return self.graphs(plan), order, None
        return forward(self.weights, self.pool, plan), order, None

    @property
    def device(self) -> torch.device:
        return self.weights.embed.weight.device

    # Letting in

    def _expire(self) -> None:
        if self.limits.seconds is not None:
            late = time.monotonic() - self.limits.seconds
            for s in [*self.running, *(s for q in self.waiting.values() for s in q)]:
                if s.began < late:
                    self._end(s, "error", f"took longer than {self.limits.seconds} s")

    def _admit(self) -> None:
        """Take clients in turn while there are rows, and pages for their prompts."""
        new: list[Sequence] = []
        pages = self.pool.n_free - len(self.running)  # a page for each that runs, to grow
        while self.waiting and len(self.running) + len(new) < self.max_rows:
            client, queue = next(iter(self.waiting.items()))
            needed = pages_for(len(queue[0].tokens) + 1)
            if needed > pages and (self.running or new):
                break
            pages -= needed
            new.append(queue.popleft())
            self.waiting.move_to_end(client)
            if not queue:
                del self.waiting[client]
        self.running += new
        seeing = [s for s in new if s.pictures]
        if seeing:
            self.encode(seeing)
        for s in new:
            if s.random is None:
                s.random = generator(s.sampling, self.device)

    def encode(self, new: list[Sequence]) -> None:
        """Give new sequences their pictures; one whose pictures cannot be encoded ends."""
        assert self.cache is not None, "a model without an encoder is given no pictures"
        try:
            with torch.inference_mode():
                for s in new:
                    s.keys = self.cache.keys(s.pictures)
                self.cache.encode((s.keys, s.pictures) for s in new)
                for s in new:
                    s.encoded = self.cache.acquire(s.keys)
                self.cache.shrink()
        except Exception as error:
            if len(new) > 1:  # one by one, so that only the one that cannot be encoded fails
                for s in new:
                    if s.encoded is None:
                        self.encode([s])
                return
            self._end(new[0], "error", f"its pictures could not be encoded: {error}")

    # Running

    def _pieces(self) -> list[tuple[Sequence, Piece, list[int]]]:
        """What runs now: the sequence, its next tokens, and those of them that are guesses."""
        pieces, budget = [], self.limits.chunk
        for s in list(self.running):
            if s not in self.running:  # gave its pages to one before it
                continue
            pending = len(s.tokens) - s.done
            n = pending if pending == 1 else min(pending, budget)
            if n == 0:
                continue
            guesses: list[int] = []
            if s.sampling.lookup and n == pending and s.made:
                room = min(s.sampling.max_new_tokens - s.made - 1, self.weights.config.max_seq_len - len(s.tokens))
                guesses = guess(s.tokens, min(s.sampling.lookup, max(room, 0)))
            if not self._make_room(s, s.done + n + len(guesses)):
                continue
            budget -= n if pending > 1 else 0
            tokens = s.tokens[s.done : s.done + n] + guesses
            n_logits = 1 + len(guesses) if n == pending else 0
            piece = Piece(tokens, s.done, s.pages, s.seen(s.done, len(tokens)), n_logits)
            pieces.append((s, piece, guesses))
        return [p for p in pieces if p[0] in self.running]

    def _make_room(self, s: Sequence, n_tokens: int) -> bool:
        """Pages for n tokens of a sequence, taken from those that came last if need be."""
        while True:
            try:
                self.pool.grow(s.pages, n_tokens)
                return True
            except OutOfPages:
                last = max(self.running, key=lambda r: r.number)
                if last is s and len(self.running) == 1:
                    self._end(s, "error", "its text does not fit the engine's cache; give it more cache_tokens")
                else:
                    self._put_back(last)
                if last is s:
                    return False

    def reserve(self, pages: list[int], n_tokens: int) -> None:
        """Pages for n tokens of somebody who is no sequence."""
        while True:
            try:
                return self.pool.grow(pages, n_tokens)
            except OutOfPages:
                if not self.running:
                    raise RequestFailed(
                        f"{n_tokens} tokens do not fit the engine's cache; give it more cache_tokens"
                    ) from None
                self._put_back(max(self.running, key=lambda r: r.number))

    def _put_back(self, s: Sequence) -> None:
        """To the front of its client's queue; what it has said becomes part of what is read again."""
        self._leave(s)
        self.waiting.setdefault(s.client, deque()).appendleft(s)

    def _shrink(self, error: Exception) -> None:
        """Out of memory: run with half as many."""
        log.warning("out of memory with %d sequences (%s)", len(self.running), str(error).split("\n")[0])
        if len(self.running) == 1:
            self._end(self.running[0], "error", "out of memory")
            return
        self.max_rows = max(1, len(self.running) // 2)
        log.warning("going on with %d at a time; the others are read again", self.max_rows)
        for s in sorted(self.running, key=lambda r: r.number)[self.max_rows :][::-1]:
            self._put_back(s)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _take(self, logits: Tensor, pieces: list[tuple[Sequence, Piece, list[int]]], answers: Answers | None) -> None:
        """Hand out the tokens that logits (in the order of the pieces) lead to."""
        rows = [s for s, piece, _ in pieces for _ in range(piece.n_logits)]
        if answers is None or any(s.sampling.temperature or s.matcher for s in rows):
            answers = self._choose(logits, rows)
        chosen = iter(answers)
        for s, piece, guesses in pieces:
            s.done += len(piece.tokens) - len(guesses)
            said = list(itertools.islice(chosen, piece.n_logits))
            if any(p != p for _, p in said):
                self._end(s, "error", "the model gave logits that are not finite; check its weights and dtype")
            elif s.matcher is not None and s.matcher.error:
                self._end(s, "error", f"no token can go on within the constraint ({s.matcher.error})")
            elif said:
                self._say(s, said, guesses)

    @torch.inference_mode()
    def _choose(self, logits: Tensor, rows: list[Sequence]) -> Answers:
        """Each row's token by its own settings, with one transfer from the device."""
        if not rows:
            return []
        scores = logits.float()  # also the faster to take the largest of
        allowed = mask(scores, [s.matcher for s in rows])
        chosen = choose(allowed, [s.sampling for s in rows], [s.random for s in rows])
        logprobs = scores.gather(1, chosen[:, None])[:, 0] - scores.logsumexp(-1)
        both = torch.stack([chosen.double(), logprobs.double()], dim=1).tolist()
        return [(int(token), p) for token, p in both]

    def _say(self, s: Sequence, answers: list[tuple[int, float]], guesses: list[int]) -> None:
        """New tokens of a sequence: one, and one more for each guess that was right."""
        for i, (token, logprob) in enumerate(answers):
            s.made += 1
            full = s.made >= s.sampling.max_new_tokens or len(s.tokens) >= self.weights.config.max_seq_len
            finish = "stop" if token in self.stop_ids else "length" if full else None
            s.tokens.append(token)
            if s.matcher is not None:
                s.matcher.advance(token)
            notes = tuple(s.encoded.notes) if finish and s.encoded else ()
            s.steps.append(Step(s.row, token, finish, logprob, notes=notes))
            if finish:
                self._leave(s)
                s.finish = finish
                return
            if i == len(guesses) or guesses[i] != token:
                return
            s.done += 1  # the guess was right: its keys and values are there

    # Letting out

    def _end(self, s: Sequence, finish: str, error: str | None = None) -> None:
        """An end that is no answer."""
        self._leave(s, wipe=error is not None)
        s.finish = finish
        s.steps.append(Step(s.row, -1, finish, 0.0, error))

    def _leave(self, s: Sequence, wipe: bool = False) -> None:
        if s in self.running:
            self.running.remove(s)
        elif s in (queue := self.waiting.get(s.client, deque())):
            queue.remove(s)
            if not queue:
                del self.waiting[s.client]
        self.pool.release(s.pages, wipe)
        if s.encoded is not None and self.cache is not None:
            self.cache.release(s.keys)
            s.encoded = None
        s.done = 0
