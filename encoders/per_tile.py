"""What the timm and open_clip encoders share: real tiles run alone, sizes are measured, heads are dropped.

Shapes: n tiles, P class and register tokens, h x w grid of a level, c its channels; B, I, L, N, C as in the contract.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Backbone = Any  # a module of timm or open_clip: what each library's have in common beyond nn.Module has no type there
Level = tuple[Tensor | None, Tensor]  # prefix tokens (n, P, c), spatial grid (n, c, h, w)


class NoSpatialFeatures(ValueError):
    """The backbone gives a pooled vector or several streams, not one grid of features."""


def encode_tiles(features: Callable[[Tensor], Tensor], tiles: Tensor, grid: Tensor, n_tokens: int, dim: int) -> Tensor:
    """Run the real tiles as one batch: (B, I, L, 3, H, W), grid (B, I, 2) -> (B, I, L, N, C), zero in unused slots."""
    real = torch.arange(tiles.shape[2], device=grid.device) < grid.prod(-1)[..., None]  # (B, I, L)
    if not real.any():
        return tiles.new_zeros(*tiles.shape[:3], n_tokens, dim)
    x = features(tiles[real])  # (n, N, C)
    out = x.new_zeros(*tiles.shape[:3], n_tokens, dim)
    out[real] = x
    return out


def join_levels(levels: list[Level], prefix_tokens: bool) -> Tensor:
    """Concatenate levels along C at the grid of the first -> (n, P + h * w, sum of c), row by row, prefix in front.

    A larger grid is averaged down (adaptive pooling), a smaller one interpolated up (bilinear).
    """
    size = levels[0][1].shape[-2:]
    tokens = torch.cat([_resize(grid, size) for _, grid in levels], dim=1).flatten(2).mT
    prefixes = [prefix for prefix, _ in levels if prefix is not None]
    return torch.cat([torch.cat(prefixes, dim=-1), tokens], dim=1) if prefix_tokens and prefixes else tokens


def _resize(grid: Tensor, size: torch.Size) -> Tensor:
    if grid.shape[-2:] == size:
        return grid
    if grid.shape[-1] > size[-1]:
        return F.adaptive_avg_pool2d(grid, (size[0], size[1]))
    return F.interpolate(grid, size=size, mode="bilinear")


class _Call(nn.Module):
    """Lets `functional_call` swap the weights of a backbone while a function other than its forward runs."""

    def __init__(self, backbone: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.backbone, self.function = backbone, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def measure(
    name: str, backbone: nn.Module, features: Callable[[Tensor], Tensor], tile_size: int, built_for: int, step: int
) -> tuple[int, int]:  # fmt: skip
    """Find (N, C) with one tile on the meta device, which computes nothing, and drop what the features do not use.

    Pooling and class heads would be dead weight without gradients. Modules of which no parameter reaches the features
    become `nn.Identity`; single parameters like that (mask tokens) are frozen. A backbone that fails at another size
    than its own is a user error: the families check in their own ways, by assertions, failed views, empty tensors.
    Patches that do not fill a tile are one too: the libraries would leave out its last pixels.
    """
    patch = getattr(getattr(backbone, "patch_embed", backbone), "patch_size", 1)
    patch = patch if isinstance(patch, int) else patch[0]
    if tile_size != built_for and tile_size % patch:
        raise wrong_tile_size(name, tile_size, built_for, step, ValueError(f"its patches are {patch} pixels wide"))
    names, params = zip(*backbone.named_parameters(), strict=True)
    leaves = [torch.empty_like(p, device="meta", requires_grad=True) for p in params]
    state = {f"backbone.{n}": torch.empty_like(t, device="meta") for n, t in backbone.named_buffers()}
    state |= {f"backbone.{n}": leaf for n, leaf in zip(names, leaves, strict=True)}
    tile = torch.zeros(1, 3, tile_size, tile_size, device="meta", dtype=params[0].dtype)
    backbone.eval()  # batch norms keep their statistics
    try:
        with torch.enable_grad():
            out = functional_call(_Call(backbone, features), state, (tile,))
            grads = torch.autograd.grad(out.sum(), leaves, allow_unused=True)
    except Exception as error:
        if tile_size == built_for or isinstance(error, NoSpatialFeatures):
            raise
        raise wrong_tile_size(name, tile_size, built_for, step, error) from error
    finally:
        backbone.train()
    _drop(backbone, {n for n, grad in zip(names, grads, strict=True) if grad is None})
    return out.shape[1], out.shape[2]


def _drop(module: nn.Module, unused: set[str], path: str = "") -> None:
    for name, param in module.named_parameters(recurse=False):
        if path + name in unused:
            param.requires_grad_(False)
    for name, child in list(module.named_children()):
        inner = f"{path}{name}."
        if any(True for _ in child.parameters()) and all(inner + n in unused for n, _ in child.named_parameters()):
            setattr(module, name, nn.Identity())
        else:
            _drop(child, unused, inner)


def check_taps(taps: tuple[int, ...], n_levels: int, name: str) -> tuple[int, ...]:
    """Layer numbers as a tuple, if each exists and none is repeated."""
    if any(type(i) is not int or not 0 <= i < n_levels for i in taps) or len(set(taps)) < len(taps):
        raise ValueError(
            f"taps: found {list(taps)}, expected different numbers from 0 to {n_levels - 1}, "
            f"the blocks or stages of {name!r}"
        )
    return tuple(taps)


def unknown_encoder(name: str, known: list[str]) -> ValueError:
    """The error for a name that no library has, with the nearest match and the call that lists all."""
    library = name.partition(":")[0] + ":"
    near = get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f": did you mean {near[0]!r}?" if near else "."
    if near:
        library, _, model = near[0].rpartition(":")
        pattern = f"{library}:*{model.replace('-', '_').split('_')[0]}*" if library else ""
    else:
        pattern = f"{library}*" if any(k.startswith(library) for k in known) else ""
    return ValueError(f"unknown encoder {name!r}{hint} list_encoders({pattern and repr(pattern)}) shows all")


def wrong_tile_size(name: str, found: int, built_for: int, step: int | None, error: Exception) -> ValueError:
    """The error for a tile size at which the library cannot build or run the backbone."""
    sizes = f"tile_size={built_for}, its own"
    if step:
        sizes += f", or for most backbones a multiple of {step}"
    return ValueError(f"tile_size: found {found}, which {name!r} cannot take ({error}); expected {sizes}")
