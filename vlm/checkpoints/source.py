"""A checkpoint that is open but not yet read: what a dialect hands over, and how it becomes a model.

Notable here:
- Tensors are read one at a time and checked on the way: missing, unknown and misshapen ones are errors.
- What needs no change stays mapped to its file. What is cast or moved is copied slice by slice, and the pages of the
  file are given back in between, so that the peak is the size of the model and a few per cent.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vlm.checkpoints.files import CheckpointError, some
from vlm.checkpoints.keys import empty_model
from vlm.checkpoints.placement import dispatch, infer_device_map, place_of
from vlm.config import ModelConfig
from vlm.engine.quantize import check_kind, finish_loading, prepare_to_load
from vlm.model import VisionLanguageModel

SLICES = 32  # pages of at most this part of all weights are in memory beside what has been loaded,
LEAST = 8_000_000  # or of this many bytes


class Tensors(Protocol):
    """Stored tensors by name: `files.Weights`, or Meta's shards put together."""

    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: str) -> bool: ...
    def path(self, name: str) -> Path: ...
    def read(self, name: str) -> Tensor: ...
    def close(self) -> None: ...


def as_stored(name: str, *tensors: Tensor) -> Tensor:
    """The conversion of dialects that store what we store."""
    return tensors[0]


@dataclass(kw_only=True)
class Source:
    """What a folder holds.

    Attributes:
        model: on the meta device; its names are the keys of `names`.
        names: our name -> the name in `weights`, or several that `convert` puts together.
        convert: (our name, *tensors) -> the tensor as we store it.
        ignore: endings of stored names that carry nothing.
    """

    layout: str
    folder: Path
    model: VisionLanguageModel
    weights: Tensors
    names: Mapping[str, str | tuple[str, ...]]
    convert: Callable[..., Tensor] = as_stored
    ignore: tuple[str, ...] = ()
    shapes: dict[str, Tensor] = field(init=False)

    def __post_init__(self):
        self.shapes = dict(self.model.state_dict())
        self._check_names()

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def dtype(self) -> torch.dtype:
        """That of the token embedding."""
        return self.weights.read(self.stored("decoder.embed_tokens.weight")[0]).dtype

    def stored(self, name: str) -> tuple[str, ...]:
        """The names under which one of our tensors is stored."""
        names = self.names[name]
        return (names,) if isinstance(names, str) else names

    def read(self, name: str) -> Tensor:
        """One of our tensors in the stored dtype."""
        group, target = self.stored(name), self.shapes[name]
        tensors = [self.weights.read(stored) for stored in group]
        tensor = self.convert(name, *tensors)
        if tensor.shape != target.shape:
            changed = "" if tensors[0].shape == tensor.shape else f", for us {tuple(tensor.shape)},"
            raise CheckpointError(
                f"{self.weights.path(group[0])}: {group[0]} has shape {tuple(tensors[0].shape)}{changed} where the "
                f"config asks for {tuple(target.shape)}; config and weights are of different models, get both again"
            )
        if tensor.is_floating_point() != target.is_floating_point():
            raise CheckpointError(
                f"{self.weights.path(group[0])}: {group[0]} is {tensor.dtype}, quantized; take the unquantized model"
            )
        return tensor

    def load(
        self, device: str | torch.device = "cpu", dtype: str | torch.dtype = "auto",
        device_map: str | dict | None = None,
    ) -> VisionLanguageModel:  # fmt: skip
        """Read everything, each tensor to its device; the model is then ready and this source is used up."""
        dtype = dtype if isinstance(dtype, torch.dtype) else self.dtype
        if device_map is not None:
            device_map = infer_device_map(self.model, device_map, dtype)
        budget = max(LEAST, sum(t.numel() for t in self.shapes.values()) * dtype.itemsize // SLICES)
        stored, state, mapped = self.dtype.itemsize, {}, 0
        for name, shape in self.shapes.items():
            where = device if device_map is None else place_of(name, device_map)
            state[name] = self._placed(name, torch.device(where), dtype, budget)
            mapped += shape.numel() * stored
            if mapped > budget:
                self.weights.close()
                mapped = 0
        self.weights.close()
        self.model.load_state_dict(state, assign=True)
        finish_loading(self.model)
        if device_map is None:
            self.model.to(device)  # what is computed and not stored
        dispatch(self.model.eval(), device_map)
        return self.model

    def _placed(self, name: str, device: torch.device, dtype: torch.dtype, budget: int) -> Tensor:
        """A tensor as it stands in the file, or a copy of it in another dtype or place."""
        tensor = self.read(name)
        dtype = dtype if self.shapes[name].dtype == torch.get_default_dtype() else tensor.dtype  # scales keep theirs
        if tensor.dtype == dtype and tensor.device == device:
            return tensor
        step = max(1, budget // max(1, tensor[:1].nbytes)) if tensor.ndim else 1
        if not tensor.ndim or len(tensor) <= step or self.convert is not as_stored:
            return tensor.to(device, dtype)
        out = torch.empty(tensor.shape, dtype=dtype, device=device)
        del tensor  # it would hold the pages
        for start in range(0, len(out), step):
            out[start : start + step] = self.read(name)[start : start + step]
            self.weights.close()
        return out

    def _check_names(self) -> None:
        """Every tensor is there and there is none that we do not know."""
        wanted = {stored for name in self.names for stored in self.stored(name)}
        unknown = [n for n in self.weights if n not in wanted and not n.endswith(self.ignore or ("\0",))]
        if missing := [name for name in wanted if name not in self.weights]:
            near = get_close_matches(missing[0], unknown, n=1, cutoff=0.85)
            hint = f" (did you mean {near[0]!r}, which is there?)" if near else ""
            raise CheckpointError(
                f"{self.folder}: {len(missing)} tensors are missing: {some(missing)}{hint}; "
                "the weights do not fit config.json or are not all there, get the folder again"
            )
        if unknown:
            raise CheckpointError(
                f"{self.weights.path(sorted(unknown)[0])}: {len(unknown)} unknown tensors: {some(unknown)}; "
                "the config describes a smaller or other model, get both again"
            )


def open_source(
    layout: str, folder: Path, config: ModelConfig, weights: Tensors, names: Callable[..., Mapping],
    quantization: dict | None = None, **options,
) -> Source:  # fmt: skip
    """A source whose names come from those of the empty model."""
    model = empty_model(config)
    if quantization is not None:
        check_kind(str(quantization.get("kind")))
        prepare_to_load(model, quantization["kind"], bool(quantization.get("encoder")))
    return Source(
        layout=layout, folder=folder, model=model, weights=weights, names=names(model.state_dict()), **options
    )
