"""Encoders of timm and open_clip: one contract, and the features that the libraries themselves compute."""

import subprocess
import sys

import open_clip
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from encoders import create_encoder, list_encoders
from encoders.clip_vit import _normalisation
from encoders.per_tile import encode_tiles, join_levels, measure
from encoders.timm_vit import TimmEncoder
from tests.registry import GRID, NAMES, TOWERS, build, random_tiles, stirred, tile_size
from vlm.image import ImageConfig, collate_images, preprocess

pytestmark = pytest.mark.usefixtures("towers")


@pytest.fixture(scope="module", params=NAMES)
def built(request, towers):
    """An encoder of each family, built once."""
    return request.param, build(request.param)


# The contract, for every family


def test_shapes_zeros_and_no_look_at_unused_slots(built):
    name, encoder = built
    tiles = random_tiles(tile_size(name))
    real = torch.arange(3) < GRID.prod(-1)[..., None]
    with torch.no_grad():
        features = encoder(tiles, GRID)
        assert features.shape == (2, 2, 3, encoder.n_tokens, encoder.dim)
        assert features[real].flatten(1).std(1).min() > 0
        assert not features[~real].any()
        one = encoder(tiles[1:, 1:, 1:2], torch.ones(1, 1, 2, dtype=torch.long))
        scale = features[real].std()
        assert (features[1, 1, 1] - one[0, 0, 0]).abs().max() < 1e-3 * scale  # batch equals single
        assert (features[1, 1, 0] - one[0, 0, 0]).abs().max() > 2e-2 * scale  # and another tile is far from it
        tiles[~real] = float("nan")
        assert_close(encoder(tiles, GRID), features, rtol=0, atol=0)


def test_gradients_are_finite_and_reach_every_trainable_parameter(built):
    name, encoder = built
    weights = torch.randn(encoder.n_tokens, encoder.dim)
    (encoder(random_tiles(tile_size(name)), GRID) * weights).sum().backward()
    grads = {n: p.grad for n, p in encoder.named_parameters() if p.requires_grad}
    encoder.zero_grad()
    assert all(n.startswith("backbone.") for n in grads)
    assert [n for n, g in grads.items() if g is None or not g.isfinite().all()] == []
    # keys shift all scores of a query alike, so some biases have no gradient by construction
    assert sum(bool(g.any()) for g in grads.values()) > 0.8 * len(grads)


def test_saved_equals_loaded(built, tmp_path):
    name, encoder = built
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    other = create_encoder(name, tile_size=tile_size(name)).eval()
    tiles = random_tiles(tile_size(name))[:1, :1]
    grid = GRID[:1, :1]
    with torch.no_grad():
        assert (other(tiles, grid) - encoder(tiles, grid)).abs().max() > 1e-3
        other.load_state_dict(torch.load(tmp_path / "encoder.pt"))
        assert_close(other(tiles, grid), encoder(tiles, grid), rtol=0, atol=0)


def test_taps_follow_the_same_final_features(built):
    name, encoder = built
    pixels = torch.randn(2, 3, tile_size(name), tile_size(name))
    with torch.no_grad():
        final = encoder.features(pixels)
        encoder.taps = (1, 0)
        try:
            features = encoder.features(pixels)
        finally:
            encoder.taps = ()
    assert_close(features[..., : encoder.dim], final, rtol=1e-5, atol=1e-5)
    assert features.shape[-1] > encoder.dim and features[..., encoder.dim :].std() > 0


def test_attributes(built):
    name, encoder = built
    library = name.partition(":")[0]
    assert encoder.library.startswith(f"{library} {sys.modules[library].__version__}")
    assert encoder.has_tile_positions is False
    config = ImageConfig(max_tiles=1, **encoder.image_settings)
    assert config.tile_size == tile_size(name)
    assert encoder.training is False and create_encoder("timm:test_vit").training is True


# The features are the libraries' own


