"""What the other commands and benchmarks found, from their JSON: tables that the card repeats with their commit.

- `vlm guard eval DATASET --json guard-DATASET.json` and `python -m benchmarks.guard --json guard-cost.json` make the
  guard's tables, `python -m benchmarks.worlds --json worlds.json` the generators' speed.
- Tables in Markdown are read into cells, so that both pages show them in their own form.
"""

import json
from pathlib import Path
from typing import Any

from vlm.evaluation.card.figures import one_machine

Table = dict[str, list]  # head: cells; rows: lists of cells


def parse_tables(markdown: str) -> list[Table]:
    """The tables of a Markdown text: a line of cells, a line of dashes, and what follows up to another line."""
    found: list[Table] = []
    lines = [line.strip() for line in markdown.splitlines()]
    for i, line in enumerate(lines):
        if i and line.startswith("|") and "-" in line and set(line) <= set("|-: "):
            rows = []
            for row in lines[i + 1 :]:
                if not row.startswith("|"):
                    break
                rows.append(cells(row))
            found.append({"head": cells(lines[i - 1]), "rows": rows})
    return found


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def read_reports(folder: Path | None) -> dict[str, list[dict[str, Any]]]:
    """{"guard": reports, "generators": reports}, each of name, tables and where it was measured.

    Raises:
        ValueError: a file that is no report.
    """
    found: dict[str, list[dict[str, Any]]] = {"guard": [], "generators": []}
    for path in sorted(folder.glob("*.json")) if folder and folder.is_dir() else ():
        kind = "guard" if path.stem.startswith("guard") else "generators" if path.stem == "worlds" else None
        if kind is None:
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            tables = tables_of(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: no report ({type(error).__name__}: {error}); make it again") from None
        if tables:
            found[kind].append({"name": data.get("dataset") or path.stem, "tables": tables, "where": where(data)})
    return found


def tables_of(data: dict[str, Any]) -> list[Table]:
    """The tables that a report brings along, or what its figures make."""
    if "table" in data:
        text = data["table"]
        return parse_tables(text if isinstance(text, str) else "\n".join(text))
    if "robustness" in data:
        rows = [
            [f"{r['eps']}", r["kind"], f"{r['n']}", f"{100 * r['recall']:.1f}",
             f"{100 * r['interval'][0]:.1f} to {100 * r['interval'][1]:.1f}"] for r in data["robustness"]
        ]  # fmt: skip
        cost = [
            [r["guard"], *(f"{r[key]:.2f}" if key in r else "-" for key in COST)] for r in data["cost"]
        ]  # fmt: skip
        head = ["guard", "words, ms", "picture, ms", "streamed, ms", "encodes a picture", "a window, ms", "a token, ms"]
        attacked: Table = {"head": ["eps of 255", "pictures", "n", "recall", "95 %"], "rows": rows}
        return [{"head": head, "rows": cost}, *([attacked] if rows else [])]
    if "worlds" in data:
        speed = {(r["world"], r["size"]): f"{max(r['rounds']):.0f}" for r in data["worlds"]}
        sizes = sorted({size for _, size in speed})
        rows = [
            [world, *(speed.get((world, size), "-") for size in sizes)] for world in dict.fromkeys(w for w, _ in speed)
        ]
        return [{"head": ["samples a second of a core", *(f"{size} px" for size in sizes)], "rows": rows}]
    return []


COST = ("words", "picture", "stream", "encodes", "window", "per_token")


def where(data: dict[str, Any]) -> str:
    """Commit, day and machine of a report, as far as it says them."""
    parts = [f"commit {data['commit']}" if data.get("commit") else "", str(data.get("date", ""))[:10]]
    if isinstance(data.get("machine"), dict):
        parts.append(one_machine(data["machine"]))
    return ", ".join(p for p in parts if p)
