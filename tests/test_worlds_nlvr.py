"""NLVR's published definition, and statements judged again from the boxes of things in its own pixels."""

import collections
import random
import re
import sys

import pytest
from PIL import Image
from test_worlds import COLOR, draw

from vlm.data.worlds import sample
from vlm.data.worlds.language import NUMBERS

SIDE = {"small": 10, "medium": 20, "large": 30}
NUMBER = rf"(?:{'|'.join(NUMBERS[1:])}|\d+)"
WORDS = rf"((?:(?:small|medium|large|{COLOR}) )*(?:circle|square|triangle|item|object|shape|block)s?)"


def value(number):
    return int(number) if number.isdigit() else NUMBERS.index(number)


def boxes(s):
    """The things of each box, coordinates within it."""
    found = [[], [], []]
    for t in s.things:
        k = t.box[0] // 150
        found[k].append((t, (t.box[0] - 150 * k, t.box[1], t.box[2] - 150 * k, t.box[3])))
    return found


def fits(words, t):
    nouns = ("item", "object", "shape", "block")
    return all(w in (t.what, t.color, t.size) for w in re.sub(r"s$", "", words).split() if w not in nouns)


def touching(a, b):
    """Whether two boxes touch with their middles; None where they nearly touch."""
    gaps = [max(a[k] - b[k + 2], b[k] - a[k + 2]) for k in (0, 1)]
    if max(gaps) >= 4:
        return False
    middles = [a[k] + a[k + 2] == b[k] + b[k + 2] for k in (0, 1)]
    return True if (gaps[0] == 0 and middles[1]) or (gaps[1] == 0 and middles[0]) else None


def test_pictures_follow_the_published_definition():
    towers = scattered = 0
    for s in draw("nlvr", 300, size=100, n_questions=0):
        assert s.image.size == (400, 100)
        for things in boxes(s):
            assert 1 <= len(things) <= 8
            for t, (x0, y0, x1, y1) in things:
                assert 0 <= x0 and x1 <= 100 and 0 <= y0 and y1 <= 100 and x1 - x0 == y1 - y0 == SIDE[t.size]
                assert t.color in ("black", "yellow", "blue") and t.what in ("circle", "square", "triangle")
            tower = len({b[0] for _, b in things}) == 1 and all(t.what == "square" for t, _ in things)
            towers += tower and len(things) > 1
            scattered += not tower
            for i, (_, a) in enumerate(things):
                for _, b in things[:i]:
                    assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    assert towers > 100 and scattered > 300


def judge(text, s):
    """Whether a statement of one of the forms below holds, None for other forms."""
    found = boxes(s)
    n = lambda words, things: sum(fits(words, t) for t, _ in things)  # noqa: E731
    if g := re.search(rf"(?:at most|no more than) ({NUMBER}) {WORDS}(?: can be seen)?\.$", text):
        if "tower" in text:
            return "at most", any(len(b) <= value(g[1]) for b in found)
        return "at most", n(g[2], [x for b in found for x in b]) <= value(g[1])
    if g := re.search(rf"({NUMBER}) {WORDS} and (?:exactly )?({NUMBER}) {WORDS}\.$", text):
        return "numbers", any(n(g[2], b) == value(g[1]) and n(g[4], b) == value(g[3]) for b in found)
    if g := re.search(rf"(?:closely touching|touches|touching) an? {WORDS}\.$", text):
        x = re.search(rf"(?:^|[^a-z])(?:an?|one|some) {WORDS} (?:is )?(?:closely )?touch", text)[1]
        pairs = [(t, a, u, b) for things in found for t, a in things for u, b in things if t is not u]
        hits = [touching(a, b) for t, a, u, b in pairs if fits(x, t) and fits(g[1], u)]
        assert hits
        return "close", True in hits
    if g := re.search(rf"\b(?:all|every|each) {WORDS} (?:are|is) in (?:the same|one) box\.$", text):
        return "same box", sum(n(g[1], b) > 0 for b in found) == 1
    if g := re.search(rf"the base is ({COLOR}) and the top is ({COLOR})", text):
        order = [sorted(b, key=lambda x: -x[1][1]) for b in found if len(b) > 1]
        return "base and top", any((b[0][0].color, b[-1][0].color) == g.groups() for b in order)
    if g := re.search(rf"the (second|third) block from the (top|base).* is ({COLOR})\.$", text):
        k = ("second", "third").index(g[1]) + 1
        order = [sorted(b, key=lambda x: x[1][1] * (1 if g[2] == "top" else -1)) for b in found]
        return "nth", any(len(b) > k and b[k][0].color == g[3] for b in order)
    return None, None


def test_statements_are_judged_again():
    solved = collections.defaultdict(collections.Counter)
    for split in ("train", "test"):
        for s in draw("nlvr", 300, size=100, split=split):
            for q in s.questions:
                key, holds = judge(q.text.lower().rstrip("?"), s)
                if key:
                    assert (q.answer in ("yes", "true")) == holds, (q, s.things)
                    solved[key][holds] += 1
    assert len(solved) == 6 and all(min(c[True], c[False]) > 3 for c in solved.values()), solved


