"""Words for all worlds: noun phrases, articles, plurals, numbers, positions, and the choice among phrasings.

- A phrasing table maps a key to (phrasings for training, phrasings kept for the test split). The test split is asked
  only in sentences whose form no training question had, made of words that training questions use.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from vlm.data.sample import Question

T = TypeVar("T")
Phrasings = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIRECTION = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
GENERIC = ("shape", "object", "thing")
_IRREGULAR = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "foot": "feet", "leaf": "leaves"}


def pick(rng: random.Random, options):
    """One of a sequence; `rng.choice` without its overhead, which counts here."""
    return options[int(rng.random() * len(options))]


def either(rng: random.Random, yes: Sequence[T], no: Sequence[T]) -> tuple[bool, T] | None:
    """(truth, option) with equal chance of both; None where one is never true here, for then the words would tell."""
    if not yes or not no:
        return None
    truth = rng.random() < 0.5
    return truth, pick(rng, yes if truth else no)


def article(words: str) -> str:
    """a/an before the words, by sound."""
    vowel = words[0].lower() in "aeiou" and not words.startswith(("uni", "ufo", "one"))
    return ("an " if vowel or words.startswith(("hour", "honest")) else "a ") + words


def plural(words: str) -> str:
    """The plural of a noun phrase that ends in its noun."""
    head, _, noun = words.rpartition(" ")
    if noun in _IRREGULAR:
        noun = _IRREGULAR[noun]
    elif noun.endswith(("s", "x", "ch", "sh", "ato")):
        noun += "es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        noun = noun[:-1] + "ies"
    else:
        noun += "s"
    return f"{head} {noun}" if head else noun


@lru_cache(maxsize=8192)
def noun(look: tuple[str, str, str], generic: str = "shape") -> tuple[str, str, str]:
    """(size, colour, what), any of them "" -> ("red circle", "a red circle", "red circles")."""
    words = " ".join(w for w in (look[0], look[1], look[2] or generic) if w)
    return words, article(words), plural(words)


def at(cell: str) -> str:
    """A cell of the 3 x 3 grid as a place: "top left" -> "at the top left", "left" -> "on the left"."""
    if cell == "center":
        return "in the center"
    return f"on the {cell}" if cell in ("left", "right") else f"at the {cell}"


def sentence(text: str) -> str:
    """First letter large."""
    return text[0].upper() + text[1:]


def listing(parts: list[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def phrasings(table: Phrasings, key: str, split: str) -> tuple[str, ...]:
    """The phrasings of a key that a split may use."""
    return table[key][1 if split == "test" else 0]


def ask(asker, table: dict, n: int, families: tuple[str, ...] | None, tries: int = 5) -> list[Question]:
    """Up to n different questions, families in turn from a random order; `table` maps a family to a method of asker.

    A method returns None where its random choice led nowhere; each turn tries some times, so that the families which
    need a lucky choice are not crowded out by the easy ones.
    """
    names = list(table) if families is None else [f for f in families if f in table]
    asker.rng.shuffle(names)
    questions: list[Question] = []
    seen = set()
    for turn in range(3 * n if names else 0):
        if len(questions) == n:
            break
        method = table[names[turn % len(names)]]
        for _ in range(tries):
            question = method(asker)
            if question and question.text not in seen:
                seen.add(question.text)
                questions.append(question)
                break
    return questions
