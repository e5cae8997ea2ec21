"""The guard of the package: nothing that is written or shown is left out, and a picture is encoded once."""

import dataclasses

import pytest
import torch
from PIL import Image

from tests.conftest import tiny_model
from tests.guards import said, user
from vlm.api import VLM
from vlm.guard import small
from vlm.guard.head import HAZARDS, GuardHead, HeadConfig
from vlm.guard.ocr import LineReader
from vlm.guard.policy import Policy
from vlm.guard.reading import Reader, Seen, fingerprint, states_dim
from vlm.guard.shield import Shield, load_shield
from vlm.guard.small import SmallGuard

RED, BLUE = (Image.new("RGB", (28, 28), color) for color in ("red", "blue"))
VOCABULARY = ["zebra", "gnu", "horse"]


class WordHead(GuardHead):
    """Sure of harm where the word zebra stands among what it is given; of S9 where gnu does, with horse of S1."""

    def forward(self, text_ids, text_mask, picture_features=None, picture_mask=None):
        zebra, gnu, horse = (((text_ids[..., 1] == self.words.rows[w]) & text_mask).any(1) for w in VOCABULARY)
        hazards = torch.full((len(text_ids), len(HAZARDS)), -5.0)
        hazards[:, HAZARDS.index("S4")] = 9.0  # it was never trained
        hazards[:, HAZARDS.index("S1")] = torch.where(horse, 2.0, -2.0)
        hazards[:, HAZARDS.index("S9")] = torch.where(gnu, 3.0, -5.0)
        return torch.where(zebra, 4.0, -4.0), hazards


class Eyes:
    """Reads what it was told to."""

    def __init__(self, words):
        self.words, self.asked = words, 0

    def look(self, images):
        self.asked += len(images)
        return [Seen(self.words.get(image.getpixel((0, 0)), ""), torch.zeros(3, 8)) for image in images]


def guard(words=None, policy=None, **config):
    made = SmallGuard(WordHead(HeadConfig(dim=8, n_heads=2, hidden_dim=8, n_layers=1, **config), VOCABULARY), policy)
    made._open = lambda: (Eyes(words or {}), -1)
    return made


DRESSES = (
    "a zebra?", "ZEBRA", "z.e.b.r.a", "z e b r a", "ze\u200bbra", "<|eot_id|>zebra<|image|>", "z3bra", "ｚｅｂｒａ",
)  # fmt: skip


@pytest.mark.parametrize("text", DRESSES)
def test_words_are_found_in_whatever_dress(text):
    verdict = guard().check([user(text)])
    assert (verdict.safe, verdict.categories, verdict.stage, verdict.source) == (False, ("S1",), "prompt", "small")
    other = text.translate(str.maketrans("bｂB", "ttT"))
    assert verdict.score > 0.9 and guard().check([user(other)]).safe


def test_hazards_beside_the_likeliest():
    assert guard().check([user("a zebra and a gnu")]).categories == ("S9",)
    assert guard().check([user("a zebra, a gnu and a horse")]).categories == ("S1", "S9")
    assert guard().check([user("a gnu")]).safe


def test_typed_words_count_as_typed_and_print_also_as_it_may_have_been_misread():
    assert guard().check([user("a zebro")]).safe  # it may be a word of its own
    assert not guard({(0, 0, 255): "a zebro"}).check([user("What is it?", BLUE)]).safe


def test_print_counts_as_it_was_read_too():
    """A word that is harmful by itself stays so though a harmless one is a letter away."""
    rows = guard().head.rows(["a"], [("a zebro", None)])
    assert len({tuple(ids.flatten().tolist()) for ids, *_ in rows}) == len(rows) == 5  # typed; print in two ways, twice


@pytest.mark.parametrize("at", [0, 1, 127, 128, 500, 2999])
def test_no_window_of_a_long_text_is_skipped(at):
    words = ["horse"] * 3000
    assert guard().check([user(" ".join(words))]).safe
    words[at] = "zebra"
    assert not guard().check([user(" ".join(words))]).safe
    assert not guard().check([user("a")], " ".join(words)).safe
    assert not guard({(255, 0, 0): " ".join(words)}).check([user("a", RED)]).safe


def test_every_picture_is_judged():
    words = {(255, 0, 0): "horse", (0, 0, 255): "a zebra"}
    assert guard(words).check([user("What is it?", RED, RED)]).safe
    for pictures in ((BLUE,), (RED, BLUE), (BLUE, RED), (RED, RED, RED, BLUE)):
        assert not guard(words).check([user("What is it?", *pictures)]).safe
        assert not guard(words).check([user("", *pictures)]).safe
    assert not guard(words).check([user("a", BLUE), said("b"), user("What is it?")]).safe
    assert guard(words, Policy(pictures=False)).check([user("What is it?", BLUE)]).safe


def test_an_empty_message_needs_no_judgement():
    for messages in ([user("")], [user(" \n")], [{"role": "user", "content": []}]):
        verdict = guard().check(messages)
        assert verdict.safe and verdict.source == "empty"
    assert guard().check([user("a zebra")], " ").source == "empty"


def test_what_was_said_before_counts():
    assert not guard().check([user("a zebra"), said("yes"), user("and now?")]).safe
    assert not guard().check([{"role": "system", "content": "zebra"}, user("and now?")]).safe
    assert guard().check([user("a horse"), said("zebra"), user("and now?")]).safe  # the model's own words of before
    verdict = guard().check([user("a horse"), said("zebra")])  # words put into its mouth
    assert not verdict.safe and verdict.stage == "response"


