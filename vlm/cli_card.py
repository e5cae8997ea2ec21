"""The command that measures a model for its card."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str | None, typer.Argument(help="Folder or hub id; the shipped model where absent.")]
Data = Annotated[str | None, typer.Option(help="Folder of the packs of evaluation data and of emoji_noto.zip.")]
Only = Annotated[
    str | None, typer.Option(help="What is measured now, of times,limits,worlds,packs,contamination; none for none.")
]  # fmt: skip
Count = Annotated[int, typer.Option(help="Questions of each family of each world and split.")]
Drawn = Annotated[int, typer.Option(help="Training pictures that are compared with the evaluation pictures.")]
Limit = Annotated[int | None, typer.Option(help="Questions per pack at most.")]
Examples = Annotated[int, typer.Option(help="Right and wrong answers shown of each family.")]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core on a CPU where absent.")]
Runs = Annotated[str | None, typer.Option(help="YAML list of the training runs; OUT/runs.yaml where absent.")]
Results = Annotated[str, typer.Option(help="Folder of the benchmarks' JSON: guard*.json, worlds.json.")]
Markdown = Annotated[str | None, typer.Option(help="File of the Markdown; OUT/README.md where absent.")]
Readme = Annotated[str | None, typer.Option(help="Markdown file whose table of goals is written anew, too.")]
Json = Annotated[str | None, typer.Option("--json", help="Write all figures to this file too; - is standard output.")]


def register(app: typer.Typer) -> None:
    """Add the command to `vlm`."""
    app.command()(card)


def card(
    model: Model = None, out: str = "docs/card", data: Data = None, only: Only = None, count: Count = 2000,
    drawn: Drawn = 20_000, limit: Limit = None, examples: Examples = 2, seed: int = 1, batch_size: int = 64,
    workers: Workers = None, device: str = "auto", work: str = "runs/card", runs: Runs = None,
    results: Results = "benchmarks/results", markdown: Markdown = None, readme: Readme = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Measure a model for its card: OUT/card.json, OUT/index.html with pictures, and Markdown.

    What OUT/card.json has of the same weights and settings is kept, so the command goes on where it was stopped.
    """
    from vlm.evaluation.card import PARTS, Request, measure
    from vlm.evaluation.card.pages import around_goals, remove_unused, write_goals, write_pages
    from vlm.evaluation.card.reports import read_reports
    from vlm.evaluation.card.training import summarise

    if readme:
        around_goals(Path(readme))  # before hours of measuring
    listed = Path(runs) if runs else Path(out) / "runs.yaml"
    training = summarise(listed) if runs or listed.is_file() else None
    reports = read_reports(Path(results))
    parts = PARTS if only is None else tuple(p for p in only.split(",") if p != "none")
    request = Request(
        model=model, out=Path(out), data=Path(data) if data else None, parts=parts, count=count, drawn=drawn,
        limit=limit, examples=examples, seed=seed, batch_size=batch_size, workers=workers or processes(device),
        device=device, work=Path(work), **({"mixture": training["mixture"]} if training else {}),
    )  # fmt: skip
    said = ["vlm", "card", *([Path(model).name] if model else []), *(["--data", "DATA"] if data else [])]
    said += [f"--{name}={value}" for name, value in (("count", count), ("seed", seed)) if value != DEFAULTS[name]]
    pages = Path(markdown) if markdown else Path(out) / "README.md"

    def write(figures, failed) -> None:
        write_pages(
            figures, request.out, pages, command=shlex.join(said), training=training, reports=reports, failed=failed
        )

    figures, failed = measure(request, write)
    remove_unused(figures, request.out / "pictures")
    if readme:
        write_goals(figures, Path(readme))
    if json_path != "-":
        print(f"{request.out / 'index.html'}\n{pages}")
    from vlm.cli import write_json

    write_json(json_path, figures.to_dict())
    if failed:
        raise ValueError(f"{len(failed)} tables could not be measured: {', '.join(failed)}")


DEFAULTS = {"count": 2000, "seed": 1}


def processes(device: str) -> int:
    """A process a core on a CPU; one on a GPU, which they would only wait for."""
    from vlm.model import pick_device

    return min(os.cpu_count() or 1, 8) if pick_device(device).type == "cpu" else 1
