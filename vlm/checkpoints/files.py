"""Weights in files: read one tensor at a time, written so that nothing half-written ever looks complete.

Notable here:
- safetensors and Meta's .pth are memory-mapped, so a model costs its own size once; nothing is ever unpickled.
- A folder is written as `NAME.partial-...`, synced and renamed at the end; whatever carries its final name is whole.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
PARTIAL = ".partial-"  # in the name of a folder that is still being written


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line: the file, the tensor or key, and what to do."""


class Weights:
    """Named tensors of some files: `read` maps one of them into memory, `close` gives back what was read."""

    def __init__(self):
        self._places: dict[str, tuple[Path, str]] = {}  # name -> the file, the name there
        self._open: dict[Path, Callable[[str], Tensor]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def path(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._places[name][0]

    def read(self, name: str) -> Tensor:
        """One tensor, still in the file's dtype; its pages come into memory when it is used."""
        path, stored = self._places[name]
        try:
            if path not in self._open:
                self._open[path] = _open_torch(path) if path.suffix == ".pth" else safe_open(path, "pt").get_tensor
            return self._open[path](stored)
        except (SafetensorError, OSError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{path}: cannot read {name} ({one_line(error)}); get the file again") from None

    def close(self) -> None:
        """Let go of the files, and so of all pages in memory that no tensor in use needs; reading goes on as before."""
        self._open.clear()

    def renamed(self, rename: Callable[[str], str]) -> "Weights":
        """The same tensors under other names."""
        out = Weights()
        out._places, out._open = {rename(name): place for name, place in self._places.items()}, self._open
        return out

    def add_safetensors(self, path: Path, only: set[str] | None = None) -> "Weights":
        """Add the tensors of a safetensors file, or the `only` ones that an index expects in it."""
        try:
            file = safe_open(path, "pt")
            names = set(file.keys())
        except FileNotFoundError:
            raise CheckpointError(f"{path}: this file is missing; get it again, or the whole folder") from None
        except (SafetensorError, OSError, ValueError) as error:
            size = path.stat().st_size
            raise CheckpointError(
                f"{path}: not a whole safetensors file ({size:,} bytes; {one_line(error)}); get it again"
            ) from None
        if only is not None and (absent := only - names):
            raise CheckpointError(f"{path}: lacks {some(absent)}, which {INDEX} promises; get both files again")
        self._open[path] = file.get_tensor
        self._places |= {name: (path, name) for name in sorted(names if only is None else only)}
        return self

    def add_torch(self, path: Path) -> "Weights":
        """Add the tensors of Meta's .pth, memory-mapped and without executing anything from it."""
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise CheckpointError(
                f"{path}: cannot be read as plain tensors ({one_line(error)}); "
                "it is cut off or not Meta's file, get it again"
            ) from None
        if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
            raise CheckpointError(f"{path}: holds other things than named tensors; expected Meta's consolidated.NN.pth")
        self._open[path] = tensors.__getitem__
        self._places |= {name: (path, name) for name in tensors}
        return self


def _open_torch(path: Path) -> Callable[[str], Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True).__getitem__


def open_folder(folder: Path) -> Weights:
    """The model.safetensors of a folder, whole or in shards; refuses pickles and says which shard is missing."""
    if (folder / "model.safetensors").is_file():
        return Weights().add_safetensors(folder / "model.safetensors")
    weights = Weights()
    if (folder / INDEX).is_file():
        files: dict[str, set[str]] = {}
        for name, file in read_json(folder / INDEX).get("weight_map", {}).items():
            files.setdefault(file, set()).add(name)
        for file, names in sorted(files.items()):
            if Path(file).name != file:
                raise CheckpointError(f"{folder / INDEX}: points outside its folder ({file!r}); do not use it")
            if not (folder / file).is_file():
                raise CheckpointError(f"{folder / file}: this shard is missing, it holds {some(names)}; get it again")
            weights.add_safetensors(folder / file, names)
        return weights
    if totals := {int(m[2]) for p in folder.glob("model-*.safetensors") if (m := SHARD.fullmatch(p.name))}:
        total = max(totals)
        for i in range(1, total + 1):
            weights.add_safetensors(folder / f"model-{i:05d}-of-{total:05d}.safetensors")
        return weights
    if pickles := sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")]):
        raise CheckpointError(
            f"{folder / pickles[0]}: a pickle can run any code and is not opened; take the model's safetensors files, "
            "or in a throw-away machine: AutoModel.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)"
        )
    raise CheckpointError(
        f"{folder}: has a config.json but no weights; expected model.safetensors or {INDEX} and its shards"
    )


def read_json(path: Path) -> dict:
    """A JSON object; anything else is a one-line error."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: this file is missing; get it again, or the whole folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({one_line(error)}); get it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: found a JSON {type(data).__name__}, expected an object")
    return data


@contextmanager
def new_folder(path: Path, is_checkpoint: Callable[[Path], bool], plan: str | None = None) -> Iterator[Path]:
    """Give a scratch folder to write into; it takes the name `path` at the end, or vanishes after an error.

    A checkpoint that already stands at `path` is replaced; any other content is left alone and is an error. With a
    `plan`, a description of what will be written, shards survive an error, and the same plan finds them again.
    """
    path = path.absolute()
    occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if occupied and not is_checkpoint(path):
        raise CheckpointError(f"{path}: holds something other than a checkpoint; choose a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8] if plan is None else hashlib.sha256(plan.encode()).hexdigest()[:8]
    scratch = path.parent / f"{path.name}{PARTIAL}{mark}"
    scratch.mkdir(exist_ok=plan is not None)
    for file in scratch.glob(f"*{PARTIAL}*"):  # cut off in the middle
        file.unlink()
    try:
        yield scratch
        for file in scratch.iterdir():
            _sync(file)
        _sync(scratch)
        if occupied:
            old = path.parent / f"{path.name}{PARTIAL}old-{uuid.uuid4().hex[:8]}"
            path.rename(old)
            scratch.rename(path)
            shutil.rmtree(old)
        else:
            scratch.rename(path)
        _sync(path.parent)
    except BaseException:
        if plan is None or not any(scratch.glob("*.safetensors")):
            shutil.rmtree(scratch, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small file under another name, sync it, rename it."""
    scratch = path.with_name(f".{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        scratch.write_text(text, encoding="utf-8")
        _sync(scratch)
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, data: dict) -> None:
    """Write JSON as a person would want to read it."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_weights(
    folder: Path, shapes: Mapping[str, Tensor], read: Callable[[str], Tensor], max_shard_bytes: int,
    written: Callable[[int], object] = lambda size: None,
) -> None:  # fmt: skip
    """Write model.safetensors, in shards with an index where it is larger than `max_shard_bytes`.

    Args:
        shapes: name -> a tensor of that shape and dtype, which may be on the meta device.
        read: name -> the tensor; those of one shard are in memory together.
        written: told the bytes of each shard, also of those that are there already, which are not written again.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in shapes.items():
        if size + tensor.nbytes > max_shard_bytes and shards[-1]:
            shards, size = [*shards, []], 0
        shards[-1].append(name)
        size += tensor.nbytes
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        files = ["model.safetensors"]
    for file, names in zip(files, shards, strict=True):
        if not (folder / file).is_file():
            write_tensors(folder / file, {name: read(name) for name in names})
        written(sum(shapes[name].nbytes for name in names))
    if len(shards) > 1:
        where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        total = sum(t.nbytes for t in shapes.values())
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file under another name, sync it, rename it."""
    scratch = path.with_name(f"{path.name}{PARTIAL}0")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, scratch, {"format": "pt", **(metadata or {})})
    scratch.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes it the owner's alone
    _sync(scratch)
    scratch.rename(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def one_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def some(names, limit: int = 3) -> str:
    """A few names and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
