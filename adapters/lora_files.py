"""LoRA adapters on disk, in PEFT's layout: adapter_config.json and adapter_model.safetensors.

    save_lora(model, "folder", "cats")
    load_lora(model, "folder", "cats")

What a layer is called in a file is the caller's business: both take a function that renames.

Shapes: A (rank, in_features), B (out_features, rank).
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapters.lora import Settings, add_settings, by_pattern, linears, lora_layers, near

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"}
SAY_NOTHING = {  # which layers were chosen shows in the names of the tensors; the rest is about origin or other options
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "task_type", "auto_mapping",
    "peft_version", "base_model_name_or_path", "revision", "inference_mode", "megatron_core", "qalora_group_size",
}  # fmt: skip
PLAIN_START = (True, False, "gaussian", "orthogonal", "eva")  # init_lora_weights that leave the model's own weights be


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
            f"here), expected names such as {next(iter(here), 'none')}{near(ours[wrong[0]], here)}; load it into the "
            f"model that it was trained on ({base})"
        )
    settings = {}
    for theirs, (a, b) in matrices.items():
        layer, rank = here[ours[theirs]], by_pattern(config.get("rank_pattern"), theirs, config["r"])
        expected = (rank, layer.in_features), (layer.out_features, rank)
        if (a.shape, b.shape) != expected:
            raise ValueError(
                f"{folder}: {theirs} does not fit: found A {tuple(a.shape)} and B {tuple(b.shape)}, expected "
                f"{expected[0]} and {expected[1]}, by this model's layer and the rank in {CONFIG}; load it into the "
                f"model that it was trained on ({base})"
            )
        settings[ours[theirs]] = Settings(
            rank=rank, alpha=by_pattern(config.get("alpha_pattern"), theirs, config["lora_alpha"]),
            dropout=config.get("lora_dropout", 0.0), use_rslora=bool(config.get("use_rslora")),
        )  # fmt: skip
    add_settings(model, name, settings)
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
