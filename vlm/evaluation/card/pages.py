"""A card's pages: index.html with pictures, and Markdown as the hub shows it."""

from pathlib import Path
from typing import Any

from vlm.checkpoints.files import write_text
from vlm.evaluation.card.content import contents, goals
from vlm.evaluation.card.figures import Figures
from vlm.evaluation.report import render

GOALS_BEGIN, GOALS_END = "<!-- goals: vlm card --readme -->", "<!-- end of goals -->"


def write_pages(
    figures: Figures, out: Path, markdown: Path, *, command: str, training: dict[str, Any] | None = None,
    reports: dict[str, list[dict[str, Any]]] | None = None, failed: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Write both pages from the figures."""
    content = contents(figures, command=command, training=training, reports=reports, failed=failed)
    out.mkdir(parents=True, exist_ok=True)
    markdown.parent.mkdir(parents=True, exist_ok=True)
    write_text(out / "index.html", render("card.html.j2", content))
    write_text(markdown, render("card.md.j2", content))


def around_goals(readme: Path) -> tuple[str, str]:
    """What stands before and after the table of goals of a Markdown file.

    Raises:
        ValueError: a file without the lines GOALS_BEGIN and GOALS_END.
        OSError: no such file.
    """
    before, _, rest = readme.read_text(encoding="utf-8").partition(GOALS_BEGIN)
    _, end, after = rest.partition(GOALS_END)
    if not end:
        raise ValueError(f"{readme}: found no {GOALS_BEGIN} with {GOALS_END} behind it; put both where the table goes")
    return before, after


def write_goals(figures: Figures, readme: Path) -> None:
    """Put the table of goals between GOALS_BEGIN and GOALS_END; raises what `around_goals` does."""
    before, after = around_goals(readme)
    table = render("goals.md.j2", {"goals": goals(figures)})
    write_text(readme, f"{before}{GOALS_BEGIN}\n{table}{GOALS_END}{after}")


def remove_unused(figures: Figures, folder: Path) -> None:
    """Drop pictures that no example shows any more; when nothing is being measured, for that writes new ones."""
    used = {
        name
        for table in figures.tables.values()
        for example in (table["result"] or {}).get("examples", [])
        for name in example["pictures"]
    }
    for path in folder.glob("*.webp"):
        if path.name not in used:
            path.unlink()
