"""Prompts of `prompts.yaml`: an item -> the words that a model reads."""

import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from vlm.evaluation.tasks.item import LETTERS, Item


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A wording and the limit of what is said to it."""

    name: str
    version: int
    text: str
    max_new_tokens: int
    regime: str

    def ask(self, item: Item) -> str:
        """The words put to the model; choices that the wording has no place for stand below the question."""
        choices = "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(item.choices))
        text = self.text if choices else self.text.replace("\n{choices}", "")
        below = f"\n{choices}" if choices and "{choices}" not in text else ""
        fields = {"{question}": item.question + below, "{choices}": choices}
        return re.sub(r"\{(question|choices)\}", lambda field: fields[field.group()], text)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def prompts(path: str | None = None) -> dict[str, Prompt]:
    """Name -> prompt, of the package's file or of another in its form."""
    import yaml

    file = Path(path) if path else Path(__file__).with_name("prompts.yaml")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return {
            name: Prompt(name=name, version=content["version"], **fields) for name, fields in content["prompts"].items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file}: {reason}; expected version and prompts: NAME: text, max_new_tokens, regime"
        ) from None


def find_prompt(name: str, path: str | None = None) -> Prompt:
    """The prompt of that name.

    Raises:
        ValueError: unknown, with the nearest name.
    """
    known = prompts(path)
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise ValueError(
            f"unknown prompt {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}")
        )
    return known[name]
