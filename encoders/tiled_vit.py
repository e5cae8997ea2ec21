"""The tiled ViT of Llama 3.2 Vision: one picture is up to four tiles that attend to each other in every layer.

Notable here:
- The features of a picture are the output of the last layer and the *inputs* of the tapped inner layers (Meta's
  llama-models, multimodal/model.py; later ports take their outputs, which are other features).
- Tile and position embeddings are gated: tanh(gate) mixes the embedding of the tile's place into the shared one.
- Padding is part of the pretrained function: Meta fills every picture to `max_tiles` tiles and every tile to a multiple
  of 8 tokens, and real tokens attend to that padding. All padded tiles are equal, and so are the padded tokens of a
  tile, so `tile_padding="reference"` keeps one of each and adds log(how many it stands for) to the score of its key:
  the same softmax at a fraction of the work. `tile_padding="none"` (models trained here) has real tiles only.

Shapes: B pictures in a group, n real tiles, N tokens per tile (patches and the class token), C dim, P padding tokens,
S = n * N + P, H heads, Dh head_dim.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Padding(NamedTuple):
    """The padding tokens at the end of a sequence: real keys are seen by all, padded keys by real queries only."""

    n_real: int
    key_bias: Tensor  # (1, 1, 1, S), log of how many equal tokens a key stands for


class Attention(nn.Module):
    """Bidirectional self-attention over all tiles of a picture."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        q, k, v = (
            proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, S, Dh)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        if padding is None:
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # (B, S, H, Dh)
        else:
            n = padding.n_real
            real = F.scaled_dot_product_attention(q[:, :, :n], k, v, attn_mask=padding.key_bias.to(q.dtype))
            padded = F.scaled_dot_product_attention(q[:, :, n:], k[:, :, :n], v[:, :, :n])
            out = torch.cat([real.transpose(1, 2), padded.transpose(1, 2)], dim=1)
        return self.o_proj(out.flatten(2))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block; the global ones are gated by tanh of a scalar."""

    def __init__(self, dim: int, n_heads: int, hidden_dim: int, norm_eps: float, gate_init: float | None):
        super().__init__()
        self.attn_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, n_heads)
        self.ffn_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.ffn = MLP(dim, hidden_dim)
        self.attn_gate, self.ffn_gate = (
            None if gate_init is None else nn.Parameter(torch.full((1,), gate_init)) for _ in range(2)
        )

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        attn = self.attn(self.attn_norm(x), padding)
        x = x + (attn if self.attn_gate is None else self.attn_gate.tanh() * attn)
        ffn = self.ffn(self.ffn_norm(x))
        return x + (ffn if self.ffn_gate is None else self.ffn_gate.tanh() * ffn)


class ConvStem(nn.Sequential):
    """Convolutions in place of one linear patch embedding: learns from fewer pictures (Xiao et al. 2021).

    Each stride of the patch size halves the picture by a strided convolution and looks around once more. Before the
    last one, where strokes of letters are still apart, `n_blocks` residual blocks may look around further.
    """

    def __init__(self, dim: int, patch_size: int, n_blocks: int = 0):
        strides = prime_factors(patch_size)
        if n_blocks and len(strides) < 2:
            raise ValueError(f"stem_blocks: stand before the last stride, a patch of {patch_size} pixels has but one")
        layers: list[nn.Module] = []
        channels, place = 3, None
        for i, stride in enumerate(strides):
            kernel = stride + 1 - stride % 2  # odd, at least the stride
            width = dim // 2 ** (len(strides) - i)
            layers += [nn.Conv2d(channels, width, kernel, stride, padding=(kernel - stride + 1) // 2), nn.GELU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GELU()]
            if n_blocks and i == len(strides) - 2:
                layers[-1] = nn.Sequential(layers[-1], *(ConvBlock(width) for _ in range(n_blocks)))
                place = len(layers) - 1
            channels = width
        super().__init__(*layers, nn.Conv2d(channels, dim, 1, bias=False))
        self.place = place
        self.channels = dim // 4  # of the map before the last stride

    @property
    def blocks(self) -> nn.Module | None:
        """What puts out the map before the last stride, where there are residual blocks."""
        return None if self.place is None else self[self.place]


class ConvBlock(nn.Module):
    """A residual block of two convolutions with twice the channels between them; adds nothing when it is new."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(x)))


def prime_factors(n: int) -> list[int]:
    """Split a patch size into the strides of a stem, small ones first."""
    factors, p = [], 2
    while n > 1:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return factors


def aspect_ratios(max_tiles: int) -> list[tuple[int, int]]:
    """All grids (rows, cols) of at most `max_tiles` tiles; a grid's id is its place here plus one (0: no picture)."""
    sides = range(1, max_tiles + 1)
    return [(rows, cols) for rows in sides for cols in sides if rows * cols <= max_tiles]


