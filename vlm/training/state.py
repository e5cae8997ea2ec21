"""The state of a run on disk: everything that makes a resumed run equal to an undisturbed one.

Notable here:
- A checkpoint is a folder `step-N` written under another name, synced, and renamed: what has the name is complete.
- Weights, optimizer moments and random-number states are tensors in safetensors; the rest is JSON. No pickle.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlm.training.config import TrainConfig

ANEW = "put it back as the run began, or choose another output to begin anew"


def save_state(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, info: dict, keep: int
) -> Path:
    """Write `folder/step-N` atomically and delete all but the newest `keep`."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    order = [p for group in optimizer.param_groups for p in group["params"]]
    by_id = {id(p): n for n, p in model.named_parameters()}
    assert sorted(names) == sorted(by_id[id(p)] for p in order)
    for p in order:
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{key}.{by_id[id(p)]}"] = torch.as_tensor(value).detach().cpu().contiguous()
    tensors["rng.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    final = folder / f"step-{step:07d}"
    partial = folder / f".partial-{step:07d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(tensors, partial / "state.safetensors")
    (partial / "info.json").write_text(json.dumps({"step": step, **info}, indent=1))
    for path in partial.iterdir():
        with path.open("rb") as f:
            os.fsync(f.fileno())
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first."""
    return sorted(
        p for p in folder.glob("step-*") if (p / "state.safetensors").is_file() and (p / "info.json").is_file()
    )


def trained_parts(config: TrainConfig) -> dict[str, Any]:
    """What decides which weights a run has and trains, as flat plain data."""
    groups = config.trainable or (("lora",) if config.lora else ())
    lora = {f"lora.{key}": value for key, value in vars(config.lora).items()} if config.lora else {}
    found = {"trainable": groups, **lora}
    return {key: sorted(value) if isinstance(value, tuple) else value for key, value in found.items()}


def check_parts(folder: Path, config: TrainConfig) -> None:
    """Refuse to go on with other adapters or trainable groups than the run's last checkpoint has."""
    if not (done := checkpoints(folder)):
        return
    expected = json.loads((done[-1] / "info.json").read_text()).get("parts")
    found = trained_parts(config)
    if expected is None or found == expected:
        return
    keys = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    is_now, was = (", ".join(f"{key}={parts.get(key)}" for key in keys) for parts in (found, expected))
    raise ValueError(f"{done[-1]}: found {is_now} in the config, expected {was} as in this checkpoint; {ANEW}")


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Put a checkpoint back into model, optimizer and random generators; returns its info.

    Raises:
        ValueError: the checkpoint of another model; nothing is changed then.
    """
    tensors = load_file(path / "state.safetensors")
    stored = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    found, expected = ({k: tuple(v.shape) for k, v in s.items()} for s in (stored, model.state_dict()))
    if wrong := sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)):
        name = wrong[0]
        raise ValueError(
            f"{path}: the checkpoint of another model, {len(wrong)} tensors differ: found {name} "
            f"{found.get(name, 'missing')}, expected {expected.get(name, 'none')} by the config; {ANEW}"
        )
    model.load_state_dict(stored)
    for name, p in model.named_parameters():
        state = {
            key.split(".")[1]: value for key, value in tensors.items()
            if key.startswith("optimizer.") and key.split(".", 2)[2] == name
        }  # fmt: skip
        if state:
            optimizer.state[p] = {k: v.to(p.device) for k, v in state.items()}  # step too: AdamW is fused
    torch.set_rng_state(tensors["rng.torch"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    return json.loads((path / "info.json").read_text())
