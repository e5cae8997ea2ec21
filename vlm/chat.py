"""Messages -> tokens, labels, and which pictures each token sees.

Notable here:
- Messages are OpenAI's: {"role", "content"}; content is a string or parts {"type": "text", "text": ...} and
  {"type": "image", "image": ...}.
- The layout is LLaMA-3's: begin-of-text, then per message start-header, role, end-header, two newlines, content, eot.
- Text typed by anyone is encoded with special tokens switched off: "<|eot_id|>" typed by a user stays those letters.
- A token sees the pictures from the last run of image tokens at or before it (Meta's create_vision_mask); text before
  the first picture sees none.
- Labels cover the assistant's words and their end-of-turn, nothing else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

IGNORE = -100  # the label of tokens that carry no loss
ROLES = ("system", "user", "assistant", "ipython", "tool")
BEGIN, END, EOT, EOM = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"
START_HEADER, END_HEADER, IMAGE, PAD = (
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|image|>",
    "<|finetune_right_pad_id|>",
)


class ChatError(ValueError):
    """Messages that cannot be turned into a prompt; the text says what was found and what to do."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One text row, ready for the model."""

    tokens: list[int]
    labels: list[int]  # the token itself where the assistant speaks, IGNORE elsewhere
    sees: list[tuple[int, int]]  # half-open interval of the pictures that each token sees
    images: list[Any]  # the pictures in order of appearance, as they were given


class Tokenizer:
    """A byte-level BPE that never mistakes typed text for control tokens."""

    def __init__(self, tokenizer: RustTokenizer):
        self.rust = tokenizer
        self._text = RustTokenizer.from_str(tokenizer.to_str())
        self._text.encode_special_tokens = True

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json."""
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such tokenizer file; a model folder needs its tokenizer.json")
        try:
            return cls(RustTokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path}: not a tokenizer.json ({error})") from None

    def encode(self, text: str) -> list[int]:
        """Typed text -> ids; control tokens inside stay text."""
        return self._text.encode(text, add_special_tokens=False).ids

    def spell(self, text: str) -> list[int]:
        """As `encode`, but a word that is not one token goes letter by letter: so are words learnt that are printed."""
        ids: list[int] = []
        for word in re.findall(r"\s?\S+|\s", text):
            whole = self.encode(word)
            ids += whole if len(whole) == 1 else [i for letter in word for i in self.encode(letter)]
        return ids

    def ends(self, text: str) -> list[int]:
        """Where in typed text each token ends, in characters; tokens inside one character end with it."""
        return [end for _, end in self._text.encode(text, add_special_tokens=False).offsets]

    def encode_with_control(self, text: str) -> list[int]:
        """Text of a trusted template -> ids; control tokens inside are control tokens."""
        return self.rust.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Ids -> text without control tokens; bytes that are no UTF-8 yet become U+FFFD."""
        return self.rust.decode(ids, skip_special_tokens=True)

    def id(self, token: str) -> int | None:
        """The id of a control token, None where the vocabulary has no such token."""
        return self.rust.token_to_id(token)


def picture_visibility(tokens: list[int], image_id: int | None) -> list[tuple[int, int]]:
    """Which pictures each token sees: those of the last run of image tokens, up to the token itself."""
    sees, first, count, last_image = [], 0, 0, -2
    for i, token in enumerate(tokens):
        if token == image_id:
            if last_image != i - 1:
                first = count
            count, last_image = count + 1, i
        sees.append((first, count) if count else (0, 0))
    return sees


def _url(part: dict) -> str | None:
    """The address in OpenAI's form of a picture part, None where there is none."""
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    return url if isinstance(url, str) else None


def content_parts(message: dict) -> list[dict]:
    """The parts of a message, checked; a plain string is one text part."""
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise ChatError(f"a message needs the keys 'role' and 'content', found {message!r:.80}")
    if message["role"] not in ROLES:
        raise ChatError(f"unknown role {message['role']!r}; expected one of {', '.join(ROLES)}")
    content = message["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ChatError(f"content must be a string or a list of parts, found {type(content).__name__}")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(part)
        elif kind == "image" and "image" in part:
            parts.append(part)
        elif kind == "image_url" and (url := _url(part)):  # the opener accepts data URLs and refuses addresses
            parts.append({"type": "image", "image": url})
        else:
            raise ChatError(
                "a content part must be {'type': 'text', 'text': ...} or {'type': 'image', 'image': ...}, "
                f"found {part!r:.80}"
            )
    return parts


class Chat:
    """The project's own chat layout over a tokenizer with LLaMA-3's control tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        needed = (BEGIN, END, EOT, START_HEADER, END_HEADER, PAD)
        ids = {t: i for t in needed if (i := tokenizer.id(t)) is not None}
        if missing := [t for t in needed if t not in ids]:
            raise ValueError(f"the tokenizer lacks the control tokens {', '.join(missing)}")
        self.pad_id = ids[PAD]
        self.image_id = tokenizer.id(IMAGE)
        self.stop_ids = frozenset(i for i in map(tokenizer.id, (END, EOT, EOM)) if i is not None)
        self._begin, self._eot = ids[BEGIN], ids[EOT]
        newlines = tokenizer.encode("\n\n")
        self._headers = {
            role: [ids[START_HEADER], *tokenizer.encode(role), ids[END_HEADER], *newlines] for role in ROLES
        }

    def encode(self, messages: list[dict], *, generate: bool = True, spell: bool = False) -> Prompt:
        """Lay messages out as one row; with `generate` the assistant's header stands open at the end.

        Args:
            spell: the assistant's words letter by letter, as in `Tokenizer.spell`.
        """
        if not messages:
            raise ChatError("no messages; give at least one {'role': 'user', 'content': ...}")
        tokens, labels, images = [self._begin], [IGNORE], []

        def add(ids: list[int], learn: bool = False) -> None:
            tokens.extend(ids)
            labels.extend(ids if learn else [IGNORE] * len(ids))

        for message in messages:
            parts = content_parts(message)
            learn = message["role"] == "assistant"
            add(self._headers[message["role"]])
            for part in parts:
                if part["type"] == "text":
                    encode = self.tokenizer.spell if spell and learn else self.tokenizer.encode
                    add(encode(part["text"]), learn)
                else:
                    if self.image_id is None:
                        raise ChatError("this model reads text only; leave the pictures out or load a vision model")
                    images.append(part["image"])
                    add([self.image_id])
            add([self._eot], learn)
        if generate:
            add(self._headers["assistant"])
        return Prompt(tokens=tokens, labels=labels, sees=picture_visibility(tokens, self.image_id), images=images)


def ask_each(image: Any, question: str | list[str]) -> tuple[bool, list[list[dict]]]:
    """A question, or several, about a picture, or several: whether it is one about one, and the messages of each.

    A tuple of pictures stands where a picture may stand: they are asked about together.
    """
    single = not isinstance(image, list) and isinstance(question, str)
    count = len(image) if isinstance(image, list) else 1 if single else len(question)
    images = image if isinstance(image, list) else [image] * count
    questions = [question] * count if isinstance(question, str) else question
    if len(images) != len(questions):
        raise ValueError(f"found {len(images)} pictures and {len(questions)} questions; give one question per picture")
    for text in questions:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the question is empty; ask something like 'How many circles are there?'")
    return single, [
        [{"role": "user", "content": [
            *({"type": "image", "image": i} for i in (group if isinstance(group, tuple) else (group,))),
            {"type": "text", "text": q},
        ]}]
        for group, q in zip(images, questions, strict=True)
    ]  # fmt: skip
