"""The engine: prefill, then one token per step for every row, with what the rows need owned here.

Notable here:
- Rows of different lengths share a batch without padding inside the cache: each writes at its own position.
- Pictures are encoded once per call, equal ones once in all; rows without a picture run beside rows with several.
- A generator that is closed drops cache, pictures and rows at once: nothing lives on the model.
- A text token goes on seeing the last pictures of its prompt while the answer is written.

Shapes: R rows, I pictures per row, T prompt tokens, V vocabulary.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.cross_attention import KeyValue
from vlm.chat import Prompt
from vlm.engine.cache import KVCache
from vlm.engine.sampling import Sampling, choose
from vlm.image import collate_images
from vlm.model import VisionLanguageModel, token_intervals

Picture = tuple[Tensor, tuple[int, int]]  # tiles (L, 3, T, T) and grid (rows, cols)


@dataclass(frozen=True)
class Step:
    """One new token of one row; `finish` is set on the last one."""

    row: int
    token: int
    finish: str | None  # "stop", "length" or None
    logprob: float


class Engine:
    """Generates for one model; holds its stop ids and padding id, no other state."""

    def __init__(self, model: VisionLanguageModel, *, stop_ids: frozenset[int], pad_id: int):
        self.model, self.stop_ids, self.pad_id = model, stop_ids, pad_id

    @property
    def device(self) -> torch.device:
        return self.model.decoder.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.decoder.embed_tokens.weight.dtype

    def check(self, prompt: Prompt) -> None:
        """Refuse what cannot be answered before any work is done."""
        limit = self.model.config.decoder.max_seq_len
        if len(prompt.tokens) >= limit:
            raise ValueError(
                f"the prompt has {len(prompt.tokens)} tokens, the model's context holds {limit} with the answer; "
                "shorten the question"
            )

    @torch.inference_mode()
    def prefill(
        self, prompts: list[Prompt], pictures: list[list[Picture]], slots: int
    ) -> tuple[KVCache, dict | None, Tensor, Tensor]:
        """Run all prompts: cache, image keys and values, intervals of the last token (R, 2), its logits (R, V)."""
        lengths = torch.tensor([len(p.tokens) for p in prompts])
        width = int(lengths.max())
        tokens = torch.full((len(prompts), width), self.pad_id)
        sees = torch.zeros(len(prompts), width, 2, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt.tokens)] = torch.tensor(prompt.tokens)
            sees[row, : len(prompt.tokens)] = torch.tensor(prompt.sees)
        image, intervals = None, None
        if any(pictures):
            tiles, grid = collate_images(pictures)
            image, n_tokens = self.model.encode_images(tiles.to(self.device, self.dtype), grid.to(self.device))
            intervals = token_intervals(sees.to(self.device), n_tokens)
        cache = KVCache(self.model.config.decoder, len(prompts), slots, self.device, self.dtype)
        positions = torch.arange(width, device=self.device).expand(len(prompts), -1)
        decoder = self.model.decoder
        hidden = decoder.hidden_states(
            tokens.to(self.device), image=image, intervals=intervals, positions=positions, cache=cache
        ).to(self.device)  # where the layers are spread over several devices
        rows, last = torch.arange(len(prompts), device=self.device), (lengths - 1).to(self.device)
        seen = intervals[rows, last] if intervals is not None else torch.zeros(len(prompts), 2, dtype=torch.long)
        return cache, image, seen, decoder.logits(hidden[rows, last]).to(self.device)

    @torch.inference_mode()
    def steps(self, prompts: list[Prompt], pictures: list[list[Picture]], sampling: Sampling) -> Generator[Step]:
        """Yield tokens as they come, rows interleaved; close the iterator to stop and free everything."""
        for prompt in prompts:
            self.check(prompt)
        longest = max(len(p.tokens) for p in prompts)
        slots = min(longest + sampling.max_new_tokens, self.model.config.decoder.max_seq_len)
        cache, image, seen, logits = self.prefill(prompts, pictures, slots)
        rows = list(range(len(prompts)))
        generators = [self._generator(sampling, row) for row in rows]
        positions = torch.tensor([len(p.tokens) for p in prompts], device=self.device)
        made = 0
        while rows:
            if not bool(torch.isfinite(logits).all()):
                raise FloatingPointError("the model gave logits that are not finite; check its weights and dtype")
            tokens = choose(logits, sampling, generators)
            logprobs = logits.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()
            made += 1
            keep = []
            for i, (row, token) in enumerate(zip(list(rows), tokens.tolist(), strict=True)):
                full = made >= sampling.max_new_tokens or int(positions[i]) >= slots
                finish = "stop" if token in self.stop_ids else "length" if full else None
                if finish is None:
                    keep.append(i)
                yield Step(row, token, finish, logprobs[i])
            if len(keep) < len(rows):
                index = torch.tensor(keep, device=self.device, dtype=torch.long)
                cache.keep(index)
                tokens, positions, seen = tokens[index], positions[index], seen.to(self.device)[index]
                image = image and {i: KeyValue(*(t[index.to(t.device)] for t in kv)) for i, kv in image.items()}
                rows, generators = [rows[i] for i in keep], [generators[i] for i in keep]
            if rows:
                decoder = self.model.decoder
                hidden = decoder.hidden_states(
                    tokens[:, None], image=image, intervals=seen[:, None], positions=positions[:, None], cache=cache
                ).to(self.device)
                logits, positions = decoder.logits(hidden[:, 0]).to(self.device), positions + 1

    def generate(
        self, prompts: list[Prompt], pictures: list[list[Picture]], sampling: Sampling,
        on_token: Callable[[Step], None] | None = None,
    ) -> list[list[Step]]:  # fmt: skip
        """All rows to their end; the steps of each, in order."""
        out: list[list[Step]] = [[] for _ in prompts]
        for step in self.steps(prompts, pictures, sampling):
            out[step.row].append(step)
            if on_token:
                on_token(step)
        return out

    def _generator(self, sampling: Sampling, row: int) -> torch.Generator | None:
        if sampling.temperature == 0:
            return None
        generator = torch.Generator(self.device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        return generator
