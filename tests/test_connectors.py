"""Every connector: rows stand alone, padding means nothing, and the papers' properties hold."""

import pytest
import torch
from torch import nn

from adapters import CONNECTORS, create_connector
from adapters.projector import pack_tiles

SPECS = {  # spec -> tokens per picture, None where every tile keeps its own
    "linear": None,
    "mlp": None,
    "perceiver:7": 7,
    "qformer:5": 5,
}
IN_DIM, DIM, N_TOKENS, MAX_TILES = 20, 24, 6, 3
GRID = torch.tensor(
    [[(1, 2), (0, 0), (3, 1)], [(0, 0), (1, 1), (0, 0)], [(0, 0)] * 3, [(1, 3), (3, 1), (1, 3)]]
)  # rows and columns of tiles
N_TILES = GRID.prod(-1)
parametrised = pytest.mark.parametrize("spec", SPECS)


def make(spec: str, positions: bool = False, **options) -> nn.Module:
    """A small random connector, its positions trained, so to speak."""
    if not spec.startswith(("linear", "mlp")):
        options = {"n_layers": 3, "head_dim": 8, **options}
    connector = create_connector(spec, IN_DIM, DIM, max_tiles=MAX_TILES, positions=positions, **options)
    with torch.no_grad():
        for name, p in connector.named_parameters():
            if name.startswith("positions."):
                p.normal_()
    return connector


def random_features(grid: torch.Tensor, slots: int = MAX_TILES) -> torch.Tensor:
    return torch.randn(*grid.shape[:2], slots, N_TOKENS, IN_DIM)


def expected_lengths(spec: str, n_tiles: torch.Tensor) -> torch.Tensor:
    return n_tiles * N_TOKENS if SPECS[spec] is None else (n_tiles > 0) * SPECS[spec]


@parametrised
@pytest.mark.parametrize("positions", [False, True])
@torch.no_grad()
def test_shapes_lengths_and_zeros_at_the_end(spec, positions):
    states, lengths = make(spec, positions)(random_features(GRID), GRID)
    assert torch.equal(lengths, expected_lengths(spec, N_TILES))
    total = lengths.sum(1)
    assert states.shape == (4, int(total.max()), DIM)
    for row, n in zip(states, total.tolist(), strict=True):
        assert row[:n].any(-1).all() and not row[n:].any()


@parametrised
@pytest.mark.parametrize("positions", [False, True])
@torch.no_grad()
def test_a_batch_is_its_rows_and_a_row_is_its_pictures(spec, positions):
    connector, features = make(spec, positions), random_features(GRID)
    states, lengths = connector(features, GRID)
    for b, counts in enumerate(N_TILES.tolist()):
        real = [i for i, n in enumerate(counts) if n]  # neither empty slots nor padded tiles alone
        tight = max(counts)
        alone, _ = connector(features[b : b + 1, real, :tight], GRID[b : b + 1, real])
        torch.testing.assert_close(states[b, : lengths[b].sum()], alone[0], atol=1e-5, rtol=1e-4)
        if not positions:
            one_by_one = [connector(features[b : b + 1, [i]], GRID[b : b + 1, [i]])[0][0] for i in real]
            wanted = torch.cat([*one_by_one, torch.zeros(states.shape[1] - lengths[b].sum(), DIM)])
            torch.testing.assert_close(states[b], wanted, atol=1e-5, rtol=1e-4)


