"""The command that fits a model's confidence and domain, and writes them beside its weights."""

import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `vlm`."""
    app.command()(calibrate)


def calibrate(
    model: Annotated[str | None, typer.Argument(help="Model folder; the shipped model where absent.")] = None,
    world: Annotated[
        list[str] | None, typer.Option(help="NAME=WEIGHT of the worlds that it was trained on; all where absent.")
    ] = None,
    emoji: Annotated[str | None, typer.Option(help="Zip of emoji pictures; the system's font where absent.")] = None,
    count: Annotated[int, typer.Option(help="Pictures to fit the domain on, and questions for the confidence.")] = 2000,
    seed: int = 0,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write all figures to this file; - is standard output.")
    ] = None,
) -> None:
    """Fit how sure a model may be of its answers and which pictures it knows, and write both into its folder."""
    from pathlib import Path

    import torch

    from vlm.api import VLM
    from vlm.calibration.fit import calibrate
    from vlm.calibration.worlds import Worlds
    from vlm.checkpoints import load_checkpoint, open_checkpoint
    from vlm.checkpoints.calibration import CONFIDENCE_FILE, DOMAIN_FILE, fingerprint, save_calibration
    from vlm.cli import parse_weights, write_json
    from vlm.loading import SHIPPED
    from vlm.model import pick_device

    folder = Path(model or SHIPPED)
    worlds = Worlds(mixture=parse_weights(world), emoji=emoji) if world else Worlds(emoji=emoji)
    source = open_checkpoint(folder)
    mark = fingerprint(source.shapes, source.read)
    loaded = load_checkpoint(folder, device=pick_device("auto"), dtype=torch.float32, calibrated=False)
    if loaded.chat is None:
        raise ValueError(f"{folder}: has no tokenizer; put the model's tokenizer.json beside its weights")
    made = VLM(loaded.model, loaded.chat, loaded.generation, str(folder))
    found = calibrate(made, worlds, count=count, seed=seed, progress=lambda text: print(text, file=sys.stderr))
    save_calibration(found, folder, mark)
    if json_path != "-":
        print(f"{folder / CONFIDENCE_FILE}\n{folder / DOMAIN_FILE}")
        print(f"{found.fitted['right']:.1%} right, mean confidence {found.fitted['mean_confidence']:.1%}")
    write_json(json_path, {"folder": str(folder), "fingerprint": mark, **found.fitted})
