"""Checkpoints in three dialects: ours, the Hugging Face hub's and Meta's; loaded strictly, saved atomically.

    checkpoint = load_checkpoint("meta-llama/Llama-3.2-11B-Vision-Instruct", dtype="auto", device="cuda")
    save_checkpoint(checkpoint, "folder", layout="native")

Notable here:
- What a folder is, is read off its content: `detect`.
- Everything around the weights is the checkpoint's own: image settings, rope, tokenizer, chat template, generation.
- Weights are mapped, not copied: a model costs its own size once. No pickle is ever opened.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from vlm.calibration import Calibration
from vlm.chat import Chat
from vlm.chat_template import TemplateChat
from vlm.checkpoints import hub, meta, native
from vlm.checkpoints.calibration import fingerprint, has_calibration, load_calibration, save_calibration
from vlm.checkpoints.download import find_folder
from vlm.checkpoints.files import (
    PARTIAL,
    CheckpointError,
    new_folder,
    read_json,
    some,
    write_json,
    write_text,
    write_weights,
)  # fmt: skip
from vlm.checkpoints.hub_config import generation_settings, to_generation_config, to_preprocessor_config
from vlm.checkpoints.source import Source
from vlm.checkpoints.tokenizers import load_chat, save_chat
from vlm.config import ModelConfig
from vlm.engine.quantize import quantization_of, stored_tensors
from vlm.model import VisionLanguageModel

__all__ = ["Checkpoint", "CheckpointError", "detect", "load_checkpoint", "open_checkpoint", "save_checkpoint"]

META_GENERATION = {"temperature": 0.6, "top_p": 0.9}  # the defaults of Meta's generate
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MAX_SHARD_BYTES = 5 * 10**9
CHAT_TEMPLATE = (  # of our own layout, for those who load a folder with transformers
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|image|>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


@dataclass(kw_only=True)
class Checkpoint:
    """A model and everything that it needs to be used; how pictures are prepared is `config.image`."""

    config: ModelConfig
    model: VisionLanguageModel
    chat: Chat | TemplateChat | None = None  # None where the folder has no tokenizer
    generation: dict = field(default_factory=dict)  # max_new_tokens, temperature, top_p, top_k ..., stop_ids
    source: str = ""
    calibration: Calibration | None = None  # None where the folder has none


def detect(folder: str | Path) -> str:
    """What a folder holds, by its content: "native", "hub" or "meta"."""
    folder = Path(folder)
    if PARTIAL in folder.name:
        raise CheckpointError(
            f"{folder}: left over from an interrupted conversion; delete it, or convert again to finish it"
        )
    if not folder.is_dir():
        hint = "give the folder that holds it" if folder.exists() else "check the path"
        raise CheckpointError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; {hint}")
    if (folder / "config.json").is_file():
        return "native" if read_json(folder / "config.json").get("format") == native.FORMAT else "hub"
    if (folder / "params.json").is_file():
        return "meta"
    found = sorted(p.name for p in folder.iterdir())
    if "adapter_config.json" in found:
        raise CheckpointError(
            f"{folder}: a PEFT adapter without its model; load the model, then the adapter (adapters/lora.py)"
        )
    if not found:
        raise CheckpointError(f"{folder}: the folder is empty; download or convert the checkpoint again")
    raise CheckpointError(
        f"{folder}: neither config.json nor params.json is here, only {some(found)}; not a checkpoint"
    )


def load_checkpoint(
    name_or_path: str | Path, *, device: str | torch.device = "cpu", dtype: str | torch.dtype = "auto",
    device_map: str | dict | None = None, revision: str | None = None, token: str | None = None,
    calibrated: bool = True,
) -> Checkpoint:  # fmt: skip
    """Load a folder, or a repository of the Hugging Face hub.

    Args:
        name_or_path: a folder of any dialect, or a hub id such as "meta-llama/Llama-3.2-11B-Vision-Instruct".
        dtype: "auto" (the checkpoint's own), a name, or a torch dtype.
        device_map: "auto" spreads the model over all GPUs and main memory (needs accelerate); or module -> device.
        revision, token: of the hub; HF_TOKEN, HF_HOME and HF_HUB_OFFLINE count as usual.
        calibrated: False leaves aside the calibration that may lie beside the weights.

    Raises:
        CheckpointError: one line with the file, the tensor or key, and the remedy.
    """
    if isinstance(dtype, str) and dtype != "auto":
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected auto, {', '.join(DTYPES)} or a torch dtype")
        dtype = DTYPES[dtype]
    source = open_checkpoint(find_folder(name_or_path, revision, token))
    chat, generation = surroundings(source)
    calibration = calibration_beside(source) if calibrated else None
    model = source.load(device, dtype, device_map)
    return Checkpoint(
        config=model.config, model=model, chat=chat, generation=generation, source=str(name_or_path),
        calibration=calibration,
    )  # fmt: skip


def calibration_beside(source: Source) -> Calibration | None:
    """The calibration that lies beside the weights, None where there is none; one of other weights is an error."""
    if not has_calibration(source.folder):
        return None
    return load_calibration(source.folder, fingerprint(source.shapes, source.read))


def open_checkpoint(folder: str | Path) -> Source:
    """Open a folder of any dialect; its tensors are checked by name and not yet read."""
    folder = Path(folder)
    return {"native": native, "hub": hub, "meta": meta}[detect(folder)].open_checkpoint(folder)


def surroundings(source: Source) -> tuple[Chat | TemplateChat | None, dict]:
    """The chat (None without a tokenizer) and the generation settings that lie beside the weights."""
    folder, decoder = source.folder, source.config.decoder
    if source.layout == "native":
        path = folder / "generation.json"
        generation = read_json(path) if path.is_file() else {}
        return load_chat(folder, decoder, stop_ids=generation.get("stop_ids", ()), own_layout=True), generation
    if source.layout == "meta":
        chat = load_chat(folder, decoder, own_layout=True)
        return chat, META_GENERATION | {"stop_ids": sorted(chat.stop_ids) if chat else []}
    config, path = read_json(folder / "config.json"), folder / "generation_config.json"
    generation = generation_settings(read_json(path) if path.is_file() else {}, config)
    image_id = config.get("image_token_index", config.get("image_token_id", 128256)) if source.config.encoder else None
    chat = load_chat(folder, decoder, stop_ids=generation["stop_ids"], image_id=image_id, own_layout=False)
    return chat, generation


def save_checkpoint(
    checkpoint: Checkpoint | VisionLanguageModel, path: str | Path, layout: str = "native", *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:  # fmt: skip
    """Write a checkpoint (or a model alone) into a folder that appears only when it is whole.

    Args:
        layout: "native", or "hub" for transformers, which has no place for every model that we can build.
    """
    if layout not in ("native", "hub"):
        raise ValueError(f"layout is {layout!r}, expected native or hub")
    if isinstance(checkpoint, VisionLanguageModel):
        checkpoint = Checkpoint(config=checkpoint.config, model=checkpoint)
    model = checkpoint.model
    if unknown := [k for k in model.state_dict() if "lora" in k.lower() or "base_layer" in k]:
        raise CheckpointError(
            f"the model carries unmerged adapters ({some(unknown)}); merge them, or save the adapter alone"
        )
    if layout == "hub":
        refuse_quantized(model)
        data, tensors = hub.hub_tensors(model)
    else:
        data, tensors = native.config_data(model), stored_tensors(model)
    with new_folder(Path(path), is_checkpoint) as folder:
        write_weights(folder, tensors, tensors.__getitem__, max_shard_bytes)
        if checkpoint.calibration is not None:
            ours = model.state_dict()
            save_calibration(checkpoint.calibration, folder, fingerprint(ours, ours.__getitem__))
        write_surroundings(folder, layout, data, checkpoint.chat, checkpoint.generation, model.config)
    return Path(path)


def write_surroundings(
    folder: Path, layout: str, data: dict, chat: Chat | TemplateChat | None, generation: dict, config: ModelConfig
) -> None:
    """All that lies beside the weights; `data` is config.json."""
    save_chat(folder, chat, write_text)
    if layout == "native":
        write_json(folder / "generation.json", generation)
    else:
        if isinstance(chat, Chat):
            write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
        ids = _special_ids(chat)
        none = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": None}  # else defaults past a small vocabulary
        data.get("text_config", data).update(none | ids)
        if chat is not None and chat.image_id is not None:
            data["image_token_index"] = chat.image_id
        if config.encoder is not None:
            write_json(folder / "preprocessor_config.json", to_preprocessor_config(config.image))
        write_json(folder / "generation_config.json", to_generation_config(generation, ids))
    write_json(folder / "config.json", data)  # last: without it a folder is no checkpoint


def refuse_quantized(model: VisionLanguageModel) -> None:
    """The hub's layout has plain weights only."""
    if found := quantization_of(model):
        raise CheckpointError(
            f"the weights are {found['kind']}, the hub layout has no place for them; convert the unquantized model"
        )


def _special_ids(chat: Chat | TemplateChat | None) -> dict:
    if chat is None:
        return {}
    begin = getattr(chat, "special", {}).get("bos_token", "<|begin_of_text|>")
    ids = {"bos_token_id": chat.tokenizer.id(begin), "eos_token_id": sorted(chat.stop_ids), "pad_token_id": chat.pad_id}
    return {key: value for key, value in ids.items() if value is not None}


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder may be replaced by another checkpoint."""
    try:
        return bool(detect(folder))
    except CheckpointError:
        return False
