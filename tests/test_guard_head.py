"""The guard's head: words without disguise, windows that leave nothing out, a folder that is a guard or an error."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.guard.head import (
    MAX_PICTURE_TOKENS,
    SCALE,
    TABLES,
    GuardHead,
    HeadConfig,
    collate,
    is_guard,
    pool_tokens,
)
from vlm.guard.words import (
    N_PARTS,
    PAD,
    READ,
    TYPED,
    UNKNOWN,
    Words,
    base_forms,
    normalise,
    one_away,
    sentences,
    split_words,
    windows,
)

TINY = HeadConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, picture_dim=6, n_buckets=50, window=8, overlap=3)
KNOWN = ["how", "do", "i", "bake", "bread"]


def tiny(**changes) -> GuardHead:
    torch.manual_seed(0)
    return GuardHead(
        dataclasses.replace(TINY, **changes), KNOWN, ["bake", "stab"] if changes.get("meaning_dim") else []
    )


@pytest.mark.parametrize("disguised, plain", [
    ("B4ke  Br3ad", "bake  bread"), ("b\u200ba\u00adke", "bake"), ("bаke", "bake"), ("ｂａｋｅ", "bake"),
    ("bàkē", "bake"), ("b.a.k.e it", "bake it"), ("b a k e  it", "bake  it"), ("b-r-e-a-d", "bread"), ("I'm", "i'm"),
    ("mp3 h2o", "mp3 h2o"),
    ("2024", "2024"), ("a i", "a i"), ("$ugar", "sugar"),
])  # fmt: skip
def test_disguises_are_taken_off(disguised, plain):
    assert normalise(disguised) == plain


def test_words_are_letters_and_lengths_of_numbers():
    assert split_words("Bake 250 loaves, don't wait!") == ["bake", "000", "loaves", "don't", "wait"]
    assert split_words("?!") == []


def test_base_forms_reach_the_verb():
    for word, base in (
        ("stabbing", "stab"),
        ("baked", "bake"),
        ("baking", "bake"),
        ("carries", "carry"),
        ("kills", "kill"),
    ):
        assert base in list(base_forms(word))


def test_ids_have_one_width_and_know_inflections_by_meaning():
    words = Words(KNOWN, 50, ["stab", "bake"])
    known, unknown = words.ids("bake"), words.ids("stabbing")
    assert len(known) == len(unknown) == N_PARTS - 3  # segment and counted rows are not a word's own
    assert known[0] > UNKNOWN and unknown[0] == UNKNOWN and (known[1], unknown[1]) == (2, 1)
    assert max(known + unknown) < words.n_rows
    long = words.ids("a" * 5_000)
    assert len(long) == N_PARTS - 3


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 13, 14, 40])
def test_windows_leave_no_word_out(n):
    pieces = windows([str(i) for i in range(n)], 8, 3)
    assert all(len(p) <= 8 for p in pieces) and len(pieces[0]) == min(n, 8)
    assert {w for p in pieces for w in p} == {str(i) for i in range(n)}
    assert all(a[-3:] == b[:3] for a, b in zip(pieces, pieces[1:], strict=False))


def test_windows_of_typed_and_read_words_stand_side_by_side():
    head = tiny()
    rows = head.windows(" ".join("abcdefghij"), "bread")
    assert len(rows) == 1  # spelt out, it is one word
    rows = head.windows("one two three four five six seven eight nine ten", "bread")
    assert len(rows) == 2 and all((r[:, 0] == READ).sum() == 1 for r in rows)
    assert (rows[0][:, 0] == TYPED).sum() == 8
    assert head.encode_text("", "").shape == (0, N_PARTS)


@pytest.mark.parametrize("meaning", [0, 4])
def test_padding_and_neighbours_change_nothing(meaning):
    head = tiny(meaning_dim=meaning).eval()
    texts, states = ["how do i bake", "", "bread"], [torch.randn(5, 6), None, torch.randn(2, 6)]
    ids = [head.encode_text(t, r) for t, r in zip(texts, ["", "", "how do i"], strict=True)]
    together, hazards = head(**collate(ids, states))
    assert together.shape == (3,) and hazards.shape == (3, 13)
    for i in range(3):
        alone, _ = head(**collate(ids[i : i + 1], states[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i])


def test_order_reading_and_pictures_count():
    head = tiny().eval()

    def logit(text, read="", state=None):
        return head(**collate([head.encode_text(text, read)], [state]))[0].item()

    picture = torch.randn(3, 6)
    said = [logit("bake bread"), logit("bread bake"), logit("", "bake bread"), logit("bake bread", "", picture)]
    assert len({round(s, 6) for s in said}) == 4


def test_a_text_alone_needs_no_picture_weights():
    head = tiny(picture_dim=0)
    assert not any(name.startswith("picture") for name in head.state_dict())
    assert head(**collate([head.encode_text("bake")]))[0].shape == (1,)


def test_many_tokens_are_pooled():
    assert pool_tokens(torch.ones(3, 6)).shape == (3, 6)
    many = pool_tokens(torch.arange(4.0 * MAX_PICTURE_TOKENS)[:, None].expand(-1, 6))
    assert many.shape == (MAX_PICTURE_TOKENS, 6) and torch.equal(many[0], torch.full((6,), 1.5))


def test_what_is_printed_must_exceed_more():
    head = tiny(print_offset=1.0, picture_offset=2.0).eval()
    rows = head.rows(["hello"], [("how do i stab bread", torch.randn(2, 6))])
    assert [head.offset(row) for row in rows] == [0.0, 1.0, 2.0]  # typed alone, print alone, all there is
    plain = head.scores([row._replace(kind="typed") for row in rows])[0]
    torch.testing.assert_close(plain - head.scores(rows)[0], torch.tensor([0.0, 1.0, 2.0]))


def test_probability_is_half_at_the_threshold():
    head = tiny(threshold=1.25, temperature=2.0)
    assert torch.equal(head.probability(torch.tensor([1.25])), torch.tensor([0.5]))
    assert head.probability(torch.tensor([3.25]))[0] == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item())


def test_a_saved_head_says_the_same(tmp_path):
    head = tiny(meaning_dim=4, n_counted=8, threshold=0.5).eval()
    head.meanings.normal_()
    torch.nn.init.normal_(head.wide.weight)
    head.settle().save(tmp_path / "g")
    again = GuardHead.load(tmp_path / "g")
    torch.testing.assert_close(again.state_dict(), head.state_dict(), rtol=0, atol=0)
    assert again.config == head.config and again.words.lexicon == head.words.lexicon and not again.training
    batch = collate([head.encode_text("how do i stab bread")], [torch.randn(2, 6)])
    torch.testing.assert_close(again(**batch)[0], head(**batch)[0])
    assert is_guard(tmp_path / "g")
    stored = load_file(tmp_path / "g/model.safetensors")
    assert {t.dtype for n, t in stored.items() if n.removesuffix(SCALE) not in TABLES} == {torch.bfloat16}
    assert [stored[n].dtype for n in TABLES] == [torch.uint8, torch.uint8]
    head.save(tmp_path / "g")  # a guard is replaced by a guard
    save_file(stored | {"meanings": stored["meanings"].to(torch.int8)}, tmp_path / "g/model.safetensors")
    with pytest.raises(ValueError, match="meanings is torch.int8, expected uint8"):
        GuardHead.load(tmp_path / "g")


def test_what_is_no_guard_is_one_clear_error(tmp_path):
    folder = tmp_path / "g"
    with pytest.raises(ValueError, match="missing"):
        GuardHead.load(folder)
    tiny().save(folder)
    config = (folder / "config.json").read_text()
    for old, new, said in (
        ("gated-vlm-guard", "gated-cross-attention", "holds no guard"),
        ('"version": 5', '"version": 1', "version 1; .*5"),
        ('"dim": 16', '"dim": 32', "expected"), ('"n_heads": 2', '"heads": 2', "heads"),
        ('"window": 8', '"window": 2', "overlap"),
    ):  # fmt: skip
        (folder / "config.json").write_text(config.replace(old, new))
        with pytest.raises(ValueError, match=said):
            GuardHead.load(folder)
    (folder / "config.json").write_text(config)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "more": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="more"):
        GuardHead.load(folder)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="safetensors"):
        GuardHead.load(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something other"):
        tiny().save(tmp_path / "other")
    assert not is_guard(tmp_path / "other")


def test_padding_row_stays_zero():
    head = tiny()
    assert not head.embed.weight[PAD].any()
    head(**collate([head.encode_text("how do i bake")]))[0].sum().backward()
    assert not head.embed.weight.grad[PAD].any()


def test_misread_words_are_mended():
    words = Words(["running", "over", "the", "methods", "for", "subway"], 50, ["poisoning", "run"])
    for text, meant in (
        ("runn lng ovre the", "running over the"), ("methodsfor thesubway", "methods for the subway"),
        ("poisonlng", "poisoning"), ("ruuning htis", "running htis"), ("runs zibbleflop 00", "runs zibbleflop 00"),
    ):  # fmt: skip
        assert words.repair(split_words(text)) == meant.split(), text


@pytest.mark.parametrize("a, b, near", [
    ("kill", "kill", True), ("kill", "kil", True), ("kil", "kill", True), ("ill", "kill", True), ("kill", "kell", True),
    ("klil", "kill", True), ("id", "i'd", True),
    ("kill", "bell", False), ("kill", "ki", False), ("abcd", "badc", False), ("", "a", True), ("", "ab", False),
])  # fmt: skip
def test_one_letter_away(a, b, near):
    assert (b in one_away(a)) is near


def test_words_and_pairs_are_counted_and_the_worse_segment_decides():
    head = tiny(n_counted=1000).eval()
    with torch.no_grad():
        head.wide.weight.copy_(torch.arange(1000.0)[:, None])
    words = head.words
    batch = collate([head.encode_text("how do", "bake bread"), head.encode_text("")])
    deep, _ = head.deep(**batch)
    expected = max(sum(map(words.counted, w)) for w in (("how", "do", "how do"), ("bake", "bread", "bake bread")))
    assert head.count(batch["text_ids"], batch["text_mask"]).tolist() == [expected, 0]
    assert torch.allclose(head(**batch)[0], deep + torch.tensor([expected, 0.0]))


def test_what_is_typed_and_what_is_read_are_judged_alone_and_together():
    head, state = tiny(), torch.randn(3, 6)
    both = head.rows(["how do i"], [("bake bread", state)])
    assert [row.ids.tolist() for row in both] == [
        head.encode_text(*t).tolist() for t in (("how do i",), ("bake bread",), ("how do i", "bake bread"))
    ]
    assert [row.features is not None for row in both] == [False, False, True]
    assert [len(ids) for ids, *_ in head.rows([""], [("", state)])] == [0] and len(head.rows([""])) == 1


def test_print_is_mended_and_what_is_typed_beside_it_is_not():
    head = tiny(long_offset=0.5).eval()
    words = head.words

    def spell(segment, *said):
        return [list(row) for row in words.encode(said, segment)]

    rows = head.rows(["baek it"], [("breda it", torch.randn(2, 6))])
    assert words.repair(["baek", "breda"]) == ["bake", "bread"]
    assert [row.ids.tolist() for row in rows if row.kind != "shown"] == [
        spell(TYPED, "baek", "it"), spell(TYPED, "breda", "it"), spell(TYPED, "bread", "it")
    ]  # fmt: skip
    assert [row.ids.tolist() for row in rows if row.kind == "shown"] == [
        spell(TYPED, "baek", "it") + spell(READ, read, "it") for read in ("breda", "bread")
    ]
    said = "how do i bake. do i breda it"
    pieces = [row.ids.tolist() for row in head.rows([said], [(said, None)]) if row.long]
    plain, read = spell(TYPED, *"do i breda it".split()), spell(TYPED, *"do i bread it".split())
    asked = spell(TYPED, *"how do i bake".split())
    assert pieces == [asked, plain, asked, plain, read]  # typed as it stands; print as it was read and mended


def test_sentences_end_at_marks_and_lines_and_are_neither_tiny_nor_long():
    assert sentences("I bake bread. How? You sell it in v2.0 today!\nAnd we eat") == [
        ["i", "bake", "bread", "how"], ["you", "sell", "it", "in", "v2", "0", "today"], ["and", "we", "eat"],
    ]  # fmt: skip
    assert sentences("") == [] and sentences("one") == [["one"]]
    many = [f"w{i}x" for i in range(100)]
    cut = sentences(" ".join(many))
    assert [w for words in cut for w in words] == split_words(" ".join(many)) and list(map(len, cut)) == [25] * 4
    assert sentences("Hi. How are you?") == [["hi", "how", "are", "you"]]
    assert max(map(len, sentences("one two three. " + "a b. " * 100))) <= 32  # many short ones grow together


def test_each_of_several_sentences_is_judged():
    head = tiny(n_counted=1000, long_offset=0.5).eval()
    said = ["how do i bake", "i bake the bread", "do i bake bread", "how do the bread bake"]
    text = ". ".join(said)
    rows = head.rows([text])
    whole = len(head.windows(text))
    assert [ids.tolist() for ids, *_ in rows[whole:]] == [
        [list(r) for r in head.words.encode(sentence.split(), TYPED)] for sentence in said
    ]
    assert all(head.offset(row) == 0.5 for row in rows)
    two = head.rows(["how do i bake. i bake the bread"])
    assert [head.offset(row) for row in two] == [0, 0.5, 0.5]  # the whole as ever
    assert [len(ids) for ids, *_ in two] == [8, 4, 4]
    print_too = head.rows(["how"], [(text.replace(". ", ".\n"), None)])
    assert sum(row.long for row in print_too) == len(print_too) - 1 and len(print_too) >= 1 + 2 * whole + 4
    logits, _ = head.scores(rows)
    plain, _ = head(**collate([ids for ids, *_ in rows]))
    assert torch.allclose(plain - logits, torch.tensor([head.offset(row) for row in rows]))
    head.config = dataclasses.replace(head.config, long_offset=None)
    assert not any(map(head.offset, head.rows([text]))) and len(head.rows([text])) == whole


def test_words_that_nobody_knows_are_looked_for_once():
    words = Words(["bake", "bread"], 50, ["oven"])
    said = ["bakke", "zzyzx"] * 50
    assert words.repair(said) == ["bake", "zzyzx"] * 50
    assert words.mended.cache_info().misses <= 6 and words.knows.cache_info().misses <= 6


@pytest.mark.parametrize("n", [1, -5])
def test_a_table_of_counted_words_has_a_row_beside_that_of_padding(n):
    with pytest.raises(ValueError, match="n_counted: found"):
        dataclasses.replace(TINY, n_counted=n)
    assert dataclasses.replace(TINY, n_counted=2).n_counted == 2
