"""What a run found, for people: report.md, report.json and one self-contained report.html.

Scores stand with their intervals, beside blind baselines and published scores with the prompts that these had.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm.checkpoints.files import write_json, write_text
from vlm.evaluation.folder import RunFolder
from vlm.evaluation.tasks import TASKS, load_items
from vlm.evaluation.tasks.item import Item
from vlm.evaluation.tasks.references import REFERENCES

EXAMPLES = 12  # of the best and of the worst
SIDE = 320  # px of a picture in the report
BLIND_NAMES = {
    "question": "blind: question without picture",
    "shuffled": "blind: another question's picture",
    "majority": "blind: commonest answer of each type",
}


def write_report(output: str | Path, data: str | None = None) -> dict[str, Path]:
    """Write the three reports of a scored run.

    Args:
        output: the folder of the run; its sub-folders blind-* are baselines where they are scored too.
        data: where the pictures are now, if not where they were.

    Returns: name -> path of report.html, report.md and report.json.
    """
    folder = RunFolder(output)
    manifest, summary, rows = folder.manifest, folder.read("scores.json"), folder.scores()
    task = TASKS.get(manifest["task"])
    blind = {
        kind: RunFolder(folder.path / f"blind-{kind}").read("scores.json")
        for kind in BLIND_NAMES
        if (folder.path / f"blind-{kind}" / "scores.json").is_file()
    }
    content: dict[str, Any] = {
        "title": f"{manifest['task']}: {manifest['model']['name']}"
        + (f" ({BLIND_NAMES[manifest['blind']]})" if manifest["blind"] else ""),
        "about": task.about if task else manifest["task"],
        "model": " ".join(str(v) for k in ("kind", "name", "weights") if (v := manifest["model"].get(k))),
        "manifest": manifest,
        "summary": summary,
        "table": [{"name": "all", **summary}, *({"name": r["type"] or "(no type)", **r} for r in summary["types"])],
        "blind": [{"name": BLIND_NAMES[kind], **found} for kind, found in blind.items()],
        "references": [vars(r) for r in REFERENCES.get(manifest["task"], ())],
        "facts": facts(manifest, summary),
        "examples": examples(rows, data or manifest["data"]["path"], manifest["task"]),
    }
    write_json(folder.path / "report.json", {
        **{k: content[k] for k in ("title", "manifest", "summary", "references", "facts")}, "blind": blind,
        "examples": {name: [r["id"] for r in found] for name, found in content["examples"]},
    })  # fmt: skip
    for end in ("html", "md"):
        write_text(folder.path / f"report.{end}", render(f"report.{end}.j2", content))
    return {end: folder.path / f"report.{end}" for end in ("html", "md", "json")}


def render(template: str, content: dict[str, Any]) -> str:
    """A template of the package, filled; HTML is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")), undefined=StrictUndefined,
        autoescape=select_autoescape(("html.j2",)), keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters.update(percent=percent, width=width, interval=interval, cell=cell, code=code, sentence=sentence)
    return environment.get_template(template).render(**content)