def picture(size: int) -> Image.Image:
    """Smooth noise, larger than a tile, so that resizing matters."""
    pixels = torch.randint(0, 256, (size // 8, size // 8, 3), dtype=torch.uint8).numpy()
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


def as_tokens(x: torch.Tensor, channels: int) -> torch.Tensor:
    """The library's features as tokens, by the place of the channels."""
    if x.ndim == 3:
        return x
    return x.flatten(1, 2) if x.shape[-1] == channels else x.flatten(2).mT


def encode_picture(encoder: nn.Module, image: Image.Image) -> torch.Tensor:
    tiles, grid = collate_images([[preprocess(image, ImageConfig(max_tiles=1, **encoder.image_settings))]])
    with torch.no_grad():
        return encoder.eval()(tiles, grid)[0, 0]


@pytest.mark.parametrize(
    "name, prefix",
    [
        ("test_vit", 1),  # class token
        ("test_vit3", 1),  # pooled by attention
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_tiny_r_s16_p8_224", 1),  # hybrid
        ("test_convnext", 0),  # hierarchical, NCHW
        ("test_mambaout", 0),  # hierarchical, NHWC
        ("hiera_tiny_224", 0),  # hierarchical, tokens
        ("test_resnet", 0),
        ("test_efficientnet", 0),
    ],
)
def test_timm_features_are_timms_own_from_a_file(name, prefix, tmp_path):
    library = stirred(timm.create_model(name))
    torch.save(library.state_dict(), tmp_path / "weights.pth")
    encoder = create_encoder(f"timm:{name}", pretrained=str(tmp_path / "weights.pth"), prefix_tokens=True)
    config = timm.data.resolve_model_data_config(library)
    transform = timm.data.create_transform(**{**config, "crop_pct": 1.0})  # we do not crop pictures
    image = picture(config["input_size"][-1] + 40)
    with torch.no_grad():
        expected = as_tokens(library.forward_features(transform(image)[None]), library.num_features)
    assert_close(encode_picture(encoder, image), expected, rtol=1e-5, atol=1e-5)
    patches = create_encoder(f"timm:{name}", pretrained=str(tmp_path / "weights.pth"))
    assert_close(encode_picture(patches, image), expected[:, prefix:], rtol=1e-5, atol=1e-5)
    assert encoder.n_tokens == patches.n_tokens + prefix


def open_clip_tokens(visual: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Patch tokens by another way than the encoder's."""
    if hasattr(visual, "trunk"):
        x = visual.trunk.forward_features(pixels)
        return as_tokens(x, visual.trunk.num_features)[:, getattr(visual.trunk, "num_prefix_tokens", 0) :]
    if isinstance(visual, open_clip.transformer.VisionTransformer) and visual.attn_pool is None:
        return visual(pixels)[1]  # output_tokens
    seen = []
    inner = visual.transformer if hasattr(visual, "transformer") else visual.layer4
    with inner.register_forward_hook(lambda _module, _args, out: seen.append(out)):
        visual(pixels)
    return seen[0][:, 1:] if seen[0].ndim == 3 else seen[0].flatten(2).mT


@pytest.mark.parametrize("name", TOWERS)
def test_open_clip_features_are_open_clips_own_from_a_file(name, tmp_path):
    library = stirred(open_clip.create_model(name))
    torch.save(library.state_dict(), tmp_path / "weights.pt")
    visual, size = library.visual, 64
    if name == "tiny-eva":  # built for 224, whatever its config says
        visual.set_input_size(size := 70)
    encoder = create_encoder(f"open_clip:{name}", pretrained=str(tmp_path / "weights.pt"), tile_size=size)
    config = open_clip.transform.PreprocessCfg(**{**visual.preprocess_cfg, "size": size})
    image = picture(size + 40)
    with torch.no_grad():
        expected = open_clip_tokens(visual, open_clip.transform.image_transform_v2(config, is_train=False)(image)[None])
    assert_close(encode_picture(encoder, image), expected, rtol=1e-5, atol=1e-5)
    assert not any("text" in n or "logit" in n or "token_embedding" in n for n in encoder.state_dict())


def test_settings_are_those_of_the_weights():
    siglip = create_encoder("timm:vit_base_patch16_siglip_224", tile_size=16).image_settings
    assert siglip == {"tile_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resample": "bicubic"}
    tag = "vit_base_patch16_clip_224.openai"  # a tag has settings of its own
    config = timm.models.get_pretrained_cfg(tag)
    assert create_encoder(f"timm:{tag}", tile_size=16).image_settings["mean"] == config.mean
    mobile = create_encoder("open_clip:MobileCLIP2-S0").image_settings
    cfg = open_clip.get_pretrained_cfg("MobileCLIP2-S0", open_clip.list_pretrained_tags_by_model("MobileCLIP2-S0")[0])
    assert mobile == {"tile_size": 256, "mean": cfg["mean"], "std": cfg["std"], "resample": cfg["interpolation"]}
    assert mobile["mean"] != open_clip.OPENAI_DATASET_MEAN
    tags = {
        "laion2b_s32b_b82k": (0.5,) * 3,
        "openai": open_clip.OPENAI_DATASET_MEAN,
        None: open_clip.OPENAI_DATASET_MEAN,
    }
    assert {tag: _normalisation("ViT-L-14", tag)["mean"] for tag in tags} == tags  # tags that disagree


# Taps and prefix tokens


@pytest.mark.parametrize("prefix_tokens", [False, True])
@pytest.mark.parametrize("name, taps", [("timm:test_vit", (4, 1)), ("open_clip:tiny-vit", (2, 0))])
def test_taps_of_a_vit_are_the_outputs_of_its_blocks(name, taps, prefix_tokens):
    encoder = stirred(create_encoder(name, taps=taps, prefix_tokens=prefix_tokens, tile_size=64))
    blocks = encoder.backbone.blocks if name.startswith("timm") else encoder.backbone.transformer.resblocks
    outputs = {}
    for i, block in enumerate(blocks):
        block.register_forward_hook(lambda _module, _args, out, i=i: outputs.__setitem__(i, out))
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = encoder.features(pixels)
        norm = encoder.backbone.norm if name.startswith("timm") else encoder.backbone.ln_post
        expected = torch.cat([norm(outputs[len(blocks) - 1]), *(outputs[i] for i in taps)], dim=-1)
    assert_close(features, expected if prefix_tokens else expected[:, 1:], rtol=1e-5, atol=1e-5)
    assert encoder.dim == 3 * norm.normalized_shape[0]
    assert encoder.n_tokens == (16 if name.startswith("timm") else 64) + prefix_tokens


@pytest.mark.parametrize(
    "name", ["timm:test_convnext", "timm:test_mambaout", "timm:resnet10t", "open_clip:tiny-resnet"]
)
def test_taps_of_other_grids_come_to_the_final_one(name):
    encoder = stirred(create_encoder(name, taps=(1, 3), tile_size=96))
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        if name.startswith("timm"):
            final, (a, b) = encoder.backbone.forward_intermediates(pixels, indices=[1, 3], output_fmt="NCHW")
            expected = [as_tokens(final, encoder.backbone.num_features)]
        else:
            out = encoder.backbone.forward_intermediates(pixels, indices=[1, 3, 4], intermediates_only=True)
            a, b, final = out["image_intermediates"]
            expected = [final.flatten(2).mT]
        features = encoder.features(pixels)
        side = int(expected[0].shape[1] ** 0.5)
        for tap in (a, b):
            step = tap.shape[-1] // side  # whole cells here: their mean
            expected.append(tap.unflatten(3, (side, step)).unflatten(2, (side, step)).mean((3, 5)).flatten(2).mT)
    assert a.shape[-1] > side
    assert_close(features, torch.cat(expected, dim=-1), rtol=1e-5, atol=1e-5)


def test_taps_with_all_stages_give_gradients_to_each():
    encoder = create_encoder("timm:test_convnext", taps=(0, 1, 2, 3), tile_size=64)
    features = encoder(torch.randn(1, 1, 1, 3, 64, 64), torch.ones(1, 1, 2, dtype=torch.long))
    features.square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


def test_small_grids_are_interpolated():
    big, small = torch.zeros(1, 2, 4, 4), torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    tokens = join_levels([(None, big), (None, small)], prefix_tokens=True)  # no prefix to keep
    assert tokens.shape == (1, 16, 3)
    assert_close(tokens[0, :, 2].unflatten(0, (4, 4))[0], torch.tensor([0, 0.25, 0.75, 1.0]))


def test_registers_can_be_kept_or_dropped():
    torch.manual_seed(1)
    kept = stirred(create_encoder("timm:vit_small_patch16_dinov3", tile_size=32, prefix_tokens=True))
    dropped = create_encoder("timm:vit_small_patch16_dinov3", tile_size=32).eval()
    dropped.load_state_dict(kept.state_dict())
    assert (kept.n_tokens, dropped.n_tokens) == (4 + 5, 4)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(kept.features(x)[:, 5:], dropped.features(x), rtol=0, atol=0)


# Building


def test_building_keeps_batch_norm_statistics_and_runs_nothing():
    torch.manual_seed(3)
    library = timm.create_model("test_resnet")
    torch.manual_seed(3)
    encoder = create_encoder("timm:test_resnet")
    ours = encoder.backbone.state_dict()
    assert ours and all(torch.equal(t, library.state_dict()[n]) for n, t in ours.items())
    assert set(library.state_dict()) - set(ours) == {"fc.weight", "fc.bias"}  # the class head is gone
    assert encoder.training and all(m.training for m in encoder.modules())


def test_heads_are_dropped_and_lone_parameters_frozen():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.BatchNorm2d(4))
            self.mask_token = nn.Parameter(torch.zeros(4))
            self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 10))

    backbone = Backbone()
    n_tokens, dim = measure("b", backbone, lambda x: backbone.body(x).flatten(2).mT, 6, 6, 2)
    assert (n_tokens, dim) == (9, 4)
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias",
    }  # fmt: skip
    assert isinstance(backbone.head, nn.Identity) and not backbone.mask_token.requires_grad
    assert backbone.body[1].num_batches_tracked == 0


