"""Whether a model knows its limits: python -m benchmarks.limits [MODEL] --data FOLDER --json PATH --plots FOLDER.

Reliability of the confidence on held-out questions of the worlds, and the domain score on the worlds' pictures against
photographs (Flickr8k val, DAQUAR) and pictures that others drew; see vlm/evaluation/limits.py.
"""

import sys
from typing import Annotated

import typer

import vlm
from benchmarks.report import circumstances, show
from vlm.cli import Json, one_line_errors
from vlm.evaluation.limits import evaluate_limits, plot_limits, to_markdown


def main(
    model: Annotated[str | None, typer.Argument(help="Model folder; the shipped model where absent.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the zips; drawn pictures alone where absent.")] = None,
    count: Annotated[int, typer.Option(help="Questions of each split, and pictures of each set.")] = 2000,
    seed: int = 101,
    plots: Annotated[str | None, typer.Option(help="Folder of reliability.png and domain.png.")] = None,
    json_path: Json = None,
) -> None:
    """Measure the confidence and the domain score of a calibrated model."""
    loaded = vlm.load(model, guard=None)
    found = evaluate_limits(loaded, n=count, seed=seed, data=data, progress=lambda text: print(text, file=sys.stderr))
    show(to_markdown(found), {**circumstances(loaded.engine.device.type), "model": model or "shipped", **found},
         json_path)  # fmt: skip
    if plots:
        plot_limits(found, plots)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
