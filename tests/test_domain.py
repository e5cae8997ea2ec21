"""The domain knows its own pictures again, and what is unlike them in one of two ways."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.calibration.domain import INSIDE, RANGES, STEPS, Domain, moments, statistics
from vlm.calibration.textures import texture
from vlm.calibration.worlds import vary
from vlm.image import ImageConfig, preprocess

PIXELS = torch.tensor([ImageConfig().mean, ImageConfig().std])
N_SHARES = len(STEPS) + len(RANGES) + 2


def drawn(n, seed, shift=0.0, shares=0.0):
    """Pictures of two worlds as points: moments (n, 40) about two centres, statistics (n, S)."""
    rng = torch.Generator().manual_seed(seed)
    side = torch.arange(n) % 2
    points = torch.randn(n, 40, generator=rng) * torch.linspace(2, 0.1, 40) + 6 * side[:, None] + shift
    return points, torch.randn(n, N_SHARES, generator=rng) + shares


def fitted():
    groups = [f"world {i % 2}" for i in range(600)]
    return Domain.fit(PIXELS, drawn(600, 0), groups, drawn(200, 1, shares=6.0), drawn(1000, 2))


@pytest.fixture(scope="module")
def domain():
    return fitted()


def test_the_edges_leave_out_the_share_that_they_are_set_for(domain):
    out = (domain.score(*drawn(1000, 2)) > 1).float().mean()
    assert abs(float(out) - (1 - INSIDE)) <= 0.0015
    assert float((domain.score(*drawn(2000, 3)) > 1).float().mean()) < 0.05


def test_either_measure_puts_a_picture_outside(domain):
    far, natural = drawn(200, 4, shift=-25.0), drawn(200, 5, shares=6.0)
    assert (domain.score(*far) > 1).all() and (domain.score(*natural) > 1).all()
    assert (domain.measures(*far)[0] > 1).all() and (domain.measures(*natural)[1] > 1).all()
    assert domain.measures(*drawn(200, 3))[0].mean() < 0.8


def test_it_is_the_same_each_time_and_in_any_company(domain):
    again, points = fitted(), drawn(50, 7)
    torch.testing.assert_close(again.score(*points), domain.score(*points))
    alone = torch.cat([domain.score(points[0][i : i + 1], points[1][i : i + 1]) for i in range(50)])
    torch.testing.assert_close(alone, domain.score(*points), rtol=1e-4, atol=1e-5)


def test_it_is_what_its_tensors_say(domain):
    points = drawn(50, 7)
    same = Domain.from_tensors(domain.tensors())
    torch.testing.assert_close(same.score(*points), domain.score(*points), rtol=0, atol=0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"basis": None}, "no basis"),
        ({"more": torch.ones(2)}, "a tensor more"),
        ({"whiten": torch.ones(3, 3)}, r"whiten has shape \(3, 3\), expected"),
        ({"basis": torch.ones(5)}, "has shape"),
        ({"mean": torch.full((40,), float("nan"))}, "mean has entries that are not finite"),
    ],
)
def test_tensors_that_are_no_domain_are_one_clear_error(domain, change, message):
    tensors = {k: v for k, v in (domain.tensors() | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Domain.from_tensors(tensors)


def shares_of(image, side=96, tiles=4):
    laid, _ = preprocess(image, ImageConfig(tile_size=side, max_tiles=tiles))
    return statistics(laid, PIXELS)


def test_statistics_tell_flat_from_rough_and_do_not_see_the_canvas_beside_a_picture():
    flat, rough = Image.new("RGB", (96, 96), (200, 30, 30)), texture(3, 96).resize((96, 96))
    assert float((shares_of(flat) - shares_of(rough)).abs().max()) > 3
    assert shares_of(flat)[0].exp() == pytest.approx(1, abs=0.01)
    square = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8))
    beside = Image.new("RGB", (144, 96))
    beside.paste(square, (0, 0))
    torch.testing.assert_close(shares_of(beside), shares_of(square), rtol=0, atol=0.05)
    assert shares_of(Image.new("RGB", (96, 96))).isfinite().all()


def test_moments_are_those_of_all_tokens():
    features = torch.randn(3, 5, 8, dtype=torch.bfloat16)
    flat = features.float().reshape(15, 8)
    torch.testing.assert_close(moments(features), torch.cat([flat.mean(0), flat.std(0)]))
    torch.testing.assert_close(moments(features), moments(features[[2, 0, 1]]))


def test_textures_and_variations_hang_on_their_seed_alone():
    assert texture(5).tobytes() == texture(5).tobytes() != texture(6).tobytes()
    assert max(max(texture(i, 1000).size) for i in range(3)) <= 420  # a picture of any size costs no more
    image = texture(1, 64)
    varied = [vary(image, random.Random(i)) for i in range(30)]
    assert [v.tobytes() for v in varied] == [vary(image, random.Random(i)).tobytes() for i in range(30)]
    assert {v.mode for v in varied} == {"RGB"} and len({v.size for v in varied}) > 5


def test_an_edge_of_its_own_changes_the_score_alone(domain):
    wider = replace(domain, density_edge=domain.density_edge * 2)
    points = drawn(50, 7)
    torch.testing.assert_close(wider.measures(*points)[0], domain.measures(*points)[0] / 2)
    torch.testing.assert_close(wider.measures(*points)[1], domain.measures(*points)[1])