def test_a_grid_of_one_cell_can_be_measured():
    assert create_encoder("timm:test_resnet", tile_size=32).n_tokens == 1  # batch norms refuse one value in training


def test_only_real_tiles_run():
    seen = []

    def features(pixels):
        seen.append(pixels)
        return pixels.flatten(1)[:, None]

    tiles = random_tiles(2)
    out = encode_tiles(features, tiles, GRID, 1, 12)
    assert_close(torch.cat(seen), torch.cat([tiles[0, 0, :2], tiles[1, 0, :1], tiles[1, 1]]), rtol=0, atol=0)
    assert_close(out[1, 1, :, 0], tiles[1, 1].flatten(1), rtol=0, atol=0)
    assert not out[0, 1].any() and not out[0, 0, 2].any() and not out[1, 0, 1:].any()


def test_an_empty_batch_needs_no_run():
    def never(_pixels):
        raise AssertionError("ran")

    tiles = torch.randn(2, 1, 2, 3, 8, 8)
    assert not encode_tiles(never, tiles, torch.zeros(2, 1, 2, dtype=torch.long), 4, 5).any()
    assert encode_tiles(never, tiles[:, :0, :0], torch.zeros(2, 0, 2, dtype=torch.long), 4, 5).shape == (2, 0, 0, 4, 5)


