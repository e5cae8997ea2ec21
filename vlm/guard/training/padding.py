"""Requests among harmless sentences, which take nothing away from a harmful one and add nothing to a harmless one.

Notable here:
- Harmful and harmless requests are padded alike: as many sentences, from the same pool, in the same places, typed or
  printed. The pool has statements of the split's own and, while training, harmless requests.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from vlm.data.worlds.language import pick
from vlm.guard.training import prompts
from vlm.guard.training.ailuminate import SEXUAL, YOUNG
from vlm.guard.training.example import Example

PLACES = ("before", "behind", "around")
MOST = 6  # sentences


def padded(
    texts: Sequence[Example], seed: int, count: int, split: str, most: int = MOST, printed: float = 0.25
) -> list[Example]:
    """Requests with 1 to `most` harmless sentences around them, half of them unsafe.

    Args:
        texts: typed requests of both kinds. While training, harmless ones of them stand among the
            sentences too, and some texts are sentences alone.
        printed: the share that is moved into print, as what is read there, beside something that says nothing.
    """
    rng = random.Random(f"guard/padding/{split}/{seed}")
    kinds = [[t for t in texts if t.unsafe is unsafe and t.text.strip()] for unsafe in (True, False)]
    requests = kinds[1] if split == "train" else []
    found = []
    for i in range(count):
        chosen = pick(rng, kinds[i % 2] or kinds[1])
        if not chosen.unsafe and requests and rng.random() < 0.3:  # nothing is asked at all
            chosen = Example(statement(rng, split), family="padding", source="padded")
        while True:
            made = pad(chosen, rng, split, rng.randint(1, most), requests)
            if rng.random() < printed:
                read = prompts.misspell(made.text, rng, max(rng.uniform(-0.03, 0.06), 0.0))
                made = replace(made, text=prompts.carrier(rng, split), read=read)
            if made.category not in SEXUAL or not YOUNG.search(f"{made.text} {made.read}"):
                break  # the young stand beside no sexual request
        found.append(made)
    return found


def pad(example: Example, rng: random.Random, split: str, count: int, requests: Sequence[Example] = ()) -> Example:
    """A request with `count` harmless sentences around it; some are harmless `requests`, where there are any."""
    if not count:
        return example
    said = [
        pick(rng, requests).text if requests and rng.random() < 0.25 else statement(rng, split) for _ in range(count)
    ]
    place = pick(rng, PLACES)
    before = {"before": count, "behind": 0, "around": rng.randint(0, count)}[place]
    text = " ".join(map(_ended, [*said[:before], example.text, *said[before:]]))
    if rng.random() < 0.15:  # some never end a sentence
        text = re.sub(r"[.!?,]", "", text).lower()
    return replace(example, text=text, source="padded")


def statement(rng: random.Random, split: str) -> str:
    """One harmless sentence; each split has its own."""
    grammar = prompts.load_grammar()
    return grammar.expand(pick(rng, grammar.padding[split]), rng)


def _ended(text: str) -> str:
    return text if text.rstrip()[-1:] in ".!?" else f"{text.rstrip()}."
