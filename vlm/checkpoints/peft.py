"""LoRA adapters on disk, in PEFT's layout, under our names or under those of transformers' Llama and Mllama.

    ours                             Llama                               Mllama
    decoder.layers.{}.attn.q_proj    model.layers.{}.self_attn.q_proj    model.language_model.layers.{}.self_attn.q_proj
    decoder.layers.{}.ffn.up_proj    model.layers.{}.mlp.up_proj         model.language_model.layers.{}.mlp.up_proj
    ... by the tables of vlm/checkpoints/hub.py

Notable here:
- Nobody has to say whose names a file bears: the ones of our modules, Llama's, Mllama's in transformers 5 and those of
  4.45 have no name in common. An adapter of a Llama fits the Llama layers of a model that sees pictures as well.
- No permutation: our rotary positions pair the halves of a head as transformers does.
"""

from pathlib import Path

from adapters.lora import linears, lora_layers
from adapters.lora_files import load_lora, save_lora
from vlm.checkpoints.files import CheckpointError
from vlm.checkpoints.hub import TABLE, TEXT_ONLY, TRANSFORMERS_5, merged_numbers, rename
from vlm.checkpoints.keys import NUMBER, foreign_names
from vlm.config import near_match
from vlm.model import VisionLanguageModel

LAYOUTS = {  # layout -> beginnings of module paths in that class -> in files of 4.45, whose names TABLE has
    "llama": TEXT_ONLY,
    "mllama": TRANSFORMERS_5,
    "mllama-4.45": {},
}


def load_adapter(model: VisionLanguageModel, folder: str | Path, name: str = "default") -> None:
    """Add a LoRA adapter that PEFT or `save_adapter` wrote, under whichever names, and make it the active one.

    Raises:
        ValueError: see adapters.lora_files.load_lora; the model is then as it was.
    """
    ours = {theirs: path for layout in LAYOUTS for path, theirs in layer_names(model, layout).items()}
    load_lora(model, folder, name, rename=lambda theirs: ours.get(theirs, theirs))


def save_adapter(
    model: VisionLanguageModel, folder: str | Path, name: str = "default", *, layout: str = "native",
    base: str | None = None,
) -> Path:  # fmt: skip
    """Write one adapter as PEFT does.

    Args:
        layout: "native" for our names; "hub" for those of the class that transformers has for such a model, Mllama or
            Llama; "llama" for an adapter of the Llama layers alone, to be used with the Llama that they came from.
        base: the model that the adapter belongs to, a folder or a hub id.
    """
    if layout == "hub":
        layout = "llama" if model.config.encoder is None else "mllama"
    if layout == "native":
        return save_lora(model, folder, name, base=base)
    if layout not in LAYOUTS:
        choices = ("native", "hub", *LAYOUTS)
        raise ValueError(f"layout: found {layout!r}, expected {', '.join(choices)}{near_match(layout, choices)}")
    names = layer_names(model, layout)
    if homeless := [path for path in lora_layers(model, name) if path not in names]:
        raise CheckpointError(
            f"adapter {name!r}: {homeless[0]} has no name in the layout {layout!r}; save it with layout='native'"
        )
    return save_lora(model, folder, name, rename=names.__getitem__, base=base, task_type="CAUSAL_LM")


def layer_names(model: VisionLanguageModel, layout: str) -> dict[str, str]:
    """Our paths of linear layers -> those in transformers, for the layers that it has."""
    known = [p for p in linears(model) if NUMBER.sub(".{}", p, count=1) in TABLE]
    numbers = merged_numbers(model.config.decoder)
    if layout == "llama":
        known = [p for p in known if p.startswith(("decoder.layers.", "decoder.lm_head"))]
        numbers = {}  # a Llama counts its layers as we do
    memory = {stored: ours for ours, stored in LAYOUTS[layout].items()}
    files = foreign_names([f"{p}.weight" for p in known], TABLE, numbers, "hub")
    return {p: rename(files[f"{p}.weight"], memory).removesuffix(".weight") for p in known}
