"""The guard around a model: judges what goes in and what comes out, refuses, warns, and writes down what it did.

Notable here:
- It fails closed: a guard that raises, takes longer than the policy's timeout or returns no `Verdict`, and an audit log
  that cannot be written, all count as unsafe ("guard failed").
- Pictures are opened once, before they are judged: the model sees the pixels that the guard saw, whatever becomes of a
  file in between.
- Streamed text is held back until the window that holds it was judged; the end waits for a verdict on the whole.
- A refusal is a `Result` with finish_reason "content_filter"; it names categories, never the guard's prompt or words.
"""

import hashlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from vlm.chat import content_parts
from vlm.engine import Engine
from vlm.guard import DEFAULT
from vlm.guard.head import is_guard
from vlm.guard.llama_guard import LlamaGuard
from vlm.guard.policy import Policy, Verdict, read_policy, worst
from vlm.guard.small import SmallGuard
from vlm.guard.taxonomy import CATEGORIES
from vlm.image import open_image
from vlm.result import Result

log = logging.getLogger("vlm.guard")
FAILED = "guard failed"


class Guard(Protocol):
    """Whatever judges: the last message, or the response to all of them."""

    def check(self, messages: list[dict], response: str | None = None) -> Verdict: ...


class Shield:
    """A guard with a policy.

    Args:
        policy: the package's own where absent.
    """

    def __init__(self, guard: Guard, policy: Policy | None = None):
        self.guard, self.policy = guard, policy or read_policy()
        if self.policy.audit and not (folder := Path(self.policy.audit).absolute().parent).is_dir():
            raise ValueError(f"audit: {folder} is no folder; make it, or name another file in the policy")
        self._writing = threading.Lock()

    def guards(self, engine: Engine) -> None:
        """Take a place before this model; a guard that sees pictures as the model does may use its engine.

        Raises:
            ValueError: the model sees pictures, and the guard does not.
        """
        if engine.model.config.encoder is not None:
            self.needs_eyes()
        if callable(share := getattr(self.guard, "share", None)):
            share(engine)

    def needs_eyes(self) -> None:
        """There will be pictures.

        Raises:
            ValueError: the guard reads text only, and the policy wants pictures judged.
        """
        if self.policy.pictures and not getattr(self.guard, "sees", True):
            raise ValueError(
                f"{self.name}: this guard reads text only; take a vision guard, or let "
                "pictures pass unjudged with 'pictures: false' in the policy"
            )

    @property
    def name(self) -> str:
        """Who judges."""
        return getattr(self.guard, "source", "") or type(self.guard).__name__

    def choose(self, messages: list[dict], choices: Sequence[str]) -> tuple[Result | None, tuple[str, ...]]:
        """A refusal of messages that `freeze` returned, or of a choice as the answer to them; and warnings."""
        found = [self._prompt(messages)]
        if self.policy.action_for(found[0]) != "refuse" and "response" in self.policy.stages:
            found += [self.check(messages, choice) for choice in choices]
        refused = next((v for v in found if self.policy.action_for(v) == "refuse"), None)
        warned = dict.fromkeys(warning for v in found for warning in self._warnings(v))
        return (None if refused is None else refusal(refused)), tuple(warned)

    def check(self, messages: list[dict], response: str | None = None) -> Verdict:
        """The guard's verdict by the policy, on the last message or the response; unsafe where the guard fails."""
        began = time.monotonic()
        try:
            verdict = self.policy.apply(self._ask(messages, response))
        except Exception as error:
            log.warning("the guard failed: %s", type(error).__name__)  # its message may hold what was judged
            log.debug("the guard failed", exc_info=error)
            verdict = Verdict(False, stage="prompt" if response is None else "response", source="shield", reason=FAILED)
        try:
            self.record(messages, response, verdict, time.monotonic() - began)
        except Exception as error:
            log.error("%s cannot be written: %s", self.policy.audit, type(error).__name__)
            return replace(verdict, safe=False, categories=(), source="shield", reason=FAILED)
        return verdict

    def run(
        self, conversations: Sequence[list[dict]], generate: Callable[[list[list[dict]]], list[Result]],
        rows: int, raise_errors: bool = False,
    ) -> list[Result]:  # fmt: skip
        """Answers to those conversations that may be answered, refusals in the place of the others.

        Args:
            generate: conversations -> results, for what has passed.
            rows: how many conversations' pictures are open at once.
            raise_errors: whether what cannot be read raises, or becomes an error result.
        """
        results: list[Result] = []
        for start in range(0, len(conversations), rows):
            results += self._some(conversations[start : start + rows], generate, raise_errors)
        return results

    def stream(self, messages: list[dict], pieces: Generator[str]) -> Generator[str]:
        """The pieces that have passed, a window later; at the end a `Result`: a refusal, what stops the answer, or the
        model's own with the warnings.

        Args:
            messages: what `freeze` returned.
            pieces: the model's, about one token each, and its `Result` at the end; nothing is asked of them before the
                prompt has passed.
        """
        end = Result("")

        def words() -> Generator[str]:
            nonlocal end
            for piece in pieces:
                if isinstance(piece, Result):
                    end = piece
                else:
                    yield piece

        try:
            verdict = self._prompt(messages)
            if self.policy.action_for(verdict) == "refuse":
                yield refusal(verdict)
                return
            warned = self._warnings(verdict)
            if "response" not in self.policy.stages:
                yield from words()
            else:
                verdict = yield from self._windows(messages, words())
                if self.policy.action_for(verdict) == "refuse":
                    yield Result(f"\n\n[{cause(verdict, 'The answer was stopped')}]", finish_reason="content_filter")
                    return
                warned += self._warnings(verdict)
            end.warnings = warned
            yield end
        finally:
            pieces.close()

    def freeze(self, messages: list[dict], opened: dict[int, Any] | None = None) -> list[dict]:
        """The messages with their pictures opened, so that nobody can exchange them afterwards.

        Args:
            opened: pictures by the identity of their source, for several conversations about the same.

        Raises:
            ValueError: a message or a picture that cannot be read.
        """
        opened = {} if opened is None else opened
        frozen = []
        for message in messages:
            parts = content_parts(message)
            for part in parts:
                if part["type"] == "image" and id(part["image"]) not in opened:
                    opened[id(part["image"])] = (part["image"], open_image(part["image"]))  # the source keeps its id
            shown = [p | {"image": opened[id(p["image"])][1]} if p["type"] == "image" else p for p in parts]
            content = message["content"]
            frozen.append({"role": message["role"], "content": content if isinstance(content, str) else shown})
        return frozen

    def record(self, messages: list[dict], response: str | None, verdict: Verdict, seconds: float) -> None:
        """A line of the audit log, on the disk before anything is said: hashes, and words where the policy asks so."""
        if self.policy.audit is None:
            return

        def words(text: str) -> dict[str, str]:
            return {"sha256": text_hash(text)} | ({"text": text} if self.policy.audit_contents else {})

        turns = []
        for message in messages:
            parts = content_parts(message)
            text = "".join(p["text"] for p in parts if p["type"] == "text")
            pictures = [picture_hash(p["image"]) for p in parts if p["type"] == "image"]
            turns.append({"role": message["role"], **words(text), "pictures": pictures})
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **verdict.to_dict(),
            "action": self.policy.action_for(verdict),
            "seconds": round(seconds, 4),
            "messages": turns,
            "response": None if response is None else words(response),
        }
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        with self._writing:
            file = os.open(self.policy.audit, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                if os.write(file, data) != len(data):
                    raise OSError("the disk is full")
                os.fsync(file)
            finally:
                os.close(file)

    def _ask(self, messages: list[dict], response: str | None) -> Verdict:
        """The guard's own verdict; a guard that takes too long is left to itself, in its thread."""
        box: queue.SimpleQueue[object] = queue.SimpleQueue()

        def work() -> None:
            try:
                box.put(self.guard.check(messages, response))
            except BaseException as error:
                box.put(error)

        threading.Thread(target=work, daemon=True, name="guard").start()
        try:
            found = box.get(timeout=self.policy.timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(found, Verdict):
            return found
        raise found if isinstance(found, Exception) else TypeError(type(found).__name__)

    def _prompt(self, messages: list[dict]) -> Verdict:
        """Of all that the model will read; words put into the assistant's mouth are judged besides the user's last."""
        if "prompt" not in self.policy.stages:
            return Verdict(True, source="policy")
        last = max((i for i, m in enumerate(messages) if m["role"] != "assistant"), default=len(messages) - 1)
        asked = [messages[: last + 1], *([messages] if last + 1 < len(messages) else [])]
        return worst([self.check(part) for part in asked])

    def _some(
        self, conversations: Sequence[list[dict]], generate: Callable[[list[list[dict]]], list[Result]],
        raise_errors: bool,
    ) -> list[Result]:  # fmt: skip
        results: dict[int, Result] = {}
        passed: dict[int, tuple[list[dict], Verdict]] = {}
        opened: dict[int, Any] = {}
        for i, messages in enumerate(conversations):
            try:
                frozen = self.freeze(messages, opened)
            except ValueError as error:
                if raise_errors:
                    raise
                results[i] = Result("", finish_reason="error", error=str(error))
                continue
            verdict = self._prompt(frozen)
            if self.policy.action_for(verdict) == "refuse":
                results[i] = refusal(verdict)
            else:
                passed[i] = frozen, verdict
        answers = generate([frozen for frozen, _ in passed.values()]) if passed else []
        for (i, (frozen, verdict)), answer in zip(passed.items(), answers, strict=True):
            results[i] = self._review(frozen, answer, self._warnings(verdict))
        return [results[i] for i in range(len(conversations))]

    def _review(self, messages: list[dict], answer: Result, warned: tuple[str, ...]) -> Result:
        """An answer that has passed, with its warnings, or a refusal in its place."""
        if not answer.error and "response" in self.policy.stages:
            verdict = self.check(messages, str(answer))
            if self.policy.action_for(verdict) == "refuse":
                return refusal(verdict, answer)
            warned += self._warnings(verdict)
        answer.warnings = warned
        return answer

    def _windows(self, messages: list[dict], pieces: Generator[str]) -> Generator[str, None, Verdict]:
        """Let pieces go as their windows pass; returns what stopped them, or the worst of what was found."""
        size, overlap = self.policy.stream_window, self.policy.stream_overlap
        said: list[str] = []
        found: list[Verdict] = []
        shown = 0
        for piece in pieces:
            said.append(piece)
            first = max(0, shown - overlap)
            if len(said) - first >= size:
                verdict = self.check(messages, "".join(said[first:]))
                if self.policy.action_for(verdict) == "refuse":
                    return verdict
                found.append(verdict)
                yield "".join(said[shown:])
                shown = len(said)
        verdict = self.check(messages, "".join(said))
        if self.policy.action_for(verdict) == "refuse":
            return verdict
        if shown < len(said):
            yield "".join(said[shown:])
        return worst([*found, verdict])

    def _warnings(self, verdict: Verdict) -> tuple[str, ...]:
        if self.policy.action_for(verdict) != "warn":
            return ()
        return (f"{verdict.stage}: {', '.join(str(CATEGORIES[c]) for c in verdict.categories)}",)


def cause(verdict: Verdict, what: str) -> str:
    """A sentence that says why."""
    if verdict.reason == FAILED:
        return f"{what}: the safety check could not be completed."
    names = ", ".join(str(CATEGORIES[c]) for c in verdict.categories if c in CATEGORIES)
    return f"{what}: it falls under {names}." if names else f"{what}: it was found unsafe."


def refusal(verdict: Verdict, answer: Result | None = None) -> Result:
    """The answer instead of an answer."""
    what = "Sorry, I cannot help with this request" if verdict.stage == "prompt" else "Sorry, I cannot show the answer"
    said = Result("") if answer is None else answer
    return Result(
        cause(verdict, what), finish_reason="content_filter", prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens, seconds=said.seconds,
    )  # fmt: skip


def text_hash(text: str) -> str:
    """SHA-256 of UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def picture_hash(source: Any) -> str:
    """SHA-256 of width, height and RGB bytes, so that the same pixels have one hash in every file format."""
    image = open_image(source)
    return hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes()).hexdigest()


def load_shield(
    guard: Guard | str | os.PathLike | None, policy: Policy | str | os.PathLike | None = None, *,
    device: str | torch.device = "auto",
) -> Shield | None:  # fmt: skip
    """What `vlm.load` and the commands take: "default", a guard's folder or a guard, and a policy's file or a policy.

    Raises:
        ValueError: a policy without a guard, or a policy or checkpoint that cannot be read.
    """
    if guard is None:
        if policy is not None:
            raise ValueError("found a policy without a guard; give the guard too: guard='default' or a folder")
        return None
    if isinstance(guard, Shield):
        if policy is not None:
            raise ValueError("found a policy beside a Shield, which has its own; give one of the two")
        return guard
    rules = policy if isinstance(policy, Policy) else read_policy(policy) if policy is not None else read_policy()
    if guard == DEFAULT:
        guard = SmallGuard.load(policy=rules)
    elif isinstance(guard, str | os.PathLike):
        source = guard if isinstance(guard, str) else Path(guard)
        small = is_guard(guard)
        guard = SmallGuard.load(source, rules) if small else LlamaGuard.load(source, rules, device=device)
    elif not callable(getattr(guard, "check", None)):
        raise ValueError(f"guard: found {type(guard).__name__}, expected a folder or an object with check(messages)")
    return Shield(guard, rules)
