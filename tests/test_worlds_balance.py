"""A blind reader gains nothing from a phrase: yes and no are about equally frequent with each run of words."""

import collections
import math
import random
import re

import pytest
from test_worlds import draw, emoji_zip  # noqa: F401

from vlm.data.worlds.language import either

YES = {"yes": True, "true": True, "no": False, "false": False}
ASKED = {
    "scenes": ("exist", "compare", "relate", "two-hop", "three-hop", "logic", "same-as", "sides", "agree"),
    "shapes": ("exist", "attribute", "relate", "two-hop"),
    "nlvr": ("exist", "count", "attribute", "compare", "relate", "position"),
    "emoji": ("exist", "category", "relate"),
    "text": ("letter", "compare", "text retrieval"),
    "documents": ("document retrieval", "document reasoning"),
    "charts": ("chart structure", "chart retrieval", "chart reasoning"),
    "pairs": ("pair same", "pair more", "pair exist"),
}
LEAST = 90  # times that a phrase is asked before its share says something


def phrases(text):
    """All runs of one to three words."""
    words = re.findall(r"[a-z0-9'$%.]+", text.lower().rstrip(".?"))
    return {" ".join(words[i : i + k]) for k in (1, 2, 3) for i in range(len(words) - k + 1)}


def shares(samples):
    """(family, phrase) -> how often the answer is no, and yes."""
    found = collections.defaultdict(lambda: [0, 0])
    for s in samples:
        for q in s.questions:
            if (answer := YES.get(q.answer.lower())) is not None:
                for phrase in phrases(q.text):
                    found[q.family, phrase][answer] += 1
    return found


def told(found):
    """What leans to an answer by more than a tenth, and by more than chance (3 standard errors) beyond that."""
    return {
        key: (round(yes / (no + yes), 2), no + yes)
        for key, (no, yes) in found.items()
        if no + yes >= LEAST and abs(yes / (no + yes) - 0.5) > 0.1 + 1.5 / math.sqrt(no + yes)
    }


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("world", ASKED)
def test_no_phrase_tells_the_answer(world, split, emoji_zip):  # noqa: F811
    size = 192 if world in ("text", "documents", "charts") else 96
    drawn = draw(world, 900 if split == "train" else 400, emoji_zip, size=size, split=split, families=ASKED[world])
    found = shares(drawn)
    often = sum(sum(counts) >= LEAST for counts in found.values())
    assert often > (10 if world in ("text", "documents", "charts") else 40)
    assert not told(found)


def test_a_phrase_that_tells_is_found():
    assert told({("f", "or"): [40, 110]}) and not told({("f", "or"): [70, 80]})


def test_either_asks_only_where_both_answers_can_be_had():
    rng = random.Random(0)
    assert either(rng, ["a"], []) is None and either(rng, [], ["b"]) is None
    drawn = collections.Counter(either(rng, ["a"], ["b"]) for _ in range(1000))
    assert set(drawn) == {(True, "a"), (False, "b")} and 400 < drawn[True, "a"] < 600