def test_importing_encoders_imports_neither_library():
    code = "import sys, encoders; print([m for m in ('timm', 'open_clip', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_list_encoders():
    names = list_encoders()
    assert names == sorted(names) and len(names) > 1000
    assert {"tiled", "timm:vit_tiny_patch16_224", "open_clip:ViT-B-32"} <= set(names)
    assert list_encoders("tiled") == ["tiled"]
    assert list_encoders("siglip") == [n for n in names if "siglip" in n.lower()] != []
    glob = list_encoders("open_clip:*b-32")
    assert "open_clip:ViT-B-32" in glob and all(n.startswith("open_clip:") and n.endswith("B-32") for n in glob)
    assert list_encoders("no such thing") == []


# Errors


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "timm:vit_smal_patch16_224",
            r"unknown encoder 'timm:vit_smal_patch16_224': did you mean 'timm:vit_small_patch16_224'\? "
            r"list_encoders\('timm:\*vit\*'\) shows all",
        ),
        ("open_clip:ViT-B-33", r"unknown encoder 'open_clip:ViT-B-33': did you mean 'open_clip:ViT-B-32'\?"),
        ("vit_tiny_patch16_224", r"did you mean 'timm:vit_tiny_patch16_224'\?"),
        ("tilde", r"unknown encoder 'tilde': did you mean 'tiled'\? list_encoders\(\) shows all"),
        ("timm:", r"unknown encoder 'timm:'. list_encoders\('timm:\*'\) shows all"),
        ("@", r"unknown encoder '@'. list_encoders\(\) shows all"),
        (
            "timm:vit_tiny_patch16_224.no_such",
            r"unknown weights 'no_such' of 'timm:vit_tiny_patch16_224': .*augreg_in21k",
        ),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        create_encoder(name)


