"""Draw the learning curve of a training run from its log: `python -m benchmarks.learning_curve LOG.jsonl ...`.

Several logs are of runs that went on from one another, in this order.

The upper panel is the share of answer tokens that were right on pictures never seen before (every picture of a run is
new), the lower one the losses. Needs `pip install -e .[docs]`.
"""

from pathlib import Path
from typing import Annotated

import typer

from vlm.training.curves import Curves, one_after_another, smooth


def draw(curves: Curves, out: Path) -> None:
    """Both panels over thousands of pictures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    labels = {"answer_right": "answers", "caption_right": "captions", "answer": "answers", "caption": "captions",
              "dense": "dense labels", "point_right": "attention's places", "point": "attention's places"}  # fmt: skip
    upper_names, lower_names = ("answer_right", "caption_right", "point_right"), ("answer", "caption", "dense", "point")
    for axes, names in ((upper, upper_names), (lower, lower_names)):
        for name in names:
            if name in curves:
                x = [pictures / 1000 for pictures, _ in curves[name]]
                line = axes.plot(x, smooth(curves[name]), label=labels[name])[0]
                axes.plot(x, [v for _, v in curves[name]], alpha=0.2, color=line.get_color())
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    upper.set_ylabel("share right")
    upper.set_ylim(0, 1)
    lower.set_ylabel("cross-entropy")
    lower.set_yscale("log")
    lower.set_xlabel("thousand pictures seen")
    partial = out.with_name(f".{out.name}")
    figure.savefig(partial, dpi=110, format=out.suffix.lstrip(".") or "png")
    partial.replace(out)


def main(
    logs: list[Path], out: Path = Path("learning-curve.png"),
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:  # fmt: skip
    """Draw the curve and say where it ended."""
    from vlm.cli import one_line_errors, write_json

    with one_line_errors():
        curves = one_after_another(logs)
        draw(curves, out)
        ends = {name: round(smooth(points)[-1], 4) for name, points in curves.items()}
        if json_path != "-":
            print(f"{out}: " + ", ".join(f"{name} {value}" for name, value in ends.items()))
        write_json(json_path, {"logs": [str(log) for log in logs], "out": str(out), "ends": ends, "curves": curves})


if __name__ == "__main__":
    typer.run(main)
