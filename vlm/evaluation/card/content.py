"""Figures -> what the pages of a card say, in plain data that both templates read."""

from typing import Any

from vlm.evaluation.card import packs, words, worlds
from vlm.evaluation.card.figures import Figures, one_machine
from vlm.evaluation.metrics.stats import wilson
from vlm.training.curves import Curves, smooth

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 44, 34  # of the learning curve, px
POINTS = 160  # of a curve at most
BLIND = ("wrong_picture", "no_picture", "majority")
WEAK, GOOD = 0.10, 0.90  # a family below GOOD and less than WEAK above the best blind baseline has not been learnt
REFUSALS = (
    ("false_premises", "False premises",
     'Told: a question about what is not there is answered "there is no ...". False alarm: a question about what is '
     "there is answered so."),
    ("cannot_tell", "What a picture does not tell",
     'Told: a question that the picture does not answer is answered "cannot tell". False alarm: a question that it '
     "does answer is answered so."),
)  # fmt: skip
CURVES = {"answer_right": "answers", "caption_right": "captions"}


def contents(
    figures: Figures, *, command: str, training: dict[str, Any] | None = None,
    reports: dict[str, list[dict[str, Any]]] | None = None, failed: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the templates say.

    Args:
        training: of `vlm.evaluation.card.training.summarise`, where the runs are known.
        reports: of `vlm.evaluation.card.reports.read_reports`.
        failed: table -> why it could not be measured.
    """
    failed = failed or {}
    drawn = [found for name in worlds.WORLDS if (found := world(figures, name, failed))]
    return {
        "model": figures.model, "title": title(figures.model), "facts": facts(figures), "command": command,
        "goals": goals(figures),
        "worlds": drawn, "missing_worlds": [n for n in worlds.WORLDS if n not in [w["name"] for w in drawn]],
        "refusals": [
            {"title": title, "about": about, "rows": refusals(figures, key)} for key, title, about in REFUSALS
        ], "weak": weak(figures), "packs": [pack(figures, name) for name in packs.PACKS],
        "training": training and {**training, "curve": curve(training["curves"]), "points": points(training["curves"])},
        "contamination": figures.tables.get("contamination"), "times": figures.tables.get("times"),
        "limits": figures.tables.get("limits"), "guard": (reports or {}).get("guard", []),
        "generators": (reports or {}).get("generators", []), "failed": failed, "words": words,
    }  # fmt: skip


def title(model: dict[str, Any]) -> str:
    return "the shipped model" if model["name"] == "shipped" else model["name"]


def facts(figures: Figures) -> list[tuple[str, str]]:
    """What was measured, when and where."""
    model = figures.model
    image, decoder = model["config"]["image"], model["config"]["decoder"]
    parts = ", ".join(f"{name} {n / 1e6:.2f} M" for name, n in model["parts"].items())
    found = [
        ("parameters", f"{model['parameters'] / 1e6:.2f} million ({parts})"),
        ("pictures", f"tiles of {image['tile_size']} px, {image['max_tiles']} at most per picture"),
        ("text", f"{decoder['vocab_size']} tokens, context of {decoder['max_seq_len']}"),
        ("measured in", model["dtype"]),
        ("weights", f"hash {model['weights']}"),
    ]
    if tables := list(figures.tables.values()):
        first, last = min(t["date"] for t in tables), max(t["date"] for t in tables)
        commits = dict.fromkeys(t["commit"] or "unknown" for t in tables)
        machines = dict.fromkeys(one_machine(t["machine"]) for t in tables)
        when = f"{first[:16]} to {last[:16]}".replace("T", " ") + " UTC"
        found += [("when", when), ("commit", ", ".join(commits)), ("machine", "; ".join(machines))]
    return found


def rows(figures: Figures, table: str) -> dict[str, dict[str, Any]]:
    """Name -> row of a table, none where it was not measured."""
    found = figures.result(table)
    return {row["name"]: row for row in found["rows"]} if found else {}


def best_blind(row: dict[str, Any]) -> float:
    """The best that was reached without looking, of what was measured."""
    return max(row[b] for b in BLIND if row[b] is not None)


def goals(figures: Figures) -> list[dict[str, Any]]:
    """What was aimed at and what was reached, as far as it was measured."""
    found = []
    for goal in worlds.GOALS:
        if row := rows(figures, goal.table).get(goal.row):
            value = row[goal.key]
            low, high = (row["low"], row["high"]) if goal.key == "accuracy" else wilson(value * row["n"], row["n"])
            found.append(reached(goal.name, row["n"], value, low, high, goal.least, best_blind(row)))
    if pooled := next((p for p in refusals(figures, "false_premises") if p["name"] == "all"), None):
        told, alarms = pooled["detected"], pooled["false_alarms"]
        found.append(reached("false premises told", told["n"], told["share"], told["low"], told["high"],
                             worlds.DETECTED))  # fmt: skip
        found.append(reached("false alarms (at most)", alarms["n"], alarms["share"], alarms["low"], alarms["high"],
                             worlds.ALARMS, most=True))  # fmt: skip
    for name, wanted in packs.PACKS.items():
        for row in rows(figures, f"packs/{name}").values():
            if row["name"] in wanted.goals:
                found.append(reached(row["name"], row["n"], row["accuracy"], row["low"], row["high"],
                                     wanted.goals[row["name"]], best_blind(row)))  # fmt: skip
    return found


def reached(
    name: str, n: int, value: float, low: float, high: float, goal: float, blind: float | None = None,
    most: bool = False,
) -> dict[str, Any]:  # fmt: skip
    return {"name": name, "n": n, "score": value, "low": low, "high": high, "goal": goal, "blind": blind,
            "reached": value <= goal if most else value >= goal}  # fmt: skip


def world(figures: Figures, name: str, failed: dict[str, str]) -> dict[str, Any] | None:
    """A world with its tables and examples, None where nothing of it was measured or tried."""
    about = worlds.WORLDS[name]
    tables, examples = [], []
    for split in about.splits:
        key = f"worlds/{name}/{split}"
        if found := figures.result(key):
            title = worlds.FONTS if split == "test" and name in worlds.WRITTEN else worlds.SPLITS[split]
            tables.append({
                "split": split, "title": title, "rows": found["rows"],
                "verbatim": any(r["verbatim"] != r["accuracy"] for r in found["rows"]),
            })  # fmt: skip
            examples += [{**e, "split": split} for e in found["examples"]]
        elif key in failed:
            tables.append({"split": split, "title": f"not measured here: {failed[key]}", "rows": [], "verbatim": False})
    if not tables:
        return None
    grouped: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        title = example["family"] if example["split"] == "val" else f"{example['family']} ({example['split']})"
        grouped.setdefault(title, []).append(example)
    return {"name": name, "about": about.about, "families": dict(about.families), "tables": tables,
            "examples": grouped, "sizes": about.sizes}  # fmt: skip


def refusals(figures: Figures, key: str) -> list[dict[str, Any]]:
    """Told and falsely told, by world on new pictures, and over all of them."""
    found = [
        {"name": name, **result[key]}
        for name in worlds.WORLDS
        if (result := figures.result(f"worlds/{name}/val")) and result[key]
    ]
    if len(found) > 1:
        pooled = {}
        for kind in ("detected", "false_alarms"):
            n, k = (sum(row[kind][what] for row in found) for what in ("n", "k"))
            low, high = wilson(k, n)
            pooled[kind] = {"n": n, "k": k, "share": k / max(n, 1), "low": low, "high": high}
        exact = sum(row["exact"] * row["detected"]["n"] for row in found) / sum(r["detected"]["n"] for r in found)
        found.append({"name": "all", "exact": exact, **pooled})
    return found


def weak(figures: Figures) -> list[dict[str, Any]]:
    """Families that are hardly better than blind on new pictures, by world: what a user should not ask."""
    found = []
    for name, about in worlds.WORLDS.items():
        families = [
            {"name": family, "score": row["accuracy"], "blind": blind}
            for family, row in rows(figures, f"worlds/{name}/val").items()
            if family in about.families
            and row["accuracy"] - (blind := best_blind(row)) < WEAK
            and row["accuracy"] < GOOD
        ]
        found += [{"world": name, "families": families}] if families else []
    return found


def pack(figures: Figures, name: str) -> dict[str, Any]:
    """A pack with its rows, none where it was not measured."""
    about = packs.PACKS[name]
    found = rows(figures, f"packs/{name}")
    return {
        "about": about.about, "scored": about.scored, "beside": about.beside, "file": about.file,
        "rows": [{**row, "goal": about.goals.get(row["name"])} for row in found.values()],
    }  # fmt: skip


def curve(curves: Curves) -> dict[str, Any]:
    """The learning curve as points of an SVG: share of answer tokens that were right, over pictures seen."""
    shown = {name: list(zip([x for x, _ in curves[name]], smooth(curves[name]), strict=True))
             for name in CURVES if curves.get(name)}  # fmt: skip
    most = max((points[-1][0] for points in shown.values()), default=1)
    across, up = (WIDTH - LEFT - 8) / most, HEIGHT - BOTTOM - 8
    lines = []
    for name, points in shown.items():
        step = max(1, len(points) // POINTS)
        places = [f"{LEFT + x * across:.1f},{8 + (1 - y) * up:.1f}" for x, y in [*points[::step], points[-1]]]
        lines.append({"name": name, "label": CURVES[name], "points": " ".join(places), "last": points[-1][1]})
    ticks = [{"x": round(LEFT + most * k / 4 * across, 1), "label": f"{most * k / 4 / 1000:,.0f}"} for k in range(5)]
    levels = [{"y": round(8 + (1 - k / 4) * up, 1), "label": f"{25 * k}"} for k in range(5)]
    return {"width": WIDTH, "height": HEIGHT, "left": LEFT, "base": HEIGHT - BOTTOM, "lines": lines, "ticks": ticks,
            "levels": levels}  # fmt: skip


def points(curves: Curves, n: int = 10) -> list[dict[str, Any]]:
    """Some rows of the learning curve for a page without pictures."""
    if not (found := curves.get("answer_right")):
        return []
    smoothed = smooth(found)
    chosen = sorted({round(k * (len(found) - 1) / (n - 1)) for k in range(n)})
    return [{"pictures": found[i][0], "score": smoothed[i]} for i in chosen]
