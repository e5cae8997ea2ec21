"""Given answers, ranked by how likely the model is to say them.

Notable here:
- A choice is what the assistant would say, its end-of-turn included: "a" is then the answer "a" and no longer the
  beginning of "a b", and the two compete fairly.
- A sum over tokens favours short choices. Normalised by their bytes (as lm-evaluation-harness does for acc_norm) they
  compete whatever the tokenizer makes of them.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from vlm.chat import IGNORE, Chat, ChatError, Prompt
from vlm.chat_template import TemplateChat


@dataclass(frozen=True)
class Choice:
    """One of the given answers.

    Attributes:
        logprob: of all its tokens with the end of the turn, in nats.
        share: softmax over the choices, of logprob, or of logprob per UTF-8 byte where normalised.
    """

    text: str
    logprob: float
    share: float


class Ranking(list[Choice]):
    """The choices, the likeliest first.

    Attributes:
        prompt_tokens: count.
        seconds: for the picture, the prompt and the choices.
        error: what went wrong with this item, or why it was refused; None where nothing did. It has no choices then.
        finish_reason: "stop", "content_filter" (the guard refused) or "error".
        warnings: what the guard found and let pass.
    """

    def __init__(
        self, choices: list[Choice], *, prompt_tokens: int = 0, seconds: float = 0.0, error: str | None = None,
        finish_reason: str = "stop", warnings: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(choices)
        self.prompt_tokens, self.seconds, self.error = prompt_tokens, seconds, error
        self.finish_reason, self.warnings = finish_reason, warnings

    @property
    def best(self) -> str | None:
        """The likeliest choice, None after an error."""
        return self[0].text if self else None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {"best": self.best, "choices": [asdict(choice) for choice in self], **vars(self)}


def check_choices(choices: Any) -> list[str]:
    """The choices of one question.

    Raises:
        ValueError: fewer than two, an empty one, or one given twice.
    """
    if not isinstance(choices, (list, tuple)) or not all(isinstance(c, str) for c in choices):
        raise ValueError(f"choices: found {choices!r:.80}, expected a list of texts such as ['yes', 'no']")
    choices = list(choices)
    if len(choices) < 2:
        raise ValueError(f"choices: found {len(choices)}, expected at least two, such as ['yes', 'no']")
    seen: set[str] = set()
    for choice in choices:
        if not choice.strip():
            raise ValueError(f"choices: found an empty one, {choice!r}; every choice needs text")
        if choice.strip() in seen:
            raise ValueError(f"choices: found {choice!r} twice; give every choice once")
        seen.add(choice.strip())
    return choices


def answer_tokens(chat: Chat | TemplateChat, messages: list[dict], prompt: Prompt, text: str) -> list[int]:
    """What the assistant adds to the prompt by saying this text, its end-of-turn included."""
    n = len(prompt.tokens)
    try:
        whole = chat.encode([*messages, {"role": "assistant", "content": text}], generate=False)
        spoken = [i for i, label in enumerate(whole.labels) if label != IGNORE and i >= n]
    except ChatError:  # the template rewrites what assistants say
        spoken = []
    if spoken and whole.tokens[:n] == prompt.tokens:
        tokens = whole.tokens[n : spoken[-1] + 1]
    else:  # the template lets the answer and the end of the prompt share a token
        tokens = chat.tokenizer.encode(text)
    return tokens if tokens[-1] in chat.stop_ids else [*tokens, _end_of_turn(chat)]


def _end_of_turn(chat: Chat | TemplateChat) -> int:
    """The tokenizer's own end where it stops answers, any other that does where it does not."""
    own = chat.tokenizer.id(chat.special.get("eos_token", "")) if isinstance(chat, TemplateChat) else None
    return own if own in chat.stop_ids and own is not None else min(chat.stop_ids)


def ranked(choices: list[str], logprobs: list[float], normalize: bool) -> list[Choice]:
    """Choices with their log-probabilities -> the same with shares, the likeliest first."""
    sizes = [len(c.strip().encode()) if normalize else 1 for c in choices]
    scores = [logprob / size for logprob, size in zip(logprobs, sizes, strict=True)]
    weights = [math.exp(score - max(scores)) for score in scores]
    order = sorted(range(len(choices)), key=lambda i: (-scores[i], choices[i]))
    return [Choice(choices[i], logprobs[i], weights[i] / sum(weights)) for i in order]
