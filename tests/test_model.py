"""The tiled ViT equals a plain re-statement of the reference, and the composed model keeps tokens in order."""

import dataclasses

import pytest
import torch
from conftest import tiny_config, tiny_model
from torch.nn import functional as F

from adapters import CONNECTORS
from encoders.tiled_vit import ConvStem, TiledViT, prime_factors
from vlm.config import BackboneConfig
from vlm.initialise import initialise
from vlm.model import VisionLanguageModel

GRIDS = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (1, 4), (4, 1)]
SIZES = {"dim": 16, "n_layers": 3, "n_global_layers": 2, "n_heads": 2, "hidden_dim": 32, "taps": (0, 2)}


def make_vit(tile_size=28, zero_padded=True, **options):
    """All parameters random; with `zero_padded` the embeddings of padded tiles are zero, as in the released weights."""
    generator = torch.Generator().manual_seed(3)
    vit = TiledViT(**SIZES, tile_size=tile_size, patch_size=14, **options).eval()
    with torch.no_grad():
        for p in vit.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
        if zero_padded:
            for table in (vit.tile_position_embedding, vit.pre_tile_embedding, vit.post_tile_embedding):
                rows = table.weight.view(len(vit.grids) + 1, vit.max_tiles, -1)
                for i, (r, c) in enumerate(vit.grids):
                    rows[i + 1, r * c :] = 0
    return vit


def random_tiles(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_block(block, x, mask, n_heads):
    h = block.attn_norm(x)
    q, k, v = (getattr(block.attn, f"{n}_proj")(h).view(len(x), n_heads, -1).transpose(0, 1) for n in "qkv")
    scores = q @ k.mT / q.shape[-1] ** 0.5 + mask
    attn = block.attn.o_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(x.shape))
    x = x + (attn if block.attn_gate is None else torch.tanh(block.attn_gate) * attn)
    ffn = block.ffn.fc2(F.gelu(block.ffn.fc1(block.ffn_norm(x))))
    return x + (ffn if block.ffn_gate is None else torch.tanh(block.ffn_gate) * ffn)


def slow_reference(vit, tiles, grid):
    """Meta's encoder on one picture, with every padded tile and token: tiles (n, 3, T, T) -> (n, N, C)."""
    n, most, n_tokens, dim = len(tiles), vit.max_tiles, vit.n_tokens, len(vit.class_embedding)
    row = vit.grids.index(grid) + 1
    x = torch.cat([tiles, tiles.new_zeros(most - n, *tiles.shape[1:])])
    x = vit.patch_embedding(x).flatten(2).transpose(1, 2)  # (4, N - 1, C)
    x = x + torch.tanh(vit.pre_tile_gate) * vit.pre_tile_embedding.weight[row].view(most, 1, dim)
    x = torch.cat([vit.class_embedding.expand(most, 1, dim), x], dim=1)
    gate = torch.tanh(vit.position_gate)
    x = x + (1 - gate) * vit.position_embedding
    x = vit.pre_norm(x + gate * vit.tile_position_embedding.weight[row].view(most, n_tokens, dim))
    n_pad = (8 - n_tokens % 8) % 8
    x = torch.cat([x, x.new_zeros(most, n_pad, dim)], dim=1)
    m = torch.zeros(most, n_tokens + n_pad)
    m[:n, :n_tokens] = 1
    inverse = (1 - m).flatten()
    mask = inverse[:, None] * inverse[None, :] * torch.finfo(x.dtype).min
    x, taps = x.flatten(0, 1), []
    for i, layer in enumerate(vit.layers):
        if i in vit.taps:
            taps.append(x)
        x = slow_block(layer, x, mask, SIZES["n_heads"])
    x = vit.post_norm(x).view(most, n_tokens + n_pad, dim)
    x = x + torch.tanh(vit.post_tile_gate) * vit.post_tile_embedding.weight[row].view(most, 1, dim)
    x = x.flatten(0, 1)
    for layer in vit.global_layers:
        x = slow_block(layer, x, mask, SIZES["n_heads"])
    interleaved = torch.stack(taps, dim=-1).reshape(len(x), -1)
    return torch.cat([x, interleaved], dim=1).view(most, n_tokens + n_pad, -1)[:n, :n_tokens]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dedupe", [True, False])
