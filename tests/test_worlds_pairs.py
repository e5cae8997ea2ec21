"""Pairs of pictures: answers solved again from the things alone, and the pixels differ where they are said to."""

import collections
import re

import pytest
from PIL import ImageChops
from test_worlds import PHRASE, emoji_zip, fits  # noqa: F401

from vlm.data.worlds import sample
from vlm.data.worlds.language import plural
from vlm.data.worlds.pairs_asker import FAMILIES, ORDER
from vlm.data.worlds.scenes_asker import HELD_OUT
from vlm.data.worlds.wording_pairs import PAIRS

SLOTS = {"x": "(?P<x>.+?)", "ax": "an? (?P<x>.+?)", "xs": "(?P<x>.+?)", "p": "(?P<p>first|second)",
         "q": "(?:first|second)", "what": "(?P<what>color|shape|size)"}  # fmt: skip
ATTRIBUTE = {"color": "color", "shape": "what", "size": "size"}


def pattern(template):
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(re.escape(p) if k % 2 == 0 else SLOTS[p] for k, p in enumerate(parts)))


FORMS = {held: [(key, pattern(t)) for key, ts in PAIRS.items() for t in ts[held]] for held in (False, True)}


def draw(n, **options):
    return [sample(i, seed=7, mixture={"pairs": 1.0}, **options) for i in range(n)]


def parts(s):
    return [[t for t in s.things if t.picture == k] for k in (0, 1)]


def key_of(t):
    return t.box, t.what, t.color, t.size


def change(a, b):
    """(kind, before, after) from the things alone; kind None where more than one thing changed."""
    gone = [t for t in a if key_of(t) not in map(key_of, b)]
    new = [t for t in b if key_of(t) not in map(key_of, a)]
    if not gone and not new:
        return "nothing", None, None
    if len(gone) + len(new) == 1:
        return ("removed", gone[0], None) if gone else ("added", None, new[0])
    if len(gone) == len(new) == 1:
        x, y = gone[0], new[0]
        kinds = [k for k, f in ATTRIBUTE.items() if getattr(x, f) != getattr(y, f)]
        if len(kinds) == 1:
            return ("replaced" if x.what.startswith("emoji:") else kinds[0]), x, y
        if not kinds:
            return "place", x, y
    return None, None, None


def matching(phrase, things):
    if things and things[0].what.startswith("emoji:"):
        if phrase.removesuffix("s") in ("emoji", "thing"):
            return things
        return [t for t in things if phrase in (t.what.removeprefix("emoji:"), plural(t.what.removeprefix("emoji:")))]
    return [t for t in things if fits(phrase, t)]


def name(t):
    return " ".join(w for w in (t.color, t.what.removeprefix("emoji:")) if w)


