"""Open questions about the three boxes of the NLVR world: how many, which, of what colour.

A statement tells one bit of what was seen; these tell more, so that a model learns to see the boxes before it is asked
to judge what is said of them. The published sentences (Suhr et al. 2017) have none.
"""

from vlm.data.sample import Question
from vlm.data.worlds.language import pick
from vlm.data.worlds.nlvr_items import COLORS
from vlm.data.worlds.nlvr_judge import BOXES, ORDINALS, THREE, Judge
from vlm.data.worlds.refer import ANY, members


def total(judge: Judge):
    x = judge.look()
    return "how many", judge.count(x), {"x": x}


def in_box(judge: Judge):
    x, b = ANY if judge.anything() else judge.look(), pick(judge.rng, THREE)
    return "how many in box", (judge.fit(x) & judge.boxes[b]).bit_count(), {"x": x, "box": BOXES[b]}


def most(judge: Judge):
    x = judge.look()
    return "how many at most", max((judge.fit(x) & box).bit_count() for box in judge.boxes), {"x": x}


def boxes_with(judge: Judge):
    x = judge.look()
    return "how many boxes", sum(judge.fit(x) & box > 0 for box in judge.boxes), {"x": x}


def touching(judge: Judge):
    x, n, where = judge.touch()
    return "how many touch", n, {"x": x, "where": where}


def colors(judge: Judge):
    b = pick(judge.rng, THREE)
    return "how many colors", len(judge.colors[b]), {"box": BOXES[b]}


def height(judge: Judge):
    b = pick(judge.rng, THREE)
    return "how high", judge.heights[b], {"box": BOXES[b]}


def highest(judge: Judge):
    return "how high the tallest", max(judge.heights), {}


def ends(judge: Judge):
    c, end, hits = judge.ends()
    return "how many ends", sum(hits), {"c": c, "end": end}


def as_high(judge: Judge):
    k = pick(judge.rng, judge.heights)
    return "how many as high", judge.heights.count(k), {"x": ("", "", "block"), "k": k}


def box_with(judge: Judge):
    """The one box with such an item."""
    x = judge.look()
    found = [b for b in THREE if judge.fit(x) & judge.boxes[b]]
    return ("which box", BOXES[found[0]], {"x": x}) if len(found) == 1 else None


def box_with_most(judge: Judge):
    x = ANY if judge.anything() else judge.look()
    counts = [(judge.fit(x) & box).bit_count() for box in judge.boxes]
    return ("which has most", BOXES[counts.index(max(counts))], {"x": x}) if counts.count(max(counts)) == 1 else None


def color_of(judge: Judge):
    """Of the one item of its shape in a box."""
    b, shape = pick(judge.rng, THREE), pick(judge.rng, judge.items.items)[2]
    found = members(judge.items.masks[shape] & judge.boxes[b])
    if len(found) != 1:
        return None
    color = judge.items.items[found[0]][1]
    return "color of", color, {"x": ("", "", shape), "box": BOXES[b], "place": found[0]}


def shape_of(judge: Judge):
    """Of the one item of its colour in a box."""
    b, color = pick(judge.rng, THREE), pick(judge.rng, COLORS)
    found = members(judge.items.masks.get(color, 0) & judge.boxes[b])
    if len(found) != 1:
        return None
    return "shape of", judge.items.items[found[0]][2], {"c": color, "box": BOXES[b], "place": found[0]}


def end_color(judge: Judge):
    b, end = pick(judge.rng, THREE), pick(judge.rng, ("top", "base"))
    blocks = members(judge.boxes[b])  # from the base up
    i = blocks[-1 if end == "top" else 0]
    return "color of end", judge.items.items[i][1], {"box": BOXES[b], "end": end, "place": i}


def nth_color(judge: Judge):
    n, end, b = pick(judge.rng, (2, 2, 3)), pick(judge.rng, ("top", "base")), pick(judge.rng, THREE)
    blocks = members(judge.boxes[b])
    if len(blocks) < n:
        return None
    i = blocks[-n if end == "top" else n - 1]
    return "color of nth", judge.items.items[i][1], {"box": BOXES[b], "end": end, "nth": ORDINALS[n], "place": i}


def over(judge: Judge):
    """The block directly over the one block of a colour in a tower."""
    b, c = pick(judge.rng, THREE), pick(judge.rng, COLORS)
    blocks = members(judge.boxes[b])
    found = [i for i in blocks if judge.items.items[i][1] == c]
    if len(found) != 1 or found[0] == blocks[-1]:
        return None
    i = found[0] + 1
    return "color over", judge.items.items[i][1], {"c": c, "box": BOXES[b], "place": i}


def tallest(judge: Judge):
    best = max(judge.heights)
    return ("which tower", BOXES[judge.heights.index(best)], {}) if judge.heights.count(best) == 1 else None


NUMBER = (
    (total, in_box, most, boxes_with, touching, colors),
    (total, in_box, boxes_with, height, highest, ends, as_high),
)
WHAT = ((box_with, box_with_most, color_of, shape_of), (box_with, end_color, end_color, nth_color, over, tallest))
OPEN = {"number": NUMBER, "what": WHAT}  # family -> of scattered items, of towers


def question(judge: Judge, family: str) -> Question | None:
    """A question of a family; None where the boxes have no answer that is certain."""
    judge.begin()
    made = pick(judge.rng, OPEN[family][judge.towers])(judge)
    if made is None:
        return None
    key, answer, words = made
    place = judge.places[words.pop("place")] if "place" in words else None
    return Question(text=judge.say(key, **words), answer=str(answer), family=family, place=place)


FAMILIES = {family: (lambda judge, family=family: question(judge, family)) for family in OPEN}
