"""The compiled attention and the encoder that runs on it give what torch gives."""

import pytest
import torch
from conftest import tiny_config, tiny_model

from encoders.tiled_vit import TiledViT
from vlm.engine.attention import attention, plain_attention
from vlm.engine.compiled import library
from vlm.engine.encoder import FastBlock, fast

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(library() is None or not library().attention_is_fast(), reason="no g++ or AVX-512")
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def inputs(batch, n_heads, n_kv, queries, keys, dim, dtype):
    torch.manual_seed(queries * keys + dim)
    shape = lambda heads, n: torch.randn(batch, heads, n, dim).to(dtype)  # noqa: E731
    return shape(n_heads, queries), shape(n_kv, keys), shape(n_kv, keys)


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dim", [2, 15, 16, 20, 48, 64, 80, 130])
@pytest.mark.parametrize("queries, keys", [(1, 1), (1, 63), (5, 64), (6, 65), (7, 17), (25, 130), (49, 49), (60, 200)])
def test_every_edge_of_a_block_equals_torch(queries, keys, dim, dtype):
    q, k, v = inputs(2, 6, 2, queries, keys, dim, dtype)
    bias, own = torch.randn(keys), attention(dtype, CPU)
    assert own is not plain_attention
    for options in ({}, {"bias": bias}, {"causal": True}):
        expected = plain_attention(q.float(), k.float(), v.float(), **options)
        torch.testing.assert_close(own(q, k, v, **options).float(), expected, rtol=0, atol=TOLERANCE[dtype])


@needs_compiler
def test_attention_reads_views_where_they_lie():
    whole = torch.randn(2, 50, 3, 4, 24)  # (B, S, q k v, H, Dh), as one matrix gives them
    q, k, v = whole.permute(2, 0, 3, 1, 4)
    own = attention(torch.float32, CPU)
    torch.testing.assert_close(own(q[:, :, 9:], k, v[:, :, :]), plain_attention(q[:, :, 9:], k, v), rtol=0, atol=2e-6)
    backwards = q.transpose(2, 3).contiguous().transpose(2, 3)  # numbers of Dh apart
    torch.testing.assert_close(own(backwards, k, v), plain_attention(q, k, v), rtol=0, atol=2e-6)


@needs_compiler
def test_large_scores_and_what_is_no_number():
    q, k, v = inputs(1, 1, 1, 8, 70, 32, torch.float32)
    q[0, 0, 0] *= 1e4
    k[0, 0, 69] *= 1e3
    q[0, 0, 3, 5] = torch.nan
    out = attention(torch.float32, CPU)(q, k, v)
    expected = plain_attention(q, k, v)
    assert out[0, 3].isnan().all()
    others = [i for i in range(8) if i != 3]
    torch.testing.assert_close(out[:, others], expected[:, others], rtol=0, atol=1e-5)


def test_a_mask_and_other_dtypes_go_through_torch():
    q, k, v = inputs(1, 4, 2, 5, 9, 16, torch.float64)
    mask = torch.rand(5, 9) > 0.3
    mask[:, 0] = True
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    own = attention(torch.float32, CPU)
    torch.testing.assert_close(own(q, k, v, mask=mask), expected.transpose(1, 2))
    elsewhere = torch.empty(1, 4, 5, 16, device="meta")  # of a model that is spread over devices
    assert own(elsewhere, elsewhere, elsewhere).shape == (1, 5, 4, 16)
    assert attention(torch.float16, CPU) is plain_attention
    assert attention(torch.float32, CPU, compile=False) is plain_attention


def vit(padding="reference", dedupe=True, stem="linear"):
    torch.manual_seed(1)
    encoder = TiledViT(
        dim=32, n_layers=3, n_global_layers=2, n_heads=2, hidden_dim=48, taps=(0, 2), tile_size=28, patch_size=7,
        stem=stem, tile_padding=padding, dedupe_padding=dedupe, gate_init=0.5,
    )  # fmt: skip
    for p in encoder.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return encoder.eval()


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("options", [{}, {"dedupe": False}, {"padding": "none"}, {"stem": "conv"}])
@torch.inference_mode()
def test_the_fast_encoder_gives_the_same_features(options, compile):
    encoder = vit(**options)
    twin = fast(encoder, pack=True, compile=compile)
    assert all(type(b) is FastBlock for b in (*twin.layers, *twin.global_layers))
    tiles, grid = torch.randn(4, 2, 4, 3, 28, 28), torch.tensor([[[1, 1], [2, 2]], [[1, 2], [3, 1]]] * 2)
    torch.testing.assert_close(twin(tiles, grid), encoder(tiles, grid), rtol=0, atol=2e-5)
    assert not any(type(b) is FastBlock for b in encoder.layers)  # the model's own stays what it was


@torch.inference_mode()
def test_the_fast_encoder_in_bfloat16_is_as_near_to_fp32_as_the_module():
    encoder = vit()
    tiles, grid = torch.randn(1, 2, 4, 3, 28, 28), torch.tensor([[[1, 2], [2, 2]]])
    exact = encoder(tiles, grid)
    plain = encoder.to(torch.bfloat16)(tiles.bfloat16(), grid).float()
    own = fast(encoder, pack=True)(tiles.bfloat16(), grid).float()
    assert (own - exact).square().mean() < 1.1 * (plain - exact).square().mean()


def test_what_is_no_plain_encoder_runs_as_it_is():
    encoder = vit()
    assert fast(encoder, pack=False) is encoder
    handle = encoder.layers[0].register_forward_hook(lambda *_: None)
    assert fast(encoder, pack=True) is encoder
    handle.remove()
    encoder.layers[1].attn.q_proj = torch.nn.Sequential(encoder.layers[1].attn.q_proj)
    assert fast(encoder, pack=True) is encoder
    other = torch.nn.Identity()
    assert fast(other, pack=True) is other
    assert type(fast(tiny_model(tiny_config()).encoder, pack=True).layers[0]) is FastBlock
