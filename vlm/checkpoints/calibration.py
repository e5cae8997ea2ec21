"""The files of a calibration, beside the weights that it was fitted on.

    calibration.json     how log-probabilities become a confidence, and how both were fitted
    domain.safetensors   the density of the worlds' pictures, as the encoder sees them

Notable here:
- Both carry the fingerprint of the weights: beside others they are an error. Neither is there, and the model has no
  calibration: `Result.confidence` and `Result.in_domain` are None.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlm.calibration import Calibration, Confidence, Domain
from vlm.calibration.confidence import FEATURES
from vlm.checkpoints.files import CheckpointError, one_line, read_json, write_json, write_tensors

CONFIDENCE_FILE, DOMAIN_FILE = "calibration.json", "domain.safetensors"
FORMAT, VERSION = "calibration", 1
AGAIN = f"run `vlm calibrate` again, or delete {CONFIDENCE_FILE} and {DOMAIN_FILE}"


def fingerprint(names: Iterable[str], read: Callable[[str], Tensor]) -> str:
    """A hash of a model's norms and gates, which any training changes and no quantization, cast or layout does.

    Args:
        names: of the model's tensors, as our modules call them.
        read: name -> the tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(n for n in names if ("norm" in n or "gate" in n) and "_proj" not in n):
        tensor = read(name)
        if tensor.ndim <= 1 and tensor.is_floating_point():
            digest.update(name.encode() + b"\0")
            digest.update(tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def has_calibration(folder: Path) -> bool:
    """Whether one of the files lies there."""
    return any((folder / name).is_file() for name in (CONFIDENCE_FILE, DOMAIN_FILE))


def load_calibration(folder: Path, mark: str) -> Calibration:
    """The calibration in a model's folder.

    Args:
        mark: the `fingerprint` of the weights there.

    Raises:
        CheckpointError: one of the two files alone, a damaged one, or those of another model.
    """
    main, other = folder / CONFIDENCE_FILE, folder / DOMAIN_FILE
    for path, needs in ((main, other), (other, main)):
        if not path.is_file():
            raise CheckpointError(f"{path}: this file is missing, {needs.name} needs it; {AGAIN}")
    data = read_json(main)
    if (found := (data.get("format"), data.get("version"))) != (FORMAT, VERSION):
        raise CheckpointError(f"{main}: found {found[0]!r} {found[1]!r}, expected {FORMAT!r} {VERSION}; {AGAIN}")
    confidence = _confidence(main, data.get("confidence"))
    domain, domain_mark = _domain(other)
    for path, found_mark in ((main, data.get("fingerprint")), (other, domain_mark)):
        if found_mark != mark:
            raise CheckpointError(f"{path}: was fitted on other weights than those beside it; {AGAIN}")
    return Calibration(confidence=confidence, domain=domain, fitted=data.get("fitted", {}))


def save_calibration(calibration: Calibration, folder: Path, mark: str) -> None:
    """Write both files; `mark` is the fingerprint of the weights in the folder."""
    write_tensors(folder / DOMAIN_FILE, calibration.domain.tensors(), {"fingerprint": mark, "version": str(VERSION)})
    write_json(folder / CONFIDENCE_FILE, {
        "format": FORMAT, "version": VERSION, "fingerprint": mark,
        "confidence": {"features": FEATURES, **asdict(calibration.confidence)}, "fitted": calibration.fitted,
    })  # fmt: skip


def _confidence(path: Path, data: Any) -> Confidence:
    """The part of calibration.json that says how sure an answer is."""
    number = (int, float)
    if (
        isinstance(data, dict) and data.get("features") == list(FEATURES) and isinstance(data.get("bias"), number)
        and isinstance(weights := data.get("weights"), list) and [isinstance(w, number) for w in weights] == [True] * 3
        and min(weights[:2]) >= 0 and type(data.get("longest")) is int and data["longest"] > 0
    ):  # fmt: skip
        return Confidence(weights=(weights[0], weights[1], weights[2]), bias=data["bias"], longest=data["longest"])
    raise CheckpointError(
        f"{path}: confidence is {str(data):.80}, expected the features {', '.join(FEATURES)} with three weights (the "
        f"first two not negative), a bias and the longest answer; {AGAIN}"
    )


def _domain(path: Path) -> tuple[Domain, str]:
    """The domain and the fingerprint that it carries."""
    try:
        with safe_open(path, "pt") as file:
            meta, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({one_line(error)}); {AGAIN}") from None
    try:
        return Domain.from_tensors(tensors), meta.get("fingerprint", "")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; {AGAIN}") from None
