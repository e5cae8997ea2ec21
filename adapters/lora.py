"""LoRA (Hu et al. 2021): a linear layer learns a low-rank addition, y = W x + scale * B A x, while W stays as it is.

    add_lora(model, find_linears(model, ["q_proj", "v_proj"]), "cats", rank=8)
    activate(model, None)                       # the plain model; merge(model) and fold(model) as in PEFT

Notable here:
- By module swap: `LoRALinear` takes the place of an nn.Linear and keeps its very parameters under their own names, so
  checkpoints of the model still fit, and optimizers still hold the right tensors.
- A layer holds several adapters by name; one of them or none is active.
- Merging keeps the plain weight beside the merged one until `unmerge` puts it back, bit for bit: while merged, these
  layers cost twice their memory. `fold` merges for good and costs nothing.

Shapes: A (rank, in_features), B (out_features, rank), W (out_features, in_features).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an adapter does in one layer, beside its two matrices."""

    rank: int
    alpha: float
    dropout: float = 0.0
    use_rslora: bool = False

    @property
    def scale(self) -> float:
        """alpha / rank; rsLoRA (Kalajdzievski 2023) divides by the root, so that high ranks still learn."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


class LoRALinear(nn.Linear):
    """A linear layer with low-rank additions by name, of which at most one is active."""

    plain_weight: Tensor | None  # of a merged layer

    def __init__(self, linear: nn.Linear):
        _become(self, linear)
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        self.settings: dict[str, Settings] = {}
        self.active: str | None = None
        self.register_buffer("plain_weight", None, persistent=False)

    def add(self, name: str, settings: Settings) -> None:
        """A random A and a B of zeros: the layer computes what it did until it is trained."""
        like: dict[str, Any] = {"dtype": self.weight.dtype, "device": self.weight.device}
        self.lora_A[name] = nn.Parameter(torch.empty(settings.rank, self.in_features, **like))
        self.lora_B[name] = nn.Parameter(torch.zeros(self.out_features, settings.rank, **like))
        nn.init.kaiming_uniform_(self.lora_A[name], a=5**0.5)
        self.settings[name] = settings

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        if self.active is None or self.plain_weight is not None:
            return y
        settings = self.settings[self.active]
        x = F.dropout(x, settings.dropout, self.training)
        return y + F.linear(F.linear(x, self.lora_A[self.active]), self.lora_B[self.active]) * settings.scale

    @torch.no_grad()
    def merge(self) -> None:
        """Add the active adapter to the weight, in fp32 at least, and keep the plain weight."""
        if self.active is None or self.plain_weight is not None:
            return
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        delta = self.lora_B[self.active].to(dtype) @ self.lora_A[self.active].to(dtype)
        merged = self.weight.to(dtype) + delta * self.settings[self.active].scale
        self.plain_weight, self.weight.data = self.weight.data, merged.to(self.weight.dtype)

    def unmerge(self) -> None:
        """Put the plain weight back."""
        if self.plain_weight is not None:
            self.weight.data, self.plain_weight = self.plain_weight, None


def _become(layer: nn.Linear, linear: nn.Linear) -> nn.Linear:
    """Set up an empty nn.Linear or LoRALinear around the parameters of another: no memory, no random numbers."""
    nn.Module.__init__(layer)
    layer.in_features, layer.out_features = linear.in_features, linear.out_features
    layer.weight, layer.bias, layer.training = linear.weight, linear.bias, linear.training
    return layer


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _speaks(linear: nn.Linear, parent: nn.Module) -> bool:
    """Whether the parent calls the layer; nn.MultiheadAttention and timm's BEiT, EVA, Swin v2 use its weight alone."""
    adds_bias = getattr(parent, "q_bias", None) is not None and not getattr(parent, "qkv_bias_separate", False)
    return type(linear) in (nn.Linear, LoRALinear) and not (adds_bias and linear is getattr(parent, "qkv", None))


# Choosing layers


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """All layers that can take an adapter, by path: those whose adapter would be heard."""
    parents = {id(child): parent for parent in model.modules() for child in parent.children()}
    found = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    return {path: m for path, m in found.items() if _speaks(m, parents.get(id(m), model))}


def find_linears(model: nn.Module, targets: str | Iterable[str]) -> list[str]:
    """Paths of the layers meant, as PEFT reads `target_modules`: a regex for the whole path, or names it may end with.

    Raises:
        ValueError: a name (or the regex) that no layer has.
    """
    paths = list(linears(model))
    if isinstance(targets, str):
        found = {targets: [p for p in paths if re.fullmatch(targets, p)]}
    else:
        found = {target: [p for p in paths if p == target or p.endswith(f".{target}")] for target in targets}
    for target, matches in found.items():
        if not matches:
            leaves = sorted({p.rpartition(".")[2] for p in paths})
            raise ValueError(
                f"{target!r} names no linear layer of this model{near(target, leaves + paths)}; "
                f"names: {', '.join(leaves)}"
            )
    chosen = {p for matches in found.values() for p in matches}
    return [p for p in paths if p in chosen]