@torch.no_grad()
def test_the_reference_padding_is_exact(grid, dedupe):
    vit = make_vit(tile_padding="reference", dedupe_padding=dedupe)
    tiles = random_tiles(grid[0] * grid[1], 3, 28, 28)
    out = vit(tiles[None, None], torch.tensor([[grid]]))[0, 0]
    torch.testing.assert_close(out, slow_reference(vit, tiles, grid), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", GRIDS)
@torch.no_grad()
def test_trained_embeddings_of_padded_tiles_are_respected_without_dedupe(grid):
    vit = make_vit(zero_padded=False, tile_padding="reference", dedupe_padding=False)
    tiles = random_tiles(grid[0] * grid[1], 3, 28, 28)
    wanted = slow_reference(vit, tiles, grid)
    out = vit(tiles[None, None], torch.tensor([[grid]]))[0, 0]
    torch.testing.assert_close(out, wanted, atol=2e-5, rtol=1e-4)
    if len(tiles) < vit.max_tiles:
        vit.dedupe_padding = True
        assert (vit(tiles[None, None], torch.tensor([[grid]]))[0, 0] - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(("tile_size", "n_tokens", "n_pad"), [(14, 2, 6), (42, 10, 6), (56, 17, 7)])
@torch.no_grad()
def test_the_reference_padding_is_exact_for_other_tile_sizes(tile_size, n_tokens, n_pad):
    vit = make_vit(tile_size=tile_size, tile_padding="reference")
    assert (vit.n_tokens, vit._pad_counts(2)) == (n_tokens, (2, 1, n_pad))
    tiles = random_tiles(2, 3, tile_size, tile_size)
    out = vit(tiles[None, None], torch.tensor([[(2, 1)]]))[0, 0]
    torch.testing.assert_close(out, slow_reference(vit, tiles, (2, 1)), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_without_padding_there_are_real_tiles_only():
    vit, reference = (make_vit(tile_padding=p) for p in ("none", "reference"))
    tiles = random_tiles(2, 3, 28, 28)[None, None]
    grid = torch.tensor([[(1, 2)]])
    assert (vit(tiles, grid) - reference(tiles, grid)).abs().max() > 1e-3
    assert vit._pad(torch.zeros(1, 2, vit.n_tokens, 16), torch.tensor([2]))[1] is None


@pytest.mark.parametrize("tile_padding", ["reference", "none"])
@torch.no_grad()
def test_a_batch_is_its_pictures_and_unused_slots_are_ignored(tile_padding):
    vit = make_vit(tile_padding=tile_padding)
    grid = torch.tensor([[(1, 1), (2, 2)], [(0, 0), (1, 3)], [(2, 1), (1, 2)]])
    tiles = random_tiles(3, 2, 4, 3, 28, 28)
    garbage = tiles.clone()
    for b in range(3):
        for i in range(2):
            garbage[b, i, int(grid[b, i].prod()) :] = float("nan")
    out = vit(tiles, grid)
    assert torch.equal(out, vit(garbage, grid))
    for b in range(3):
        for i in range(2):
            n = int(grid[b, i].prod())
            assert not out[b, i, n:].any()
            if n:
                alone = vit(tiles[b : b + 1, i : i + 1, :n], grid[b : b + 1, i : i + 1])
                torch.testing.assert_close(out[b, i, :n], alone[0, 0], atol=2e-5, rtol=1e-4)


def test_no_picture_at_all_gives_zeros_of_the_right_shape():
    vit = make_vit()
    out = vit(torch.zeros(2, 1, 1, 3, 28, 28), torch.zeros(2, 1, 2, dtype=torch.long))
    assert out.shape == (2, 1, 1, 5, vit.dim) and not out.any()


@torch.no_grad()
def test_a_tile_of_another_place_has_other_features():
    vit = make_vit()
    tiles = random_tiles(2, 3, 28, 28)[None, None]
    wide, tall = (vit(tiles, torch.tensor([[g]])) for g in ((1, 2), (2, 1)))
    assert (wide - tall).abs().max() > 1e-3


@pytest.mark.parametrize(("patch", "strides"), [(12, [2, 2, 3]), (14, [2, 7]), (16, [2, 2, 2, 2]), (7, [7]), (1, [])])
def test_the_conv_stem_makes_one_token_per_patch(patch, strides):
    assert prime_factors(patch) == strides
    out = ConvStem(32, patch)(torch.zeros(2, 3, 3 * patch, 2 * patch))
    assert out.shape == (2, 32, 3, 2)


def test_the_conv_stem_works_in_the_encoder():
    vit = TiledViT(**SIZES, tile_size=28, patch_size=14, stem="conv", tile_padding="none", gate_init=0.5)
    out = vit(random_tiles(1, 1, 2, 3, 28, 28), torch.tensor([[(1, 2)]]))
    assert out.shape == (1, 1, 2, 5, 48)
    out.sum().backward()
    assert all(p.grad is not None for p in vit.patch_embedding.parameters())


@torch.no_grad()
def test_new_blocks_of_a_stem_add_nothing_and_keep_the_names_of_the_rest():
    old, new = ConvStem(32, 12), ConvStem(32, 12, 2)
    initialise(new)
    missing, unexpected = new.load_state_dict(old.state_dict(), strict=False)
    assert not unexpected and all(".conv1." in name or ".conv2." in name for name in missing) and len(missing) == 8
    tiles = random_tiles(2, 3, 36, 24)
    assert torch.equal(new(tiles), old(tiles))
    assert new.blocks(torch.zeros(2, new.channels, 12, 8)).shape == (2, new.channels, 12, 8)
    with pytest.raises(ValueError, match="a patch of 7 pixels has but one"):
        ConvStem(32, 7, 1)


@torch.no_grad()
def test_patches_are_ordered_row_by_row_after_the_class_token():
    vit = make_vit(tile_size=42)
    tile = torch.zeros(1, 3, 42, 42)
    tile[:, :, 14:28, 28:42] = 1.0  # row 1, column 2
    marked = vit.patch_embedding(tile).flatten(2).mT[0]
    assert marked.abs().sum(-1).nonzero().flatten().tolist() == [1 * 3 + 2]
    embedded = vit._embed(vit.patch_embedding(tile).flatten(2).mT[None], torch.tensor([1]))
    plain = vit._embed(torch.zeros(1, 1, 9, 16), torch.tensor([1]))
    assert (embedded - plain).abs().sum(-1)[0, 0].nonzero().flatten().tolist() == [1 + 5]


@torch.no_grad()
def test_image_tokens_stand_picture_by_picture_tile_by_tile():
    connector = CONNECTORS["linear"](6, 6)
    for name, p in connector.named_parameters():
        p.copy_(torch.eye(6) if "weight" in name else torch.zeros(6))
    features = random_tiles(2, 2, 3, 5, 6)
    grid = torch.tensor([[(1, 2), (3, 1)], [(0, 0), (1, 1)]])
    states, lengths = connector(features, grid)
    assert lengths.tolist() == [[10, 15], [0, 5]]
    for b, counts in enumerate(grid.prod(-1).tolist()):
        wanted = torch.cat([features[b, i, :n].reshape(-1, 6) for i, n in enumerate(counts)])
        torch.testing.assert_close(states[b, : len(wanted)], wanted)


@torch.no_grad()
def test_garbage_in_unused_tiles_changes_no_logit(model):
    grid = torch.tensor([[(1, 2), (0, 0)], [(2, 2), (1, 1)]])
    tiles = random_tiles(2, 2, 4, 3, 28, 28)
    garbage = tiles.clone()
    garbage[0, 0, 2:], garbage[0, 1], garbage[1, 1, 1:] = 1e4, float("nan"), -1e4
    tokens = torch.arange(12).view(2, 6)
    sees = torch.tensor([[(0, 0), *[(0, 1)] * 5], [(0, 1), (0, 2), (0, 2), (1, 2), (1, 2), (0, 0)]])
    assert torch.equal(model(tokens, tiles, grid, sees), model(tokens, garbage, grid, sees))


@torch.no_grad()
def test_tokens_see_only_the_pictures_of_their_interval(model):
    grid = torch.tensor([[(1, 1), (1, 2)]])
    tiles = random_tiles(1, 2, 2, 3, 28, 28)
    other = tiles.clone()
    other[0, 1] += 1.0
    tokens, sees = torch.arange(4)[None], torch.tensor([[(0, 0), (0, 1), (0, 2), (1, 2)]])
    change = (model(tokens, tiles, grid, sees) - model(tokens, other, grid, sees)).abs().amax(-1)[0]
    assert change[:2].tolist() == [0, 0] and (change[2:] > 1e-4).all()


@torch.no_grad()
def test_no_tiles_is_the_text_model(model):
    tokens = torch.arange(6)[None]
    empty = (
        torch.zeros(1, 0, 0, 3, 0, 0),
        torch.zeros(1, 0, 2, dtype=torch.long),
        torch.zeros(1, 6, 2, dtype=torch.long),
    )
    assert torch.equal(model(tokens), model(tokens, *empty))


def test_gradients_reach_every_parameter():
    config = tiny_config("none")
    config = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, stem="conv"))
    model = tiny_model(config)
    tiles, grid = random_tiles(1, 2, 2, 3, 28, 28), torch.tensor([[(1, 2), (2, 1)]])
    sees = torch.tensor([[(0, 1), (0, 2), (0, 2)]])
    model(torch.arange(3)[None], tiles, grid, sees).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_an_unknown_encoder_is_named():
    config = tiny_config()
    with pytest.raises(ValueError, match="encoder.name: found 'tilde'.*did you mean 'tiled'"):
        dataclasses.replace(config.encoder, name="tilde")
    encoder = BackboneConfig(name="timm:vit_tiny_patch16_2244")
    with pytest.raises(ValueError, match="did you mean 'timm:vit_tiny_patch16_224'"):
        VisionLanguageModel(dataclasses.replace(config, encoder=encoder))
