"""Image encoders: tiles of pictures -> image features.

The contract: `encoder(tiles (B, I, L, 3, H, W), grid (B, I, 2)) -> features (B, I, L, N, C)`. B rows, I pictures, L
slots for tiles, N tokens per tile, C channels. `grid` is rows and columns of tiles of each picture, (0, 0) marks a slot
without a picture; slots past a picture's real tiles are not run and give zeros. Attributes:

    dim, n_tokens         C and N
    has_tile_positions    whether the features know the place of their tile; else a connector must add it
    image_settings        of timm and open_clip encoders: tile_size in pixels, mean and std (3 numbers each), resample,
                          from the library's own data config
    library               of the same: name and version, e.g. "timm 1.0.31", to be saved beside the weights

timm and open_clip are imported when an encoder of theirs is asked for: that takes seconds.
"""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from encoders.tiled_vit import TiledViT

if TYPE_CHECKING:
    from encoders.clip_vit import OpenClipEncoder
    from encoders.timm_vit import TimmEncoder

    Encoder = TiledViT | TimmEncoder | OpenClipEncoder


def create_encoder(name: str, **options) -> "Encoder":
    """Build an encoder: "tiled", "timm:NAME" or "open_clip:NAME".

    Options: those of `TiledViT`, `encoders.timm_vit.TimmEncoder` or `encoders.clip_vit.OpenClipEncoder`. Nothing
    is fetched unless `pretrained` asks for it.

    Raises:
        ValueError: an unknown name, with the nearest one; options that the backbone cannot meet.
    """
    library, _, model = name.partition(":")
    if name == "tiled":
        return TiledViT(**options)
    if library == "timm":
        from encoders.timm_vit import TimmEncoder

        return TimmEncoder(model, **options)
    if library == "open_clip":
        from encoders.clip_vit import OpenClipEncoder

        return OpenClipEncoder(model, **options)
    from encoders.per_tile import unknown_encoder

    raise unknown_encoder(name, list_encoders())


def list_encoders(filter: str = "") -> list[str]:
    """Names that `create_encoder` takes, sorted; `filter` is a glob or a part of the name, in any case."""
    import open_clip
    import timm

    names = ["tiled", *(f"timm:{n}" for n in timm.list_models()), *(f"open_clip:{n}" for n in open_clip.list_models())]
    pattern = filter.lower() if any(c in filter for c in "*?[") else f"*{filter.lower()}*"
    return sorted(n for n in names if fnmatchcase(n.lower(), pattern))
