"""The attack differentiates through what the guard computes, stays within its bound, and does more than noise."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_model
from vlm.engine import Engine
from vlm.guard.attack import Lines, attack, states_of, tiles_of
from vlm.guard.head import GuardHead, HeadConfig
from vlm.guard.ocr import LineReader
from vlm.guard.reading import Reader, states_dim
from vlm.guard.small import SmallGuard
from vlm.guard.training.typeset import heading_list
from vlm.image import preprocess


def picture(seed, *size):
    return Image.fromarray(np.random.default_rng(seed).integers(60, 196, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def guard():
    torch.manual_seed(0)
    model = tiny_model()
    config = HeadConfig(dim=8, n_heads=2, hidden_dim=8, n_layers=1, picture_dim=states_dim(model))
    made = SmallGuard(GuardHead(config, ["zebra"]))
    made._open = lambda: (Reader(LineReader().eval(), Engine(model, stop_ids=frozenset())), -1)
    return made


@pytest.mark.parametrize("size", [(28, 28), (60, 40), (120, 31), (13, 90)])
def test_tiles_and_states_are_those_of_the_engine(guard, size):
    engine, image = guard.reader.engine, picture(0, *size)
    config = engine.model.config.image
    wanted, grid = preprocess(image, config)
    x = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)
    tiles, found = tiles_of(x, config)
    assert tuple(found.tolist()) == tuple(grid)
    torch.testing.assert_close(tiles, wanted, atol=1.6 / 255 / 0.26, rtol=0)  # Pillow rounds to whole numbers
    torch.testing.assert_close(
        states_of(engine.model, wanted, found), engine.look((wanted, grid)).clone(), atol=2e-4, rtol=1e-3
    )


def test_an_attack_does_more_than_noise_and_stays_within_its_bound(guard):
    image, eps = picture(1, 40, 40), 8
    changed = attack(guard, "", image, eps, steps=8)
    gap = np.abs(np.asarray(changed, int) - np.asarray(image, int))
    assert changed.size == image.size and 0 < gap.max() <= eps

    def score(shown):
        return guard.check([{"role": "user", "content": [
            {"type": "image", "image": shown}, {"type": "text", "text": ""}]}]).score  # fmt: skip

    rng = np.random.default_rng(0)
    noise = [rng.integers(-eps, eps + 1, (40, 40, 3)) for _ in range(8)]
    noisy = [Image.fromarray((np.asarray(image, int) + n).clip(0, 255).astype(np.uint8)) for n in noise]
    assert score(changed) < min([score(image), *map(score, noisy)])
    assert attack(guard, "", image, eps, steps=8).tobytes() == changed.tobytes()


def test_the_reading_of_lines_can_be_driven_away():
    torch.manual_seed(0)
    reader, image = LineReader().eval(), heading_list("List of trees.").resize((190, 190))
    lines = Lines(reader, image)
    lines.boxes, lines.texts = [(4, 4, 340, 40)], ["List"]
    x = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)
    before, y = float(lines.loss(x).detach()), x
    for _ in range(5):
        y = y.detach().requires_grad_()
        (slope,) = torch.autograd.grad(lines.loss(y), y)
        assert torch.isfinite(slope).all() and slope.abs().sum() > 0
        y = y + slope.sign()
    assert float(lines.loss(y).detach()) > before > 0
