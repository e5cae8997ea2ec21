"""Longer questions and statements about scenes: solved again from the words and the things alone."""

import collections
import re

import pytest
from test_worlds import COLOR, NOUNS, PHRASE, SIDE, attribute_asked, draw, fits, stands, the

from vlm.data.worlds.language import NUMBERS
from vlm.data.worlds.scenes_asker import HELD_OUT
from vlm.data.worlds.wording import SCENES

FIELD = {"color": "color", "shape": "what", "size": "size"}
STEP = re.compile(rf"{SIDE}(?: of)? the ({PHRASE})")
SLOTS = {
    **{k: rf"(?P<{k}>{PHRASE})" for k in ("x", "y", "z")}, "xs": rf"(?P<x>{PHRASE})",
    **{k: f"(?P<{k}>color|shape|size)" for k in ("what", "other")},
    **{k: f"(?P<{k}>left|right|above|below)(?: of)?" for k in ("d", "e")},
}  # fmt: skip


def forms(*keys, held):
    for key in keys:
        for template in SCENES[key][held]:
            parts = re.split(r"\{(\w+)\}", template)
            yield key, re.compile("".join(re.escape(p) if k % 2 == 0 else SLOTS[p] for k, p in enumerate(parts)))


def in_direction(things, direction, of):
    return [t for t in things if t is not of and stands(t, direction, of)]


def asked_among(text, answer, region, head):
    """The answer of what is asked of those that the subject of a question names, out of a region."""
    subject = re.findall(PHRASE, head)[-1]
    found = [t for t in region if fits(subject, t)]
    if answer in ("yes", "no"):
        return "yes" if found else "no"
    if answer.isdigit():
        return str(len(found))
    assert len(found) == 1
    return getattr(found[0], attribute_asked(text))


def solve_walk(q, things, held):
    steps = STEP.findall(q.text)
    assert len(steps) == 3
    here = the(steps[2][1], things)
    for (_, phrase), (side, _) in zip(steps[1::-1], steps[:0:-1], strict=True):
        [here] = [t for t in in_direction(things, side, here) if fits(phrase, t)]
    region = in_direction(things, steps[0][0], here)
    return asked_among(q.text, q.answer, region, q.text[: STEP.search(q.text).start()])


def solve_logic(q, things, held):
    (d, x), (e, y) = STEP.findall(q.text)
    a, b = (in_direction(things, side, the(p, things)) for side, p in ((d, x), (e, y)))
    word = re.search(rf"\b(and|or) {SIDE}", q.text)[1]
    region = [t for t in things if (t in a and t in b) or (word == "or" and (t in a or t in b))]
    return asked_among(q.text, q.answer, region, q.text[: STEP.search(q.text).start()])


def solve_same(q, things, held):
    [(key, g)] = {
        (key, tuple(sorted(m.groupdict().items())))
        for key, form in forms("same count", "same exist", "same attribute", held=held) if (m := form.fullmatch(q.text))
    }  # fmt: skip
    g = dict(g)
    y, field = the(g["y"], things), FIELD[g["what"]]
    others = [t for t in things if t is not y and getattr(t, field) == getattr(y, field) and fits(g["x"], t)]
    if key == "same attribute":
        [other] = others
        return getattr(other, FIELD[g["other"]])
    return str(len(others)) if key == "same count" else "yes" if others else "no"


def solve_sides(q, things, held):
    for key, form in forms("more beside", "as many beside", "same beside", held=held):
        if g := form.fullmatch(q.text):
            y = the(g["y"], things)
            here = [t for t in in_direction(things, g["d"], y) if fits(g["x"], t)]
            if key == "same beside":
                [x] = here
                z, field = the(g["z"], things), FIELD[g["what"]]
                return "yes" if getattr(x, field) == getattr(z, field) else "no"
            opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[g["d"]]
            there = [t for t in in_direction(things, opposite, y) if fits(g["x"], t)]
            return "yes" if (len(here) > len(there) if key == "more beside" else len(here) == len(there)) else "no"
    raise AssertionError(q.text)


NUMBER = "|".join(NUMBERS[1:])
COUNT = rf"(exactly|at least|at most) ({NUMBER})"
HOLDS = {"exactly": int.__eq__, "at least": int.__ge__, "at most": int.__le__}
OF_ALL = f"all but one of the|all|most|half of the|no|{COUNT}"
SHARE = re.compile(rf"({OF_ALL}) ({PHRASE}) (?:is|are) (?:an? )?({COLOR}|{PHRASE})\b")


