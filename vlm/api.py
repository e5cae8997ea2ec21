"""What users call: caption pictures, ask about them, chat; models come from `vlm.loading`.

One picture in, one result out; a list in, a list out, in order. A bad picture in a list becomes an error result in its
place. A result is a string that also carries how it came about.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import torch

from adapters.lora import activate
from vlm.calibration import Calibration
from vlm.chat import Chat, Prompt, ask_each
from vlm.chat_template import TemplateChat
from vlm.choices import Ranking, answer_tokens, check_choices, ranked
from vlm.engine import Constraint, Engine, Limits, Picture, RequestFailed, Sampling, Step, json_schema, regex
from vlm.guard.shield import Shield
from vlm.image import ImageError, open_image, preprocess
from vlm.model import VisionLanguageModel
from vlm.result import Result

CAPTION_REQUEST = "Describe the picture."
CONSTRAINTS: dict[str, Callable[[Any], Constraint]] = {"regex": regex, "json_schema": json_schema}


class VLM:
    """A model ready to be used; make one with `vlm.load()`."""

    def __init__(
        self, model: VisionLanguageModel, chat: Chat | TemplateChat, generation: dict | None = None, source: str = "",
        *, limits: Limits | None = None, fuse: bool = True, shield: Shield | None = None,
        calibration: Calibration | None = None,
    ):  # fmt: skip
        self.model, self.chat_format, self.shield = model, chat, shield
        self.generation, self.source = generation or {}, source
        self.engine = Engine(model, stop_ids=chat.stop_ids, limits=limits, fuse=fuse, tokenizer=chat.tokenizer)
        self.calibration = self._fitted = calibration
        self._observe()
        if shield is not None:
            shield.guards(self.engine)

    @overload
    def caption(self, image: list, *, max_new_tokens: int = 96, batch_size: int = 16, **sampling) -> list[Result]: ...

    @overload
    def caption(self, image: Any, *, max_new_tokens: int = 96, batch_size: int = 16, **sampling) -> Result: ...

    def caption(
        self, image: Any, *, max_new_tokens: int = 96, batch_size: int = 16, **sampling
    ) -> Result | list[Result]:
        """Describe a picture, or each of a list of pictures.

        Args:
            image: a PIL image, path, bytes, uint8 array (H, W, 3), CHW tensor or data URL, or a list of those.
            max_new_tokens, **sampling: see `vlm.engine.Sampling`.
        """
        return self.answer(image, CAPTION_REQUEST, max_new_tokens=max_new_tokens, batch_size=batch_size, **sampling)

    @overload
    def answer(
        self, image: list, question: str | list[str], *, max_new_tokens: int = 48, batch_size: int = 16, **sampling
    ) -> list[Result]: ...

    @overload
    def answer(
        self, image: Any, question: list[str], *, max_new_tokens: int = 48, batch_size: int = 16, **sampling
    ) -> list[Result]: ...

    @overload
    def answer(
        self, image: Any, question: str, *, max_new_tokens: int = 48, batch_size: int = 16, **sampling
    ) -> Result: ...

    def answer(
        self, image: Any, question: str | list[str], *, max_new_tokens: int = 48, batch_size: int = 16, **sampling
    ) -> Result | list[Result]:
        """Answer a question about a picture, or one question per picture for lists (a single question serves all).

        Args:
            max_new_tokens, **sampling: see `vlm.engine.Sampling`; also regex="[0-9]+" or json_schema={...}, which the
                whole answer matches unless it ends with "length" (vlm/engine/constraints.py), and lookup=4, which
                guesses as many tokens from the text so far: the same greedy answer, in fewer passes where it repeats.

        Raises:
            ValueError: an empty question, lists of different lengths, a single picture that cannot be read, or a
                constraint that nothing can match. ImportError: a constraint without llguidance.
        """
        single, conversations = ask_each(image, question)
        chosen = self._sampling(max_new_tokens, greedy=True, **sampling)
        results = self._run(conversations, chosen, batch_size, refuse=single)
        return results[0] if single else results

    def generate(
        self, conversations: list[list[dict]], *, max_new_tokens: int = 256, batch_size: int = 16, **sampling
    ) -> list[Result]:
        """The next turn of each conversation in OpenAI's message form, with any number of pictures or none.

        What cannot be answered becomes an error result in its place.
        """
        return self._run(conversations, self._sampling(max_new_tokens, **sampling), batch_size)

    @overload
    def choose(self, image: list, question: str | list[str], choices: list, normalize: bool = ...) -> list[Ranking]: ...

    @overload
    def choose(self, image: Any, question: list[str], choices: list, normalize: bool = ...) -> list[Ranking]: ...

    @overload
    def choose(self, image: Any, question: str, choices: list, normalize: bool = ...) -> Ranking: ...

    def choose(
        self, image: Any, question: str | list[str], choices: list[str] | list[list[str]], normalize: bool = False
    ) -> Ranking | list[Ranking]:
        """Rank given answers by how likely each is: the prompt is read once, then all choices in one pass.

        Args:
            image, question: as for `answer`.
            choices: two or more for all questions, or a list of them for each.
            normalize: rank by log-probability per byte, so that long choices have no handicap.

        Returns:
            Choices with their shares; none of them, with the finish_reason "content_filter", where the guard refused.

        Raises:
            ValueError: as for `answer`; fewer than two choices, an empty one, one given twice, or one that the model's
                context cannot hold.
        """
        single, conversations = ask_each(image, question)
        each = isinstance(choices, (list, tuple)) and any(isinstance(c, (list, tuple)) for c in choices)
        if each and len(choices) != len(conversations):
            raise ValueError(f"found {len(choices)} lists of choices and {len(conversations)} questions; give one each")
        given = [check_choices(c) for c in (choices if each else [choices] * len(conversations))]
        results = []
        for messages, texts in zip(conversations, given, strict=True):
            start = time.monotonic()
            warnings: tuple[str, ...] = ()
            try:
                if self.shield:
                    messages = self.shield.freeze(messages)
                    refused, warnings = self.shield.choose(messages, texts)
                    if refused is not None:
                        results.append(Ranking([], error=str(refused), finish_reason=refused.finish_reason))
                        continue
                prompt, pictures = self._prepare(messages, {})
                tokens = [answer_tokens(self.chat_format, messages, prompt, text.strip()) for text in texts]
                logprobs = self.engine.rank(prompt, pictures, tokens)
            except (ImageError, RequestFailed) as error:
                if single:
                    raise
                results.append(Ranking([], error=str(error), finish_reason="error"))
                continue
            took, order = round(time.monotonic() - start, 4), ranked(texts, logprobs, normalize)
            results.append(Ranking(order, prompt_tokens=len(prompt.tokens), seconds=took, warnings=warnings))
        return results[0] if single else results

    @overload
    def chat(
        self, messages: list[dict], *, stream: Literal[False] = False, max_new_tokens: int = 256, **sampling
    ) -> Result: ...

    @overload
    def chat(
        self, messages: list[dict], *, stream: Literal[True], max_new_tokens: int = 256, **sampling
    ) -> Generator[str]: ...

    def chat(
        self, messages: list[dict], *, stream: bool = False, max_new_tokens: int = 256, **sampling
    ) -> Generator[str] | Result:
        """Go on with a conversation in OpenAI's message form.

        With `stream` an iterator of text pieces comes back; closing it stops the generation and frees its memory. The
        last piece is a `Result` without text that says how it went; with a guard it may be a refusal, "content_filter".
        Options are those of `answer`.
        """
        chosen = self._sampling(max_new_tokens, **sampling)
        if not stream:
            return self._run([messages], chosen, 1, refuse=True)[0]
        if self.shield:
            messages = self.shield.freeze(messages)
        prompt, pictures = self._prepare(messages, {})
        self.engine.check(prompt)
        pieces = self._stream(prompt, pictures, chosen)
        return self.shield.stream(messages, pieces) if self.shield else pieces

    def describe(self) -> dict[str, Any]:
        """Name, size and config as plain data."""
        from vlm.config import to_dict
        from vlm.engine.quantize import count_weights, quantization_of

        parameters = {name: count_weights(part) for name, part in self.model.named_children()}
        found = quantization_of(self.model)
        return {
            "source": self.source,
            "parameters": sum(parameters.values()),
            "parts": parameters,
            "device": str(self.engine.device),
            "dtype": str(self.engine.dtype).removeprefix("torch."),
            "quantization": found and found["kind"],
            "guard": self.shield and self.shield.name,
            "config": to_dict(self.model.config),
        }

    def save(self, path: str | Path, layout: str = "native") -> None:
        """Write the model folder; layout "native" is ours, "hub" is what transformers loads."""
        from vlm.checkpoints import Checkpoint, save_checkpoint

        parts = Checkpoint(
            config=self.model.config,
            model=self.model,
            chat=self.chat_format,
            generation=self.generation,
            source=self.source,
            calibration=self.calibration,
        )
        save_checkpoint(parts, path, layout=layout)

    def quantize(self, kind: str, *, encoder: bool = False, device: torch.device | None = None) -> None:
        """Turn the linear layers into "int8", "int4" or "fp8"; see `vlm.engine.quantize.quantize`."""
        from vlm.engine.quantize import quantize

        quantize(self.model, kind, encoder=encoder, device=device)
        self.engine.refresh()

    def load_adapter(self, folder: str | Path, name: str = "default") -> None:
        """Add a LoRA adapter that `vlm train` or PEFT wrote, and use it; see `vlm.checkpoints.peft.load_adapter`.

        The model's calibration is not the adapted model's: there is none while an adapter is in use.

        Raises:
            ValueError: no adapter, a damaged one or one of another model; the model is then as it was.
        """
        from vlm.checkpoints.peft import load_adapter
        from vlm.engine.quantize import quantization_of

        if found := quantization_of(self.model):
            raise ValueError(
                f"an adapter cannot be added to {found['kind']} weights; load both at once: "
                "vlm.load(model, adapter=..., quantization=...) takes it into the weights first"
            )
        load_adapter(self.model, folder, name)
        self.calibration = None
        self._observe()

    def use_adapter(self, name: str | None) -> None:
        """Answer with the adapter of this name from now on; None is the model without any.

        Raises:
            ValueError: an unknown name, with the nearest one.
        """
        activate(self.model, name)
        self.calibration = self._fitted if name is None else None
        self._observe()

    def _observe(self) -> None:
        """Have the engine read the weights anew, and note of its pictures how far they lie from the model's worlds."""
        self.engine.observe("domain", self.calibration.domain if self.calibration else None)

    def _sampling(self, max_new_tokens: int, greedy: bool = False, **options) -> Sampling:
        """The caller's options over the checkpoint's own; short answers, and those with guesses, are greedy."""
        greedy = greedy or bool(options.get("lookup"))
        known = {
            k: self.generation[k] for k in ("temperature", "top_p", "top_k") if k in self.generation and not greedy
        }
        constraints = [make(asked) for k, make in CONSTRAINTS.items() if (asked := options.pop(k, None)) is not None]
        if len(constraints) > 1:
            raise ValueError("found both regex and json_schema, expected one of them")
        if unknown := set(options) - {"temperature", "top_p", "top_k", "seed", "lookup"}:
            expected = "temperature, top_p, top_k, seed, lookup, regex or json_schema"
            raise ValueError(f"unknown option {sorted(unknown)[0]!r}; expected {expected}")
        return Sampling(max_new_tokens=max_new_tokens, constraint=next(iter(constraints), None), **{**known, **options})

    def _prepare(self, messages: list[dict], seen: dict[int, Picture]) -> tuple[Prompt, list[Picture]]:
        """Lay out one conversation and open its pictures; `seen` holds pictures of this call by identity."""
        prompt = self.chat_format.encode(messages)
        pictures = []
        for source in prompt.images:
            if id(source) not in seen:
                seen[id(source)] = preprocess(open_image(source), self.model.config.image)
            pictures.append(seen[id(source)])
        return prompt, pictures

    def _run(
        self, conversations: list[list[dict]], sampling: Sampling, batch_size: int, refuse: bool = False
    ) -> list[Result]:
        """All conversations, through the guard where there is one."""
        generate = partial(self._generate, sampling=sampling, batch_size=batch_size, refuse=refuse)
        return self.shield.run(conversations, generate, batch_size, refuse) if self.shield else generate(conversations)

    def _generate(
        self, conversations: list[list[dict]], sampling: Sampling, batch_size: int, refuse: bool
    ) -> list[Result]:
        """All conversations, `batch_size` at a time; what cannot be answered gets an error result, or raises it."""
        results: list[Result | None] = [None] * len(conversations)
        asked: list[tuple[int, Prompt, float]] = []
        seen: OrderedDict[int, Picture] = OrderedDict()

        def prepared():
            for i, messages in enumerate(conversations):
                try:
                    prompt, pictures = self._prepare(messages, seen)
                    self.engine.check(prompt)
                except ValueError as error:
                    if refuse:
                        raise
                    results[i] = Result("", finish_reason="error", error=str(error))
                    continue
                while len(seen) > 2 * batch_size:
                    seen.popitem(last=False)
                asked.append((i, prompt, time.monotonic()))
                yield prompt, pictures, sampling

        for number, steps in self.engine.run(prepared(), rows=batch_size):
            i, prompt, began = asked[number]
            text = self._text([s.token for s in steps if s.says], sampling)
            results[i] = result = self._result(prompt, steps, time.monotonic() - began, text)
            if refuse and result.error:
                raise RequestFailed(result.error)
        return [r for r in results if r is not None]

    def _stream(self, prompt: Prompt, pictures: list[Picture], sampling: Sampling) -> Generator[str]:
        """Text as it grows, then a `Result` without any; bytes that are not yet a whole character are held back."""
        began, passed, ids, said = time.monotonic(), [], [], ""
        steps = self.engine.follow(self.engine.submit(prompt, pictures, sampling))
        try:
            for step in steps:
                if step.error:
                    raise RequestFailed(step.error)
                passed.append(step)
                if step.says:
                    ids.append(step.token)
                text = self._text(ids, sampling)
                if text.endswith("\ufffd") and not step.finish:
                    continue
                if len(text) > len(said):
                    yield text[len(said) :]
                    said = text
            yield self._result(prompt, passed, time.monotonic() - began, "")
        finally:
            steps.close()

    def _text(self, ids: list[int], sampling: Sampling) -> str:
        """What was said, without white space around it unless a constraint asked for some."""
        text = self.chat_format.tokenizer.decode(ids)
        return text if sampling.constraint else text.strip()

    def _result(self, prompt: Prompt, steps: list[Step], seconds: float, text: str) -> Result:
        last, known = steps[-1], self.calibration
        if last.error:
            return Result(
                "", finish_reason="error", prompt_tokens=len(prompt.tokens), seconds=seconds, error=last.error
            )
        logprobs = [s.logprob for s in steps]
        return Result(
            text,
            finish_reason=last.finish or "length",
            prompt_tokens=len(prompt.tokens),
            completion_tokens=len(steps),
            seconds=round(seconds, 4),
            logprob=sum(logprobs) / len(steps),
            confidence=known.confidence(logprobs) if known and last.finish == "stop" else None,
            domain_score=max((note["domain"] for note in last.notes if "domain" in note), default=None),
        )
