"""LoRA (Hu et al. 2021): a linear layer learns a low-rank addition, y = W x + scale * B A x, while W stays as it is.

    add_lora(model, find_linears(model, ["q_proj", "v_proj"]), "cats", rank=8)
    save_lora(model, "folder", "cats")          # adapter_config.json + adapter_model.safetensors, as PEFT writes them
    load_lora(model, "folder", "cats")

Notable here:
- By module swap: `LoRALinear` takes the place of an nn.Linear and keeps its very parameters under their own names, so
  checkpoints of the model still fit, and optimizers still hold the right tensors.
- A layer holds several adapters by name; one of them or none is active.
- Merging keeps the plain weight beside the merged one until `unmerge` puts it back, bit for bit: while merged, these
  layers cost twice their memory. `fold` merges for good and costs nothing.
- What a layer is called in a file is the caller's business: save and load take a function that renames.

Shapes: A (rank, in_features), B (out_features, rank), W (out_features, in_features).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"}
SAY_NOTHING = {  # which layers were chosen shows in the names of the tensors; the rest is about origin or other options
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "task_type", "auto_mapping",
    "peft_version", "base_model_name_or_path", "revision", "inference_mode", "megatron_core", "qalora_group_size",
}  # fmt: skip
PLAIN_START = (True, False, "gaussian", "orthogonal", "eva")  # init_lora_weights that leave the model's own weights be


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
                f"{target!r} names no linear layer of this model{_near(target, leaves + paths)}; "
                f"names: {', '.join(leaves)}"
            )
    chosen = {p for matches in found.values() for p in matches}
    return [p for p in paths if p in chosen]


def _near(found: str, choices: Iterable[str]) -> str:
    near = get_close_matches(found, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


# Adding, switching, merging, removing


def lora_layers(model: nn.Module, name: str | None = None) -> dict[str, LoRALinear]:
    """The layers that carry the adapter `name` (any adapter where None), by path."""
    found = {p: m for p, m in model.named_modules() if isinstance(m, LoRALinear)}
    if name is None:
        return found
    if not (chosen := {p: m for p, m in found.items() if name in m.settings}):
        names = sorted({n for m in found.values() for n in m.settings})
        raise ValueError(f"no adapter {name!r}{_near(name, names)}; found: {', '.join(names) or 'none'}")
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
            rank=_by_pattern(rank_pattern, path, rank), alpha=_by_pattern(alpha_pattern, path, alpha),
            dropout=dropout, use_rslora=use_rslora,
        )
        for path in layers
    }  # fmt: skip
    _add(model, name, settings)


def _by_pattern(patterns: dict | None, path: str, default):
    return next((v for k, v in (patterns or {}).items() if re.match(rf"(.*\.)?({k})$", path)), default)


def _add(model: nn.Module, name: str, settings: dict[str, Settings]) -> None:
    """Swap modules once everything is known to be right."""
    here = linears(model)
    if not name or "." in name or hasattr(nn.ParameterDict(), name):
        raise ValueError(f"adapter name: found {name!r}, expected a word without dots that is no method of a dict")
    if not settings:
        raise ValueError(f"adapter {name!r}: no layers given; see find_linears")
    if wrong := [p for p in settings if p not in here]:
        raise ValueError(
            f"adapter {name!r}: {wrong[0]!r} is no nn.Linear of this model, or one whose weight its parent uses "
            f"without calling it{_near(wrong[0], here)}; choose among linears(model)"
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


# Files, in PEFT's layout


def save_lora(
    model: nn.Module, folder: str | Path, name: str = "default", *, rename: Callable[[str], str] = str,
    base: str | None = None, task_type: str | None = None,
) -> Path:  # fmt: skip
    """Write one adapter as PEFT does, under `rename(path)` of each layer; `base` says which model it belongs to."""
    layers = {rename(path): layer for path, layer in lora_layers(model, name).items()}
    settings = {path: layer.settings[name] for path, layer in layers.items()}
    rank, alpha = (Counter(getattr(s, k) for s in settings.values()).most_common(1)[0][0] for k in ("rank", "alpha"))
    first = next(iter(settings.values()))
    config = {
        "peft_type": "LORA", "task_type": task_type, "base_model_name_or_path": base, "inference_mode": True,
        "r": rank, "lora_alpha": alpha, "lora_dropout": first.dropout, "use_rslora": first.use_rslora,
        "target_modules": list(layers), "bias": "none",
        "rank_pattern": {f"^{re.escape(p)}": s.rank for p, s in settings.items() if s.rank != rank},
        "alpha_pattern": {f"^{re.escape(p)}": s.alpha for p, s in settings.items() if s.alpha != alpha},
    }  # fmt: skip
    tensors = {
        f"base_model.model.{path}.lora_{side}.weight": matrix.detach().cpu().contiguous()
        for path, layer in layers.items()
        for side, matrix in (("A", layer.lora_A[name]), ("B", layer.lora_B[name]))
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)  # without it a folder is no adapter: it comes back last
    save_file(tensors, folder / f"{WEIGHTS}.partial", {"format": "pt"})
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)
    (folder / f"{CONFIG}.partial").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / f"{CONFIG}.partial").rename(folder / CONFIG)
    return folder


def load_lora(
    model: nn.Module, folder: str | Path, name: str = "default", *, rename: Callable[[str], str] = str
) -> None:
    """Add the adapter of a folder that PEFT or `save_lora` wrote, and make it the active one.

    Args:
        rename: the path of a layer in the file -> in this model.

    Raises:
        ValueError: one line, before anything is changed: a file that is missing or damaged, a key of the config that
            means what we do not compute, an adapter of another model.
    """
    folder = Path(folder)
    config, matrices = _read_config(folder / CONFIG), _read_matrices(folder / WEIGHTS)
    base = config.get("base_model_name_or_path") or "not named in its config"
    here, ours = linears(model), {theirs: rename(theirs) for theirs in matrices}
    if wrong := [theirs for theirs, path in ours.items() if path not in here]:
        raise ValueError(
            f"{folder}: an adapter of another model: found {wrong[0]} ({len(wrong)} of its {len(ours)} layers are not "
            f"here), expected names such as {next(iter(here), 'none')}{_near(ours[wrong[0]], here)}; load it into the "
            f"model that it was trained on ({base})"
        )
    settings = {}
    for theirs, (a, b) in matrices.items():
        layer, rank = here[ours[theirs]], _by_pattern(config.get("rank_pattern"), theirs, config["r"])
        expected = (rank, layer.in_features), (layer.out_features, rank)
        if (a.shape, b.shape) != expected:
            raise ValueError(
                f"{folder}: {theirs} does not fit: found A {tuple(a.shape)} and B {tuple(b.shape)}, expected "
                f"{expected[0]} and {expected[1]}, by this model's layer and the rank in {CONFIG}; load it into the "
                f"model that it was trained on ({base})"
            )
        settings[ours[theirs]] = Settings(
            rank=rank, alpha=_by_pattern(config.get("alpha_pattern"), theirs, config["lora_alpha"]),
            dropout=config.get("lora_dropout", 0.0), use_rslora=bool(config.get("use_rslora")),
        )  # fmt: skip
    _add(model, name, settings)
    layers = lora_layers(model, name)
    with torch.no_grad():
        for theirs, (a, b) in matrices.items():
            layers[ours[theirs]].lora_A[name].copy_(a)
            layers[ours[theirs]].lora_B[name].copy_(b)


def _read_config(path: Path) -> dict:
    """adapter_config.json; whatever in it would change the result and is not computed here is an error."""
    if not path.is_file():
        raise ValueError(f"{path}: this file is missing; give the folder that PEFT or save_lora wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); get it again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else config
        raise ValueError(f"{path}: found peft_type {found!r}, expected 'LORA'")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise ValueError(f"{path}: {key} is {config.get(key)!r}, expected a positive number")
    for key, value in config.items():
        if key == "init_lora_weights":
            fine = value in PLAIN_START  # others change the weights that the adapter is added to
        else:
            fine = key in READ | SAY_NOTHING or not value or (key, value) == ("bias", "none")
        if not fine:
            raise ValueError(
                f"{path}: {key} is {value!r:.80}, which is not supported, only plain LoRA is; merge the adapter into "
                "its model with PEFT (merge_and_unload) and load the result"
            )
    return config


def _read_matrices(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> its A and B."""
    if not path.is_file():
        hint = ""
        if path.with_suffix(".bin").is_file():
            hint = " (adapter_model.bin is a pickle, which can run any code, and is not opened)"
        raise ValueError(f"{path}: this file is missing{hint}; save the adapter again with safe_serialization=True")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); get it again") from None
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if not (match := KEY.fullmatch(key)):
            raise ValueError(
                f"{path}: found {key}, expected only base_model.model.(layer).lora_A.weight and lora_B; save the "
                "adapter again with save_embedding_layers=False, or merge it into its model with PEFT"
            )
        sides.setdefault(match["layer"], {})[match["side"]] = tensor
    if not sides:
        raise ValueError(f"{path}: holds no tensors; save the adapter again")
    if half := [layer for layer, pair in sides.items() if len(pair) != 2]:
        raise ValueError(f"{path}: {half[0]} has a lora_{next(iter(sides[half[0]]))} alone; get the file again")
    return {layer: (pair["A"], pair["B"]) for layer, pair in sides.items()}
