"""The figures of a card on disk: one JSON, a table at a time, each with what it was measured on.

A table counts for the weights and the settings that it was measured with. Figures of other weights are never shown
beside those of these: opened for other weights, the file gives none of them, and the next table written drops them.
"""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlm import __version__
from vlm.checkpoints.files import write_json
from vlm.evaluation.runner import commit

FORMAT = 1


def machine() -> dict[str, Any]:
    """What the figures of time hang on."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu,
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


def one_machine(found: dict[str, Any]) -> str:
    """A machine in one line."""
    what = found.get("gpu") or f"{found['cores']} cores of {found['cpu']}"
    return f"{what}, torch {found['torch']}, Python {found['python']}"


class Figures:
    """The tables of one model.

    Args:
        path: the JSON file; it need not exist.
        model: what is measured, as plain data; `weights`, the hash of all weights, tells models apart.

    Raises:
        ValueError: the file is no JSON of a card.
    """

    def __init__(self, path: Path, model: dict[str, Any]):
        self.path, self.model = path, model
        self.tables: dict[str, dict[str, Any]] = {}
        self.dropped: list[str] = []
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                kept = found["tables"] if found["format"] == FORMAT else None
                for name, table in (kept or {}).items():
                    if table["weights"] in (None, model["weights"]):
                        self.tables[name] = table
                    else:
                        self.dropped.append(name)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}: no figures of a card ({error}); remove it, or choose another --out"
                ) from None

    def has(self, name: str, settings: dict[str, Any]) -> bool:
        """Whether this table is there, measured with these settings."""
        return name in self.tables and self.tables[name]["settings"] == json.loads(json.dumps(settings))

    def result(self, name: str) -> Any:
        """What was measured, None where it was not."""
        return self.tables[name]["result"] if name in self.tables else None

    def put(self, name: str, settings: dict[str, Any], result: Any, seconds: float, of_weights: bool = True) -> None:
        """Add a table and write the file; `of_weights` False for what hangs on no model."""
        self.tables[name] = json.loads(json.dumps({
            "weights": self.model["weights"] if of_weights else None, "settings": settings,
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine(),
            "seconds": round(seconds, 1), "result": result,
        }))  # fmt: skip
        self.write()

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": __version__, "model": self.model, "tables": self.tables}

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.to_dict())
