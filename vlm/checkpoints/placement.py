"""Where the parts of a model go when one device is too small for it: accelerate's device maps and hooks."""

from typing import Any

import torch
from torch import nn

from vlm.checkpoints.files import CheckpointError

KEEP_WHOLE = ["TiledViT", "DecoderLayer", "GatedCrossAttention"]  # modules whose parts must stand on one device


def infer_device_map(model: nn.Module, device_map: str | dict, dtype: torch.dtype) -> dict[str, Any]:
    """Module name -> device; "auto" fills the GPUs in order and leaves the rest to main memory."""
    try:
        from accelerate import infer_auto_device_map
    except ImportError:
        raise ImportError("device_map needs accelerate, which is not installed: pip install accelerate") from None
    if isinstance(device_map, str):
        if device_map != "auto":
            raise ValueError(f"device_map is {device_map!r}, expected 'auto' or a dict of module names and devices")
        device_map = dict(infer_auto_device_map(model, no_split_module_classes=KEEP_WHOLE, dtype=dtype))
    for name in model.state_dict():
        if place_of(name, device_map) is None:
            raise ValueError(f"device_map has no place for {name}; add its module, or '' for the rest")
    if "disk" in device_map.values():
        size = sum(p.numel() for p in model.parameters()) * dtype.itemsize
        raise CheckpointError(
            f"the weights ({size / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}) fit neither the GPUs nor main "
            "memory; take a smaller model or dtype, or a machine with more memory"
        )
    return device_map


def place_of(name: str, device_map: dict[str, Any]) -> Any:
    """The device of a tensor: that of the longest module name that it begins with; None where there is none."""
    parts = name.split(".")
    for n in range(len(parts), -1, -1):
        if (module := ".".join(parts[:n])) in device_map:
            return device_map[module]
    return None


def dispatch(model: nn.Module, device_map: dict | None) -> None:
    """Give the modules hooks that bring inputs, and weights left in main memory, to where they are needed."""
    if device_map is not None and len(set(device_map.values())) > 1:
        from accelerate import dispatch_model

        dispatch_model(model, device_map)
