"""Connectors: image features (B, I, L, N, C) -> image states (B, S, D) that text attends to.

The contract: `connector(features, grid) -> (states, lengths)`, where grid (B, I, 2) holds the rows and columns of tiles
of each picture, whose tiles stand row by row ((0, 0): no picture in this slot), states hold the kept tokens of a row of
the batch one picture after another with zeros at the end, and lengths (B, I) count the image tokens of each picture.
"""

from difflib import get_close_matches

from torch import nn

from adapters.pictures import Positions
from adapters.projector import MLP, Linear
from adapters.qformer import QFormer
from adapters.resampler import Perceiver

CONNECTORS: dict[str, type[nn.Module]] = {
    "linear": Linear,
    "mlp": MLP,
    "perceiver": Perceiver,
    "qformer": QFormer,
}
RESAMPLING = ("perceiver", "qformer")  # a fixed number of tokens per picture, written behind the name
CHOICES = "linear, mlp, perceiver:64, qformer:32"


def create_connector(
    spec: str, in_dim: int, dim: int, *, max_tiles: int, positions: bool = False, max_images: int = 16, **options: int
) -> nn.Module:
    """Build a connector by name.

    Args:
        spec: "linear", "mlp", "perceiver" or "qformer"; "perceiver:64" says how many tokens stand for a picture.
        in_dim, dim: of the encoder's features and of the image states.
        max_tiles: tiles per picture at most.
        positions: learn embeddings of a tile's place and a picture's number, for an encoder that sees every tile alone.
        max_images: pictures of a row with a number of their own; later ones share the last.
        options: those of the class.
    """
    name, count = check_connector(spec)
    if count is not None:
        if "n_latents" in options:
            raise ValueError(
                f"connector {spec!r}: found n_latents={options['n_latents']} as well, expected one of the two"
            )
        options["n_latents"] = count
    if wrong := {key: value for key, value in options.items() if value < 1}:
        raise ValueError(f"connector {spec!r}: found {wrong}, expected at least 1")
    place = Positions(in_dim, max_tiles, max_images) if positions else None
    return CONNECTORS[name](in_dim, dim, positions=place, **options)


def check_connector(spec: str) -> tuple[str, int | None]:
    """Split "perceiver:64" into the class and its tokens per picture (None where it does not say)."""
    name, colon, count = spec.partition(":")
    if name not in CONNECTORS:
        near = get_close_matches(name, CONNECTORS, n=1)
        hint = f" Did you mean {near[0] + colon + count!r}?" if near else ""
        raise ValueError(f"unknown connector {spec!r}.{hint} Choices: {CHOICES}")
    if colon and name not in RESAMPLING:
        raise ValueError(f"connector {spec!r}: {name!r} keeps every image token, it takes no number. Use {name!r}")
    if colon and not count.isdecimal():
        raise ValueError(f"connector {spec!r}: found {count!r}, expected tokens per picture. Choices: {CHOICES}")
    return name, int(count) if colon else None
