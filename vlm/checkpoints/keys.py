"""Key tables: our names on the left, a foreign dialect's on the right, `{}` for the layer number."""

import re
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vlm.checkpoints.files import CheckpointError
from vlm.config import ModelConfig
from vlm.model import VisionLanguageModel

NUMBER = re.compile(r"\.(\d+)(?=\.)")
# our container -> {our layer number: theirs}; containers left out keep their numbers
Numbering = dict[str, dict[int, int]]


class NoRandom(TorchFunctionMode):
    """Leave out normal random numbers: on the meta device they mean nothing and import torch's compiler, 190 MB."""

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


def padded_rows_are_zero(table: Tensor, grids: list[tuple[int, int]], max_tiles: int) -> bool:
    """Whether a tile embedding (grids + 1, max_tiles * ...) adds nothing to the tiles that pad a picture."""
    table = table.unflatten(1, (max_tiles, -1))
    return not any(table[i + 1, rows * cols :].any() for i, (rows, cols) in enumerate(grids))
