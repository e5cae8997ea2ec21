"""All that the shipped guard is trained and validated on, drawn by seed, and what its reader and encoder make of it.

Notable here:
- Written prompts and AILuminate's are moved into pictures, laid beside pictures, and left as they are; emoji pairs and
  the model's own worlds are pictures from the start.
- While training, half of the print is what the reader reads and half the true words with letters changed at random:
  the head shall neither trust the reader's spelling nor depend on its habits.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vlm.guard.head import pool_tokens
from vlm.guard.reading import Reader
from vlm.guard.training import pictures, prompts
from vlm.guard.training.answers import answers
from vlm.guard.training.example import Example
from vlm.guard.training.padding import padded
from vlm.image import preprocess


@dataclass(frozen=True)
class Counts:
    """How many of each are drawn.

    Args:
        prompts: written requests; of those, beside AILuminate's, others are moved into pictures.
        typeset: requests in pictures. beside: beside pictures that have nothing to do with them.
        emoji: pairs of a picture and a question. worlds: questions about the model's own worlds.
        headings: requests that stand over a list, typed; they are moved into pictures as well.
        printed: what is read in pictures and typed beside them, without the pictures. carriers: what is typed there.
        padded: requests among harmless sentences, typed and printed.
        answers: right ones about the worlds, and requests complied with.
        repeats: how often each of AILuminate's prompts is taken.
    """

    prompts: int = 130_000
    typeset: int = 1_500
    beside: int = 400
    emoji: int = 2_800
    worlds: int = 1_600
    headings: int = 30_000
    printed: int = 20_000
    carriers: int = 6_000
    padded: int = 16_000
    answers: int = 4_000
    repeats: int = 6

    def scaled(self, share: float, repeats: int = 1) -> "Counts":
        """The same in proportion, but for AILuminate's prompts; of what there is, two or more."""
        counts = {name: n and max(2, round(n * share)) for name, n in vars(self).items()}
        return Counts(**counts | {"repeats": repeats})


TEXTS = Counts(typeset=0, beside=0, emoji=0, worlds=0, printed=0, answers=0)


def draw(
    split: str, seed: int, counts: Counts, ailuminate: Sequence[Example] = (), leave_out: str = "",
    emoji: str | None = None,
) -> list[Example]:  # fmt: skip
    """Examples of one split, in a fixed order.

    Args:
        ailuminate: its prompts of that split.
        leave_out: a category of which no harmful example is drawn.
        emoji: zip of emoji; the system font where absent.
    """
    written = prompts.examples(seed, counts.prompts, split, leave_out)
    collected = [e for e in ailuminate if not leave_out or e.category != leave_out]
    heads = prompts.examples(seed + 1, counts.headings, split, leave_out, headings=True) if counts.headings else []
    texts = written + heads + collected
    shown = texts + heads * 4  # headings are what stands in pictures
    found = written + heads + collected * counts.repeats
    rng = random.Random(f"guard/carriers/{split}/{seed}")
    for _ in range(counts.carriers):
        found.append(Example(prompts.carrier(rng, split), family="carrier", source="templates"))
    if counts.padded:
        found += padded(texts, seed, counts.padded, split)
    if counts.answers:
        found += answers(texts, seed, counts.answers, split)
    if counts.printed:
        found += pictures.printed(shown, seed, counts.printed, split)
    if counts.typeset:
        found += pictures.typeset_pairs(shown, seed, counts.typeset, split)
    if counts.beside:
        found += pictures.beside_pictures(texts, seed, counts.beside, split)
    if counts.emoji:
        found += [
            e for e in pictures.emoji_pairs(seed, counts.emoji, split, emoji) if e.category != leave_out or not e.unsafe
        ]
    if counts.worlds:
        found += pictures.worlds(seed, counts.worlds, split, emoji)
    return found


def see(
    examples: Sequence[Example], reader: Reader, noisy: random.Random | None = None
) -> tuple[list[Example], list[Tensor | None]]:
    """Examples with the words that the guard reads in their pictures, and the states (S, C) of their first picture.

    Args:
        noisy: draws which words are the reader's and which the true ones misspelt; None takes the reader's.
    """
    seen: list[Example] = []
    states: list[Tensor | None] = []
    for example in examples:
        if not example.pictures:
            seen.append(example)
            states.append(None)
        elif noisy is not None and noisy.random() < 0.5:
            words = prompts.misspell(example.read, noisy, noisy.uniform(0, 0.12))
            seen.append(replace(example, pictures=(), read=words))
            engine = reader.engine
            picture = example.pictures[0]
            states.append(
                None if engine is None else _small(engine.look(preprocess(picture, engine.model.config.image)).cpu())
            )
        else:
            look = reader.look(example.pictures[:1])[0]
            seen.append(replace(example, pictures=(), read=look.words))
            states.append(None if look.states is None else _small(look.states))
    return seen, states


def print_alone(seen: Sequence[Example]) -> list[Example]:
    """What is read in pictures as it is judged alone: as if typed, and as harmful as what was set there.

    Args:
        seen: what `see` made of examples with pictures.
    """
    found = []
    for example in seen:
        if example.read.strip():
            said = example if example.source == "typeset" else Example("", family=example.family, source=example.source)
            found.append(replace(said, text=example.read, read=""))
    return found


def _small(states: Tensor) -> Tensor:
    """What a head takes of a picture's states, in 16 bits: thousands of pictures are held at once."""
    return pool_tokens(states.float()).half()
