"""Our own dialect: config.json with every size, and model.safetensors under the names of the modules.

The key table is the identity: a stored name is the path of the parameter in `vlm.model.VisionLanguageModel`.
"""

from pathlib import Path

from vlm.checkpoints.files import CheckpointError, open_folder, read_json
from vlm.checkpoints.keys import empty_model, fill
from vlm.config import ModelConfig, from_dict, to_dict
from vlm.model import VisionLanguageModel

FORMAT, VERSION = "gated-cross-attention", 1


def load(folder: Path, device, dtype) -> VisionLanguageModel:
    """A folder that `save_checkpoint` wrote -> the model."""
    data = read_json(folder / "config.json")
    if data.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / 'config.json'}: version {data.get('version')!r}, expected {VERSION}; update this program"
        )
    try:
        config = from_dict(ModelConfig, data.get("model", {}))
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from None
    model = empty_model(config)
    names = {name: name for name in model.state_dict()}
    fill(model, open_folder(folder), names, source=str(folder), device=device, dtype=dtype)
    return model


def config_data(config: ModelConfig) -> dict:
    """ModelConfig -> config.json."""
    return {"format": FORMAT, "version": VERSION, "model": to_dict(config)}
