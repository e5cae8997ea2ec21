"""NLVR: three boxes of scattered items or of towers, statements to be judged (Suhr et al. 2017), and open questions.

- Geometry as published: 400 x 100 pixels, three light boxes of 100 x 100 between darker bars; items are black, yellow
  or blue circles, squares and triangles of 10, 20 or 30 pixels; towers are one to four squares of 20 pixels.
- Items touch a wall exactly or keep clear of it, so that "touching" is visible after scaling; some touch one another,
  middle to middle.
"""

import random
from functools import lru_cache

from PIL import Image, ImageDraw

from vlm.data.sample import Box, Sample, Thing
from vlm.data.worlds import nlvr_judge, nlvr_open
from vlm.data.worlds.language import NUMBERS, ask, listing, noun, pick, sentence
from vlm.data.worlds.nlvr_items import BOX, COLORS, SHAPES, SIDE, Item
from vlm.data.worlds.nlvr_judge import SCATTER, TOWERS, Judge

PAINT = {"black": (0, 0, 0), "yellow": (255, 255, 0), "blue": (0, 153, 255)}
GAP = 50  # between two boxes
STEP = 21  # from one block of a tower to the next
FAMILIES = nlvr_judge.FAMILIES | nlvr_open.FAMILIES
CLEAR = 2  # pixels between an item that touches no wall and the wall


@lru_cache(maxsize=8)
def _mask(shape: str, side: int) -> Image.Image:
    """The alpha of a circle or an upright triangle that fills its square."""
    k = 8
    big = Image.new("L", (side * k, side * k))
    pen, end = ImageDraw.Draw(big), side * k - 1
    if shape == "circle":
        pen.ellipse((0, 0, end, end), fill=255)
    else:
        pen.polygon(((0, end), (end / 2, 0), (end, end)), fill=255)
    return big.reduce(k)


def _scatter(rng: random.Random) -> list[Item]:
    """One to eight items that do not overlap, a third of them against a wall."""
    u = rng.random
    colors = rng.sample(COLORS, pick(rng, (1, 2, 3, 3, 3)))
    shapes = rng.sample(SHAPES, pick(rng, (1, 2, 3, 3, 3)))
    items: list[Item] = []
    for _ in range(pick(rng, (1, 2, 3, 3, 4, 4, 5, 6, 7, 8))):
        size = pick(rng, ("small", "small", "medium", "medium", "large"))
        side = SIDE[size]
        span = BOX - side
        for _ in range(15):
            x, y = CLEAR + int(u() * (span - 2 * CLEAR + 1)), CLEAR + int(u() * (span - 2 * CLEAR + 1))
            if items and u() < 0.2:  # flush against another, middle to middle
                s, _, _, a, b = pick(rng, items)
                far, mid = SIDE[s], (SIDE[s] - side) // 2
                x, y = pick(rng, ((a + far, b + mid), (a - side, b + mid), (a + mid, b + far), (a + mid, b - side)))
                if not all(v == 0 or v == span or CLEAR <= v <= span - CLEAR for v in (x, y)):
                    continue
            elif u() < 0.35:
                x, y = pick(rng, ((0, y), (span, y), (x, 0), (x, span), (x, span)))
            if all(x >= a + SIDE[s] or x + side <= a or y >= b + SIDE[s] or y + side <= b for s, _, _, a, b in items):
                items.append((size, pick(rng, colors), pick(rng, shapes), x, y))
                break
    return items


def _tower(rng: random.Random) -> list[Item]:
    """One to four blocks, from the base up."""
    return [("medium", pick(rng, COLORS), "square", 40, 80 - STEP * k) for k in range(pick(rng, (1, 2, 2, 3, 3, 4, 4)))]