class TileEmbedding(nn.Module):
    """What a tile's place in the grid adds to its tokens; one row of `max_tiles` entries per grid id."""

    def __init__(self, n_grids: int, max_tiles: int, shape: tuple[int, ...]):
        super().__init__()
        self.shape = (max_tiles, *shape)
        self.weight = nn.Parameter(torch.zeros(n_grids + 1, math.prod(self.shape)))

    def forward(self, grid_id: Tensor, n_tiles: int) -> Tensor:
        """Grid ids (B,) -> (B, n_tiles, *shape)."""
        return self.weight.unflatten(1, self.shape)[:, :n_tiles][grid_id]


class TiledViT(nn.Module):
    """Llama 3.2's image encoder (Llama 3 paper, section 7.1; sizes in `vlm.config.PRESETS`).

    Args:
        dim, n_layers, n_global_layers, n_heads, hidden_dim, norm_eps: sizes of the two stacks.
        taps: layers of the first stack whose inputs join the features.
        tile_size, patch_size: pixels.
        max_tiles: tiles per picture at most.
        stem: "linear" (one strided convolution) or "conv".
        stem_blocks: residual blocks in a "conv" stem.
        tile_padding: "reference" (equal to Meta's code, for its weights) or "none".
        dedupe_padding: False where a checkpoint has trained the embeddings of padded tiles, so that they differ.
        gate_init: start of the gates; Meta's zero suits pretrained weights, training from scratch wants them open.
    """

    has_tile_positions = True

    def __init__(
        self, *, dim: int, n_layers: int, n_global_layers: int, n_heads: int, hidden_dim: int, taps: tuple[int, ...],
        tile_size: int, patch_size: int, max_tiles: int = 4, norm_eps: float = 1e-5, stem: str = "linear",
        stem_blocks: int = 0, tile_padding: str = "reference", dedupe_padding: bool = True, gate_init: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.max_tiles, self.taps = max_tiles, taps
        self.tile_padding, self.dedupe_padding = tile_padding, dedupe_padding
        self.grids = aspect_ratios(max_tiles)
        self.n_tokens = (tile_size // patch_size) ** 2 + 1
        self.dim = dim * (1 + len(taps))
        if stem == "conv":
            self.patch_embedding: nn.Module = ConvStem(dim, patch_size, stem_blocks)
        else:
            self.patch_embedding = nn.Conv2d(3, dim, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(dim).normal_(std=dim**-0.5))
        self.position_embedding = nn.Parameter(torch.empty(self.n_tokens, dim).normal_(std=dim**-0.5))
        self.position_gate = nn.Parameter(torch.full((1,), gate_init))
        self.tile_position_embedding = TileEmbedding(len(self.grids), max_tiles, (self.n_tokens, dim))
        self.pre_tile_embedding = TileEmbedding(len(self.grids), max_tiles, (1, dim))
        self.pre_tile_gate = nn.Parameter(torch.full((1,), gate_init))
        self.post_tile_embedding = TileEmbedding(len(self.grids), max_tiles, (1, dim))
        self.post_tile_gate = nn.Parameter(torch.full((1,), gate_init))
        self.pre_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.post_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.layers = nn.ModuleList(Block(dim, n_heads, hidden_dim, norm_eps, None) for _ in range(n_layers))
        self.global_layers = nn.ModuleList(
            Block(dim, n_heads, hidden_dim, norm_eps, gate_init) for _ in range(n_global_layers)
        )

    def forward(self, tiles: Tensor, grid: Tensor) -> Tensor:
        """Encode pictures; pictures with as many tiles run together, absent and padded ones do not run at all.

        Args:
            tiles: (B, I, L, 3, H, W), normalised; slots past a picture's tiles are ignored.
            grid: (B, I, 2) rows and columns of tiles, (0, 0) where there is no picture.

        Returns:
            (B, I, L, N, dim * (1 + taps)), zero in unused slots.
        """
        n_tiles, grid_id = grid.prod(-1), self._grid_id(grid)  # (B, I)
        counts, out = n_tiles.unique().tolist(), None
        if counts == [tiles.shape[2]]:  # every slot is in use: nothing to pick out, nothing to lay back
            return self._encode(tiles.flatten(0, 1), grid_id.flatten()).unflatten(0, tiles.shape[:2])
        for n in counts:
            if n == 0:
                continue
            chosen = n_tiles == n
            features = self._encode(tiles[chosen][:, :n], grid_id[chosen])  # (b, n, N, C)
            if out is None:
                out = features.new_zeros(*tiles.shape[:3], *features.shape[2:])
            index = chosen.nonzero(as_tuple=True)
            out[index[0], index[1], :n] = features
        return tiles.new_zeros(*tiles.shape[:3], self.n_tokens, self.dim) if out is None else out

    def _grid_id(self, grid: Tensor) -> Tensor:
        table = torch.zeros(self.max_tiles + 1, self.max_tiles + 1, dtype=torch.long)
        for i, (rows, cols) in enumerate(self.grids):
            table[rows, cols] = i + 1
        return table.to(grid.device)[grid[..., 0], grid[..., 1]]

    def _encode(self, tiles: Tensor, grid_id: Tensor) -> Tensor:
        """Pictures of n tiles each, (B, n, 3, H, W) -> (B, n, N, C * (1 + taps))."""
        n_pictures, n = tiles.shape[:2]
        x = self._embed(self.patch_embedding(tiles.flatten(0, 1)).flatten(2).mT.unflatten(0, (-1, n)), grid_id)
        n_real, n_tokens = n * self.n_tokens, self.n_tokens
        x, padding = self._pad(x, grid_id)  # (B, S, C)
        taps = []
        for i, layer in enumerate(self.layers):
            if i in self.taps:
                taps.append(x[:, :n_real])
            x = layer(x, padding)
        x = self.post_norm(x)
        place = self.post_tile_gate.tanh() * self.post_tile_embedding(grid_id, n)  # (B, n, 1, C)
        if self.tile_padding == "reference":
            x = x + self._spread(place, x.shape[1] - n_real, grid_id)
        else:
            x = x + place.expand(-1, -1, n_tokens, -1).flatten(1, 2)
        for layer in self.global_layers:
            x = layer(x, padding)
        features = x[:, :n_real]
        if taps:  # channel c of tap i lies at C + c * len(taps) + i
            features = torch.cat([features, torch.stack(taps, dim=-1).flatten(2)], dim=-1)
        return features.unflatten(1, (n, n_tokens))

    def _embed(self, patches: Tensor, grid_id: Tensor) -> Tensor:
        """Place embeddings and the class token: patches (B, n, N - 1, C) -> (B, n, N, C)."""
        n = patches.shape[1]
        gate = self.position_gate.tanh()
        x = patches + self.pre_tile_gate.tanh() * self.pre_tile_embedding(grid_id, n)
        x = torch.cat([self.class_embedding.expand(*x.shape[:2], 1, -1), x], dim=2)
        x = x + (1 - gate) * self.position_embedding + gate * self.tile_position_embedding(grid_id, n)
        return self.pre_norm(x)

    # Padding of the reference. Order of the padding tokens: padded tiles, then one padded token per kept tile.

    def _pad_counts(self, n: int) -> tuple[int, int, int]:
        """How many padded tiles Meta has, how many of them are kept, and padded tokens per tile."""
        missing = self.max_tiles - n
        return missing, min(missing, 1) if self.dedupe_padding else missing, -self.n_tokens % 8

    def _pad(self, x: Tensor, grid_id: Tensor) -> tuple[Tensor, Padding | None]:
        """Append what stands for Meta's padding: (B, n, N, C) -> (B, S, C)."""
        n = x.shape[1]
        missing, kept, n_pad = self._pad_counts(n)
        if self.tile_padding == "none" or missing == n_pad == 0:
            return x.flatten(1, 2), None
        parts, counts = [x.flatten(1, 2)], [1] * (n * self.n_tokens)
        if kept:
            parts.append(self._padded_tiles(grid_id, n, kept).to(x.dtype).flatten(1, 2))
            counts += [missing // kept] * (kept * self.n_tokens)
        if n_pad:
            parts.append(x.new_zeros(x.shape[0], n + kept, x.shape[-1]))
            counts += [n_pad] * n + [n_pad * (missing // max(kept, 1))] * kept
        bias = torch.tensor(counts, dtype=torch.float32, device=x.device).log()
        return torch.cat(parts, dim=1), Padding(n * self.n_tokens, bias[None, None, None])

    def _padded_tiles(self, grid_id: Tensor, n: int, kept: int) -> Tensor:
        """Tiles of zero pixels as they come out of the embedding, (B, kept, N, C)."""
        blank = self.position_embedding.new_zeros(len(grid_id), kept, self.n_tokens - 1, len(self.class_embedding))
        if not self.dedupe_padding:
            full = blank.new_zeros(len(grid_id), n + kept, *blank.shape[2:])
            return self._embed(full, grid_id)[:, n:]
        x = torch.cat([self.class_embedding.expand(len(grid_id), kept, 1, -1), blank], dim=2)
        return self.pre_norm(x + (1 - self.position_gate.tanh()) * self.position_embedding)

    def _spread(self, place: Tensor, n_padding: int, grid_id: Tensor) -> Tensor:
        """Give each token what its tile's place adds, padded tokens of a tile included: (B, n, 1, C) -> (B, S, C)."""
        n = place.shape[1]
        _, kept, n_pad = self._pad_counts(n)
        extra = place.new_zeros(place.shape[0], kept, *place.shape[2:])
        if kept and not self.dedupe_padding:
            extra = (self.post_tile_gate.tanh() * self.post_tile_embedding(grid_id, n + kept))[:, n:]
        per_tile = torch.cat([place, extra], dim=1)  # (B, n + kept, 1, C)
        tokens = per_tile.expand(-1, -1, self.n_tokens, -1).flatten(1, 2)
        return torch.cat([tokens, per_tile.flatten(1, 2)], dim=1) if n_pad else tokens