def look_up(text, s):
    """The answer of an open question of one of the forms below, None for other forms."""
    found = dict(zip(("left", "middle", "right"), boxes(s), strict=True))
    n = lambda words, things: sum(fits(words, t) for t, _ in things)  # noqa: E731
    tower = lambda box: [t for t, _ in sorted(found[box], key=lambda x: -x[1][1])]  # noqa: E731
    box = r"(left|middle|right)"
    if g := re.search(
        rf"how many {WORDS} (?:are|can be seen|does|has).*{box} box|{box} box has how many {WORDS}", text
    ):
        return "in box", str(n(g[1] or g[4], found[g[2] or g[3]]))
    if g := re.search(rf"how many (?:of the )?boxes (?:have|contain|hold at least one)(?: an?)? {WORDS}", text):
        return "boxes", str(sum(n(g[1], b) > 0 for b in found.values()))
    if g := re.search(
        rf"(?:which|what)(?: of the)? box(?:es)? (?:has|holds|is|are|contains).* (?:an?|the most) {WORDS}", text
    ):
        counts = {b: n(g[1], things) for b, things in found.items()}
        best = [b for b in counts if counts[b] == max(counts.values())]
        assert len(best) == 1
        return "which", best[0]
    if g := re.search(rf"color (?:is|has|of) the (top|base)(?: block)?(?: of| in) the {box} (?:tower|box)", text):
        return "end", tower(g[2])[-1 if g[1] == "top" else 0].color
    if g := re.search(rf"the (second|third) block from the (top|base)(?: of| in) the {box}", text):
        k = ("second", "third").index(g[1]) + 1
        return "nth", tower(g[3])[-1 - k if g[2] == "top" else k].color
    if g := re.search(rf"(?:color is|color has|color of) the (circle|square|triangle) in the {box} box", text):
        (color,) = [t.color for t, _ in found[g[2]] if t.what == g[1]]
        return "color", color
    if g := re.search(rf"shape (?:is|has|of) the ({COLOR}) item in the {box} box", text):
        (shape,) = [t.what for t, _ in found[g[2]] if t.color == g[1]]
        return "shape", shape
    if g := re.search(r"which (?:tower|of the towers) (?:is the tallest|is the highest|has the most blocks)", text):
        heights = {b: len(things) for b, things in found.items()}
        (best,) = [b for b in heights if heights[b] == max(heights.values())]
        return "tallest", best
    if g := re.search(rf"(?:over|on top of) the ({COLOR}) (?:one|block)(?: of| in) the {box}", text):
        colors = [t.color for t in tower(g[2])]
        assert colors.count(g[1]) == 1
        return "over", colors[colors.index(g[1]) + 1]
    if g := re.search(rf"(?:how many blocks (?:does|has)|height of|how high is) the {box} tower", text):
        return "height", str(len(tower(g[1])))
    return None, None


def test_open_questions_are_answered_again():
    solved = collections.Counter()
    for split in ("train", "test"):
        for s in draw("nlvr", 300, size=100, split=split, families=("number", "what")):
            for q in s.questions:
                key, answer = look_up(q.text.lower(), s)
                if key:
                    assert q.answer == answer, (q, s.things)
                    solved[key] += 1
                if q.place:
                    (thing,) = [t for t in s.things if t.box == q.place]
                    assert q.answer in (thing.color, thing.what)
    assert len(solved) == 10 and min(solved.values()) > 10, solved


def test_the_wall_does_not_tell_whether_something_touches_it():
    said = collections.defaultdict(list)
    for i in range(1200):
        for q in sample(i, seed=3, mixture={"nlvr": 1.0}, size=96, families=("position",)).questions:
            for words in re.findall(r"(?:left|right|top|bottom|the) edge|the base|(?:a|the) wall", q.text):
                said[words].append(q.answer in ("yes", "true"))
    assert min(map(len, said.values())) > 80 and set(said) >= {"left edge", "bottom edge", "the edge", "a wall"}
    assert not {w: sum(a) / len(a) for w, a in said.items() if abs(sum(a) / len(a) - 0.5) > 0.13}


@pytest.mark.parametrize("size", [64, 96, 192, 224])
def test_nlvr_is_resampled_as_a_whole_picture_is(size, monkeypatch):
    nlvr = sys.modules["vlm.data.worlds.nlvr"]
    scaled, worst = nlvr.scaled, []

    def compare(image, empty, size, places):
        found, whole = scaled(image, empty, size, places), image.resize((4 * size, size), Image.Resampling.BILINEAR)
        worst.append(max(abs(a - b) for a, b in zip(found.tobytes(), whole.tobytes(), strict=True)))
        return found

    monkeypatch.setattr(nlvr, "scaled", compare)
    for i in range(12):
        nlvr.nlvr(random.Random(i), size=size, split="train", n_questions=0)
    assert max(worst) <= 2  # rounding