def near(found: str, choices: Iterable[str]) -> str:
    """The hint of an error message."""
    close = get_close_matches(found, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# Adding, switching, merging, removing


def lora_layers(model: nn.Module, name: str | None = None) -> dict[str, LoRALinear]:
    """The layers that carry the adapter `name` (any adapter where None), by path."""
    found = {p: m for p, m in model.named_modules() if isinstance(m, LoRALinear)}
    if name is None:
        return found
    if not (chosen := {p: m for p, m in found.items() if name in m.settings}):
        names = sorted({n for m in found.values() for n in m.settings})
        raise ValueError(f"no adapter {name!r}{near(name, names)}; found: {', '.join(names) or 'none'}")
    return chosen


def add_lora(
    model: nn.Module, layers: Iterable[str], name: str = "default", *, rank: int = 8, alpha: float = 16.0,
    dropout: float = 0.0, use_rslora: bool = False, rank_pattern: dict[str, int] | None = None,
    alpha_pattern: dict[str, float] | None = None,
) -> None:  # fmt: skip
    """Give the named linear layers a fresh adapter and make it the active one.

    Args:
        layers: paths, see `find_linears`.
        rank_pattern, alpha_pattern: regex for the end of a path -> another rank or alpha, as in PEFT.
    """
    settings = {
        path: Settings(
            rank=by_pattern(rank_pattern, path, rank), alpha=by_pattern(alpha_pattern, path, alpha),
            dropout=dropout, use_rslora=use_rslora,
        )
        for path in layers
    }  # fmt: skip
    add_settings(model, name, settings)


def by_pattern(patterns: dict | None, path: str, default):
    """The value of the first pattern that the end of a path matches, as in PEFT."""
    return next((v for k, v in (patterns or {}).items() if re.match(rf"(.*\.)?({k})$", path)), default)


def add_settings(model: nn.Module, name: str, settings: dict[str, Settings]) -> None:
    """Swap modules once everything is known to be right."""
    here = linears(model)
    if not name or "." in name or hasattr(nn.ParameterDict(), name):
        raise ValueError(f"adapter name: found {name!r}, expected a word without dots that is no method of a dict")
    if not settings:
        raise ValueError(f"adapter {name!r}: no layers given; see find_linears")
    if wrong := [p for p in settings if p not in here]:
        raise ValueError(
            f"adapter {name!r}: {wrong[0]!r} is no nn.Linear of this model, or one whose weight its parent uses "
            f"without calling it{near(wrong[0], here)}; choose among linears(model)"
        )
    for path, s in settings.items():
        if s.rank < 1 or not 0 <= s.dropout < 1:
            raise ValueError(
                f"adapter {name!r}, {path}: found rank {s.rank} and dropout {s.dropout}, expected a rank of at least 1 "
                "and a dropout in [0, 1)"
            )
        if here[path].weight.is_meta:
            raise ValueError(f"adapter {name!r}: the weight of {path} is not in memory; load the model on one device")
    carriers = lora_layers(model)
    if any(name in m.settings for m in carriers.values()):
        raise ValueError(f"adapter {name!r} exists already; choose another name, or remove(model, {name!r}) first")
    _refuse_merged(model)
    for path, s in settings.items():
        if path not in carriers:
            _put(model, path, LoRALinear(here[path]))
        model.get_submodule(path).add(name, s)  # type: ignore[operator]
    activate(model, name)


def _refuse_merged(model: nn.Module) -> None:
    if any(m.plain_weight is not None for m in lora_layers(model).values()):
        raise ValueError("an adapter is merged; unmerge(model) first")


def activate(model: nn.Module, name: str | None) -> None:
    """Let the adapter `name` speak, and no other; None gives the plain model."""
    _refuse_merged(model)
    if name is not None:
        lora_layers(model, name)
    for layer in lora_layers(model).values():
        layer.active = name if name in layer.settings else None


def merge(model: nn.Module) -> None:
    """Add the active adapter to the weights: the model runs as fast as without, and `unmerge` undoes it exactly."""
    layers = lora_layers(model).values()
    if not any(m.active for m in layers):
        raise ValueError("no adapter is active, there is nothing to merge; activate(model, name) first")
    for layer in layers:
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, bit for bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def remove(model: nn.Module, name: str | None = None) -> None:
    """Take away the adapter `name`, or all; layers without any are the plain nn.Linear again that they were."""
    for path, layer in lora_layers(model, name).items():
        if layer.active == name or name is None:
            layer.unmerge()
            layer.active = None
        for gone in [name] if name else list(layer.settings):
            del layer.settings[gone], layer.lora_A[gone], layer.lora_B[gone]
        if not layer.settings:
            _put(model, path, _become(nn.Linear.__new__(nn.Linear), layer))


def fold(model: nn.Module) -> None:
    """Merge the active adapter for good and take all adapters away: a plain model that has learnt."""
    merge(model)
    for layer in lora_layers(model).values():
        layer.plain_weight = None
    remove(model)
