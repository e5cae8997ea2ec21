"""What words mean and how they are used: built from WordNet and GloVe, kept in four bits."""

import json

import pytest
import torch
from safetensors.torch import save_file

from vlm.guard.training import lexicon
from vlm.guard.training.glove import read_glove


def test_words_that_mean_alike_lie_near():
    words, vectors = lexicon.read()
    at = {w: vectors[i] for i, w in enumerate(words)}
    assert len(set(words)) == len(words)
    norms = vectors.norm(dim=1)
    whole, half = (norms - 2**0.5).abs() < 0.1, (norms - 1).abs() < 0.1  # known to both, to one
    assert (whole | half).float().mean() > 0.99 and whole.any() and half.any()

    def near(a, b):
        return float(torch.cosine_similarity(at[a], at[b], 0))

    assert near("strangle", "kill") > near("strangle", "bake") + 0.05
    assert near("nurse", "doctor") > near("nurse", "robbery") + 0.2
    assert near("stolen", "steal") > near("stolen", "bread") + 0.3


def wordnet(folder):
    """A WordNet of a few words, in the layout of its database files."""
    data = {
        "noun": "00000010 03 n 01 thing 0 000 | anything that exists\n"
        "00000020 05 n 01 dog 0 001 @ 00000010 n 0000 | an animal that barks\n"
        "00000030 05 n 01 cat 0 001 @ 00000010 n 0000 | an animal that purrs\n",
        "verb": "00000010 38 v 01 run 0 000 00 | move fast\n"
        "00000020 38 v 01 walk 0 001 @ 00000010 v 0000 00 | move slowly\n",
        "adj": "00000010 00 a 01 fast 0 000 | quick\n", "adv": "00000010 02 r 01 fast 0 000 | quickly\n",
    }  # fmt: skip
    for name, text in data.items():
        (folder / f"data.{name}").write_text("  1 licence\n" + text)
        (folder / f"{name}.exc").write_text("ran run\n" if name == "verb" else "")
    (folder / "cntlist.rev").write_text("dog%1:05:00:: 1 9\n")


def test_a_lexicon_is_built_from_a_wordnet(tmp_path):
    wordnet(tmp_path)
    words, vectors = lexicon.build(tmp_path, ["walk", "unknown"], dim=3, count=5)
    assert words[:2] == ["walk", "dog"] and "unknown" not in words and vectors.shape == (len(words), 3)
    lexicon.write(words, vectors, tmp_path / "l.safetensors")
    again, read = lexicon.read(tmp_path / "l.safetensors")
    assert again == words and torch.allclose(read, vectors, atol=0.08)
    assert {"walk", "walking", "fast"} <= set(lexicon.wanted_words(["Walking fast!"]))


def test_a_folder_without_a_wordnet_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected WordNet.*wordnet-base"):
        lexicon.build(tmp_path, [])
    (tmp_path / "data.noun").write_text("no such thing\n")
    with pytest.raises(ValueError, match="expected WordNet"):
        lexicon.build(tmp_path, [])


def test_how_words_are_used_is_read_from_both_files(tmp_path):
    drawn = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).tolist()
    vectors = dict(zip(["the", ",", "dog", "barks", "ran", "2009", "Rome", "qua"], drawn, strict=True))
    lines = [f"{w} {' '.join(map(repr, v))}\n" for w, v in vectors.items()]
    (tmp_path / "glove.txt").write_text("".join(["\ufeff", *lines, ". . 1 2 3 4\n"]))  # some words have spaces
    npm = {"words": list(vectors), "dimensions": 4, "vectors": {w: [*v, 1.0, 0] for w, v in vectors.items()}}
    (tmp_path / "npm.json").write_text(json.dumps(npm))
    words, rows = read_glove(tmp_path / "glove.txt", {"qua"}, count=3, dim=3)
    assert words == ["the", "dog", "barks", "qua"] and rows.shape == (4, 3)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    again, same = read_glove(tmp_path / "npm.json", {"qua"}, count=3, dim=3)
    assert again == words
    torch.testing.assert_close(same, rows)
    (tmp_path / "npm.json").write_text("[]")
    (tmp_path / "nan.txt").write_text("dog 1 nan\ncat 1 2\n")
    (tmp_path / "uneven.txt").write_text("dog 1 2\ncat 1\n")
    for name in ("npm.json", "none.txt", "nan.txt", "uneven.txt"):
        with pytest.raises(ValueError, match=rf"{name}: expected GloVe"):
            read_glove(tmp_path / name, set(), dim=2)
    with pytest.raises(ValueError, match="found 5 words of 4 numbers, expected 5"):
        read_glove(tmp_path / "glove.txt", set(), dim=5)


def test_two_lexicons_stand_side_by_side():
    meant = ["walk", "dog"], torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    used = ["walks", "dog"], torch.tensor([[5.0], [6.0]])
    words, vectors = lexicon.join(meant, used)
    assert words == ["dog", "walk", "walks"]
    assert vectors.tolist() == [[3, 4, 6], [1, 2, 0], [1, 2, 5]]  # "walks" means what "walk" means
    torch.testing.assert_close(lexicon.spread(vectors) @ lexicon.spread(vectors).T, vectors @ vectors.T)


def test_four_bits_hold_what_is_spread(tmp_path):
    vectors = torch.eye(64)[:8] + 0.05 * torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    off = []
    for rows in (vectors, lexicon.spread(vectors)):
        lexicon.write([*"abcdefgh"], rows, tmp_path / "l.safetensors")
        off.append(float((lexicon.read(tmp_path / "l.safetensors")[1] - rows).norm(dim=1).max()))
    assert off[1] < 0.15 and off[1] < off[0] / 2


def test_a_lexicon_of_another_version_is_one_clear_error(tmp_path):
    for words in ("a b", "a"):
        save_file({"vectors": torch.zeros(2, 3)}, tmp_path / "l.safetensors", {"words": words})
        with pytest.raises(ValueError, match="vlm guard lexicon"):
            lexicon.read(tmp_path / "l.safetensors")


def test_the_command(run, tmp_path):
    wordnet(tmp_path)
    rows = torch.randn(70, 64, generator=torch.Generator().manual_seed(0)).tolist()
    words = ["dog", "the", *(f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(68))]
    (tmp_path / "g.txt").write_text("".join(f"{w} {' '.join(map(str, v))}\n" for w, v in zip(words, rows, strict=True)))
    code, out, err = run(
        "guard", "lexicon", tmp_path, tmp_path / "g.txt", "--out", tmp_path / "l.safetensors", "--json", "-"
    )
    known, vectors = lexicon.read(tmp_path / "l.safetensors")
    assert code == 0, err
    assert json.loads(out) == {"words": len(known), "dim": vectors.shape[1]} and {"dog", "cat", "the"} <= set(known)
    code, _, err = run("guard", "lexicon", tmp_path, tmp_path / "none.txt", "--out", tmp_path / "l.safetensors")
    assert code == 2 and "none.txt" in err
