"""Our own dialect: config.json with every size, and model.safetensors under the names of the modules.

The key table is the identity: a stored name is the path of the parameter in `vlm.model.VisionLanguageModel`.
"""

from pathlib import Path

from vlm.checkpoints.files import CheckpointError, open_folder, read_json
from vlm.checkpoints.source import Source, open_source
from vlm.config import ModelConfig, from_dict, to_dict
from vlm.engine.quantize import quantization_of
from vlm.model import VisionLanguageModel

FORMAT, VERSION = "gated-cross-attention", 1


def open_checkpoint(folder: Path) -> Source:
    """A folder that `save_checkpoint` wrote."""
    data = read_json(folder / "config.json")
    if data.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / 'config.json'}: version {data.get('version')!r}, expected {VERSION}; update this program"
        )
    try:
        config = from_dict(ModelConfig, data.get("model", {}))
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}; mend this entry or get the file again") from None
    return open_source(
        "native", folder, config, open_folder(folder), names=lambda ours: {name: name for name in ours},
        quantization=data.get("quantization"),
    )  # fmt: skip


def config_data(model: VisionLanguageModel) -> dict:
    """Sizes of a model, and how its weights are quantized -> config.json."""
    data = {"format": FORMAT, "version": VERSION, "model": to_dict(model.config)}
    found = quantization_of(model)
    return data if found is None else data | {"quantization": found}
