"""Any timm backbone as an encoder of single tiles: ViT, hybrid, hierarchical or convolutional.

Notable here:
- The features are those of timm's `forward_features`: after the backbone's own final norm, before pooling and head.
- Taps are *outputs* of blocks or stages, without that norm, as timm's `forward_intermediates` gives them and numbers
  them (stages of convolutional backbones count from the stem). They follow the final features along C in the order of
  `taps`; a stage with another grid is brought to the final one, see `encoders.per_tile.join_levels`.
- Parameters that reach no feature (pooling, class heads) are dropped after the weights are loaded.
"""

from math import isqrt
from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from encoders.per_tile import (
    Backbone,
    Level,
    NoSpatialFeatures,
    check_taps,
    encode_tiles,
    join_levels,
    measure,
    unknown_encoder,
    wrong_tile_size,
)


class TimmEncoder(nn.Module):
    """A timm backbone, per tile.

    Args:
        name: as timm names it, a weight tag allowed: "vit_small_patch16_dinov3" or "vit_small_patch16_dinov3.lvd1689m".
        pretrained: True loads the weights of the tag from timm's hub or cache; a path loads that file as timm saves it.
        tile_size: pixels; None is the size of timm's data config.
        taps: blocks or stages whose outputs join the features.
        prefix_tokens: keep class and register tokens, in front of the patches; none where the backbone has none.

    Raises:
        ValueError: an unknown name or tag, weights that do not exist or fit, a tile size that the backbone cannot take,
            taps out of range or repeated, a backbone without spatial features.
    """

    has_tile_positions = False

    def __init__(
        self, name: str, *, pretrained: bool | str = False, tile_size: int | None = None, taps: tuple[int, ...] = (),
        prefix_tokens: bool = False,
    ):  # fmt: skip
        super().__init__()
        default = _data_config(name).input_size[-1]
        size = tile_size or default
        self.backbone = _build(name, pretrained, size, default)
        config = resolve_model_data_config(self.backbone)
        self.taps = check_taps(taps, len(self.backbone.feature_info), f"timm:{name}")
        self.prefix_tokens = prefix_tokens
        self.library = f"timm {timm.__version__}"
        self.image_settings: dict[str, Any] = {
            "tile_size": size,
            "mean": tuple(config["mean"]),
            "std": tuple(config["std"]),
            "resample": config["interpolation"],
        }
        step = self.backbone.feature_info[-1]["reduction"]
        self.n_tokens, self.dim = measure(f"timm:{name}", self.backbone, self.features, size, default, step)

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (n, 3, H, W) -> (n, N, C)."""
        return join_levels(timm_levels(self.backbone, pixels, self.taps, self.prefix_tokens), self.prefix_tokens)

    def forward(self, tiles: Tensor, grid: Tensor) -> Tensor:
        """Tiles (B, I, L, 3, H, W), grid (B, I, 2) -> (B, I, L, N, C), zero in unused slots."""
        return encode_tiles(self.features, tiles, grid, self.n_tokens, self.dim)


def timm_levels(backbone: Backbone, pixels: Tensor, taps: tuple[int, ...], prefix_tokens: bool) -> list[Level]:
    """The final features and then those of each tap."""
    if not taps:
        return [_final_level(backbone, backbone.forward_features(pixels), pixels)]
    with_prefix = prefix_tokens and getattr(backbone, "num_prefix_tokens", 0) > 0
    options = {"return_prefix_tokens": True} if with_prefix else {}
    last = len(backbone.feature_info) - 1  # some families stop at the last number of the list, whatever their default
    order = sorted({*taps, last})
    final, inner = backbone.forward_intermediates(pixels, indices=order, output_fmt="NCHW", **options)
    levels = [(level[1], level[0]) if with_prefix else (None, level) for level in inner]
    return [_final_level(backbone, final, pixels), *(levels[order.index(i)] for i in taps)]


def _final_level(backbone: Backbone, x: Tensor, pixels: Tensor) -> Level:
    """Split timm's final features, which are tokens, NHWC or NCHW by the kind of backbone."""
    prefix, grid = None, None
    if isinstance(x, Tensor) and x.ndim == 4:
        grid = x.movedim(-1, 1) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else x
    elif isinstance(x, Tensor) and x.ndim == 3:
        n_tokens = x.shape[1]
        n_prefix = getattr(backbone, "num_prefix_tokens", n_tokens - isqrt(n_tokens) ** 2)
        side = isqrt(n_tokens - n_prefix)
        if side * side == n_tokens - n_prefix:
            prefix = x[:, :n_prefix] if n_prefix else None
            grid = x[:, n_prefix:].mT.unflatten(2, (side, side))
    # a single token of a tile with room for several is a class token (PiT)
    if grid is None or grid.shape[-1] < 2 <= pixels.shape[-1] // backbone.feature_info[-1]["reduction"]:
        found = f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise NoSpatialFeatures(
            f"{type(backbone).__name__} has no spatial features: found {found}, expected a grid or a square of tokens"
        )
    return prefix, grid


def _data_config(name: str):
    """timm's config of a name and its weight tag."""
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise unknown_encoder(f"timm:{name}", [f"timm:{n}" for n in timm.list_models()])
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{model}.*")]
    if tag and tag not in tags:
        raise ValueError(f"unknown weights {tag!r} of 'timm:{model}': expected one of {', '.join(tags) or '(no tags)'}")
    return timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg(input_size=(3, 224, 224))


def _build(name: str, pretrained: bool | str, tile_size: int, default: int) -> Backbone:
    config = _data_config(name)
    options: dict = {}
    if tile_size != default and config.fixed_input_size:
        options["img_size"] = tile_size
    if isinstance(pretrained, str):
        options |= _file_options(pretrained, config.classifier)
    elif pretrained and not config.has_weights:
        raise ValueError(f"timm has no weights of {name!r}: expected pretrained=False or the path of a file")
    try:
        return timm.create_model(name, pretrained=bool(pretrained), **options)
    except (TypeError, AssertionError, ValueError) as error:
        if "img_size" not in options or isinstance(error, OSError):
            raise
        raise wrong_tile_size(f"timm:{name}", tile_size, default, None, error) from error
    except RuntimeError as error:
        if not isinstance(pretrained, str):
            raise
        raise ValueError(f"{pretrained}: not the weights of 'timm:{name}' as timm saves them; {error}") from error


def _file_options(path: str, classifier: str | tuple[str, ...] | None) -> dict:
    """Options that load a file strictly: timm forgives every missing weight where the number of classes differs."""
    if not Path(path).is_file():
        raise ValueError(f"pretrained: {path!r} is no file; expected True, False or a file of weights")
    first = classifier if isinstance(classifier, (str, type(None))) else classifier[0]
    head = timm.models.load_state_dict(path).get(f"{first}.weight")
    n_classes = 0 if head is None else len(head)
    return {"pretrained_cfg_overlay": {"file": path, "num_classes": n_classes}}
