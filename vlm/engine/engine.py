"""The engine: answers for one model, many at a time.

    engine.generate(prompts, pictures, sampling)        all answers
    for step in engine.steps([prompt], [pictures], sampling): ...      tokens as they come
    async for step in engine.stream(prompt, pictures, sampling): ...   the same in asyncio

Notable here:
- All callers share one scheduler and so one batch, from whichever threads they come. Whoever waits for a token runs
  the next pass for everybody: there is no thread in the background, and nothing runs that nobody waits for.
- A generator that is closed, or forgotten, gives back its pages and pictures at once.
- The model keeps no state. Its weights are read in a form of the engine's own (vlm/engine/weights.py), made at the
  first use; `refresh()` makes it again after they have changed.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from collections.abc import Sequence as Seq

import torch

from vlm.chat import Prompt, Tokenizer
from vlm.engine.constraints import Vocabulary
from vlm.engine.encoder import fast
from vlm.engine.forward import Piece, forward, lay_out
from vlm.engine.graphs import Graphs
from vlm.engine.pages import PagePool, pages_for, token_bytes
from vlm.engine.pictures import Notes, Observer, Picture, PictureCache
from vlm.engine.sampling import Sampling
from vlm.engine.scheduler import Limits, QueueFull, RequestFailed, Scheduler, Sequence, Step
from vlm.engine.weights import DecoderWeights
from vlm.model import VisionLanguageModel

Asked = tuple[Prompt, list[Picture], Sampling]


class Stream:
    """Iterates over the tokens of one request; unlike a generator it also ends it when it was never started."""

    def __init__(self, engine: "Engine", sequence: Sequence):
        self.engine, self.sequence = engine, sequence

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Step:
        sequence = self.sequence
        while not sequence.steps:
            if sequence.finish is not None:
                raise StopIteration
            self.engine._advance(sequence)
        return sequence.steps.popleft()

    def close(self) -> None:
        """End the request and free what it holds."""
        self.engine.cancel(self.sequence)
        self.sequence.steps.clear()

    __del__ = close


class Engine:
    """Generates for one model.

    Args:
        stop_ids: tokens that end an answer.
        limits: of rows, memory and time.
        tokenizer: for answers with a constraint.
        fuse: False reads the model's modules as they are, for a model that is still being trained.
        compile: False leaves out compiled passes (vlm/engine/native.py) and attention (vlm/engine/attention.py) on a
            CPU with a compiler, and CUDA graphs (vlm/engine/graphs.py).
    """

    def __init__(
        self, model: VisionLanguageModel, *, stop_ids: frozenset[int], limits: Limits | None = None, fuse: bool = True,
        tokenizer: Tokenizer | None = None, compile: bool = True,
    ):  # fmt: skip
        self.model, self.stop_ids, self.limits, self.fuse = model, stop_ids, limits or Limits(), fuse
        self.compile = compile
        self.vocabulary = Vocabulary(tokenizer, stop_ids)
        self.observers: dict[str, Observer] = {}
        self.version = 0  # counts the refreshes
        self._lock = threading.RLock()
        self._scheduler: Scheduler | None = None

    @property
    def device(self) -> torch.device:
        return self.model.decoder.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.decoder.embed_tokens.weight.dtype

    @property
    def scheduler(self) -> Scheduler:
        """The sequences, pages and pictures, made when they are first needed."""
        with self._lock:
            if self._scheduler is None:
                config, limits = self.model.config.decoder, self.limits
                memory = limits.cache_bytes
                if self.device.type == "cuda":
                    memory = min(memory, torch.cuda.mem_get_info(self.device)[0] // 2)
                each = token_bytes(config, self.dtype, limits.cache_dtype)
                tokens = limits.cache_tokens or max(config.max_seq_len, memory // each)
                pool = PagePool(config, 1 + pages_for(tokens), self.dtype, limits.cache_dtype)
                weights = DecoderWeights(self.model.decoder, self.fuse, compile=self.compile)
                cache = None
                if self.model.config.encoder is not None:
                    encoder = fast(self.model.encoder, compile=self.compile) if self.fuse else None
                    cache = PictureCache(self.model, limits.picture_bytes, self.observers, encoder)
                graphs = Graphs(weights, pool) if self.compile and self.fuse and self.device.type == "cuda" else None
                self._scheduler = Scheduler(weights, pool, cache, self.stop_ids, limits, graphs)
            return self._scheduler

    def refresh(self) -> None:
        """Read the model's weights anew, and forget its pictures: after an adapter was loaded, or training went on."""
        with self._lock:
            if self._scheduler is not None and self._scheduler.busy:
                raise RuntimeError("requests are running; let them end before the weights change")
            self._scheduler = None
            self.version += 1

    def observe(self, name: str, observer: Observer | None) -> None:
        """Note something small of every picture while it is encoded; it comes with `notes` and with the last `Step`.

        Args:
            observer: a picture's tiles (L, 3, T, T) and the encoder's features (L, N, C) -> the note; None ends it.
        """
        self.refresh()
        if observer is None:
            self.observers.pop(name, None)
        else:
            self.observers[name] = observer

    def check(self, prompt: Prompt) -> None:
        """Refuse what cannot be answered before any work is done."""
        limit = self.model.config.decoder.max_seq_len
        if len(prompt.tokens) >= limit:
            raise ValueError(
                f"the prompt has {len(prompt.tokens)} tokens, the model's context holds {limit} with the answer; "
                "shorten the question"
            )
        if len(prompt.images) > self.limits.pictures:
            raise ValueError(
                f"the prompt has {len(prompt.images)} pictures, expected at most {self.limits.pictures}; "
                "ask about fewer, or raise Limits(pictures=...)"
            )
        if self.limits.cache_tokens is not None and len(prompt.tokens) >= self.limits.cache_tokens:
            raise ValueError(
                f"the prompt has {len(prompt.tokens)} tokens, the engine's cache holds {self.limits.cache_tokens}; "
                "shorten the question or raise Limits(cache_tokens=...)"
            )

    def submit(
        self, prompt: Prompt, pictures: list[Picture], sampling: Sampling, *, row: int = 0, client: str = ""
    ) -> Sequence:
        """Queue one request; fetch its tokens with `follow`, end it early with `cancel`.

        Args:
            client: whose request it is; clients take turns.

        Raises:
            QueueFull: too many wait. ValueError: it cannot be answered.
        """
        self.check(prompt)
        matcher = self.vocabulary.matcher(sampling.constraint) if sampling.constraint else None
        sequence = Sequence(prompt, pictures, sampling, row=row, client=client, matcher=matcher)
        with self._lock:
            self.scheduler.submit(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a request and free what it holds; nothing happens if it has ended."""
        with self._lock:
            self.scheduler.cancel(sequence)

    def follow(self, sequence: Sequence) -> "Stream":
        """The tokens of a request as they come; closing or forgetting the iterator cancels it."""
        return Stream(self, sequence)

    def _advance(self, *sequences: Sequence) -> None:
        """Run one pass for everybody, unless another thread has meanwhile made what these wait for."""
        with self._lock:
            if not any(s.steps or s.finish for s in sequences):
                self.scheduler.step()

    def run(self, asked: Iterable[Asked], rows: int | None = None) -> Generator[tuple[int, list[Step]]]:
        """Answers as they are finished, with the number of their request.

        Args:
            asked: read as room comes free, so that pictures of later requests need not be in memory yet.
            rows: how many of these at once, at most; the engine's own limit where absent.
        """
        source = enumerate(asked)
        open_rows: dict[int, Sequence] = {}
        said: dict[int, list[Step]] = {}
        rows = min(rows or self.limits.rows, self.limits.rows)
        try:
            while True:
                for number, (prompt, pictures, sampling) in itertools.islice(source, rows - len(open_rows)):
                    open_rows[number] = self._submit_patiently(prompt, pictures, sampling, number)
                    said[number] = []
                if not open_rows:
                    return
                self._advance(*open_rows.values())
                for number, sequence in list(open_rows.items()):
                    while sequence.steps:
                        said[number].append(sequence.steps.popleft())
                    if sequence.finish:
                        del open_rows[number]
                        yield number, said.pop(number)
        finally:
            for sequence in open_rows.values():
                self.cancel(sequence)

    def _submit_patiently(self, prompt: Prompt, pictures: list[Picture], sampling: Sampling, row: int) -> Sequence:
        while True:
            try:
                return self.submit(prompt, pictures, sampling, row=row)
            except QueueFull:
                with self._lock:
                    self.scheduler.step()

    def generate(
        self, prompts: Seq[Prompt], pictures: Seq[list[Picture]], sampling: Sampling,
        on_token: Callable[[Step], None] | None = None,
    ) -> list[list[Step]]:  # fmt: skip
        """All rows to their end; the steps of each, in order."""
        out: list[list[Step]] = [[] for _ in prompts]
        for step in self.steps(prompts, pictures, sampling):
            out[step.row].append(step)
            if on_token:
                on_token(step)
        return out

    def steps(self, prompts: Seq[Prompt], pictures: Seq[list[Picture]], sampling: Sampling) -> Generator[Step]:
        """Yield tokens as they come, rows interleaved; close the iterator to stop and free everything."""
        for prompt in prompts:
            self.check(prompt)
        sequences: list[Sequence] = []
        try:
            for row, (prompt, shown) in enumerate(zip(prompts, pictures, strict=True)):
                sequences.append(self._submit_patiently(prompt, shown, sampling, row))
            while any(s.finish is None or s.steps for s in sequences):
                self._advance(*(s for s in sequences if s.finish is None or s.steps))
                for s in sequences:
                    while s.steps:
                        yield s.steps.popleft()
        finally:
            for s in sequences:
                self.cancel(s)

    async def stream(
        self, prompt: Prompt, pictures: list[Picture], sampling: Sampling, *, client: str = ""
    ) -> AsyncGenerator[Step]:
        """`follow` for asyncio: passes run in a thread, other tasks go on."""
        sequence = self.submit(prompt, pictures, sampling, client=client)
        try:
            while sequence.finish is None or sequence.steps:
                if not sequence.steps:
                    await asyncio.to_thread(self._advance, sequence)
                while sequence.steps:
                    yield sequence.steps.popleft()
        finally:
            self.cancel(sequence)

    @torch.inference_mode()
    def rank(self, prompt: Prompt, pictures: list[Picture], choices: Seq[list[int]]) -> list[float]:
        """Log-likelihood of each choice as the answer: the prompt is read once, all choices in one pass behind it.

        Args:
            choices: tokens of each, in nats summed over them.
        """
        if not choices or not all(choices):
            raise ValueError(f"choices: found {len(choices)} with an empty one or none, expected tokens in each")
        self.check(prompt)
        limit = self.model.config.decoder.max_seq_len
        if (longest := len(prompt.tokens) + max(map(len, choices))) > limit:
            raise ValueError(
                f"prompt and choice have {longest} tokens, the model's context holds {limit}; shorten them"
            )
        with self._lock:
            scheduler = self.scheduler
            pages: list[int] = []
            sequence = Sequence(prompt, pictures, Sampling(), pages=pages)
            try:
                if pictures:
                    scheduler.encode([sequence])
                    if sequence.finish:
                        raise RequestFailed(sequence.steps[-1].error)
                scheduler.reserve(pages, len(prompt.tokens) + sum(len(c) for c in choices))
                first = self._read(sequence, 0, prompt.tokens)[-1].float().log_softmax(-1)
                scores = [float(first[c[0]]) for c in choices]
                longer = [i for i, c in enumerate(choices) if len(c) > 1]
                if longer:
                    inputs = [t for i in longer for t in choices[i][:-1]]
                    wanted = torch.tensor([t for i in longer for t in choices[i][1:]], device=self.device)
                    lengths = [len(choices[i]) - 1 for i in longer]
                    logits = self._read(sequence, len(prompt.tokens), inputs, lengths).float().log_softmax(-1)
                    each = logits.gather(1, wanted[:, None])[:, 0]
                    for i, part in zip(longer, each.split(lengths), strict=True):
                        scores[i] += float(part.sum())
                return scores
            finally:
                scheduler.pool.release(pages)
                if sequence.encoded is not None and scheduler.cache is not None:
                    scheduler.cache.release(sequence.keys)

    @torch.inference_mode()
    def look(self, picture: Picture) -> torch.Tensor:
        """What cross-attention reads of a picture: keys and values of all its layers, (S, layers * 2 * Hkv * Dh).

        It comes from the cache that prompts about the picture use, so that it is encoded once for both.
        """
        with self._lock:
            cache = self.scheduler.cache
            if cache is None:
                raise ValueError("the model has no image encoder; take one that sees")
            keys = cache.keys([picture])
            cache.encode([(keys, [picture])])
            image = cache.held[keys[0]].image
            states = torch.cat([t[0].transpose(0, 1).flatten(1) for kv in image.values() for t in kv], dim=-1)
            cache.shrink()
            return states

    @torch.inference_mode()
    def notes(self, pictures: list[Picture]) -> list[Notes]:
        """What the observers note of each picture, each by itself; from the cache, like `look`."""
        with self._lock:
            cache = self.scheduler.cache
            if cache is None:
                raise ValueError("the model has no image encoder; take one that sees")
            keys = [cache.keys([picture]) for picture in pictures]
            cache.encode((k, [p]) for k, p in zip(keys, pictures, strict=True))
            found = [cache.held[k[0]].notes[0] for k in keys]
            cache.shrink()
            return found

    def _read(self, s: Sequence, start: int, tokens: list[int], branches: list[int] | None = None) -> torch.Tensor:
        """Logits of these tokens (the last alone where they are no branches), in one pass."""
        n_logits = 1 if branches is None else len(tokens)
        piece = Piece(tokens, start, s.pages, s.seen(start, len(tokens)), n_logits, branches)
        plan, _ = lay_out([piece], self.device)
        return forward(self.scheduler.weights, self.scheduler.pool, plan)