@pytest.mark.parametrize("name, last", [("timm:test_vit", 5), ("timm:test_convnext", 3), ("open_clip:tiny-vit", 2)])
@pytest.mark.parametrize("taps", [(0, 0), (-1,), (99,), (True,), ("1",)])
def test_impossible_taps(name, last, taps):
    with pytest.raises(ValueError, match=rf"taps: found .*, expected different numbers from 0 to {last}, .*{name}"):
        create_encoder(name, taps=taps)


@pytest.mark.parametrize(
    "name, size, message",
    [
        (
            "timm:test_vit",
            40,
            r"tile_size: found 40, which 'timm:test_vit' cannot take .*tile_size=160, .*multiple of 16",
        ),
        ("timm:vit_small_patch16_dinov3", 40, r"found 40, .*tile_size=256, .*multiple of 16"),
        ("timm:efficientformer_l1", 64, r"found 64, .*tile_size=224"),
        ("timm:hiera_tiny_224", 48, r"found 48, .*multiple of 32"),
        ("open_clip:tiny-vit", 60, r"'open_clip:tiny-vit' cannot take .*patches are 8 .*=64, .*multiple of 8"),
        ("open_clip:tiny-eva", 40, r"'open_clip:tiny-eva' cannot take .*multiple of 14"),
    ],
)
def test_impossible_tile_sizes(name, size, message):
    with pytest.raises(ValueError, match=message):
        create_encoder(name, tile_size=size)


def test_backbones_without_spatial_features():
    with pytest.raises(ValueError, match="CrossVit has no spatial features: found a list"):
        create_encoder("timm:crossvit_tiny_240")
    with pytest.raises(ValueError, match=r"has no spatial features: found a tensor \(1, 1, 256\)"):
        create_encoder("timm:pit_ti_224")  # its class token alone

    class Pooled(nn.Module):
        def forward_features(self, x):
            return x.mean((2, 3))

    encoder = TimmEncoder("test_vit")
    encoder.backbone = Pooled()
    with pytest.raises(ValueError, match=r"Pooled has no spatial features: found a tensor \(2, 3\)"):
        encoder.features(torch.zeros(2, 3, 8, 8))


def test_weights_that_do_not_exist_or_fit(tmp_path):
    with pytest.raises(ValueError, match="no weights of 'mixer_s32_224': expected pretrained=False or the path"):
        create_encoder("timm:mixer_s32_224", pretrained=True)
    with pytest.raises(ValueError, match="'/no/such.pth' is no file"):
        create_encoder("timm:test_vit", pretrained="/no/such.pth")
    with pytest.raises(ValueError, match="'no_such' is no weight tag of 'open_clip:ViT-B-32' and no file; .*openai"):
        create_encoder("open_clip:ViT-B-32", pretrained="no_such")
    with pytest.raises(ValueError, match="pretrained=True: 'open_clip:ViT-B-32' has .* sets of weights; .*openai"):
        create_encoder("open_clip:ViT-B-32", pretrained=True)
    other = timm.create_model("test_resnet", num_classes=7)  # another model with another number of classes
    torch.save(other.state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not the weights of 'timm:test_vit'"):
        create_encoder("timm:test_vit", pretrained=str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match="not the weights of 'open_clip:tiny-vit'"):
        create_encoder("open_clip:tiny-vit", pretrained=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("n_classes", [0, 7])
def test_a_file_with_any_number_of_classes_loads(n_classes, tmp_path):
    library = timm.create_model("test_vit", num_classes=n_classes)
    torch.save(library.state_dict(), tmp_path / "weights.pth")
    encoder = create_encoder("timm:test_vit", pretrained=str(tmp_path / "weights.pth"))
    assert torch.equal(encoder.backbone.pos_embed, library.pos_embed)


def test_without_pretrained_nothing_is_fetched(monkeypatch):
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    create_encoder("open_clip:roberta-ViT-B-32", tile_size=32)  # its text tower is of the hub
    create_encoder("timm:test_vit")