def solve(key, g, a, b):
    kind, before, after = change(a, b)
    both = (a, b)
    m, n = (len(matching(g["x"], t)) for t in both) if "x" in g else (0, 0)
    here, there = (m, n) if g.get("p") == "first" else (n, m)
    if key in ("same", "differ"):
        return "yes" if (kind == "nothing") == (key == "same") else "no"
    if key == "what changed":
        return kind
    if key in ("added", "removed", "moved", "replaced", "altered"):
        asked = {"moved": "place", "altered": g.get("what")}.get(key, key)
        return name(before or after) if asked == kind else "nothing"
    if key in ("became", "was", "replaced by", "which way"):
        [x] = matching(g["x"], b if key == "was" else a)
        if kind in ("added", "removed"):
            assert x == (after if key == "was" else before)
            return "cannot tell"
        assert x == (after if key == "was" else before)
        if key == "which way":
            dx, dy = (after.box[i] + after.box[i + 2] - before.box[i] - before.box[i + 2] for i in (0, 1))
            return ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
        return name(after) if key == "replaced by" else getattr(before if key == "was" else after, ATTRIBUTE[g["what"]])
    if key in ("more", "fewer"):
        assert m + n
        return "the same" if m == n else ORDER[(n > m) == (key == "more")]
    if key == "more than":
        return "yes" if here > there else "no"
    if key in ("count in", "count both", "count more"):
        return str({"count in": here, "count both": m + n, "count more": here - there}[key])
    if key == "exist in":
        return "yes" if here else "no"
    if key == "exist both":
        return "yes" if m and n else "no"
    if key == "which has":
        return "both" if m and n else "first" if m else "second" if n else "neither"
    if not here:
        return f"there is no {g['x']}"
    [x] = matching(g["x"], both[ORDER.index(g["p"])])
    if key == "attribute in":
        return getattr(x, ATTRIBUTE[g["what"]])
    column, row = ((x.box[i] + x.box[i + 2]) * 3 // (2 * 96) for i in (0, 1))
    words = [("top", "", "bottom")[row], ("left", "", "right")[column]]
    return " ".join(w for w in words if w) or "center"


def answers(question, s, held):
    found = set()
    for key, form in FORMS[held]:
        if (g := form.fullmatch(question.text)) and ("x" not in g.groupdict() or " the " not in g["x"]):
            try:
                found.add(solve(key, g.groupdict(), *parts(s)))
            except (KeyError, ValueError):
                continue
    return found


@pytest.mark.parametrize("split", ["train", "test", "test-combos"])
def test_answers_solved_again(split, emoji_zip):  # noqa: F811
    asked = collections.Counter()
    for s in draw(300, split=split, emoji_path=emoji_zip):
        for q in s.questions:
            found = answers(q, s, split == "test")
            assert q.answer in found, (q, found, s.things)
            asked[q.family] += 1
    assert set(asked) == set(FAMILIES) and min(asked.values()) > 30, asked


def test_pixels_change_where_things_do(emoji_zip):  # noqa: F811
    kinds = collections.Counter()
    for s in draw(300, n_questions=0, emoji_path=emoji_zip):
        a, b = parts(s)
        kind, before, after = change(a, b)
        box = ImageChops.difference(*s.pictures).getbbox()
        kinds[kind] += 1
        if kind == "nothing":
            assert box is None and s.captions[0] == "The pictures are the same."
        elif kind:
            edges = [t.box for t in (before, after) if t]
            assert min(e[0] for e in edges) <= box[0] and box[2] <= max(e[2] for e in edges)
            assert min(e[1] for e in edges) <= box[1] and box[3] <= max(e[3] for e in edges)
    assert set(kinds) == {"nothing", None, "color", "shape", "size", "place", "added", "removed", "replaced"}
    assert 0.2 < kinds["nothing"] / 300 < 0.45


def test_both_pictures_are_needed():
    """Which picture has more, and what is the same, is not told by the words: each answer is frequent."""
    counts = collections.defaultdict(collections.Counter)
    for s in draw(800):
        for q in s.questions:
            counts[q.family][q.answer] += 1
    more, same = counts["pair more"], counts["pair same"]
    total = more["first"] + more["second"] + more["the same"]
    assert all(0.2 < more[a] / total < 0.5 for a in ("first", "second", "the same"))
    assert 0.4 < same["yes"] / same.total() < 0.6 and set(same) == {"yes", "no"}
    assert 0.4 < more["yes"] / (more["yes"] + more["no"]) < 0.6
    assert max(counts["pair change"].values()) < 0.25 * counts["pair change"].total()


def test_held_out_pairs_are_what_test_combos_is_about():
    names = [f"{c} {s}" for c, s in HELD_OUT]
    for s in draw(200):
        words = " ".join([*s.captions, *(q.text + " " + q.answer for q in s.questions)]).lower()
        assert not any((t.color, t.what) in HELD_OUT for t in s.things) and not any(n in words for n in names)
    for s in draw(100, split="test-combos"):
        assert any((t.color, t.what) in HELD_OUT for t in s.things)
        for q in s.questions:
            if q.family in ("pair exist", "pair count", "pair more") and "object" not in q.text:
                assert any(n in q.text for n in names) or not re.search(PHRASE, q.text), q
