"""What every benchmark says beside its figures, and where it says it."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
import typer

from vlm.cli import write_json
from vlm.evaluation.card.figures import machine

ROOT = Path(__file__).parents[1]
DEVICES = ("cpu", "cuda")


def describe_machine(device: str) -> dict:
    """What the figures hang on."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {**machine(), "gpu": gpu, "transformers": version("transformers")}


def commit() -> str:
    """The commit that is measured, with a mark where files differ from it."""
    shown = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return shown.stdout.strip() or "unknown"


def circumstances(device: str) -> dict:
    """When, what and where: the head of every report."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "commit": commit(), "machine": describe_machine(device)}


def pick(device: str) -> str:
    """The device of a name: "auto" is a GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def check_options(**options: tuple[Sequence[str], Iterable[str]]) -> None:
    """Refuse what is no choice: option=(what was asked for, what there is)."""
    for name, (found, choices) in options.items():
        if wrong := [f for f in found if f not in choices]:
            raise typer.BadParameter(f"{wrong[0]!r}; choose from {', '.join(choices)}", param_hint=f"--{name}")


def show(markdown: str, report: dict, json_path: str | None) -> None:
    """Print the tables, and write all figures where they were asked for; - is standard output."""
    print(markdown, file=sys.stderr if json_path == "-" else sys.stdout)
    write_json(json_path, report)