def solve_statement(q, things, held):
    text = q.text.lower()
    n = lambda phrase: sum(fits(phrase, t) for t in things)  # noqa: E731
    if g := SHARE.search(text):
        word, bound, number, x, y = g.groups()
        total, k = n(x), sum(fits(x, t) and (fits(y, t) if y in NOUNS else t.color == y) for t in things)
        assert total > 1
        if bound:
            truth = HOLDS[bound](k, NUMBERS.index(number))
        else:
            assert word != "most" or k < total
            word = word.removesuffix(" of the")
            truth = {"all": k == total, "most": 2 * k > total, "half": 2 * k == total, "no": not k,
                     "all but one": k == total - 1}[word]  # fmt: skip
    elif g := re.search(rf"there (?:is|are) {COUNT} ({PHRASE})", text):
        truth = HOLDS[g[1]](n(g[3]), NUMBERS.index(g[2]))
    elif g := re.search(rf"there are more ({PHRASE}) than ({PHRASE})", text):
        truth = n(g[1]) > n(g[2])
    elif g := re.search(rf"an? ({PHRASE}) is {SIDE}(?: of)? (?:an?|another) ({PHRASE})", text):
        here, there = ([t for t in things if fits(p, t)] for p in (g[1], g[3]))
        truth = any(stands(a, g[2], b) for a in here for b in there if a is not b)
    else:
        g = re.search(rf"there is an? ({PHRASE}) (and an?|or an?|but no) ({PHRASE})", text)
        a, b = n(g[1]) > 0, n(g[3]) > 0
        truth = a and b if "and" in g[2] else a or b if "or" in g[2] else a and not b
    return "yes" if truth else "no"


SOLVERS = {
    "three-hop": solve_walk, "logic": solve_logic, "same-as": solve_same, "sides": solve_sides, "agree": solve_statement
}  # fmt: skip


@pytest.mark.parametrize("family", SOLVERS)
def test_answers_solved_again(family):
    solved = collections.Counter()
    for split in ("train", "test", "test-combos"):
        for s in draw("scenes", 150, split=split, families=(family,), n_questions=4):
            for q in s.questions:
                assert SOLVERS[family](q, s.things, split == "test") == q.answer, (q, s.things)
                solved["yes/no" if q.answer in ("yes", "no") else "count" if q.answer.isdigit() else "open"] += 1
    kinds = {"sides": 1, "agree": 1}.get(family, 3)
    assert len(solved) == kinds and min(solved.values()) > 10, solved


KINDS = ("all but one", "all ", "most ", "half", "no ", "exactly", "at least", "at most", "more", " or ", "but no")


def test_statements_are_true_and_false_equally_often_and_of_all_kinds():
    answers, words = collections.Counter(), collections.defaultdict(collections.Counter)
    for s in draw("scenes", 500, families=("agree",), n_questions=6):
        for q in s.questions:
            answers[q.answer] += 1
            for word in KINDS:
                if word in q.text.lower().removeprefix("yes or no: "):
                    words[word][q.answer] += 1
    assert 0.45 < answers["yes"] / answers.total() < 0.55
    assert len(words) == len(KINDS) and all(min(c["yes"], c["no"]) > 5 for c in words.values()), words


def test_statements_name_what_the_split_may_name():
    for split in ("train", "test-combos"):
        for s in draw("scenes", 100, split=split, families=("agree",)):
            for q in s.questions:
                if g := SHARE.search(q.text.lower()):
                    x, y = g[4], g[5]
                    shape = next((NOUNS[w] for w in f"{x} {y}".split() if NOUNS.get(w)), "")
                    color = next((w for w in f"{x} {y}".split() if re.fullmatch(COLOR, w)), "")
                    assert ((color, shape) in HELD_OUT) == (split == "test-combos"), q


def test_the_words_of_a_statement_do_not_tell_whether_it_is_true():
    quantifiers = "at most|at least|exactly|all but one|half|no|all|(?<!at )most|more"
    said = collections.defaultdict(list)
    for s in draw("scenes", 900, families=("agree",)):
        for q in s.questions:
            for words in re.findall(rf"\b(?:{quantifiers})\b", q.text):
                said[words].append(q.answer == "yes")
    assert {w for w, answers in said.items() if len(answers) > 150} >= {"at most", "at least", "exactly", "no", "more"}
    assert not {w: sum(a) / len(a) for w, a in said.items() if len(a) > 150 and abs(sum(a) / len(a) - 0.5) > 0.1}