def test_answers_are_judged_with_their_question():
    assert guard().check([user("a horse")], "a horse").stage == "response"
    assert not guard().check([user("a horse")], "a zebra").safe
    assert not guard().check([user("a zebra")], "yes").safe
    eyes = {(0, 0, 255): "zebra"}
    assert guard(eyes).check([user("a", BLUE)], "yes").safe  # the picture was judged before the answer
    assert not guard(eyes, Policy(stages=("response",))).check([user("a", BLUE)], "yes").safe


def test_minors_and_sex_are_refused_by_rule():  # harmless questions too: docs/guard.md
    for text in ("sex education for children", "sex education, she is 14 years old", "S E X U A L education of kids"):
        verdict = guard().check([user(text)])
        assert not verdict.safe and verdict.categories == ("S4",)
    for text in ("toys for children", "sexual harassment at work", "a prelude in A minor", "14 years old whisky"):
        assert guard().check([user(text)]).safe
    assert guard({(255, 0, 0): "sex education for kids"}).check([user("What is it?", RED)]).categories == ("S4",)


def test_the_policy_may_be_stricter_than_the_guard():
    made = guard(policy=Policy(threshold=0.01))
    assert not made.check([user("a horse")]).safe  # the head gives 0.018
    shield = Shield(guard(policy=Policy(threshold=0.99)), Policy(threshold=0.99))
    assert shield.check([user("a zebra")]).safe


def test_numbers_that_are_none_let_nothing_through():
    made = guard()
    made.head.forward = lambda *a, **k: (torch.full((1,), torch.nan), torch.zeros(1, 13))
    with pytest.raises(ValueError, match="not finite"):
        made.check([user("a")])
    assert Shield(made).check([user("a")]).reason == "guard failed"
    broken = guard()
    broken._open = lambda: (_ for _ in ()).throw(RuntimeError("no model"))
    assert Shield(broken).check([user("a", RED)]).reason == "guard failed"


@pytest.fixture(autouse=True)
def _blind_to_print(monkeypatch):
    """A reader of print that never learnt to read; what it makes of a plain picture is nothing."""
    reader = LineReader().eval()
    monkeypatch.setattr(LineReader, "load", classmethod(lambda cls, folder=None: reader))


@pytest.fixture
def own(chat):
    """A tiny model of the test's own, and a head that belongs to it."""
    model = tiny_model()
    config = HeadConfig(dim=8, n_heads=2, hidden_dim=8, picture_dim=states_dim(model), model=fingerprint(model))
    made = SmallGuard(WordHead(config, VOCABULARY))
    return VLM(model, chat, shield=Shield(made)), made


def test_a_picture_is_encoded_once_for_the_guard_and_the_answer(own):
    m, made = own
    plain = VLM(m.model, m.chat_format).answer(RED, "How many?", max_new_tokens=5)
    assert m.answer(RED, "How many?", max_new_tokens=5) == plain
    assert made.reader.engine is m.engine and m.engine.scheduler.cache.encodes == 1
    "".join(m.chat([user("a", RED)], stream=True, max_new_tokens=5))
    m.choose(RED, "How many?", ["one", "two"])
    m.answer([RED, RED], "How many?", max_new_tokens=5)
    assert m.engine.scheduler.cache.encodes == 1
    m.answer(BLUE, "How many?", max_new_tokens=5)
    assert m.engine.scheduler.cache.encodes == 2


def test_what_is_seen_is_what_cross_attention_reads(own):
    m, made = own
    (seen,) = made.reader.look([RED])
    assert seen.states.shape[1] == states_dim(m.model) and seen.states.dtype == torch.float32
    assert made.reader.look([RED, BLUE, RED])[0] is seen
    alone = Reader(LineReader(), VLM(m.model, m.chat_format).engine).look([BLUE, RED])
    torch.testing.assert_close(alone[1].states, seen.states)
    assert not torch.equal(alone[0].states, alone[1].states)


def test_around_another_model_the_guard_has_one_of_its_own(own, chat, monkeypatch):
    m, made = own
    other = tiny_model()
    with torch.no_grad():
        other.decoder.embed_tokens.weight.mul_(1.5)
    monkeypatch.setattr(small, "_shipped_engine", lambda: VLM(m.model, chat).engine)
    around = VLM(other, chat, shield=Shield(SmallGuard(made.head)))
    around.answer(RED, "How many?", max_new_tokens=3)
    assert around.shield.guard.reader.engine is not around.engine and around.engine.scheduler.cache.encodes == 1
    m.answer(RED, "How many?", max_new_tokens=3)
    assert made.reader.engine is m.engine
    m.quantize("int8")  # from now on other weights are at work than those that the head was trained with
    assert m.answer(RED, "How many?", max_new_tokens=3).finish_reason != "content_filter"
    assert made.reader.engine is not m.engine and made.reader is made.reader


def test_weights_have_one_fingerprint_in_every_dtype():
    one, other = tiny_model().to(torch.bfloat16), tiny_model().to(torch.bfloat16)
    assert fingerprint(one) == fingerprint(other.float()) != ""
    with torch.no_grad():
        other.encoder.get_parameter(next(n for n, _ in other.encoder.named_parameters())).add_(1)
    assert fingerprint(one) != fingerprint(other)


def test_folders(tmp_path):
    head = guard().head
    head.save(tmp_path / "g")
    shield = load_shield(tmp_path / "g", Policy(threshold=0.3))
    assert isinstance(shield.guard, SmallGuard) and shield.name == "small:g" and shield.guard.policy.threshold == 0.3
    (tmp_path / "g" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="model.safetensors"):
        load_shield(str(tmp_path / "g"))


def test_a_head_for_other_features_is_an_error(chat):
    config = dataclasses.replace(guard().head.config, picture_dim=7)
    made = SmallGuard(WordHead(config, VOCABULARY))
    with pytest.raises(ValueError, match="reads 7 numbers of a picture, the shipped model gives"):
        made.check([user("a", RED)])
