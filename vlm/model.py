"""The composed model: encoder + connector + decoder with gated cross-attention.

Shapes: B picture rows, I pictures, L tiles, S image tokens, R text rows (a multiple of B), T text tokens.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adapters import create_connector
from adapters.cross_attention import KeyValue
from encoders import create_encoder
from vlm.config import EncoderConfig, ModelConfig
from vlm.decoder import Decoder

if TYPE_CHECKING:
    from encoders import Encoder


class VisionLanguageModel(nn.Module):
    """A decoder that sees pictures, or a plain Llama where the config names no encoder."""

    def __init__(self, config: ModelConfig, *, encoder: "Encoder | None" = None, decoder: Decoder | None = None):
        """Build all parts, or take those that are given."""
        super().__init__()
        self.config = config
        if config.encoder is not None:
            self.encoder = build_encoder(config) if encoder is None else encoder
            self.connector = create_connector(
                config.connector.name, self.encoder.dim, config.decoder.dim, max_tiles=config.image.max_tiles,
                positions=config.connector.positions,
            )  # fmt: skip
        self.decoder = Decoder(config.decoder) if decoder is None else decoder

    @classmethod
    def compose(cls, **parts) -> "VisionLanguageModel":
        """Gated cross-attention between any encoder and any Llama; the arguments are those of `vlm.compose`."""
        from vlm.composition import compose

        return compose(**parts).model

    def encode_images(self, tiles: Tensor, grid: Tensor) -> tuple[dict[int, KeyValue], Tensor]:
        """Pictures -> what every cross-attention layer reads of them, and the image tokens of each picture.

        Args:
            tiles: (B, I, L, 3, H, W) normalised pixels.
            grid: (B, I, 2) tiles per picture, (0, 0) where there is none.

        Returns:
            {layer: KeyValue of (B, Hkv, S, Dh)} and lengths (B, I).
        """
        return self.read_features(self.encoder(tiles, grid), grid)

    def read_features(self, features: Tensor, grid: Tensor) -> tuple[dict[int, KeyValue], Tensor]:
        """The second half of `encode_images`: the encoder's features (B, I, L, N, C) -> the same."""
        states, lengths = self.connector(features, grid)
        return self.decoder.image_keys_values(states), lengths.to(grid.device)

    def forward(
        self, tokens: Tensor, tiles: Tensor | None = None, grid: Tensor | None = None, sees: Tensor | None = None
    ) -> Tensor:
        """Logits (R, T, V) of text whose token t sees the pictures [sees[..., 0], sees[..., 1]) of its row."""
        if tiles is None or not tiles.numel():
            return self.decoder(tokens)
        assert grid is not None and sees is not None, "pictures come with their grid and with who sees them"
        image, lengths = self.encode_images(tiles, grid)
        return self.decoder(tokens, image=image, intervals=token_intervals(sees, lengths))


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def build_encoder(config: ModelConfig, pretrained: bool | str = False) -> "Encoder":
    """The encoder of a config with random weights, or with those of its library."""
    encoder, image = config.encoder, config.image
    assert encoder is not None
    options = {k: v for k, v in vars(encoder).items() if k not in ("name", "library")}
    if isinstance(encoder, EncoderConfig):
        return create_encoder("tiled", tile_size=image.tile_size, max_tiles=image.max_tiles, **options)
    with torch.device("cpu"):  # libraries compute tables that are not stored: never on the meta device
        return create_encoder(encoder.name, tile_size=image.tile_size, pretrained=pretrained, **options)


def token_intervals(sees: Tensor, lengths: Tensor) -> Tensor:
    """Turn intervals of pictures (R, T, 2) into intervals of image tokens, given tokens per picture (B, I)."""
    ends = torch.nn.functional.pad(lengths.cumsum(1), (1, 0))  # (B, I + 1)
    ends = ends.repeat_interleave(sees.shape[0] // lengths.shape[0], dim=0)  # (R, I + 1)
    return ends.gather(1, sees.flatten(1)).view(sees.shape)
