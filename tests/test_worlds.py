"""The procedural worlds: the same everywhere, right, balanced, and with nothing of the test in training."""

import collections
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from vlm.data.worlds import (
    COLORS,
    FAMILIES,
    SIZES,
    SPLITS,
    WHAT,
    WORLDS,
    emoji_names,
    fonts,
    nlvr_judge,
    sample,
    scenes_asker,
    wording_pairs,
    wording_text,
)
from vlm.data.worlds.language import NUMBERS, plural

ROOT = Path(__file__).parents[1]
MODULES = {name: sys.modules[f"vlm.data.worlds.{name}"] for name in ("emoji", "shapes")}
PHRASINGS = {
    "scenes": scenes_asker.PHRASINGS,
    "shapes": MODULES["shapes"].PHRASINGS,
    "nlvr": nlvr_judge.PHRASINGS,
    "emoji": MODULES["emoji"].PHRASINGS,
    "text": wording_text.TEXT,
    "documents": wording_text.DOCUMENTS,
    "pairs": wording_pairs.PAIRS,
}
LISTED = [w for w in WORLDS if w != "charts"]  # charts are tested in test_charts.py
SPELLED = {"text", "documents"}  # worlds whose answers are what is printed


@pytest.fixture(scope="session")
def emoji_zip(tmp_path_factory):
    """A zip in the layout of the real one, with a coloured disc for every emoji."""
    path = tmp_path_factory.mktemp("emoji") / "emoji.zip"
    with zipfile.ZipFile(path, "w") as archive:
        rows = []
        for k, (name, code) in enumerate(emoji_names.CODES.items()):
            picture = Image.new("RGBA", (72, 72))
            ImageDraw.Draw(picture).ellipse((4, 4, 68, 60), fill=(k, 255 - k, 90, 255))
            data = io.BytesIO()
            picture.save(data, "PNG")
            archive.writestr(f"images/{code}.webp", data.getvalue())
            rows.append(json.dumps({"id": code, "images": [f"{code}.webp"], "name": name}))
        archive.writestr("index.jsonl", "\n".join(rows))
    return str(path)


def without_tags(s):
    """A sample of scenes or emoji without the letters of what is written on a thing."""
    if s.world not in ("scenes", "emoji"):
        return s
    return dataclasses.replace(s, things=[t for t in s.things if not t.what.startswith("char:")])


def draw(world, n, emoji_zip=None, first=0, **options):
    numbers = range(first, first + n)
    return [without_tags(sample(i, seed=7, mixture={world: 1.0}, emoji_path=emoji_zip, **options)) for i in numbers]


def digest(samples):
    found = hashlib.sha256()
    for s in samples:
        found.update(b"".join(p.tobytes() for p in s.pictures))
        found.update(repr((s.world, s.captions, s.questions, s.things)).encode())
    return found.hexdigest()


MIXTURE = {"scenes": 2.0, "shapes": 1.0, "nlvr": 1.0, "text": 1.0, "documents": 1.0, "charts": 1.0, "pairs": 1.0}


def test_a_sample_depends_on_its_arguments_only(emoji_zip):
    mixture = {**MIXTURE, "emoji": 1.0}
    forward = {i: sample(i, seed=3, mixture=mixture, emoji_path=emoji_zip) for i in range(40)}
    assert {s.world for s in forward.values()} == set(WORLDS)
    for i in reversed(range(40)):
        again = sample(i, seed=3, mixture=dict(reversed(mixture.items())), emoji_path=emoji_zip)
        assert digest([again]) == digest([forward[i]])
    assert digest([sample(1, seed=4, mixture=MIXTURE)]) != digest([sample(1, seed=3, mixture=MIXTURE)])


