"""Any open_clip visual tower as an encoder of single tiles; its text tower is not kept.

Notable here:
- The features are the tokens before pooling and projection: of open_clip's own ViT those that it calls tokens (after
  `ln_post`, except where that norm belongs to the pooled vector), of its ResNet the last stage, of a timm trunk
  `forward_features`.
- Without weights the visual tower is built beside a one-layer text tower, so no text model is fetched or filled.
- Normalisation belongs to open_clip's weight tags. Without a tag it is that of the model's tags where these agree, so
  that a SigLIP loaded from a file is not fed with the numbers of CLIP; else open_clip's default.
"""

from pathlib import Path

import open_clip
import timm
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from encoders.per_tile import (
    Backbone,
    Level,
    check_taps,
    encode_tiles,
    join_levels,
    measure,
    unknown_encoder,
    wrong_tile_size,
)
from encoders.timm_vit import timm_levels

NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


class OpenClipEncoder(nn.Module):
    """An open_clip visual tower, per tile; options and errors as of `TimmEncoder`.

    Args:
        pretrained: an open_clip weight tag or the file of a whole model; True where the model has one tag only.
        taps: blocks of a ViT (their outputs), stages of a ResNet counted from the stem, timm's numbers of a timm trunk.
    """

    has_tile_positions = False

    def __init__(
        self, name: str, *, pretrained: bool | str = False, tile_size: int | None = None, taps: tuple[int, ...] = (),
        prefix_tokens: bool = False,
    ):  # fmt: skip
        super().__init__()
        if name not in open_clip.list_models():
            raise unknown_encoder(f"open_clip:{name}", [f"open_clip:{n}" for n in open_clip.list_models()])
        config = open_clip.get_model_config(name)
        default = config["vision_cfg"].get("image_size", 224)
        size = tile_size or default
        weights = _weights(name, pretrained)
        visual = _build(name, config, weights, size, default)
        self.backbone: Backbone = getattr(visual, "trunk", visual)
        self.taps = check_taps(taps, _n_levels(self.backbone), f"open_clip:{name}")
        self.prefix_tokens = prefix_tokens
        self.library = f"open_clip {open_clip.__version__}"
        if self.backbone is not visual:
            self.library += f", timm {timm.__version__}"
        self.image_settings = {"tile_size": size, **_normalisation(name, weights)}
        step = _step(self.backbone)
        self.n_tokens, self.dim = measure(f"open_clip:{name}", self.backbone, self.features, size, default, step)
        if isinstance(self.backbone, VisionTransformer):
            self.backbone.proj = None  # reaches no feature either, but is no module

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (n, 3, H, W) -> (n, N, C)."""
        if hasattr(self.backbone, "forward_features"):
            levels = timm_levels(self.backbone, pixels, self.taps, self.prefix_tokens)
        else:
            levels = clip_levels(self.backbone, pixels, self.taps)
        return join_levels(levels, self.prefix_tokens)

    def forward(self, tiles: Tensor, grid: Tensor) -> Tensor:
        """Tiles (B, I, L, 3, H, W), grid (B, I, 2) -> (B, I, L, N, C), zero in unused slots."""
        return encode_tiles(self.features, tiles, grid, self.n_tokens, self.dim)


def clip_levels(visual: Backbone, pixels: Tensor, taps: tuple[int, ...]) -> list[Level]:
    """Final features and taps of open_clip's own ViT or ResNet."""
    last = _n_levels(visual) - 1
    order = sorted({*taps, last})
    out = visual.forward_intermediates(pixels, order, intermediates_only=True, output_extra_tokens=True)
    grids = out["image_intermediates"]
    prefixes = out.get("image_intermediates_prefix", [None] * len(grids))
    levels = dict(zip(order, zip(prefixes, grids, strict=True), strict=True))
    prefix, grid = levels[last]
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and not visual.final_ln_after_pool:
        prefix, grid = visual.ln_post(prefix), visual.ln_post(grid.movedim(1, -1)).movedim(-1, 1)
    return [(prefix, grid), *(levels[i] for i in taps)]


def _n_levels(backbone: Backbone) -> int:
    if isinstance(backbone, VisionTransformer):
        return len(backbone.transformer.resblocks)
    return 5 if isinstance(backbone, ModifiedResNet) else len(backbone.feature_info)


def _step(backbone: Backbone) -> int:
    """Pixels of a tile per step of the final grid."""
    if isinstance(backbone, VisionTransformer):
        return backbone.patch_size[0]
    return 32 if isinstance(backbone, ModifiedResNet) else backbone.feature_info[-1]["reduction"]


def _weights(name: str, pretrained: bool | str) -> str | None:
    """The tag or file to load."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if isinstance(pretrained, str):
        if open_clip.is_pretrained_cfg(name, pretrained) or Path(pretrained).is_file():
            return pretrained
        raise ValueError(
            f"pretrained: {pretrained!r} is no weight tag of 'open_clip:{name}' and no file; "
            f"expected a file or one of: {', '.join(tags) or '(no tags)'}"
        )
    if pretrained and len(tags) != 1:
        raise ValueError(
            f"pretrained=True: 'open_clip:{name}' has {len(tags)} sets of weights; "
            f"expected a file or one of: {', '.join(tags) or '(no tags)'}"
        )
    return tags[0] if pretrained else None


def _normalisation(name: str, weights: str | None) -> dict:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights is not None and open_clip.is_pretrained_cfg(name, weights):
        tags = [weights]
    configs = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    found = {(tuple(c["mean"]), tuple(c["std"]), c["interpolation"]) for c in configs}
    default = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic")
    mean, std, resample = found.pop() if len(found) == 1 else default
    return {"mean": mean, "std": std, "resample": resample}


def _build(name: str, config: dict, weights: str | None, size: int, default: int) -> Backbone:
    if weights is None:
        vision = {**config["vision_cfg"], "image_size": size, "timm_model_pretrained": False}
        quick_gelu = config.get("quick_gelu", False)
        visual = open_clip.CLIP(config["embed_dim"], vision, NO_TEXT, quick_gelu=quick_gelu).visual
    else:
        try:
            visual = open_clip.create_model(name, weights, force_image_size=size, pretrained_text=False).visual
        except RuntimeError as error:
            if open_clip.is_pretrained_cfg(name, weights):
                raise
            raise ValueError(f"{weights}: not the weights of 'open_clip:{name}'; {error}") from error
    if size != default and hasattr(visual, "trunk"):
        try:
            visual.set_input_size(size)  # of trunks that cannot change theirs it changes nothing
        except (AssertionError, ValueError, RuntimeError) as error:
            raise wrong_tile_size(f"open_clip:{name}", size, default, _step(visual.trunk), error) from error
    return visual
