"""How the model was trained, for the card: its runs one after another, their mixtures and their curves."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from vlm.training.config import TrainConfig, read_config
from vlm.training.curves import one_after_another, read_log

FIELDS = ("config", "log", "machine")


def read_runs(path: Path) -> list[dict[str, str]]:
    """The runs that made the model, in order, of a YAML list: config, log and machine of each; `changes` is optional,
    what was laid over the config. Files are relative to the list.

    Raises:
        ValueError: another form, a missing file.
    """
    import yaml

    try:
        runs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}; expected a YAML list of runs") from None
    if not isinstance(runs, list) or not runs:
        raise ValueError(f"{path}: found no list of runs; expected items of {', '.join(FIELDS)}")
    for run in runs:
        missing = [f for f in FIELDS if not isinstance(run, dict) or not isinstance(run.get(f), str)]
        if missing:
            raise ValueError(f"{path}: a run has no {missing[0]}; expected {', '.join(FIELDS)} and, if any, changes")
        for name in ("config", "log"):
            if not (path.parent / run[name]).is_file():
                raise ValueError(f"{path}: {run[name]}: no such file beside the list")
    return runs


def summarise(path: Path) -> dict[str, Any]:
    """What the card says of the training.

    Returns: runs (numbers, stages), mixture (world -> share of all pictures) and curves.
    """
    runs = read_runs(path)
    found, pictures = [], defaultdict[str, float](float)
    for run in runs:
        config = read_config(path.parent / run["config"], list(run.get("changes", [])))
        log = read_log(path.parent / run["log"])
        last = log[-1] if log else {}
        found.append({
            "config": Path(run["config"]).name, "machine": run["machine"], "steps": last.get("step", 0),
            "planned": config.steps, "pictures": last.get("pictures", 0), "questions": last.get("questions", 0),
            "seconds": sum_of_parts([row.get("seconds", 0.0) for row in log]), "batch": config.batch_pictures,
            "lr": config.lr, "seed": config.seed, "stages": stages(config),
        })  # fmt: skip
        for world, share in mixture(config, last.get("step", 0)).items():
            pictures[world] += share * last.get("pictures", 0)
    total = sum(pictures.values()) or 1.0
    curves = one_after_another([path.parent / run["log"] for run in runs])
    return {
        "runs": found, "mixture": {w: round(n / total, 4) for w, n in sorted(pictures.items(), key=lambda m: -m[1])},
        "curves": curves,
    }  # fmt: skip


def sum_of_parts(seconds: list[float]) -> float:
    """Time of a run whose clock starts again wherever it was resumed."""
    parts = [a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a]
    return round(sum(parts), 1)


def stages(config: TrainConfig) -> list[dict[str, Any]]:
    """The stretches of a curriculum as plain data."""
    starts = [0, *(stage.until for stage in config.stages)]
    return [
        {"from": start, "until": stage.until, "mixture": stage.mixture, "families": list(stage.families),
         "text": stage.text, "max_objects": stage.max_objects, "caption_share": stage.caption_share,
         "large": stage.large}
        for start, stage in zip(starts, config.stages, strict=False)
    ]  # fmt: skip


def mixture(config: TrainConfig, steps: int) -> dict[str, float]:
    """World -> share of the pictures of a run that made so many steps."""
    shares, before = defaultdict[str, float](float), 0
    for stage in config.stages:
        length = max(min(stage.until, steps) - before, 0)
        before += length
        for world, share in stage.mixture.items():
            shares[world] += length * share / sum(stage.mixture.values())
    return {world: n / before for world, n in shares.items()} if before else {}
