"""Captions of a scene: everything in reading order, the counts alone, one true sentence.

The last is in the manner of ShapeWorld (Kuhnle & Copestake 2017): a relation, a quantifier or a comparison that holds.
"""

import random

from vlm.data.worlds.language import DIRECTION, NUMBERS, at, listing, noun, pick, sentence
from vlm.data.worlds.refer import CELLS, DIRECTIONS, Look, Scene, members, told


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """The three kinds of caption, one of each."""
    order = sorted(range(scene.n), key=lambda i: (scene.rough_cell(i), scene.xs[i]))
    return [in_order(scene, order), counted(scene, order, rng), statement(scene, rng)]


def in_order(scene: Scene, order: list[int], limit: int = 5) -> str:
    """A small red circle at the top left, a large blue star in the center and two more shapes."""
    parts = [f"{noun(scene.looks[i])[1]} {at(CELLS[scene.rough_cell(i)])}" for i in order[:limit]]
    more = scene.n - len(parts)
    if not more:
        return sentence(listing(parts)) + "."
    return sentence(", ".join(parts)) + f" and {NUMBERS[more]} more {'shape' if more == 1 else 'shapes'}."


def counted(scene: Scene, order: list[int], rng: random.Random) -> str:
    """Three circles and a star."""
    kinds: dict[Look, int] = {}
    pattern = (0, 1, 1) if scene.n < 4 and rng.random() < 0.5 else (0, 0, 1)
    for i in order:
        look = told(scene.looks[i], pattern)
        kinds[look] = kinds.get(look, 0) + 1
    return sentence(listing([noun(k)[1] if n == 1 else f"{NUMBERS[n]} {noun(k)[2]}" for k, n in kinds.items()])) + "."


def relation(scene: Scene, rng: random.Random) -> str | None:
    """A blue star is above a red circle; None where nothing surely stands beside the thing that was drawn."""
    i, d = pick(rng, range(scene.n)), pick(rng, DIRECTIONS)
    sure = scene.beside(d, i)[0]
    if not sure:
        return None
    there, here = told(scene.looks[pick(rng, members(sure))], (0, 1, 1)), told(scene.looks[i], (0, 1, 1))
    other = f"another {noun(here)[0]}" if here == there else noun(here)[1]
    return f"{sentence(noun(there)[1])} is {DIRECTION[d]} {other}."


def statement(scene: Scene, rng: random.Random) -> str:
    """One true sentence about relations, all or most, numbers, or more of this than of that."""
    kind = rng.random()
    if kind < 0.4 and (text := relation(scene, rng)):
        return text
    _, color, what = pick(rng, scene.looks)
    reds, circles = scene.masks[color], scene.masks[what]
    xs, n = noun(("", "", what))[2], circles.bit_count()
    if kind < 0.6 and n > 1:
        red_circles = (circles & reds).bit_count()
        share = "All" if red_circles == n else "Most" if 2 * red_circles > n else "Not all"
        return f"{share} {xs} are {color}."
    if kind < 0.8:
        k = reds.bit_count()
        return f"Exactly {NUMBERS[k]} {'shape is' if k == 1 else 'shapes are'} {color}."
    other = pick(rng, scene.looks)[2]
    if n > scene.masks[other].bit_count():
        return f"There are more {xs} than {noun(('', '', other))[2]}."
    return f"There is {noun(('', '', what))[1]}." if n == 1 else f"There are {NUMBERS[n]} {xs}."
