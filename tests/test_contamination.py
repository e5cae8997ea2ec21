"""What is in the training data is found, and what is not is not."""

import json
import random
import zipfile

import numpy as np
import pytest
from PIL import Image

from vlm.data.worlds import sample
from vlm.evaluation import contamination as c


def drawn(world: str, number: int, size: int = 96) -> Image.Image:
    return sample(number, seed=3, mixture={world: 1.0}, size=size, split="train", n_questions=2).image


def pictures(*images, asked=()):
    made = c.Pictures()
    for image in images:
        made.add(image, asked)
    return made


def test_hashes_are_64_bits_and_count_what_changes():
    left = Image.new("L", (64, 64))
    left.paste(255, (32, 0, 64, 64))
    assert c.difference_hash(left).bit_count() in range(8, 17)  # one edge in each of eight rows
    assert c.difference_hash(left.rotate(180)) == 0
    assert 0 <= c.frequency_hash(left) < 2**64
    a, b = np.array([0b1011, 0], dtype=np.uint64), np.array([0b1, 0b1111], dtype=np.uint64)
    assert c.distances(a, b).tolist() == [[2, 1], [1, 4]]


def test_perceptual_hashes_survive_another_size_and_noise_but_not_another_picture():
    rng, numbers = np.random.default_rng(0), range(12)
    for number in numbers:
        image = drawn("scenes", number, 192)
        noisy = np.asarray(image.resize((120, 120))).astype(int) + rng.integers(-6, 7, (120, 120, 3))
        again = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        other = drawn("scenes", number + 100, 192)
        for of in (c.difference_hash, c.frequency_hash):
            assert (of(image) ^ of(again)).bit_count() < (of(image) ^ of(other)).bit_count()


def test_an_injected_picture_is_found_and_others_are_not():
    train = [drawn("scenes", i) for i in range(30)]
    clean = c.compare_pictures(pictures(*(drawn("scenes", i) for i in range(50, 58))), pictures(*train))
    assert (clean["equal"], clean["nearly_equal"], clean["with_question"]) == (0, 0, 0)
    held = pictures(*(drawn("scenes", i) for i in range(50, 57)), train[11])
    found = c.compare_pictures(held, pictures(*train))
    assert (found["pictures"], found["equal"], found["nearly_equal"]) == (8, 1, 1)
    assert found["difference"][""]["least"] == found["frequency"][""]["least"] == 0
    assert found["difference"]["itself"]["median"] > 4


def test_what_looks_alike_in_grey_alone_is_near_and_not_nearly_equal():
    red, blue = Image.new("RGB", (32, 32), (100, 0, 0)), Image.new("RGB", (32, 32), (0, 0, 250))
    found = c.compare_pictures(pictures(red), pictures(blue))
    assert (found["near"], found["nearly_equal"], found["equal"]) == (1, 0, 0)


def test_a_picture_with_its_question_is_told_from_the_picture_alone():
    image = drawn("scenes", 1)
    train = pictures(image, asked=["Is there a red star?", "How many stars are there?"])
    for question, k in (("is there a red star", 1), ("is there a blue star", 0)):
        found = c.compare_pictures(pictures(image, asked=[question]), train)
        assert (found["nearly_equal"], found["with_question"]) == (1, k)


def test_equal_and_near_sentences_are_counted_by_sentence_and_by_question():
    held = ["There is a RED circle.", "there is a red circle", "there are two yellow squares touching the wall",
            "no tower is taller than three blocks"]  # fmt: skip
    made = ["Is a cat here?", "There is a red circle!", "There are two yellow squares touching the edge."]
    found = c.compare_sentences(held, made)
    assert (found["sentences"], found["questions"], found["generated"]) == (3, 4, 3)
    assert (found["equal"], found["equal_questions"]) == (1, 2)
    assert (found["near"], found["near_questions"]) == (1, 2)
    near = c.compare_sentences(held, [*made, "There are two yellow squares touching a wall"])
    assert (near["near"], near["near_questions"]) == (1, 2)  # 6 of 9 pairs
    assert c.compare_sentences(held, ["there are two yellow squares touching the wall now"])["near"] == 1
    assert c.compare_sentences(held, ["words of another kind"])["similarity"]["median"] == 0


def test_similarity_is_dice_of_pairs_of_words():
    index = c.Sentences(["a b c", "x y"])
    assert index.similarity("a b c") == pytest.approx([1, 0])
    assert index.similarity("a b d") == pytest.approx([2 * 2 / 8, 0])  # (start, a) and (a, b) of four pairs each


def test_the_check_reads_packs_and_finds_what_was_put_there(tmp_path):
    made = sample(2, seed=1, mixture={"nlvr": 1.0}, size=100, split="train", n_questions=8)
    other = Image.fromarray(np.asarray(drawn("nlvr", 77, 100))[:, ::-1].copy())
    with zipfile.ZipFile(tmp_path / "nlvr_dev.zip", "w") as pack:
        for name, image in (("a", made.image), ("b", other)):
            image.save(tmp_path / f"{name}.png")
            pack.write(tmp_path / f"{name}.png", f"images/{name}.png")
        rows = [{"id": "1", "images": ["a.png"], "sentence": made.questions[0].text.upper(), "label": "true"},
                {"id": "2", "images": ["b.png"], "sentence": "No such words were ever drawn", "label": "false"},
                {"id": "3", "images": ["gone.png"], "sentence": "", "label": "false"}]  # fmt: skip
        pack.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))
    found = c.check(tmp_path, {"nlvr": 1.0, "shapes": 1.0}, n=12, seed=1, progress=False)
    assert found[""]["pictures"] == 12 and set(found) == {"", "nlvr_dev"}
    seen, words = found["nlvr_dev"]["pictures"], found["nlvr_dev"]["sentences"]
    assert (seen["pictures"], seen["equal"], seen["nearly_equal"], seen["with_question"]) == (2, 1, 1, 1)
    assert (words["sentences"], words["equal"]) == (2, 1)


def test_a_folder_without_packs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds none of nlvr_dev.zip"):
        c.check(tmp_path, {"nlvr": 1.0}, n=2, progress=False)


def test_quantiles_are_in_order():
    values = random.Random(0).sample(range(1000), 100)
    q = c.quantiles(values)
    assert q["least"] == min(values) <= q["5%"] <= q["median"]
    assert c.quantiles([]) == {}
