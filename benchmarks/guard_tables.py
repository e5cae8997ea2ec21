"""Write what was measured of the small guard into docs/guard.md: `python -m benchmarks.guard_tables`.

Each table stands between `<!-- NAME -->` and `<!-- end of NAME -->` and comes from benchmarks/results/guard-NAME.json,
as `vlm guard eval NAME --json` and `python -m benchmarks.guard_decoder --json` write it. A table without its file stays
as it is.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import ROOT
from vlm.checkpoints.files import write_text
from vlm.cli import one_line_errors, write_json
from vlm.guard.taxonomy import CATEGORIES

PAGE, RESULTS = ROOT / "docs/guard.md", ROOT / "benchmarks/results"
FIGURES = {
    "precision": "precision", "recall": "recall", "F1": "f1", "false alarms": "fpr", "AUROC": "auroc", "AUPRC": "auprc",
    "recall at 5 % false alarms": "recall_at_5",
}  # fmt: skip
DECODER = {"templates": "held-out families", "ailuminate": "AILuminate"}


def cell(value: list[float] | None) -> str:
    """A figure with its interval, as short as it goes: .838 (.779-.888)."""
    if value is None:
        return "-"
    point, low, high = (f"{v:.3f}".lstrip("0") if 0 < v < 1 else f"{v:.0f}" for v in value)
    return point if point == low == high else f"{point} ({low}-{high})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def guards(found: dict) -> list[str]:
    """Figures of the guard and of every baseline on a data set."""
    rows = [
        [name.replace("default", "small guard"), *(cell(part["all"][key]) for key in FIGURES.values())]
        for name, part in found["guards"].items()
    ]
    whole = found["guards"]["default"]["all"]
    seen = f", {found['seen in training']} word for word in the training data" if found["seen in training"] else ""
    return [f"{whole['n']:,} requests, {whole['unsafe']:.1%} unsafe{seen}:", "", *table(["", *FIGURES], rows)]


def padded(found: dict) -> list[str]:
    """Recall and false alarms among harmless sentences."""
    rows = [[n, *(cell(row[key]) for key in ("recall", "fpr", "auroc"))] for n, row in found.get("padded", {}).items()]
    return table(["harmless sentences around", "recall", "false alarms", "AUROC"], rows) if rows else []


def worlds(found: dict) -> list[str]:
    """How many harmless questions are refused."""
    whole = found["guards"]["default"]["all"]
    return [f"Of {whole['n']} questions about the shipped model's pictures {cell(whole['fpr'])} are refused."]


def hazards(found: dict) -> list[str]:
    """Heads that never saw a hazard beside one that saw all."""
    rows = []
    for key, row in found["hazards"].items():
        n = round(row["left out"]["n"] * row["left out"]["unsafe"])
        figures = [cell(row[kind][name]) for kind in ("left out", "trained on") for name in ("recall", "auroc")]
        rows.append([CATEGORIES[key].name, str(n), *figures])
    return table(["hazard left out", "n", "recall", "AUROC", "recall if trained on", "AUROC if trained on"], rows)


def decoder(found: dict) -> list[str]:
    """Heads on the shipped decoder's states beside those on words."""
    columns = [(data, figure) for data in DECODER for figure in ("auroc", "recall")]
    rows = [[name, *(cell(row[data][figure]) for data, figure in columns)] for name, row in found["heads"].items()]
    head = [f"{DECODER[data]}, {'AUROC' if figure == 'auroc' else figure}" for data, figure in columns]
    return table(["trained on the same requests", *head], rows)


TABLES: dict[str, tuple[str, Callable[[dict], list[str]]]] = {
    **{name: (name, guards) for name in ("xstest", "figstep", "ailuminate", "templates", "pictures")},
    "padded": ("templates", padded), "worlds": ("worlds", worlds), "hazards": ("hazards", hazards),
    "decoder": ("decoder", decoder),
}  # fmt: skip


def fill(page: str, results: Path) -> str:
    """A page with every table whose file is there.

    Raises:
        ValueError: the page has no place for a table.
    """
    for name, (file, made) in TABLES.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not (found := place.search(page)):
            raise ValueError(f"found no <!-- {name} --> and <!-- end of {name} -->; expected both around the table")
        path = results / f"guard-{file}.json"
        if path.exists() and (lines := made(json.loads(path.read_text()))):
            page = page[: found.end(1)] + "\n".join(lines) + "\n" + page[found.start(2) :]
    return page


def main(json_path: Annotated[str | None, typer.Option("--json", help="write all figures here")] = None) -> None:
    """Fill the tables of docs/guard.md."""
    with one_line_errors():
        write_text(PAGE, fill(PAGE.read_text(encoding="utf-8"), RESULTS))
        paths = {name: RESULTS / f"guard-{file}.json" for name, (file, _) in TABLES.items()}
        write_json(json_path, {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()})


if __name__ == "__main__":
    typer.run(main)
