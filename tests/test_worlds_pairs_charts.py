"""Pairs of charts: answers found again from the words and the two charts as they were drawn, and from the pixels."""

import collections
import math
import random
import re

import pytest
from PIL import ImageChops

from vlm.data.worlds import sample
from vlm.data.worlds.charts_spec import HELD_OUT
from vlm.data.worlds.pairs_charts import FAMILIES, LEAST, chart_pairs, drawn
from vlm.data.worlds.wording_pairs import CHARTS

SLOTS = {"x": "(?P<x>.+?)", "of": "(?:the (?:bars|line|slices)|(?P<x>.+?))", "p": "(?P<p>first|second)",
         "q": "(?:first|second)", "mark": "[a-z ]+", "marks": "[a-z ]+",
         "noun": "[a-z ]+"}  # fmt: skip


def pattern(template):
    pieces = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(re.escape(p) if k % 2 == 0 else SLOTS[p] for k, p in enumerate(pieces)))


FORMS = {held: [(key, pattern(t)) for key, ts in CHARTS.items() for t in ts[held]] for held in (False, True)}


def difference(a, b):
    """(what differs, of which name) from the two charts alone."""
    first, second = (dict(zip(c.categories, c.values[0], strict=True)) for c in (a, b))
    if gone := set(first) ^ set(second):
        return "removed" if len(first) > len(second) else "added", gone.pop()
    other = [name for name in first if first[name] != second[name]]
    if other:
        return ("value", other[0]) if len(other) == 1 else ("values", None)
    colors = [c for c, x, y in zip(a.categories, a.colors, b.colors, strict=False) if x != y]
    return ("color", colors[0]) if colors else ("title", None) if a.title != b.title else ("nothing", None)


def solve(key, g, a, b):
    charts, (kind, name) = (a, b), difference(a, b)
    values = [dict(zip(c.categories, c.values[0], strict=True)) for c in charts]
    p = g.get("p") == "second"
    n = [len(v) for v in values]
    x = g.get("x")
    if key in ("same", "differ"):
        return "yes" if (kind == "nothing") == (key == "same") else "no"
    if key == "what changed":
        return kind
    if key in ("which changed", "added", "removed"):
        assert kind == {"which changed": "value"}.get(key, key)
        return name
    if key == "up or down":
        return "up" if values[1][x] > values[0][x] else "down"
    if key == "title in":
        return charts[p].title
    if key == "color in":
        return charts[p].colors[charts[p].categories.index(x) if x else 0]
    if key == "value in":
        return charts[p].answer(values[p][x])
    if key in ("higher", "lower", "more marks", "fewer marks"):
        m, k = n if "marks" in key else (values[0][x], values[1][x])
        return "the same" if m == k else ("first", "second")[(k > m) == (key in ("higher", "more marks"))]
    if key == "shows":
        return "yes" if x in values[p] else "no"
    return str(sum(n) if key == "marks together" else n[p])


@pytest.mark.parametrize("split", ["train", "test", "test-combos"])
def test_answers_are_found_again(split):
    asked = collections.Counter()
    for seed in range(150):
        made = drawn(random.Random(seed), 160, split)
        s = chart_pairs(random.Random(seed), size=160, split=split, n_questions=8)
        assert [p.tobytes() for p in s.pictures] == [sheet.image.tobytes() for sheet in made.sheets]
        for q in s.questions:
            fitting = [(k, m.groupdict()) for k, f in FORMS[split == "test"] if (m := f.fullmatch(q.text))]
            found = {solve(k, g, *made.charts) for k, g in fitting if not (g.get("x") or "").startswith("the ")}
            assert q.answer in found, (q, found, made.charts)
            asked[q.family] += 1
        assert all(((c.kind, c.palette) in HELD_OUT) == (split == "test-combos") for c in made.charts)
    assert set(asked) == set(FAMILIES) and min(asked.values()) > 60, asked


def test_pixels_differ_where_charts_do():
    kinds = collections.Counter()
    for seed in range(250):
        made = drawn(random.Random(seed), 160, "train")
        box = ImageChops.difference(*(sheet.image for sheet in made.sheets)).getbbox()
        kind, _ = difference(*made.charts)
        assert kind == made.change.kind and (box is None) == (kind == "nothing"), made.charts
        kinds[kind] += 1
    assert set(kinds) == {"nothing", "value", "values", "color", "title", "added", "removed"}


def test_words_do_not_give_answers_away():
    said = collections.defaultdict(collections.Counter)
    for seed in range(500):
        for q in chart_pairs(random.Random(seed), size=LEAST, split="train", n_questions=8).questions:
            said[q.family][q.answer] += 1
    more, total = said["pair more"], said["pair more"].total()
    assert all(0.2 < more[a] / total < 0.45 for a in ("first", "second", "the same"))
    assert all(0.4 < said[f]["yes"] / said[f].total() < 0.6 for f in ("pair same", "pair exist"))
    assert max(said["pair change"].values()) < 0.3 * said["pair change"].total()
    up, n = said["pair change"]["up"], said["pair change"]["up"] + said["pair change"]["down"]
    assert n > 30 and abs(up / n - 0.5) < 1.5 / math.sqrt(n)  # 3 standard errors


def test_charts_are_among_the_pairs_that_are_large_enough():
    def share(size, **options):
        found = [sample(i, seed=3, mixture={"pairs": 1.0}, size=size, **options) for i in range(160)]
        return sum("chart" in q.text for s in found for q in s.questions) / sum(len(s.questions) for s in found)

    assert share(96) == 0 and share(LEAST) > 0.08
    assert share(LEAST, families=("cannot-tell",)) == 0
