"""A card's pages: index.html with pictures, and Markdown as the hub shows it."""

from pathlib import Path
from typing import Any

from vlm.checkpoints.files import write_text
from vlm.evaluation.card.content import contents
from vlm.evaluation.card.figures import Figures
from vlm.evaluation.report import render


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
