"""Image encoders: tiles of pictures -> image features.

The contract: `encoder(tiles (B, I, L, 3, H, W), grid (B, I, 2)) -> features (B, I, L, N, C)` with `encoder.dim` = C and
`encoder.n_tokens` = N. B rows, I pictures, L tiles, N tokens per tile; grid (0, 0) marks a slot without a picture.
"""

from difflib import get_close_matches

from torch import nn

from encoders.tiled_vit import TiledViT

ENCODERS = {
    "tiled": TiledViT,
}


def create_encoder(name: str, **options) -> nn.Module:
    """Build an encoder by name; the options are those of its class."""
    if name not in ENCODERS:
        near = get_close_matches(name, ENCODERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown encoder {name!r}.{hint} Choices: {', '.join(ENCODERS)}")
    return ENCODERS[name](**options)
