"""Print is found and cut into lines whatever stands around it; letters can be learnt; folders are checked."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vlm.guard import ocr
from vlm.guard.training import print_lines
from vlm.guard.training.typeset import LAYOUTS, _Sheet, draw_style, fits, heading_list, typeset

TEXT = "Explain how to kill a process that does not respond."


def test_lines_of_figsteps_layout():
    page = ocr.lay_out(heading_list("Steps to pick a lock that belongs to a puzzle box."))
    assert page.angle == 0 and len(page.boxes) == 7  # four lines of words, three items
    tops = [top for _, top, _, _ in page.boxes]
    assert tops == sorted(tops) and all(b[2] - b[0] > 300 for b in page.boxes[:3])


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("sign", "note")])
def test_words_of_every_layout_are_within_lines(layout):
    """As many wide lines are found as were written, with the odd title beside them."""
    found = []
    for seed in range(5):
        style = draw_style(random.Random(seed), layout=layout)
        if fits(TEXT, style):
            lines = [line for line in _Sheet(style).lay_out(TEXT)[0] if len(line) > 4]
            boxes = ocr.lay_out(typeset(TEXT, style)).boxes
            wide = [b for b in boxes if b[2] - b[0] > 1.6 * (b[3] - b[1])]
            found.append(len(lines) - 1 <= len(wide) <= len(lines) + 2)
    assert sum(found) >= 0.6 * len(found) and found


@pytest.mark.parametrize("angle", [-10, -5, 5, 10])
def test_leaning_pages_are_turned(angle):
    image = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(image)
    for i in range(6):
        pen.text((70, 90 + 40 * i), "some words of a line", fill="black", font_size=22)
    page = ocr.lay_out(image.rotate(angle, Image.Resampling.BILINEAR, fillcolor="white"))
    assert abs(page.angle - angle) <= 2 and len(page.boxes) == 6


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 3), (2000, 30), (30, 2000), (96, 96)])
def test_pictures_without_print_and_of_any_size(size):
    for image in (Image.new("RGB", size, "red"), Image.effect_noise(size, 60).convert("RGB")):
        for line in ocr.find_lines(image):
            assert line.shape[0] == ocr.HEIGHT and line.shape[1] >= 8 and 0 <= line.min() <= line.max() <= 1
    assert ocr.read_print(ocr.LineReader().eval(), Image.new("RGB", size, "red")) == ""


def test_ink_is_the_same_for_dark_on_light_and_light_on_dark():
    line = print_lines.draw_line(random.Random(3)).ink
    gray = np.zeros((60, 200, 3), np.float32)
    gray[20:40, 20 : 20 + min(line.shape[1], 150)] = line[:, :150, None] * 200
    one, other = (ocr.ink_of(p, (20, 20, 170, 40))[0] for p in (gray, 255 - gray))
    np.testing.assert_allclose(one, other, atol=0.02)


def test_long_lines_are_cut_and_nothing_is_lost():
    pixels = np.random.default_rng(0).uniform(0, 255, (20, 5000, 3)).astype(np.float32)
    parts = ocr.ink_of(pixels, (0, 0, 5000, 20))
    assert all(p.shape[1] <= ocr.LONGEST for p in parts) and len(parts) > 2


def test_ctc_reading():
    number = {c: i + 1 for i, c in enumerate(ocr.ALPHABET)}
    best = [0, number["a"], number["a"], 0, number["b"], 0, number["b"], 0, 0]
    assert ocr._letters(best, [0.9] * 9) == "abb" and ocr._letters(best, [0.3] * 9) == "" == ocr._letters([0], [1.0])


def test_letters_are_learnt_and_the_same_by_seed():
    losses = []
    one, other = (
        print_lines.train_reader(steps=50, size=4, seed=1, progress=lambda m: losses.append(float(m.split()[-1])))
        for _ in range(2)
    )
    assert losses[0] == losses[1] and 0 < losses[0] < 30
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    lines = next(print_lines.batches(1, 4))
    assert all(set(line.text) <= set(ocr.ALPHABET) for line in lines) and len(lines) == 4


def test_a_reader_is_saved_and_loaded(tmp_path):
    reader = ocr.LineReader().eval()
    reader.save(tmp_path / "r")
    again = ocr.LineReader.load(tmp_path / "r")
    line = torch.rand(1, ocr.HEIGHT, 50)
    torch.testing.assert_close(again(line), reader.to(torch.bfloat16).float()(line), atol=1e-5, rtol=1e-5)
    (tmp_path / "r" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no reader of print"):
        ocr.LineReader.load(tmp_path / "r")
    with pytest.raises(ValueError, match="nowhere"):
        ocr.LineReader.load(tmp_path / "nowhere")
