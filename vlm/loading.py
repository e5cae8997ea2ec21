"""Where models come from: the shipped one, a folder, a hub id, or new ones composed of parts."""

import os
from pathlib import Path

import torch

from adapters.lora import fold
from vlm.api import VLM
from vlm.guard import DEFAULT
from vlm.guard.policy import Policy
from vlm.guard.shield import Guard, load_shield
from vlm.model import pick_device

SHIPPED = Path(__file__).parent / "weights"


def compose(*, device: str = "auto", **parts) -> VLM:
    """Put gated cross-attention between any timm or open_clip encoder and any Llama; see `vlm.composition.compose`.

        m = vlm.compose(encoder="timm:vit_small_patch16_dinov3", connector="perceiver:64", decoder="path-or-preset")
        m.save("folder")

    Raises:
        ValueError: an unknown name, with the nearest one; impossible layers or tile sizes; no tokenizer.
    """
    from vlm.composition import compose as build

    made = build(**parts)
    if made.chat is None:
        raise ValueError(f"decoder {parts['decoder']!r} brings no tokenizer; give one: tokenizer='PATH/tokenizer.json'")
    made.model.to(pick_device(device))
    return VLM(made.model, made.chat, made.generation, made.source)


def load(
    name_or_path: str | os.PathLike | None = None, *, device: str = "auto", dtype: str | torch.dtype = "auto",
    device_map: str | dict | None = None, revision: str | None = None, token: str | None = None,
    adapter: str | os.PathLike | None = None, quantization: str | None = None, quantize_encoder: bool = False,
    guard: Guard | str | os.PathLike | None = DEFAULT, policy: Policy | str | os.PathLike | None = None,
) -> VLM:  # fmt: skip
    """Load a model: the shipped one, a folder (ours, the hub's or Meta's layout), or a hub id.

    Args:
        name_or_path: None for the model that comes with the package.
        device: "auto" takes a GPU where there is one.
        dtype: "auto" is bfloat16 on a GPU and, for small models, float32 on a CPU.
        device_map: "auto" spreads a model too large for one GPU over all of them and main memory (needs accelerate).
        adapter: folder of a LoRA adapter of this model, see `VLM.load_adapter`; quantized weights take it in for good.
        quantization: "int8", "int4" or (on a GPU) "fp8" weights; a folder that was saved so needs no word of it.
        quantize_encoder: the image encoder and the connector as well.
        guard: "default" for the one of the package, a folder of `vlm guard train` or of a Llama Guard 3, an object with
            `check(messages, response=None) -> Verdict`, or None for none: docs/guard.md.
        policy: what the guard is to judge, a YAML file or a `vlm.guard.policy.Policy`.

    Raises:
        ValueError: what is wrong with the folder, the file or the tensor, in one line.
    """
    from vlm.checkpoints import load_checkpoint

    place = pick_device(device)
    shield = load_shield(guard, policy, device=place)  # what is wrong with it is said before the model is loaded
    source = name_or_path if isinstance(name_or_path, str) else Path(name_or_path or SHIPPED)
    if name_or_path is None and dtype == "auto":
        dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    first = place if quantization is None else "cpu"  # layers are moved one by one as they are quantized
    loaded = load_checkpoint(source, device=first, dtype=dtype, device_map=device_map, revision=revision, token=token)
    if loaded.chat is None:
        raise ValueError(
            f"{source}: has no tokenizer; put the model's tokenizer.json (or tokenizer.model) beside its weights"
        )
    name = str(source) if name_or_path else "shipped"
    made = VLM(loaded.model, loaded.chat, loaded.generation, name, shield=shield, calibration=loaded.calibration)
    if adapter is not None:
        made.load_adapter(Path(adapter))
        if quantization is not None:
            fold(made.model)
    if quantization is not None:
        made.quantize(quantization, encoder=quantize_encoder, device=place)
    return made