def sentence(text: str) -> str:
    """First letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def percent(share: float | None) -> str:
    """A score of 100, as papers print it; CIDEr may be more."""
    return "-" if share is None else f"{100 * share:.1f}"


def width(share: float | None) -> str:
    return f"{100 * min(max(share or 0.0, 0.0), 1.0):.2f}%"


def interval(row: dict[str, Any]) -> str:
    return "-" if row["low"] is None else f"{percent(row['low'])} to {percent(row['high'])}"


def cell(text: Any) -> str:
    """One line of a Markdown table."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def code(text: str) -> str:
    """A block of Markdown code."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def facts(manifest: dict[str, Any], summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The run in rows: settings, counts, speed."""
    speed = summary["throughput"]
    asked = {"--blind": manifest["blind"], "limit": manifest["limit"], "seed": manifest["seed"]}
    return [
        ("model", ", ".join(f"{k} {v}" for k, v in manifest["model"].items() if v is not None)),
        ("data", f"{manifest['data']['path']}, hash {manifest['data']['hash']}"),
        ("asked", ", ".join(f"{k} {v}" for k, v in asked.items() if v is not None) or "every question"),
        ("generation", ", ".join(f"{k} {v}" for k, v in manifest["generation"].items())),
        ("metric", f"{summary['metric']}, variant {summary['variant']}"),
        ("code", f"version {manifest['code']['version']}, commit {manifest['code']['commit'] or 'unknown'}"),
        ("errors", f"{summary['errors']} of {summary['n']}, scored as wrong"),
        ("unparsed", f"{summary['unparsed']} of {summary['n']}, scored as wrong"),
        ("cut off at the limit of new tokens", f"{summary['truncated']} of {summary['n']}"),
        ("speed", f"{speed['questions_per_second']:.2f} questions and {speed['tokens_per_second']:.1f} new tokens "
                  f"a second and process, pictures included; {speed['seconds']:.1f} s in all"),
        ("tokens", f"{speed['prompt_tokens']} read, {speed['completion_tokens']} written"),
    ]  # fmt: skip


def examples(rows: list[dict[str, Any]], data: str, task: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The worst and the best answers, of equally good ones some from all over the data, with their pictures."""
    scored = [r for r in rows if r["answers"]]
    if not scored:
        chosen = {"Examples": spread(rows, EXAMPLES)}
    else:
        value: Callable[[dict], float] = lambda r: -1.0 if r["error"] else r["score"] or 0.0  # noqa: E731
        wrong = sorted((r for r in scored if value(r) < 0.5), key=value)
        right = sorted((r for r in scored if value(r) >= 0.5), key=value, reverse=True)
        chosen = {"The worst answers": extreme(wrong, value), "The best answers": extreme(right, value)}
    try:
        items = {item.id: item for item in load_items(task, data)}
    except (ValueError, OSError):  # the data has gone: the words remain
        items = {}
    return [
        (name, [{**r, "pictures": thumbnails(r, items.get(r["id"]))} for r in found]) for name, found in chosen.items()
    ]


def extreme(rows: list[dict[str, Any]], value: Callable[[dict], float]) -> list[dict[str, Any]]:
    """The first rows of a sorted list; where equals reach beyond them, a spread of these."""
    if len(rows) <= EXAMPLES:
        return rows
    edge = value(rows[EXAMPLES - 1])
    before = [r for r in rows[:EXAMPLES] if value(r) != edge]
    return before + spread([r for r in rows if value(r) == edge], EXAMPLES - len(before))


def spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` rows at equal distances."""
    return rows if len(rows) <= count else [rows[i * len(rows) // count] for i in range(count)]


def thumbnails(row: dict[str, Any], item: Item | None) -> list[str]:
    """Data URLs of the pictures that a row was asked about; an unreadable one has none."""
    from vlm.evaluation.endpoint import data_url
    from vlm.image import ImageError

    urls = []
    for image in item.images if item and item.question == row["question"] and row["images"] else ():
        try:
            urls.append(data_url(image.open(), side=SIDE))
        except ImageError:
            continue
    return urls


def write_submission(output: str | Path, path: str | Path) -> None:
    """Write the file that the benchmark's server takes.

    Raises:
        ValueError: the benchmark has none, or not every question is answered.
    """
    folder = RunFolder(output)
    task = TASKS.get(folder.manifest["task"])
    if task is None or task.submission is None:
        known = ", ".join(name for name, t in TASKS.items() if t.submission)
        raise ValueError(f"{folder.manifest['task']} has no submission file; those with one: {known}")
    made = task.submission(folder.scores())
    if str(path).endswith(".jsonl"):
        write_text(Path(path), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    else:
        write_text(Path(path), json.dumps(made, ensure_ascii=False) + "\n")
