"""Key tables: our names on the left, a foreign dialect's on the right, `{}` for the layer number; strict both ways."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vlm.checkpoints.files import CheckpointError, some
from vlm.config import ModelConfig
from vlm.model import VisionLanguageModel

NUMBER = re.compile(r"\.(\d+)(?=\.)")


class Tensors(Protocol):
    """Stored tensors by name: `files.Weights`, or Meta's shards put together."""

    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: str) -> bool: ...
    def path(self, name: str) -> Path: ...
    def read(self, name: str) -> Tensor: ...


Numbering = dict[
    str, dict[int, int]
]  # our container -> {our layer number: theirs}; containers left out keep their numbers


class NoRandom(TorchFunctionMode):
    """Leave out normal random numbers: on the meta device they are none, yet import all of torch's compiler (190 MB)."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def empty_model(config: ModelConfig) -> VisionLanguageModel:
    """The model without memory for its weights, on the meta device."""
    with torch.device("meta"), NoRandom():
        model = VisionLanguageModel(config)
    persistent = model.state_dict().keys()
    if any(name not in persistent for name, _ in model.named_buffers()):  # computed, not stored: must be built for real
        model = VisionLanguageModel(config)
    return model


def foreign_names(ours: Collection[str], table: dict[str, str], numbering: Numbering, layout: str) -> dict[str, str]:
    """Our tensor names -> theirs, by the row of the tensor or of its module."""
    names = {}
    for name in ours:
        number = NUMBER.search(name)
        pattern = NUMBER.sub(".{}", name, count=1)
        module, _, leaf = pattern.rpartition(".")
        if pattern in table:
            theirs = table[pattern]
        elif module in table:
            theirs = f"{table[module]}.{leaf}"
        else:
            raise CheckpointError(f"{name}: the {layout} layout has no place for this tensor; use layout='native'")
        if number:
            container, n = name[: number.start()], int(number[1])
            theirs = theirs.format(numbering.get(container, {}).get(n, n))
        names[name] = theirs
    return names


def fill(
    model: VisionLanguageModel, weights: Tensors, names: Mapping[str, str | tuple[str, ...]], *, source: str, device,
    dtype, convert: Callable[..., Tensor] | None = None, ignore: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Give each parameter its tensor, read one at a time; missing, unknown and misshapen tensors are errors.

    Args:
        names: our name -> the name in `weights`, or several that `convert` puts together.
        convert: (our name, *tensors) -> the tensor as we store it.
        ignore: endings of stored names that carry nothing.
        dtype: "auto" takes that of the token embedding for all.
    """
    parts = {ours: (theirs,) if isinstance(theirs, str) else theirs for ours, theirs in names.items()}
    wanted = {name for group in parts.values() for name in group}
    stored = [name for name in weights if not name.endswith(ignore or ("\0",))]
    unknown = [name for name in stored if name not in wanted]
    if missing := [name for name in wanted if name not in weights]:
        near = get_close_matches(missing[0], unknown, n=1, cutoff=0.85)
        hint = f" (did you mean {near[0]!r}, which is there?)" if near else ""
        raise CheckpointError(
            f"{source}: {len(missing)} tensors are missing: {some(missing)}{hint}; "
            "the files do not fit the config or are not all there"
        )
    if unknown:
        where = weights.path(sorted(unknown)[0])
        raise CheckpointError(
            f"{where}: {len(unknown)} unknown tensors: {some(unknown)}; the config describes a smaller or other model"
        )
    target = model.state_dict()
    state = {}
    if dtype == "auto":
        dtype = weights.read(parts["decoder.embed_tokens.weight"][0]).dtype
    for ours, group in parts.items():
        tensors = [weights.read(name) for name in group]
        tensor = convert(ours, *tensors) if convert else tensors[0]
        if tensor.shape != target[ours].shape:
            raise CheckpointError(
                f"{weights.path(group[0])}: {group[0]} has shape {tuple(tensors[0].shape)}{became(tensors[0], tensor)} "
                f"where the config asks for {tuple(target[ours].shape)}; config and weights are of different models"
            )
        if tensor.is_floating_point() != target[ours].is_floating_point():
            raise CheckpointError(
                f"{weights.path(group[0])}: {group[0]} is {tensor.dtype}, quantized; take the unquantized model"
            )
        state[ours] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
    model.load_state_dict(state, assign=True)
    model.to(device)  # what is computed and not stored
    model.eval()


def became(stored: Tensor, tensor: Tensor) -> str:
    """Say the shape after conversion where it is another one."""
    return "" if stored.shape == tensor.shape else f", for us {tuple(tensor.shape)},"


def padded_rows_are_zero(table: Tensor, grids: list[tuple[int, int]], max_tiles: int) -> bool:
    """Whether a tile embedding (grids + 1, max_tiles * ...) adds nothing to the tiles that pad a picture."""
    table = table.unflatten(1, (max_tiles, -1))
    return not any(table[i + 1, rows * cols :].any() for i, (rows, cols) in enumerate(grids))
