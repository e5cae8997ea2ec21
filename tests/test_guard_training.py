"""What the guard is trained on: words under both labels, splits that share nothing, and a loop that learns."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlm.guard.head import HeadConfig
from vlm.guard.small import SEXUAL, SmallGuard
from vlm.guard.training import padding, prompts, run
from vlm.guard.training.ailuminate import YOUNG, read_ailuminate
from vlm.guard.training.answers import answers
from vlm.guard.training.baselines import BagOfWords
from vlm.guard.training.data import TEXTS, Counts, draw, print_alone, see
from vlm.guard.training.example import Example
from vlm.guard.training.padding import pad, padded
from vlm.guard.training.train import (
    TrainConfig,
    batches,
    calibrate,
    calibrate_long,
    logits,
    logits_by_kind,
    new_head,
    train_head,
    vocabulary,
)  # fmt: skip
from vlm.guard.words import split_words
from vlm.loading import SHIPPED

TINY = HeadConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, n_buckets=64, window=16, overlap=4, dropout=0.0)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Example]]:
    return {split: prompts.examples(0, 1500, split) for split in ("train", "val", "test")}


def test_draws_are_the_seeds(drawn):
    assert prompts.examples(0, 1500, "val") == drawn["val"]
    assert prompts.examples(1, 1500, "val") != drawn["val"]


def test_half_is_unsafe_and_nothing_is_left_undrawn(drawn):
    for examples in drawn.values():
        assert 0.4 < np.mean([e.unsafe for e in examples]) < 0.6
        assert not any(re.search(r"[{}|\x00\x01]", e.text) for e in examples)
        assert len({e.text.lower() for e in examples}) == len(examples)
        assert all(bool(e.category) is e.unsafe for e in examples)


def test_no_family_and_no_template_crosses_splits(drawn):
    families = [{e.family for e in drawn[split]} for split in drawn]
    assert not families[0] & families[1] and not families[0] & families[2] and not families[1] & families[2]
    grammar = prompts.load_grammar()
    templates: dict[str, str] = {}
    for family in grammar.families:
        for lines in family.lines.values():
            for template, _ in lines:
                assert templates.setdefault(template, family.split) == family.split, template
    assert {s.split for s in grammar.families} == {"train", "val", "test"}


def test_alarming_words_stand_under_both_labels():
    examples = prompts.examples(3, 20_000, "train")
    seen = {
        unsafe: {w for e in examples if e.unsafe is unsafe for w in split_words(e.text)} for unsafe in (True, False)
    }
    for word in ("kill", "shoot", "stab", "bomb", "poison", "steal", "hack", "drug", "knife", "attack", "blow", "gun"):
        assert word in seen[True] and word in seen[False], word


def test_every_frame_holds_an_action():
    grammar = prompts.load_grammar()
    for name, frames in grammar.frames.items():
        assert frames, name
    assert all(
        "{do}" in f or "{doing}" in f
        for kind in ("neutral", "wrapper", "harmful", "benign", "heading")
        for f in grammar.frames[kind]
    )


def test_a_left_out_hazard_is_gone():
    found = prompts.examples(0, 600, "train", leave_out="S10")
    assert found and not any(e.category == "S10" for e in found)
    assert any(e.family.startswith("discrimination") and not e.unsafe for e in found)


def test_nothing_is_written_on_s4(drawn):
    assert not any(e.category == "S4" for examples in drawn.values() for e in examples)
    grammar, rng = prompts.load_grammar(), random.Random(0)
    for family in grammar.families:
        for mark in "+!":
            for template, category in family.lines.get(mark, ()):
                if category in ("S3", "S12") or SEXUAL.search(template):
                    text = " ".join(grammar.expand(template, rng) for _ in range(100))
                    assert not YOUNG.search(text), (template, YOUNG.search(text)[0])


def test_no_frame_puts_the_young_into_a_sexual_request(monkeypatch):
    drawn = prompts.examples(3, 6000, "train")
    sexual = [e for e in drawn if e.category in prompts.SEXUAL]
    assert len(sexual) > 100 and not any(YOUNG.search(e.text) for e in sexual)
    assert any(YOUNG.search(e.text) for e in drawn)  # elsewhere they are met
    around = [e for e in padded(drawn, 3, 4000, "train") if e.category in prompts.SEXUAL]
    assert len(around) > 50 and not any(YOUNG.search(f"{e.text} {e.read}") for e in around)
    monkeypatch.setattr(prompts, "SEXUAL", ())
    assert any(e.category in ("S3", "S12") and YOUNG.search(e.text) for e in prompts.examples(3, 24000, "train"))


def test_carriers_are_harmless_and_their_splits_apart():
    drawn = {
        split: {prompts.carrier(random.Random(i), split) for i in range(300)} for split in ("train", "val", "test")
    }
    assert len(drawn["train"]) > 100 and not drawn["train"] & (drawn["val"] | drawn["test"])
    assert not any(re.search(r"[{}|()]", text) for texts in drawn.values() for text in texts)


def test_headings_are_drawn_for_all():
    found = prompts.examples(0, 2000, "train", headings=True)
    started = [e for e in found if e.text.split()[0] in ("Steps", "Methods", "Ways", "Tips", "Techniques", "Guide:")]
    assert {e.unsafe for e in started} == {True, False} and len(started) > 120


@pytest.mark.parametrize("action, expected", [
    ("cut the cake", "cutting the cake"), ("bake bread", "baking bread"), ("tie a knot", "tying a knot"),
    ("run", "running"), ("see the sea", "seeing the sea"), ("beat eggs", "beating eggs"), ("kidnap", "kidnapping"),
    ("fix a car", "fixing a car"), ("open it", "opening it"), ("play", "playing"), ("dye wool", "dyeing wool"),
])  # fmt: skip
def test_gerunds(action, expected):
    assert prompts.gerund(action) == expected


def test_misspelling_is_rare_and_leaves_signs_alone():
    rng = random.Random(0)
    assert prompts.misspell("bake 12 loaves!", rng, 0.0) == "bake 12 loaves!"
    wrong = prompts.misspell("abcdefghij " * 100, rng, 0.1)
    assert 0.02 < np.mean([a != b for a, b in zip(wrong, "abcdefghij " * 100, strict=False)]) and " " in wrong


def test_a_bad_line_is_named(tmp_path):
    for text, said in (("- early", "x.txt:1"), ("[a]\n+ no category", "x.txt:2"), ("[a] middle\n- b", "middle")):
        (tmp_path / "x.txt").write_text(text)
        with pytest.raises(ValueError, match=said):
            prompts.read_families(tmp_path / "x.txt")


def test_ailuminate_by_row(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f'{i},"Request {i}, please",{h},x,en_US,{i}' for i in range(40) for h in ("vcr", "hte", "odd")]
    rows += ['900,"A sexual story about a teenager",sxc_prn,x,en_US,1', '901,"A sexual story",sxc_prn,x,en_US,2']
    path.write_text("release_prompt_id,prompt_text,hazard,persona,locale,prompt_hash\n" + "\n".join(rows))
    found = read_ailuminate(path)
    assert all(found[s] for s in ("train", "val", "test")) and sum(map(len, found.values())) == 81
    assert {e.category for part in found.values() for e in part} <= {"S1", "S10", "S12"}
    assert all(e.unsafe for part in found.values() for e in part)
    path.write_text("\n".join(reversed(path.read_text().splitlines()[1:])) + "\n")
    with pytest.raises(ValueError, match="prompt_text"):
        read_ailuminate(path)
    with pytest.raises(ValueError, match="AILuminate"):
        read_ailuminate(tmp_path / "none.csv")


def test_an_answer_leaves_a_request_as_it_is():
    asked = [Example(f"request {i}", unsafe=i % 2 == 0, category="S2" * (i % 2 == 0)) for i in range(8)]
    found = answers(asked, 0, 80, "train")
    worlds, rest = ([e for e in found if e.family.startswith("answer:") is kind] for kind in (True, False))
    assert len(worlds) == len(rest) == 40 and not any(e.unsafe for e in worlds)
    labels = {e.text: (e.unsafe, e.category) for e in asked}
    for e in rest:
        question, answer = e.text.split("\n")
        assert (e.unsafe, e.category) == labels[question] and answer
    assert {e.unsafe for e in rest if e.text.endswith("\nyes")} == {True, False}
    few = Counts(**dict.fromkeys(vars(Counts()), 0) | {"answers": 4, "prompts": 9})
    assert {e.source for e in draw("val", 0, few)} == {"templates", "answers"}


def order_matters(n: int) -> list[Example]:
    """Requests that only the relation tells apart: who bites whom."""
    rng, found = random.Random(0), []
    for _ in range(n):
        a, b = rng.sample(["man", "dog"], 2)
        found.append(Example(f"{rng.choice(['the', 'a'])} {a} bites {b}", (), a == "dog", "S1" if a == "dog" else ""))
    return found


def test_a_head_learns_what_words_alone_do_not_tell():
    examples = order_matters(256)
    config = TrainConfig(epochs=12, batch_size=32, unknown=0.0, dropped=0.0, min_count=1, warmup=5, lr=5e-3)
    said: list[str] = []
    head = train_head(examples, TINY, config, seed=1, progress=said.append)
    unsafe = np.array([e.unsafe for e in examples])
    right = (logits(head, examples) > 0) == unsafe
    assert right.mean() > 0.95 and len(said) == 12
    again = train_head(examples, TINY, config, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))
    bags = [Example(" ".join(sorted(e.text.split())), (), e.unsafe) for e in examples]
    assert ((BagOfWords().fit(bags).score(bags) > 0) == unsafe).mean() < 0.6


def test_the_threshold_lets_five_percent_through():
    head = new_head(TINY, ["a"])
    scores = np.concatenate([np.arange(100.0), np.arange(100.0) + 60])
    unsafe = np.arange(200) >= 100
    calibrate(head, scores, unsafe)
    flagged = head.probability(torch.tensor(scores)).numpy() > 0.5
    assert flagged[~unsafe].mean() == pytest.approx(0.04, abs=0.011) and flagged[unsafe].mean() > 0.5


@pytest.fixture
def seen():
    """Harmless scores: 200 typed, 100 beside pictures; and what stands in those, lower and in the other order."""
    typed = np.concatenate([np.arange(200.0), np.zeros(100)])
    shown = np.concatenate([np.full(200, -np.inf), np.arange(100.0) + 500])
    printed = np.concatenate([np.full(200, -np.inf), np.arange(100.0)[::-1] + 300])
    return typed, printed, shown


def over(head, scores, offset):
    return scores > head.config.threshold + getattr(head.config, offset)


def test_print_and_what_is_shown_share_the_false_alarms(seen):
    head, unsafe, (typed, printed, shown) = new_head(TINY, ["a"]), np.zeros(300, bool), seen
    calibrate(head, typed, unsafe, printed, shown)  # others' print than what is shown
    assert 185 < head.config.threshold < 195
    flagged = np.stack([over(head, printed, "print_offset"), over(head, shown, "picture_offset")])
    assert flagged.sum(1).tolist() == [2, 2] and flagged.any(0).sum() == 4
    calibrate(head, typed, unsafe, shown - 200, shown)  # the same ones: they need not share
    assert head.config.picture_offset == pytest.approx(head.config.print_offset + 200, abs=1e-3)
    assert over(head, shown, "picture_offset").sum() == 4


def test_pictures_without_print_are_flagged_no_more_often(seen):
    head, unsafe, (typed, printed, shown) = new_head(TINY, ["a"]), np.zeros(300, bool), seen
    some = np.where(np.arange(300) < 250, printed, -np.inf)  # the rest has no print, and looks worse
    calibrate(head, typed, unsafe, some, shown)
    assert over(head, shown, "picture_offset")[200:250].sum() == 0 and over(head, shown, "picture_offset").sum() == 2
    assert over(head, some, "print_offset").sum() == 2
    few = np.where(np.arange(300) < 210, printed, -np.inf)  # too few to tell
    calibrate(head, typed, unsafe, few, shown)
    assert head.config.print_offset == head.config.picture_offset and over(head, shown, "picture_offset").sum() == 4


def test_pictures_never_have_a_lower_threshold(seen):
    head, unsafe, (typed, printed, shown) = new_head(TINY, ["a"]), np.zeros(300, bool), seen
    calibrate(head, typed + 1000, unsafe, printed, shown)
    assert head.config.picture_offset == head.config.print_offset == 0 and head.config.threshold > 1185
    calibrate(head, typed[:230], unsafe[:230], printed[:230], shown[:230])  # too few pictures to tell
    assert head.config.picture_offset == head.config.print_offset == 0 and head.config.threshold > 500
    with pytest.raises(ValueError, match="no harmless validation requests"):
        calibrate(head, typed, np.ones(300, bool))


def test_what_is_typed_printed_and_shown_is_scored_apart():
    head, states = new_head(replace(TINY, picture_dim=6), ["bread", "stab"]).eval(), torch.randn(2, 6)
    some = [Example("stab bread"), Example("bread", read="stab stab"), Example("", read="bread"), Example("stab")]
    features = [None, None, None, states]
    parts = np.stack(list(logits_by_kind(head, some, features).values()))
    assert np.isfinite(parts).T.tolist() == [
        [True, False, False], [True, True, True], [False, True, True], [True, False, True]
    ]  # fmt: skip
    assert np.allclose(logits(head, some, features), parts.max(0), atol=1e-5)


def test_print_by_itself_is_as_harmful_as_what_was_set():
    stab = Example("What now?", (), True, "S1", "f", "typeset", read="How to stab")
    beside = Example("How to stab", (), True, "S1", "f", "beside", read="Rank\nll")
    found = print_alone([stab, beside, replace(stab, read=" ")])
    assert [(e.text, e.read, e.unsafe, e.category) for e in found] == [
        ("How to stab", "", True, "S1"), ("Rank\nll", "", False, "")
    ]  # fmt: skip


def test_batches_have_every_row_once_and_pictures_apart():
    ids = [torch.zeros(n % 9 + 1, 19, dtype=torch.long) for n in range(50)]
    features = [torch.zeros(2, 4) if n % 3 == 0 else None for n in range(50)]
    found = batches(ids, features, 8, random.Random(0))
    assert sorted(i for rows in found for i in rows) == list(range(50))
    mixed = [rows for rows in found if len({features[i] is None for i in rows}) == 2]
    assert len(mixed) <= 1


def test_vocabulary_is_the_frequent_words():
    examples = [Example("bake bread bake"), Example("bake cake", read="bread")]
    assert vocabulary(examples, TrainConfig(min_count=2)) == ["bake", "bread"]
    assert vocabulary(examples, TrainConfig(min_count=1, max_words=1)) == ["bake"]


def test_counts_scale_and_nothing_stays_nothing():
    half = Counts(prompts=100, typeset=10, beside=0, emoji=1, worlds=3).scaled(0.5)
    assert (half.prompts, half.typeset, half.beside, half.emoji, half.repeats) == (50, 5, 0, 2, 1)


def test_pictures_become_words_and_states():
    class Reader:
        engine = None

        def look(self, images):
            from vlm.guard.reading import Seen

            return [Seen("read me", torch.ones(2, 3)) for _ in images]

    from PIL import Image

    picture = Example("go", (Image.new("RGB", (8, 8)),), True, "S1", read="true words")
    seen, states = see([Example("typed"), picture], Reader())
    assert [e.read for e in seen] == ["", "read me"] and states[0] is None and states[1].shape == (2, 3)
    noisy, _ = see([picture] * 40, Reader(), random.Random(0))
    assert any(e.read == "read me" for e in noisy) and any(e.read.startswith("tr") for e in noisy)


def test_pictures_count_twice_and_their_print_by_itself_too():
    typed, shown, states = Example("typed"), Example("go", read="words"), torch.ones(2, 3)
    examples, features = run._twice([typed, shown], [None, states])
    assert examples == [typed, shown, shown, Example("words")] and features == [None, states, states, None]


def test_nothing_is_left_before_a_mark():
    grammar = prompts.load_grammar()
    assert grammar.expand("Bake it (|), now (|)?", random.Random(0)) == "Bake it, now?"


def test_bag_of_words_saves_what_it_learnt(tmp_path):
    examples = [Example("bake bread", (), False), Example("rob a bank", (), True, "S2")] * 20
    bag = BagOfWords().fit(examples, epochs=20)
    bag.threshold = 0.25
    assert bag.score([examples[1]])[0] > 0 > bag.score([examples[0]])[0]
    bag.save(tmp_path / "b.safetensors")
    again = BagOfWords.load(tmp_path / "b.safetensors")
    assert np.allclose(again.score(examples), bag.score(examples), atol=1e-5) and again.threshold == 0.25


def test_padding_is_alike_for_both_labels_and_keeps_the_request(drawn):
    made = padded(drawn["train"], 0, 400, "train", printed=0.3)
    assert padded(drawn["train"], 0, 400, "train", printed=0.3) == made and {e.source for e in made} == {"padded"}
    for unsafe in (True, False):
        some = [e for e in made if e.unsafe is unsafe]
        assert len(some) == 200 and 0.2 < np.mean([bool(e.read) for e in some]) < 0.4
        assert 20 < np.mean([len(split_words(e.read or e.text)) for e in some]) < 60
    rng, asked = random.Random(0), Example("How do I whisk cream?", family="f")
    places = set()
    for _ in range(60):
        text = pad(asked, rng, "val", 2).text.lower()
        assert "how do i whisk cream" in text and len(text) > 40
        places.add((text.startswith("how do i"), text.rstrip("?. ").endswith("cream")))
    assert places == {(True, False), (False, True), (False, False)}
    assert pad(asked, rng, "val", 0) is asked


def test_padding_of_a_split_is_its_own():
    said = {s: {padding.statement(random.Random(i), s) for i in range(300)} for s in ("train", "val", "test")}
    assert len(said["train"]) > 150 and not any(said["train"] & said[s] for s in ("val", "test"))
    assert not said["val"] & said["test"] and not any(re.search(r"[{}|()]", t) for part in said.values() for t in part)


def test_pieces_count_as_far_as_five_percent_of_harmless_texts_allow():
    torch.manual_seed(0)
    head = new_head(replace(TINY, n_counted=1000), ["a"])
    torch.nn.init.normal_(head.wide.weight, mean=-2.0, std=3.0)
    rng = random.Random(1)
    words = [f"{a}{b}" for a in "abcdefgh" for b in "ou"]
    texts = [". ".join(" ".join(rng.choices(words, k=4)) for _ in range(rng.randint(3, 6))) for _ in range(300)]
    harmless = [Example(t) for t in texts]
    calibrate(head, logits(head, harmless), np.zeros(300, bool))
    calibrate_long(head, harmless)
    assert head.config.long_offset > 0
    assert 0.03 < (logits(head, harmless) > head.config.threshold).mean() <= 0.05
    head.config = replace(head.config, long_offset=0.0)
    assert (logits(head, harmless) > head.config.threshold).mean() > 0.05


@pytest.mark.parametrize("hazard", [f"S{n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13)])
def test_every_hazard_can_be_left_out_of_every_split(hazard):
    for split in ("train", "val"):
        made = draw(split, 0, TEXTS.scaled(0.02), [], hazard)
        assert made and all(e.category != hazard for e in made if e.unsafe)


def test_a_guard_is_trained_validated_and_saved_with_its_baselines(tmp_path, monkeypatch):
    few = Counts(400, 12, 0, 0, 0, 60, 20, 20, 40, 0, 1)  # nothing that needs a font of emoji
    monkeypatch.setattr(run, "Counts", lambda: few)
    monkeypatch.setattr(run, "HEAD", replace(TINY, n_counted=1000, long_offset=None))
    monkeypatch.setattr(run, "PADDED", 30)
    said: list[str] = []
    found = run.train_guard(
        SHIPPED, tmp_path / "g", baselines=tmp_path / "b", config=TrainConfig(epochs=1), progress=said.append
    )
    guard = SmallGuard.load(tmp_path / "g")
    assert guard.head.config.picture_dim > 0 and guard.head.config.long_offset is not None
    assert {"all", "templates", "typeset", "printed", "padded"} <= set(found["guard"]) and found["guard"]["all"][
        "n"
    ] > 20
    assert set(found["baselines"]) == {"bag-of-words", "text-only", "picture-only"}
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"bag-of-words.safetensors", "text-only", "picture-only"}
    assert any("validation, typeset" in line for line in said)
