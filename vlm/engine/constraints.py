"""Answers that match a regular expression or a JSON schema: what may not follow is masked before a token is chosen.

    vlm.load().answer(picture, "How many circles?", regex="[0-9]+")
    Sampling(constraint=json_schema({"type": "object", "properties": {...}, "required": [...]}))

Notable here:
- The automata are llguidance's (MIT). Of the libraries that do this it alone brings nothing along (xgrammar asks for
  triton, TVM's FFI and transformers), has one wheel for every Python, reads a `tokenizers` file as it is, and walks the
  vocabulary as the answer grows (outlines-core multiplies vocabulary and pattern out before the first token).
- The state of an answer belongs to its sequence, so one that gave its pages back goes on where it was.
- Masks are made on the host while the device still computes the logits, one bit per token, and moved in one piece.

Shapes: R rows, V vocabulary, W = V / 8 bytes of a mask.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from vlm.chat import Tokenizer

JSON_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as json.dumps writes
COMPILED = 64  # constraints that stay compiled


@dataclass(frozen=True)
class Constraint:
    """What an answer must be; made by `regex` and `json_schema`, which check it."""

    kind: Literal["regex", "json_schema"]
    text: str


def regex(pattern: str) -> Constraint:
    """The whole answer matches this regular expression.

    Args:
        pattern: in the syntax of Rust's regex crate, which is Python's without look-around and back-references.

    Raises:
        ValueError: what is wrong with it. ImportError: llguidance is missing, with the command that installs it.
    """
    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"regex: found {pattern!r}, expected a pattern such as '[0-9]+' or 'yes|no'")
    return _checked(Constraint("regex", pattern))


def json_schema(schema: dict[str, Any]) -> Constraint:
    """The answer is one line of JSON, laid out as json.dumps does, that is valid under this schema.

    Args:
        schema: keywords that the library cannot enforce are refused, not ignored.

    Raises:
        ValueError: what is wrong with it. ImportError: llguidance is missing, with the command that installs it.
    """
    if not isinstance(schema, dict):
        raise ValueError(f"json_schema: found {schema!r:.80}, expected a dict such as {{'type': 'object', ...}}")
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise ValueError(f"json_schema: no plain JSON ({error})") from None
    return _checked(Constraint("json_schema", text))


def _library():
    try:
        import llguidance
    except ImportError:
        raise ImportError("constrained answers need llguidance: pip install 'gated-vlm[constraints]'") from None
    return llguidance.LLMatcher, llguidance.LLTokenizer


def _grammar(constraint: Constraint) -> str:
    matcher, _ = _library()
    if constraint.kind == "regex":
        return matcher.grammar_from_regex(constraint.text)
    return matcher.grammar_from_json_schema(constraint.text, JSON_LAYOUT)


def _checked(constraint: Constraint) -> Constraint:
    wrong, messages = _library()[0].validate_grammar_with_warnings(_grammar(constraint))
    if wrong:
        raise ValueError(f"{constraint.kind} {constraint.text!r:.80}: {_reason(messages[0])}")
    return constraint


def _reason(message: str) -> str:
    """The line of the library's message that says what is wrong."""
    lines = message.strip().splitlines()
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return re.sub(r"^at \d+\(\d+\): ", "", (named or lines)[0])


class Matcher:
    """How far one answer has come in its constraint."""

    def __init__(self, state):
        self._state = state
        self.error: str | None = None  # why nothing can follow, found by `allowed`

    def allowed(self) -> bytes:
        """The tokens that may follow, a bit each; those that end the answer only where it is whole."""
        bits = self._state.compute_bitmask()
        if error := self._state.get_error():
            self.error = _reason(error)
        return bits

    def advance(self, token: int) -> None:
        """Take the token that was chosen."""
        self._state.consume_token(token)


class Vocabulary:
    """The tokens of one engine as the library reads them, and the constraints compiled for them."""

    def __init__(self, tokenizer: Tokenizer | None, stop_ids: frozenset[int]):
        self.tokenizer, self.stop_ids = tokenizer, stop_ids
        self._compiled = lru_cache(maxsize=COMPILED)(self._compile)

    def matcher(self, constraint: Constraint) -> Matcher:
        """A fresh state.

        Raises:
            ValueError: no answer of these tokens can match.
        """
        return Matcher(self._compiled(constraint).deep_copy())

    @cached_property
    def _tokens(self):
        if self.tokenizer is None or not self.stop_ids:
            raise ValueError("constrained answers need Engine(tokenizer=...) and stop_ids that end an answer")
        try:
            return _library()[1](self.tokenizer.rust.to_str(), eos_token=sorted(self.stop_ids))
        except ValueError as error:
            raise ValueError(f"constrained answers: llguidance cannot read this tokenizer ({error})") from None

    def _compile(self, constraint: Constraint):
        state = _library()[0](self._tokens, _grammar(constraint), log_level=0)
        trial = Matcher(state.deep_copy())
        trial.allowed()
        if trial.error:
            raise ValueError(f"{constraint.kind} {constraint.text!r:.80}: no answer can match it ({trial.error})")
        return state


def mask(logits: Tensor, matchers: Sequence[Matcher | None]) -> Tensor:
    """Logits (R, V) -> the same with -inf where a row's constraint forbids the token; other rows untouched."""
    rows = [i for i, m in enumerate(matchers) if m is not None]
    if not rows:
        return logits
    width = -(-logits.shape[-1] // 8)
    host = b"".join(m.allowed()[:width].ljust(width, b"\0") for m in matchers if m is not None)
    bits = torch.frombuffer(bytearray(host), dtype=torch.uint8).to(logits.device)  # (rows * W,)
    places = torch.arange(8, dtype=torch.uint8, device=logits.device)
    allowed = (bits[:, None] >> places & 1).view(len(rows), -1)[:, : logits.shape[-1]].bool()  # (rows, V)
    where = torch.tensor(rows, device=logits.device)
    return logits.index_copy(0, where, logits[where].masked_fill(~allowed, -torch.inf))