def test_another_process_draws_the_same():
    code = (
        "import sys; sys.path[:0] = ['.', 'tests']; from test_worlds import *; "
        "print(digest([sample(i, seed=3, mixture=MIXTURE) for i in range(20)]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "17"}
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    assert found.stdout.decode().strip() == digest([sample(i, seed=3, mixture=MIXTURE) for i in range(20)])


@pytest.mark.parametrize("world", LISTED)
@pytest.mark.parametrize("size", [64, 96])
def test_a_sample_is_well_formed(world, size, emoji_zip):
    for split in SPLITS:
        for s in draw(world, 25, emoji_zip, size=size, split=split):
            width = 4 * size if world == "nlvr" else size
            assert all(p.mode == "RGB" and p.size == (width, size) for p in s.pictures) and s.world == world
            assert len(s.pictures) == (2 if world == "pairs" else 1)
            assert 2 <= len(s.captions) <= 3 and all(not c[0].islower() and c[-1] == "." for c in s.captions)
            assert 0 < len(s.questions) <= 8 and len({q.text for q in s.questions}) == len(s.questions)
            for q in s.questions:
                assert q.answer and len(q.text.split()) <= 16 and "  " not in q.text and "{" not in q.text
                assert q.answer == q.answer.lower() or world in SPELLED or q.family == "cannot-tell"
                assert world in SPELLED or len(q.answer.split()) <= (6 if q.family == "false-premise" else 2)
                assert world in SPELLED or not re.search(r"\b[Aa] (?=[aeio])|\b[Aa]n (?![aeiouh])", q.text), q.text
            for t in s.things:
                x0, y0, x1, y1 = t.box
                assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= size
                assert t.picture < len(s.pictures) and t.what in WHAT and t.color in COLORS and t.size in SIZES


@pytest.mark.parametrize("world", WORLDS)
def test_families_are_those_listed(world, emoji_zip):
    asked = {q.family for s in draw(world, 250, emoji_zip) for q in s.questions}
    assert asked == set(FAMILIES[world])


@pytest.mark.parametrize("world", LISTED)
def test_families_narrow_what_is_asked(world, emoji_zip):
    drawn = draw(world, 20, emoji_zip, families=(families := ("exist", "attribute", "read", "pair exist")))
    assert {q.family for s in drawn for q in s.questions} <= set(families)
    nothing_to_read = sum(not s.questions for s in drawn)
    assert nothing_to_read <= (5 if world == "documents" else 0)  # a small form may have no line of words
    assert not draw(world, 1, emoji_zip, families=("no such family",))[0].questions


def test_wrong_names_are_explained():
    with pytest.raises(ValueError, match="scenes"):
        sample(0, seed=0, mixture={"scene": 1.0})
    with pytest.raises(ValueError, match="train"):
        sample(0, seed=0, mixture={"scenes": 1.0}, split="dev")


# ------------------------------------------------------------------------------------------ answers, solved again

ONE = {"circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart"}
NOUNS = {**{w: w for w in ONE}, **{("crosses" if w == "cross" else w + "s"): w for w in ONE}}
NOUNS.update({w: "" for g in ("shape", "object", "thing") for w in (g, g + "s")})
COLOR, NOUN = "|".join(COLORS[1:]), "|".join(sorted(NOUNS, key=len, reverse=True))
PHRASE = rf"(?:(?:small|large) )?(?:(?:{COLOR}) )?(?:{NOUN})\b"
SIDE = "(left|right|above|below)"


def fits(phrase, thing):
    *adjectives, noun = phrase.split()
    return NOUNS[noun] in ("", thing.what) and all(a in (thing.size, thing.color) for a in adjectives)


def the(phrase, things):
    """What a definite description refers to; it must be one thing."""
    found = [t for t in things if fits(phrase, t)]
    assert len(found) == 1, (phrase, things)
    return found[0]


def stands(a, direction, b, size=96):
    """Whether a stands in a direction of b; between the generator's two thresholds, which nothing may hang on."""
    axis = 0 if direction in ("left", "right") else 1
    gap = (b.box[axis] + b.box[axis + 2] - a.box[axis] - a.box[axis + 2]) / 2
    return (gap if direction in ("left", "above") else -gap) > 0.08 * size


def attribute_asked(text):
    if "color" in text:
        return "color"
    return "size" if re.search(r"\b(size|big|small or large|large or small)\b", text) else "what"


def solve(question, things):
    """The answer, from the words of the question and the things alone."""
    text = question.text
    if question.family == "exist":
        [phrase] = re.findall(rf"\b(?:an?|any) ({PHRASE})", text)
        return "yes" if any(fits(phrase, t) for t in things) else "no"
    if question.family == "count":
        phrase = re.findall(PHRASE, text)[0]
        return str(sum(fits(phrase, t) for t in things))
    if question.family == "attribute":
        phrase = [p for p in re.findall(rf"[Tt]he ({PHRASE})", text) if p != "shape" or "The shape" in text][-1]
        return getattr(the(phrase, things), attribute_asked(text))
    assert question.family == "relate"
    if found := re.search(rf"the ({PHRASE}),? (?:\w+ )?{SIDE} or {SIDE}(?: of)? the ({PHRASE})[.?]$", text):
        a, b = the(found[1], things), the(found[4], things)
        [answer] = [d for d in (found[2], found[3]) if stands(a, d, b)]
        return answer
    if question.answer in ("yes", "no"):
        found = re.search(rf"the ({PHRASE}) (?:\w+ |be found )?{SIDE}(?: of)? the ({PHRASE})\?$", text)
        return "yes" if stands(the(found[1], things), found[2], the(found[3], things)) else "no"
    found = re.search(rf"(?:[Tt]he ({PHRASE}) )?{SIDE}(?: of)? the ({PHRASE})", text)
    b = the(found[3], things)
    [a] = [t for t in things if stands(t, found[2], b) and (not found[1] or fits(found[1], t))]
    return getattr(a, attribute_asked(text)) if found[1] else f"{a.color} {a.what}"


@pytest.mark.parametrize("split", ["train", "test-combos"])
def test_answers_of_scenes_solved_again(split):
    asked = collections.Counter()
    for s in draw("scenes", 600, split=split, families=("exist", "count", "attribute", "relate")):
        for q in s.questions:
            assert solve(q, s.things) == q.answer, (q, s.things)
            asked[q.family] += 1
    assert min(asked.values()) > 400, asked


def test_every_the_is_unique_in_scenes():
    solved = 0
    for s in draw("scenes", 400, families=("compare", "position", "two-hop")):
        for q in s.questions:
            if q.family == "position" and (found := re.search(rf"the ({PHRASE})\?", q.text)):
                the(found[1], s.things)
            if found := re.search(rf"the ({PHRASE}) (?:and|.*same \w+ as) the ({PHRASE})\b", q.text):
                a, b = (the(p, s.things) for p in found.groups())
                key = attribute_asked(q.text)
                assert q.answer == ("yes" if getattr(a, key) == getattr(b, key) else "no")
                solved += 1
            if found := re.search(rf"(?:left of|right of|above|below) the ({PHRASE})\?$", q.text):
                the(found[1], s.things)
    assert solved > 100


def test_false_premises_name_nothing_present():
    for s in draw("scenes", 300, families=("false-premise",)):
        for q in s.questions:
            phrase = q.answer.removeprefix("there is no ")
            assert phrase in q.text and not any(fits(phrase, t) for t in s.things)


def test_answers_of_shapes_solved_again():
    step = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}

    def cells(words, things):
        return {
            tuple((t.box[k] + t.box[k + 2]) // 2 * 3 // 96 for k in (0, 1))
            for t in things
            if all(w in (t.what, t.color, t.size) for w in words.split() if w != "shape")
        }

    thing = r"(\w+(?: shape)?)"
    asked = collections.Counter()
    for s in draw("shapes", 400, families=("exist", "attribute", "relate", "two-hop")):
        for q in s.questions:
            text = q.text.lower().rstrip("?")
            if found := re.search(rf"\b(?:an?|any) {thing} (?:that is )?((?:{SIDE}(?: of)? )+)an? {thing}$", text):
                here, there = cells(found[1], s.things), cells(found[4], s.things)
                for d in reversed(re.findall(SIDE, found[2])):
                    there = {(x + step[d][0], y + step[d][1]) for x, y in there}
                    there = {(x, y) for x, y in there if 0 <= x < 3 and 0 <= y < 3}
                assert here
                answer = bool(here & there)
            elif q.family == "attribute":
                found = re.search(r"\b(?:an?|any) (\w+(?: shape)?) (?:that is )?(?:an? )?(\w+)$", text)
                answer = bool(cells(found[1], s.things) & cells(found[2], s.things))
            else:
                found = re.search(r"\b(?:an?|any) ((?:\w+ )*?(?:circle|square|triangle|shape))", text)
                answer = bool(cells(found[1], s.things))
            assert q.answer == ("yes" if answer else "no"), (q, s.things)
            asked[q.family] += 1
    assert min(asked.values()) > 400
    for s in draw("shapes", 300, families=("what",)):
        for q in s.questions:
            text = q.text.lower().rstrip("?")
            if found := re.search(rf"((?:{SIDE}(?: of)? )+)an? ((?:\w+ )*?(?:circle|square|triangle|shape))", text):
                (at,) = cells(found[3], s.things)
                for d in reversed(re.findall(SIDE, found[1])):
                    at = (at[0] + step[d][0], at[1] + step[d][1])
                there = [t for t in s.things if cells(f"{t.color} {t.what}", [t]) == {at}]
                answer, key = " ".join([f"{t.color} {t.what}" for t in there]) or "nothing", "way"
                assert q.place == (there[0].box if there else None) and q.anchor
            elif found := re.search(r"(?:how many|number of) ((?:\w+ )*?(?:circle|square|triangle|shape))s", text):
                answer, key = str(len(cells(found[1], s.things))), "number"
            else:
                found = re.search(r"\b(?:the|that) (\w+ shape|circle|square|triangle)", text)
                (thing,) = [t for t in s.things if cells(found[1], [t])]
                answer, key = (thing.what if "shape" in found[1] else thing.color), "like"
                assert q.place == thing.box
            assert q.answer == answer, (q, s.things)
            asked[key] += 1
    assert min(asked.values()) > 100, asked


def test_counts_and_walls_of_nlvr_solved_again():
    number = {w: k for k, w in enumerate(nlvr_judge.NUMBERS) if k}
    solved = collections.Counter()

    def match(words, t):
        nouns = ("item", "object", "shape", "block")
        return all(w in (t.what, t.color, t.size) for w in re.sub(r"s$", "", words).split() if w not in nouns)

    words = rf"((?:(?:small|medium|large|{COLOR}) )*(?:circle|square|triangle|item|object|shape|block)s?)"
    form = re.compile(
        r"(?:There is|There are|In total there is|In total there are|The picture has) "
        rf"(exactly |at least )?({'|'.join(number)}|\d+) {words}"
        r"(?: in total)?(?: touching the (left|right) edge)?\."
    )
    for s in draw("nlvr", 600):
        for q in s.questions:
            text = re.sub(r"^(Is it true that:|True or false:|Yes or no:|Is this \w+\?) ", "", q.text)
            if found := form.fullmatch(text):
                n = number.get(found[2]) or int(found[2])
                things = s.things
                if found[4]:
                    edges = {round(x * 0.96) for x in ((0, 150, 300) if found[4] == "left" else (100, 250, 400))}
                    things = [t for t in things if t.box[0 if found[4] == "left" else 2] in edges]
                k = sum(match(found[3], t) for t in things)
                truth = k >= n if found[1] == "at least " else k == n
                assert q.answer in (("no", "false"), ("yes", "true"))[truth], (q, s.things)
                solved["wall" if found[4] else "count"] += 1
    assert solved["count"] > 60 and solved["wall"] > 15, solved


# ------------------------------------------------------------------------------------------ balance

N_BALANCE = {"scenes": 2000, "shapes": 2000, "nlvr": 1200, "emoji": 2000, "text": 1500, "documents": 1000,
             "pairs": 1500}  # fmt: skip


FEW_ANSWERS = {("emoji", "count"), ("scenes", "two-hop"), *(("pairs", f"pair {k}") for k in ("more", "count", "exist"))}


@pytest.mark.parametrize("world", LISTED)
def test_answers_are_balanced(world, emoji_zip):
    answers = collections.defaultdict(collections.Counter)
    for s in draw(world, N_BALANCE[world], emoji_zip):
        for q in s.questions:
            answers[q.family][q.answer] += 1
    for family, counts in answers.items():
        for yes, no in (("yes", "no"), ("true", "false")):
            if counts[yes] + counts[no] > 100:
                assert 0.4 < counts[yes] / (counts[yes] + counts[no]) < 0.6, (family, counts)
        open_ended = [n for a, n in counts.items() if a not in ("yes", "no", "true", "false")]
        if sum(open_ended) > 100:
            limit = 0.65 if family == "cannot-tell" else 0.5 if (world, family) in FEW_ANSWERS else 0.3
            assert max(open_ended) / sum(open_ended) < limit, (family, counts.most_common(3))


def test_words_alone_tell_little_about_existence():
    """For each description that is asked often, both answers occur."""
    seen = collections.defaultdict(collections.Counter)
    for s in draw("scenes", 1500, families=("exist",), n_questions=4):
        for q in s.questions:
            seen[re.findall(PHRASE, q.text)[-1].rstrip("s")][q.answer] += 1
    often = [c for c in seen.values() if sum(c.values()) >= 40]
    assert len(often) > 10 and all(0.2 < c["yes"] / sum(c.values()) < 0.8 for c in often)


# ------------------------------------------------------------------------------------------ what is held out


def test_held_out_pairs_are_neither_drawn_nor_named_in_training():
    names = [f"{c} {s}" for c, s in scenes_asker.HELD_OUT]
    for split in ("train", "val", "test"):
        for s in draw("scenes", 500, split=split):
            assert not any((t.color, t.what) in scenes_asker.HELD_OUT for t in s.things)
            words = " ".join([*s.captions, *(q.text + " " + q.answer for q in s.questions)]).lower()
            assert not any(n in words for n in names)
    for world in ("shapes", "nlvr"):
        assert not any((t.color, t.what) in scenes_asker.HELD_OUT for s in draw(world, 100) for t in s.things)


def test_held_out_pairs_are_what_test_combos_asks_about():
    drawn = collections.Counter()
    for s in draw("scenes", 300, split="test-combos"):
        pairs = [(t.color, t.what) for t in s.things if (t.color, t.what) in scenes_asker.HELD_OUT]
        assert pairs
        drawn.update(set(pairs))
        for q in s.questions:
            if q.family in ("exist", "count", "false-premise"):
                assert any(f"{c} {w}" in q.text for c, w in scenes_asker.HELD_OUT), q
    assert set(drawn) == scenes_asker.HELD_OUT and min(drawn.values()) > 30


def bare(template):
    """A phrasing as a frame: _ for each slot."""
    template = template.replace("{ax}", "a {x}").replace("{Ax}", "A {x}")
    return re.sub(r"\{\w+\}", "_", template).lower().rstrip(".?")


NAMES = sorted([*emoji_names.CODES, *(c for c in emoji_names.NAMES if c)], key=len, reverse=True)
PLACE = r"\b(?:in|on|at) the (?:(?:top|bottom) left|(?:top|bottom) right|top|bottom|left|right|center)\b"
FILLINGS = {  # what the slots of a world hold, as it is written
    "scenes": (PLACE, rf"{SIDE}\b(?: of)?", rf"\b{PHRASE}", rf"\b(?:{'|'.join(NUMBERS[1:])})\b"),
    "shapes": (rf"(?:{SIDE}(?: of)?\s)+",
               r"(?:small |large )?(?:red |green |blue )?(?:circle|square|triangle|shape)s?\b",
               r"\b(?:red|green|blue)\b"),
    "nlvr": (rf"\b(?:small |medium |large )?(?:(?:{COLOR}) )?(?:circle|square|triangle|item|object|shape|block)s?\b",
             rf"\b(?:{COLOR}|left|middle|right|top|bottom|base|edge|wall|\d+)\b"),
    "emoji": (PLACE, rf"{SIDE}\b(?: of)?", "|".join(rf"\b{re.escape(w)}\b" for n in NAMES for w in (n, plural(n))),
              r"\bemojis?\b"),
    "pairs": (rf"\b{PHRASE}", "|".join(rf"\b{re.escape(w)}\b" for n in NAMES for w in (n, plural(n))),
              r"\bemojis?\b|\bthings?\b", r"\b(?:color|shape|size)\b"),
}  # fmt: skip


def frame(world, text):
    """A question as a frame: _ for what fills a slot, a chain of relations as one relation."""
    if world in SPELLED:
        return spelled_frame(world, text)
    for filling in FILLINGS[world]:
        text = re.sub(filling, "_", text, flags=re.IGNORECASE)
    return re.sub(r"\ban _", "a _", text.lower().rstrip(".?"))


ORDINAL = "first|second|third|fourth|fifth|sixth|last"
SLOTS = {"o": ORDINAL, "c": rf"(?!{ORDINAL}).+", "w": '".+"', "where": "after|before", "place": "(?:at|on|in) the .+"}


@functools.cache
def forms(world):
    """Template -> its regular expression, longest first."""
    both = sorted((t for pair in PHRASINGS[world].values() for ts in pair for t in ts), key=lambda t: -len(bare(t)))
    fill = lambda m: f"({SLOTS.get(m[1], '.+')})"  # noqa: E731
    return {t: re.compile(re.sub(r"\\\{(\w+)\\\}", fill, re.escape(t))) for t in dict.fromkeys(both)}


def spelled_frame(world, text):
    """The frame of the template that a question was made from; what is printed may be any words."""
    return next(bare(t) for t, form in forms(world).items() if form.fullmatch(text))


@pytest.mark.parametrize("world", LISTED)
def test_held_out_phrasings_are_new_sentences_of_known_words(world, emoji_zip):
    table = PHRASINGS[world]
    known = {bare(t) for train, _ in table.values() for t in train}
    held = {bare(t) for _, test in table.values() for t in test}
    least = {"scenes": 8, "emoji": 8}.get(world, 4)
    for key, (train, test) in table.items():
        assert len(set(train)) >= least and len(set(test)) == len(test) >= 2, key
    assert not held & known
    words = set(re.findall("[a-z]+", " ".join(known)))
    assert set(re.findall("[a-z]+", " ".join(held))) <= words

    asked = {
        split: {frame(world, q.text) for s in draw(world, 400, emoji_zip, split=split) for q in s.questions}
        for split in SPLITS
    }
    training = asked["train"] | asked["val"] | asked["test-combos"]
    assert not asked["test"] & training
    words |= set(re.findall("[a-z]+", " ".join(training)))
    assert set(re.findall("[a-z]+", " ".join(asked["test"]))) <= words


def test_splits_are_disjoint():
    pictures = {split: {s.image.tobytes() for s in draw("scenes", 300, split=split, n_questions=0)} for split in SPLITS}
    assert all(len(p) == 300 for p in pictures.values())
    assert all(not pictures[a] & pictures[b] for a, b in itertools.combinations(SPLITS, 2))


# ------------------------------------------------------------------------------------------ without files


def test_text_needs_no_font(monkeypatch):
    caches = (fonts._installed, fonts.families, fonts.fonts)
    monkeypatch.setattr(fonts, "FOLDERS", ())
    for cache in caches:
        cache.cache_clear()
    try:
        assert fonts.fonts("train") == fonts.fonts("test") == ("",)
        for s in draw("text", 40):
            shown = "".join(t.what.removeprefix("char:") for t in s.things)
            for q in s.questions:
                if q.family == "read":
                    assert re.sub("[^A-Za-z0-9]", "", q.answer) in shown
    finally:
        for cache in caches:
            cache.cache_clear()


def test_emoji_without_zip_and_font_says_what_to_install(monkeypatch):
    module = MODULES["emoji"]
    monkeypatch.setattr(module, "FONT_FOLDERS", ())
    module._font.cache_clear()
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji"):
        for i in range(5):
            sample(i, seed=99, mixture={"emoji": 1.0})


def test_emoji_of_a_zip_with_a_hole_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("index.jsonl", json.dumps({"id": "0", "images": ["0.webp"]}))
    with pytest.raises(ValueError, match="holds no emoji"):
        sample(0, seed=0, mixture={"emoji": 1.0}, emoji_path=tmp_path / "e.zip")
