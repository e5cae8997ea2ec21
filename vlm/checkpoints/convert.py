"""From one layout to another, shard by shard: never the whole model in memory, and an interrupted run goes on."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vlm.checkpoints import (
    calibration_beside,
    hub,
    is_checkpoint,
    native,
    open_checkpoint,
    refuse_quantized,
    surroundings,
    write_surroundings,
)
from vlm.checkpoints.calibration import fingerprint, save_calibration
from vlm.checkpoints.download import find_folder
from vlm.checkpoints.files import new_folder, write_weights
from vlm.checkpoints.hub_config import to_hub_config
from vlm.checkpoints.source import Source

SHARD_BYTES = 2 * 10**9  # what an interruption may cost
EMBEDDING, HEAD = "decoder.embed_tokens.weight", "decoder.lm_head.weight"


def convert_checkpoint(
    name_or_path: str | Path, target: str | Path, layout: str = "native", *, max_shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Path:  # fmt: skip
    """Write a checkpoint into a folder that appears only when it is whole; called again, it goes on where it stopped.

    Args:
        layout: "native", or "hub" for transformers.
        progress: told the bytes done and the bytes in all.
    """
    if layout not in ("native", "hub"):
        raise ValueError(f"layout is {layout!r}, expected native or hub")
    source = open_checkpoint(find_folder(name_or_path))
    if layout == "hub":
        refuse_quantized(source.model)
    chat, generation = surroundings(source)
    calibration = calibration_beside(source)
    data, shapes, read = _native(source) if layout == "native" else _hub(source)
    total, done = sum(t.nbytes for t in shapes.values()), 0

    def written(size: int) -> None:
        nonlocal done
        source.weights.close()
        done += size
        progress(done, total)

    with new_folder(Path(target), is_checkpoint, plan=_plan(source, layout, max_shard_bytes)) as folder:
        progress(0, total)
        write_weights(folder, shapes, read, max_shard_bytes, written)
        if calibration is not None:
            save_calibration(calibration, folder, fingerprint(source.shapes, source.read))
        write_surroundings(folder, layout, data, chat, generation, source.config)
    return Path(target)


def _native(source: Source) -> tuple[dict, dict[str, Tensor], Callable[[str], Tensor]]:
    """config.json, the shapes to be written, and how each tensor is had."""
    shapes = {name: _like(shape, source.dtype) for name, shape in source.shapes.items()}
    return native.config_data(source.model), shapes, lambda name: source.read(name).to(shapes[name].dtype)


def _hub(source: Source) -> tuple[dict, dict[str, Tensor], Callable[[str], Tensor]]:
    """The same under the names of the hub."""
    config, (_, ours, read) = source.config, _native(source)
    data = to_hub_config(config) | {"torch_dtype": str(source.dtype).removeprefix("torch.")}
    rows = config.decoder.vocab_size
    if hub.stores_tied_head(config):
        ours[HEAD] = ours[EMBEDDING][:rows]
    names = {theirs: name for name, theirs in hub.hub_names(config, source.shapes).items()}

    def read_theirs(theirs: str) -> Tensor:
        name = names[theirs]
        return read(EMBEDDING)[:rows].clone() if name == HEAD and HEAD not in source.shapes else read(name)

    return data, {theirs: ours[name] for theirs, name in names.items()}, read_theirs


def _like(shape: Tensor, dtype: torch.dtype) -> Tensor:
    keeps = shape.dtype != torch.get_default_dtype()  # counts and scales of quantized weights
    return torch.empty(shape.shape, dtype=shape.dtype if keeps else dtype, device="meta")


def _plan(source: Source, layout: str, max_shard_bytes: int) -> str:
    """What makes a conversion the same: the source's files as they are now, and how they are written."""
    files = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in source.folder.iterdir() if p.is_file())
    return repr((str(source.folder.resolve()), files, layout, max_shard_bytes))