@parametrised
@pytest.mark.parametrize("garbage", [1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("positions", [False, True])
def test_padded_tiles_change_neither_states_nor_gradients(spec, garbage, positions):
    connector = make(spec, positions)
    clean = random_features(GRID)
    dirty = clean.clone()
    dirty[torch.arange(MAX_TILES) >= N_TILES[..., None]] = garbage
    results = []
    for features in (clean, dirty):
        connector.zero_grad()
        states = connector(features, GRID)[0]
        states.square().sum().backward()
        results.append([states.detach(), *(p.grad.clone() for p in connector.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@parametrised
def test_gradients_reach_every_parameter_and_the_features(spec):
    connector = make(spec, positions=True, max_images=3)
    features = random_features(GRID).requires_grad_()
    states, _ = connector(features, GRID)
    (states * torch.randn_like(states)).sum().backward()
    for name, p in connector.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name
    real = torch.arange(MAX_TILES) < N_TILES[..., None]
    assert torch.equal(features.grad.flatten(3).any(-1), real)


@parametrised
@pytest.mark.parametrize("shape", [(2, 2, 3), (2, 0, 3), (2, 2, 0), (0, 2, 3), (2, 0, 0)])
def test_no_picture_at_all_is_no_token_and_a_zero_gradient(spec, shape):
    connector, grid = make(spec, positions=True), torch.zeros(*shape[:2], 2, dtype=torch.long)
    states, lengths = connector(random_features(grid, shape[2]), grid)
    assert states.shape == (shape[0], 0, DIM) and lengths.shape == shape[:2] and not lengths.any()
    states.sum().backward()  # data-parallel processes wait for every gradient
    assert all(p.grad is not None and not p.grad.any() for p in connector.parameters())


@parametrised
@torch.no_grad()
def test_half_precision(spec):
    connector, features = make(spec, positions=True), random_features(GRID)
    wanted, _ = connector(features, GRID)
    states, _ = connector.bfloat16()(features.bfloat16(), GRID)
    assert states.dtype == torch.bfloat16
    torch.testing.assert_close(states.float(), wanted, atol=0.1, rtol=0.1)


# Positions.


@parametrised
@torch.no_grad()
def test_positions_start_as_nothing_and_exist_only_on_demand(spec):
    plain = create_connector(spec, IN_DIM, DIM, max_tiles=MAX_TILES)
    placed = create_connector(spec, IN_DIM, DIM, max_tiles=MAX_TILES, positions=True, max_images=5)
    places = {f"positions.{axis}_embedding": (MAX_TILES, IN_DIM) for axis in ("row", "column")}
    extra = {**places, "positions.picture_embedding": (5, IN_DIM)}
    shapes = {name: tuple(p.shape) for name, p in plain.state_dict().items()}
    assert {name: tuple(p.shape) for name, p in placed.state_dict().items()} == shapes | extra
    placed.load_state_dict(plain.state_dict(), strict=False)
    features = random_features(GRID)
    assert torch.equal(placed(features, GRID)[0], plain(features, GRID)[0])


@parametrised
@torch.no_grad()
def test_positions_tell_tiles_and_pictures_apart(spec):
    connector = make(spec, positions=True)
    same = random_features(GRID)[:1, :1, :1].expand(1, 2, 2, -1, -1)  # one tile four times
    states, lengths = connector(same, torch.tensor([[(1, 2), (1, 2)]]))
    first, second = states[0].split(lengths[0].tolist())
    assert (first - second).abs().max() > 1e-3
    if SPECS[spec] is None:
        assert (first[:N_TOKENS] - first[N_TOKENS:]).abs().max() > 1e-3


@pytest.mark.parametrize("spec", [s for s, n in SPECS.items() if n])
@torch.no_grad()
def test_the_order_of_tiles_matters_with_positions_only(spec):
    features, grid = random_features(torch.zeros(1, 1)), torch.tensor([[(3, 1)]])
    for positions in (False, True):
        connector = make(spec, positions)
        change = connector(features, grid)[0] - connector(features.flip(2), grid)[0]
        assert (change.abs().max() > 1e-3) == positions


@parametrised
@torch.no_grad()
def test_wide_and_high_pictures_differ_with_positions_only(spec):
    features = random_features(torch.zeros(1, 1), slots=2)
    for positions in (False, True):
        connector = make(spec, positions)
        wide, high = (connector(features, torch.tensor([[grid]]))[0] for grid in ((1, 2), (2, 1)))
        assert ((wide - high).abs().max() > 1e-3) == positions


@torch.no_grad()
def test_all_tiles_of_a_square_are_told_apart_row_by_row():
    connector = create_connector("linear", IN_DIM, DIM, max_tiles=4, positions=True)
    rows, columns = connector.positions.row_embedding.normal_(), connector.positions.column_embedding.normal_()
    tile = random_features(torch.zeros(1, 1), slots=1)
    states, _ = connector(tile.expand(1, 1, 4, -1, -1), torch.tensor([[(2, 2)]]))
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    wanted = torch.stack([tile[0, 0, 0] + rows[row] + columns[column] for row, column in places])
    torch.testing.assert_close(states[0].unflatten(0, (4, -1)), connector.proj(wanted), atol=1e-5, rtol=1e-4)
    assert torch.pdist(wanted.flatten(1)).min() > 1


@pytest.mark.parametrize("spec", [s for s, n in SPECS.items() if n])
@torch.no_grad()
def test_without_positions_tokens_are_a_set(spec):
    connector, features, grid = make(spec), random_features(torch.zeros(1, 1)), torch.tensor([[(1, 2)]])
    wanted, _ = connector(features, grid)
    shuffled = features.clone()
    shuffled[:, :, :2] = (
        features[:, :, :2].flatten(2, 3)[:, :, torch.randperm(2 * N_TOKENS)].view_as(shuffled[:, :, :2])
    )
    torch.testing.assert_close(connector(shuffled, grid)[0], wanted, atol=1e-5, rtol=1e-4)
    assert (connector(features + 1e-1 * torch.randn_like(features), grid)[0] - wanted).abs().max() > 1e-4


@parametrised
@torch.no_grad()
def test_pictures_past_the_last_number_share_its_embedding(spec):
    connector = make(spec, positions=True, max_images=2)
    features = random_features(torch.zeros(1, 1), slots=1).expand(1, 4, -1, -1, -1)
    states, lengths = connector(features, torch.ones(1, 4, 2, dtype=torch.long))
    first, second, third, fourth = states[0].split(lengths[0].tolist())
    assert (first - second).abs().max() > 1e-3
    for later in (third, fourth):
        torch.testing.assert_close(later, second)


def test_more_tiles_than_positions_are_an_error():
    with pytest.raises(ValueError, match="found pictures of 4 tiles, expected at most the connector's max_tiles=3"):
        make("linear", positions=True)(random_features(GRID, slots=4), GRID)
    make("linear")(random_features(GRID, slots=4), GRID)


# Single connectors.


@torch.no_grad()
def test_the_projectors_are_their_formulas():
    features = random_features(GRID)
    packed, lengths = pack_tiles(features, N_TILES)
    kept = packed.any(-1, keepdim=True)
    assert kept.sum() == lengths.sum()
    linear, mlp = make("linear"), make("mlp", hidden_dim=40)
    by_hand = packed @ linear.proj.weight.T + linear.proj.bias
    torch.testing.assert_close(linear(features, GRID)[0], by_hand * kept, atol=1e-5, rtol=1e-4)
    by_hand = mlp.fc2(nn.functional.gelu(mlp.fc1(packed)))
    assert mlp.fc1.out_features == 40
    torch.testing.assert_close(mlp(features, GRID)[0], by_hand * kept, atol=1e-5, rtol=1e-4)


def test_the_linear_connector_keeps_its_names():
    for connector in (make("linear"), CONNECTORS["linear"](IN_DIM, DIM)):
        assert {n: tuple(p.shape) for n, p in connector.state_dict().items()} == {
            "proj.weight": (DIM, IN_DIM),
            "proj.bias": (DIM,),
        }


@torch.no_grad()
def test_perceiver_layers_attend_to_the_features_and_the_latents():
    layer = make("perceiver:7").layers[0]
    width = layer.attn_norm.weight.numel()
    x, features = torch.randn(1, 7, width), torch.randn(1, 4, width)
    latents = layer.attn_norm(x)[0]
    context = torch.cat([layer.features_norm(features)[0], latents])  # (4 + 7, W)
    heads = []
    for rows in torch.arange(width // 8 * 8).split(8):
        q, k, v = (
            h @ proj.weight[rows].T
            for h, proj in ((latents, layer.attn.q_proj), (context, layer.attn.k_proj), (context, layer.attn.v_proj))
        )
        heads.append((q @ k.T / 8**0.5).softmax(-1) @ v)
    after = x[0] + layer.attn.o_proj(torch.cat(heads, dim=-1))
    wanted = after + layer.ffn(layer.ffn_norm(after))
    torch.testing.assert_close(layer(x, features, None)[0], wanted, atol=1e-5, rtol=1e-4)


def test_every_second_layer_of_the_qformer_sees_the_picture():
    reads = lambda connector: [layer.has_cross_attn for layer in connector.layers]  # noqa: E731
    assert reads(make("qformer:5", n_layers=5)) == [True, False, True, False, True]
    assert reads(make("qformer:5", n_layers=4, cross_attention_every=3)) == [True, False, False, True]
    assert reads(make("qformer:5", n_layers=2, cross_attention_every=1)) == [True, True]


@pytest.mark.parametrize("spec", ["perceiver:7", "qformer:5"])
def test_sizes_are_options(spec):
    connector = make(spec, width=32, head_dim=4, n_heads=3, hidden_dim=48)
    layer = connector.layers[0]
    assert layer.attn.q_proj.weight.shape == (12, 32) and layer.ffn.up_proj.weight.shape == (48, 32)
    assert connector(random_features(GRID), GRID)[0].isfinite().all()


@pytest.mark.parametrize(("name", "n_latents"), [("perceiver", 64), ("qformer", 32)])
def test_a_name_alone_has_the_number_of_its_paper(name, n_latents):
    grid = torch.tensor([[(1, 1)]])
    for connector in (CONNECTORS[name](IN_DIM, DIM), create_connector(name, IN_DIM, DIM, max_tiles=1)):
        assert connector(random_features(grid, 1), grid)[1].tolist() == [[n_latents]]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "percever",
            {},
            "unknown connector 'percever'. Did you mean 'perceiver'.*linear, mlp, perceiver:64, qformer:32",
        ),
        ("qfromer:16", {}, "unknown connector 'qfromer:16'. Did you mean 'qformer:16'"),
        ("zzz", {}, "unknown connector 'zzz'. Choices"),
        ("linear:3", {}, "'linear' keeps every image token, it takes no number. Use 'linear'"),
        ("mlp:", {}, "'mlp' keeps every image token"),
        ("perceiver:", {}, "found '', expected tokens per picture"),
        ("perceiver:many", {}, "found 'many', expected tokens per picture"),
        ("qformer:-4", {}, "found '-4', expected tokens per picture"),
        ("qformer:0", {}, "found {'n_latents': 0}, expected at least 1"),
        ("perceiver:8", {"n_latents": 9}, "found n_latents=9 as well, expected one of the two"),
        ("perceiver:8", {"n_layers": 0}, "found {'n_layers': 0}, expected at least 1"),
    ],
)
def test_impossible_connectors_are_explained(spec, options, message):
    with pytest.raises(ValueError, match=message):
        create_connector(spec, IN_DIM, DIM, max_tiles=MAX_TILES, **options)


def test_a_misspelt_option_is_no_option():
    with pytest.raises(TypeError, match="n_layer"):
        create_connector("perceiver:8", IN_DIM, DIM, max_tiles=MAX_TILES, n_layer=2)
