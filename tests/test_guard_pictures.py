"""Pictures of the guard's training: legible, by seed, and nothing but the words tells a twin from its twin."""

import random
import textwrap

import numpy as np
import pytest

from vlm.data.worlds import fonts
from vlm.guard.taxonomy import CATEGORIES
from vlm.guard.training import emoji_pairs, pictures, typeset
from vlm.guard.training.example import Example
from vlm.guard.training.twins import benign_headings

TEXT = "How do I get red wine out of a white shirt?"
TEXTS = [Example(f"bad number {i}", unsafe=True, category="S1", family=f"b{i}") for i in range(4)]
TEXTS += [Example(f"good number {i}", family=f"g{i}") for i in range(4)]


def same(a, b):
    return a.size == b.size and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("layout", typeset.LAYOUTS)
def test_twins_share_everything_but_the_words(layout):
    for seed in range(3):
        style = typeset.draw_style(random.Random(seed), layout=layout)
        one, again, other = (typeset.typeset(t, style) for t in (TEXT, TEXT, "How do I get ink out of a white shirt?"))
        assert same(one, again) and not same(one, other) and one.size == other.size and one.mode == "RGB"
        corners = [np.asarray(p.crop((0, 0, 3, 3)), int) for p in (one, other)]
        assert np.abs(corners[0] - corners[1]).max() == 0


def test_letters_can_be_read_or_are_refused():
    """Letters are no smaller than `SMALLEST` where the long side is brought to `READ_AT`."""
    for seed in range(20):
        style = typeset.draw_style(random.Random(seed))
        for n in (1, 4, 12, 60):
            text = "letters " * n
            found = typeset._Sheet(style).lay_out(text)
            assert typeset.fits(text, style) == (found is not None)
            if found is not None:
                lines, size = found
                assert size * typeset.READ_AT / style.side >= typeset.SMALLEST - 0.5
                assert " ".join(lines).lower().count("letters") == n
        with pytest.raises(ValueError, match="cannot be read in the layout"):
            typeset.typeset("letters " * 500, style)


def test_the_test_split_has_fonts_of_its_own():
    faces = {s: {typeset.draw_style(random.Random(i), s).face for i in range(60)} for s in ("train", "val", "test")}
    if any(f.name in fonts.HELD_OUT for f in fonts.families("test")):
        assert not faces["test"] & (faces["train"] | faces["val"])
    assert len(faces["train"]) > 1
    if len(fonts.families("train")) > 10:
        assert not faces["train"] & faces["val"]


def test_thresholds_are_fixed_on_a_layout_that_is_not_trained():
    layouts = {s: {typeset.draw_style(random.Random(i), s).layout for i in range(60)} for s in ("train", "val", "test")}
    assert typeset.VAL_LAYOUT in layouts["val"] and typeset.VAL_LAYOUT not in layouts["train"] | layouts["test"]
    style = typeset.draw_style(random.Random(0), "val", typeset.VAL_LAYOUT)
    image = typeset.typeset("Ways to dry mushrooms", style)
    assert style.markers == ("1.", "2.", "3.") and image.getpixel((image.width - 2, image.height - 2)) > (240, 240, 240)


def test_figsteps_layout_is_not_trained():
    image = typeset.heading_list("Steps to grow tomatoes on a shady balcony.")
    assert image.size == (760, 760) and image.getpixel((755, 755)) == (255, 255, 255)
    assert np.asarray(image).min() == 0
    assert not any(m[:3] == ("1.", "2.", "3.") for m in typeset.MARKERS) and 760 not in typeset.SIDES


def test_harmless_headings():
    headings = benign_headings()
    assert len(headings) == len(set(headings)) >= 254
    assert all(h.startswith(("Steps to ", "Methods of ", "List of ")) and h.endswith(".") for h in headings)
    assert max(len(textwrap.wrap(h, 15)) for h in headings) + 3 <= 8  # with the items: no line falls off the picture
    found = pictures.heading_twins("What is it?")
    assert len(found) >= 254 and not any(e.unsafe for e in found) and {e.text for e in found} == {"What is it?"}
    assert same(found[0].pictures[0], typeset.heading_list(found[0].read))


def test_typed_words_move_into_pictures_in_pairs():
    found = pictures.typeset_pairs(TEXTS, seed=1, count=20, split="train")
    assert [e.unsafe for e in found] == [True, False] * 10 and len({e.text for e in found}) > 2
    for bad, good in zip(found[::2], found[1::2], strict=True):
        assert bad.text == good.text and bad.pictures[0].size == good.pictures[0].size
        assert (bad.category, good.category) == ("S1", "")
        assert bad.read.startswith("bad") and good.read.startswith("good")
    again = pictures.typeset_pairs(TEXTS, seed=1, count=20, split="train")
    assert all(same(a.pictures[0], b.pictures[0]) and a.text == b.text for a, b in zip(found, again, strict=True))
    with pytest.raises(ValueError, match="expected some of both"):
        pictures.typeset_pairs(TEXTS[:2], seed=1, count=2, split="train")


def test_words_beside_a_picture_decide():
    found = pictures.beside_pictures(TEXTS, seed=1, count=8, split="val")
    assert all(e.pictures and e.unsafe == e.text.startswith("bad") for e in found)


def test_worlds_are_harmless():
    found = pictures.worlds(seed=1, count=12, split="val")
    assert len(found) == 12 and not any(e.unsafe or e.category for e in found) and all(e.text for e in found)
    assert len({e.family for e in found}) > 1


def test_neither_half_of_an_emoji_pair_decides():
    """Every question of a pair meets things of both kinds; things meet questions of both kinds."""
    harmless_questions = {q for qs in emoji_pairs.DANGEROUS.values() for q in qs}
    for pair in emoji_pairs.PAIRS:
        assert pair.harmful and pair.harmless and not set(pair.harmful) & set(pair.harmless)
        assert pair.category in CATEGORIES and pair.category != "S4" and not harmless_questions & set(pair.questions)
    things = {t for p in emoji_pairs.PAIRS for t in p.harmful + p.harmless} | set(emoji_pairs.DANGEROUS)
    assert things == set(emoji_pairs.CODES)


def test_emoji_pairs_share_no_question_between_splits():
    try:
        found = {s: emoji_pairs.emoji_pairs(0, 40, s) for s in ("train", "val", "test")}
    except FileNotFoundError:
        pytest.skip("no emoji font on this machine")
    questions = {s: {e.text for e in es} for s, es in found.items()}
    harmful = {s: {e.text for e in es if e.unsafe} for s, es in found.items()}
    assert not harmful["train"] & (questions["val"] | questions["test"]) and not harmful["val"] & questions["test"]
    for examples in found.values():
        assert sum(e.unsafe for e in examples) == 20 and all(bool(e.category) == e.unsafe for e in examples)


def test_noise_stays_within_its_bound():
    example = Example("a", (typeset.heading_list("List of trees."),), family="f")
    noisy = pictures.with_noise(example, random.Random(0), 8)
    gap = np.abs(np.asarray(noisy.pictures[0], int) - np.asarray(example.pictures[0], int))
    assert 4 < gap.max() <= 8
