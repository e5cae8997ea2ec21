"""CLEVR's longer questions about a scene: three steps, two conditions, what is like another, both sides compared.

- With exist, count and attribute (zero steps), relate and two-hop (one and two), and compare (integers, attributes),
  these are the structures of CLEVR's 90 families (Johnson et al. 2017) as far as flat pictures have them: no material.
- Each function takes an `Asker` and returns a question, or None where its random choice led nowhere. Where a thing may
  or may not stand in a direction, nothing hangs on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlm.data.sample import Question
from vlm.data.worlds.language import DIRECTION, GENERIC, OPPOSITE, either, noun, pick
from vlm.data.worlds.refer import ANY, DIRECTIONS, Look, members, told

if TYPE_CHECKING:
    from vlm.data.worlds.scenes_asker import Asker

ATTRIBUTES = ("size", "color", "shape")
YES_NO = ("no", "yes")
LONGEST = 16  # words of a question
SHORT = ((0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 1, 1))
_KEEP = (0.35, 0.6, 1.0, 1.0)  # share kept of small counts, which are the most frequent


def three_hop(asker: Asker) -> Question | None:
    """What color is the ring left of the star above the cross right of the red square?"""
    found = (_walk(asker) for _ in range(6 if asker.scene.n > 3 else 0))
    return next((question for question in found if question), None)


def _walk(asker: Asker) -> Question | None:
    """Three steps from a known thing, each to a thing that can be named there."""
    rng, scene = asker.rng, asker.scene
    begin = here = pick(rng, asker.asked)
    y, d, way = scene.unique(rng, here), pick(rng, DIRECTIONS), ""
    if not y:
        return None
    for _ in range(2):
        sure, maybe = scene.beside(d, here)
        here = pick(rng, members(sure)) if sure else here
        middle = asker.only(here, sure | maybe, 3) if sure else None
        if not middle:
            return None
        way = f"the {noun(middle, pick(rng, GENERIC))[0]} {DIRECTION[d]}" + (f" {way}" if way else "")
        e = pick(rng, DIRECTIONS)
        d = d if e == OPPOSITE[d] else e
    return _among(asker, "three-hop", f"{DIRECTION[d]} {way}", y, begin, *scene.beside(d, here))


def logic(asker: Asker) -> Question | None:
    """How many circles are left of the star and above the ring; or left of the one or above the other?"""
    rng, scene = asker.rng, asker.scene
    i, j = pick(rng, asker.asked), pick(rng, range(scene.n))
    x, y = scene.unique(rng, i), scene.unique(rng, j)
    if i == j or not x or not y:
        return None
    d, e = pick(rng, DIRECTIONS), pick(rng, DIRECTIONS)
    (sure, maybe), (sure2, maybe2) = scene.beside(d, i), scene.beside(e, j)
    word = pick(rng, ("and", "or"))
    if word == "and":
        surely, perhaps = sure & sure2, (sure | maybe) & (sure2 | maybe2)
    else:
        surely, perhaps = sure | sure2, sure | maybe | sure2 | maybe2
    way = f"{DIRECTION[d]} the {noun(x, pick(rng, GENERIC))[0]} {word} {DIRECTION[e]}"
    return _among(asker, "logic", way, y, j, surely, perhaps & ~surely)


def _among(asker: Asker, family: str, way: str, y: Look, by: int, sure: int, maybe: int) -> Question | None:
    """Ask what, how many or whether anything stands in the direction(s) that `way` and y, thing number `by`, say."""
    rng, scene = asker.rng, asker.scene
    kind = rng.random()
    if kind < 0.4:
        looks = asker.described(pick(rng, SHORT))
        found = either(rng, [k for k, m in looks if m & sure], [k for k, m in looks if not m & (sure | maybe)])
        if not found:
            return None
        question = asker.say("exist beside", family, YES_NO[found[0]], found[1], y, by=by, d=way)
    elif kind < 0.7:
        look = ANY if rng.random() < 0.3 else told(pick(rng, scene.looks), pick(rng, SHORT))
        fit = scene.match(look)
        k = (fit & sure).bit_count()
        if fit & maybe or rng.random() > _KEEP[min(k, 3)]:
            return None
        question = asker.say("count beside", family, str(k), look, y, by=by, d=way)
    else:
        if not sure:
            return None
        k, a = pick(rng, members(sure)), pick(rng, (1, 2))
        x = asker.only(k, sure | maybe, a)
        if not x:
            return None
        question = asker.say(f"{ATTRIBUTES[a]} beside", family, scene.looks[k][a], x, y, at=k, by=by, d=way)
    return _short(question)


def same_as(asker: Asker) -> Question | None:
    """How many other things have the color of the star, whether one has, and what shape it is."""
    rng, scene, family = asker.rng, asker.scene, "same-as"
    i, a = pick(rng, asker.asked), pick(rng, (0, 1, 1, 2, 2))
    y = scene.unique(rng, i, a)
    if not y or scene.n < 2:
        return None
    others = scene.masks[scene.looks[i][a]] & ~(1 << i)
    kind = rng.random()
    if kind < 0.35:
        k = others.bit_count()
        if rng.random() > _KEEP[min(k, 3)]:
            return None
        return _short(asker.say("same count", family, str(k), ANY, y, by=i, what=ATTRIBUTES[a]))
    if kind < 0.65:
        found: tuple[bool, Look] | None = (bool(others), ANY)
        if not a or y[0] or rng.random() < 0.6:
            looks = asker.described(pick(rng, [p for p in ((0, 0, 1), (0, 1, 0)) if not p[a]]))
            found = either(rng, [k for k, m in looks if m & others], [k for k, m in looks if not m & others])
        if not found:
            return None
        return _short(asker.say("same exist", family, YES_NO[found[0]], found[1], y, by=i, what=ATTRIBUTES[a]))
    b = pick(rng, [b for b in (1, 2) if b != a])
    if others.bit_count() != 1:
        return None
    j, what, other = members(others)[0], ATTRIBUTES[a], ATTRIBUTES[b]
    return _short(asker.say("same attribute", family, scene.looks[j][b], ANY, y, at=j, by=i, what=what, other=other))


def sides(asker: Asker) -> Question | None:
    """Are there more circles left of the star than right of it; is what is left of it the color of the ring?"""
    rng, scene, family = asker.rng, asker.scene, "sides"
    i, d = pick(rng, asker.asked), pick(rng, DIRECTIONS)
    y = scene.unique(rng, i)
    if not y:
        return None
    if rng.random() < 0.6:
        return _more(asker, i, y)
    yes, (sure, maybe) = rng.random() < 0.5, scene.beside(d, i)
    if not sure or scene.n < 3:
        return None
    j, a = pick(rng, members(sure)), pick(rng, (1, 1, 2, 2, 0))
    x = asker.only(j, sure | maybe, a)
    same = scene.masks[scene.looks[j][a]]
    others = members((same if yes else scene.all & ~same) & ~(1 << j))
    z = scene.unique(rng, pick(rng, others), a) if x and others else None
    if not x or not z:
        return None
    question = asker.say("same beside", family, "yes" if yes else "no", x, y, at=j, by=i, d=DIRECTION[d],
                         what=ATTRIBUTES[a], z=noun(z, pick(rng, GENERIC[1:]))[0])  # fmt: skip
    return _short(question)


def _more(asker: Asker, i: int, y: Look) -> Question | None:
    """More, or as many, on one side as on the other, where both yes and no could be asked."""
    rng, scene = asker.rng, asker.scene
    key = pick(rng, ("more beside", "as many beside"))
    found: dict[bool, list[tuple[Look, str]]] = {True: [], False: []}
    for d in DIRECTIONS:
        (sure, maybe), (sure2, maybe2) = scene.beside(d, i), scene.beside(OPPOSITE[d], i)
        for look in (ANY, told(pick(rng, scene.looks), pick(rng, SHORT)), told(pick(rng, scene.looks), SHORT[0])):
            fit = scene.match(look)
            m, n = (fit & sure).bit_count(), (fit & sure2).bit_count()
            if m + n and not fit & (maybe | maybe2):
                found[m > n if key == "more beside" else m == n].append((look, d))
    if not found[True] or not found[False]:
        return None
    yes = rng.random() < 0.5
    look, d = pick(rng, found[yes])
    d, e = DIRECTION[d], DIRECTION[OPPOSITE[d]]
    return _short(asker.say(key, "sides", "yes" if yes else "no", look, y, by=i, d=d, e=e))


def _short(question: Question) -> Question | None:
    return question if question.text.count(" ") < LONGEST else None
