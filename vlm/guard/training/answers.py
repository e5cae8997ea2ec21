"""Answers, alone and behind their question, as the guard is shown them: a typed text of a request each.

Harmless are the right answers to questions about the shipped model's worlds and harmless requests that are complied
with; harmful are harmful ones with what was said to them, be it compliance or a word or two.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from vlm.data.worlds import sample
from vlm.data.worlds.language import pick
from vlm.guard.training.example import Example
from vlm.guard.training.pictures import WORLDS

OPENINGS = {
    "train": ("Sure, here is how:", "Of course.", "Here are the steps.", "Yes.", "Happy to help.", "OK, do this first:",
              "This is what you need:", "Good question."),
    "val": ("Certainly, this is how it goes:", "No problem."),
    "test": ("Here you go.", "Absolutely, begin like this:"),
}  # fmt: skip
SHORT = ("yes", "no", "Yes.", "No.", "true", "3", "red")


def answers(texts: Sequence[Example], seed: int, count: int, split: str) -> list[Example]:
    """Half of them about the worlds, half to typed requests.

    Args:
        texts: requests without pictures, of both kinds.
    """
    rng = random.Random(f"guard/answers/{split}/{seed}")
    found: list[Example] = []
    index = 0
    while len(found) < count:
        drawn = sample(index, seed=seed + 5, mixture=WORLDS, size=96, split=split, n_questions=2)
        said = [q.answer if rng.random() < 0.5 else f"{q.text}\n{q.answer}" for q in drawn.questions]
        for text in (*said, pick(rng, drawn.captions)):
            found.append(Example(text, family=f"answer:{drawn.world}", source="answers"))
            asked = pick(rng, texts)
            answer = pick(rng, SHORT) if rng.random() < 0.5 else f"{pick(rng, OPENINGS[split])} {asked.text}"
            found.append(replace(asked, text=f"{asked.text}\n{answer}", source="answers"))
        index += 1
    return found[:count]