def _captions(judge: Judge, rng: random.Random) -> list[str]:
    """Each box, the totals, and a true statement."""
    if judge.towers:
        parts = [
            f"{w} {listing([i[1] for i in b])}" for w, b in zip(("Left", "middle", "right"), judge.lists, strict=True)
        ]
        whole = "Towers from the base up: " + "; ".join(parts) + "."
    else:
        whole = " ".join(
            f"{w} box: {_counts(b)}." for w, b in zip(("Left", "Middle", "Right"), judge.lists, strict=True)
        )
    parts = []
    for color in COLORS:
        n = judge.count(("", color, ""))
        if n:
            words = noun(("", color, "block" if judge.towers else ""), "item")
            parts.append(words[1] if n == 1 else f"{NUMBERS[n] if n < len(NUMBERS) else n} {words[2]}")
    for _ in range(6):
        key, method = pick(rng, pick(rng, tuple((TOWERS if judge.towers else SCATTER).values())))
        text = judge.statement(key, method, True)
        if text:
            return [whole, sentence(listing(parts)) + ".", text]
    return [whole, sentence(listing(parts)) + "."]


def _counts(items: list[Item], limit: int = 4) -> str:
    """Two black circles and a blue square; beyond the limit, how many more."""
    kinds: dict[tuple[str, str], int] = {}
    for _, color, shape, _, _ in items:
        kinds[color, shape] = kinds.get((color, shape), 0) + 1
    parts = [
        noun(("", *k))[1] if n == 1 else f"{NUMBERS[n]} {noun(('', *k))[2]}" for k, n in list(kinds.items())[:limit]
    ]
    more = sum(list(kinds.values())[limit:])
    return listing(parts + ([f"{NUMBERS[more]} more"] if more else []))


def scaled(image: Image.Image, empty: Image.Image, size: int, items: list[Box]) -> Image.Image:
    """The picture at a height, as a bilinear resize of all of it gives it.

    Where no item is, all rows are that of the empty picture; only around the items both directions are resampled.
    """
    scale, bilinear = size / BOX, Image.Resampling.BILINEAR
    whole = empty.resize((4 * size, 1), bilinear).resize((4 * size, size), Image.Resampling.NEAREST)
    reach = max(1.0, 1 / scale)  # source pixels that one target pixel takes from either side
    for x0, y0, x1, y1 in items:
        left, top = max(int((x0 - reach) * scale), 0), max(int((y0 - reach) * scale), 0)
        right, bottom = min(int((x1 + reach) * scale) + 1, 4 * size), min(int((y1 + reach) * scale) + 1, size)
        part = (left / scale, top / scale, min(right / scale, 4 * BOX), min(bottom / scale, BOX))
        whole.paste(image.resize((right - left, bottom - top), bilinear, part), (left, top))
    return whole


def nlvr(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """Three boxes side by side, four times as wide as high; "test-combos" is drawn as any other split."""
    towers = rng.random() < 0.4
    boxes = [_tower(rng) if towers else _scatter(rng) for _ in range(3)]
    bar, ground = rng.randrange(105, 150), rng.randrange(205, 222)
    empty = Image.new("RGB", (4 * BOX, 1), (bar, bar, bar))
    for left in range(0, 4 * BOX, BOX + GAP):
        empty.paste((ground, ground, ground), (left, 0, left + BOX, 1))
    image = empty.resize((4 * BOX, BOX), Image.Resampling.NEAREST)
    scale = size / BOX
    things, places = [], []
    for k, items in enumerate(boxes):
        left = k * (BOX + GAP)
        for name, color, shape, x, y in items:
            side = SIDE[name]
            x += left
            places.append((x, y, x + side, y + side))
            if shape == "square":
                image.paste(PAINT[color], places[-1])
            else:
                image.paste(PAINT[color], places[-1], _mask(shape, side))
            box = (round(x * scale), round(y * scale), round((x + side) * scale), round((y + side) * scale))
            things.append(Thing(box=box, what=shape, color=color, size=name))
    if size != BOX:
        image = scaled(image, empty, size, places)
    judge = Judge(boxes, towers, rng, split, [t.box for t in things])
    questions = ask(judge, FAMILIES, n_questions, families)
    return Sample(image=image, world="nlvr", captions=_captions(judge, rng), questions=questions, things=things)
