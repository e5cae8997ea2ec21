"""Two runs on the same questions: the paired difference, and which answers flipped."""

import math
from pathlib import Path
from typing import Any

from vlm.evaluation.folder import RunFolder
from vlm.evaluation.metrics import stats


def compare_runs(a: str | Path, b: str | Path) -> dict[str, Any]:
    """Difference B - A with its 95 % interval clustered by picture, p-values, and flipped rows.

    Raises:
        ValueError: runs of different questions or different metrics.
    """
    first, second = RunFolder(a), RunFolder(b)
    scored = [folder.read("scores.json") for folder in (first, second)]
    rules = [(s["metric"], s["variant"]) for s in scored]
    if rules[0] != rules[1]:
        raise ValueError(
            f"{a} is scored by {' '.join(rules[0])}, {b} by {' '.join(rules[1])}; score both by one metric"
        )
    rows_a, rows_b = ({row["id"]: row for row in f.scores() if row["answers"]} for f in (first, second))
    shared = [name for name in rows_a if name in rows_b]
    other = [name for name in shared if (rows_a[name]["question"], rows_a[name]["answers"])
             != (rows_b[name]["question"], rows_b[name]["answers"])]  # fmt: skip
    if not shared or other:
        what = f"id {other[0]} is another question in each" if other else "no question with an answer is in both"
        raise ValueError(f"{a} and {b}: {what}; compare runs of one data set")
    pairs = [(rows_a[name], rows_b[name]) for name in shared]
    found = stats.compare(
        [x["score"] for x, _ in pairs], [y["score"] for _, y in pairs], [x["group"] for x, _ in pairs]
    )  # fmt: skip
    flips = {"gained": [], "lost": []}  # type: dict[str, list[dict[str, Any]]]
    for x, y in pairs:
        before, after = x["score"] or 0.0, y["score"] or 0.0
        if (before >= 0.5) != (after >= 0.5):
            flips["gained" if after > before else "lost"].append({
                "id": x["id"], "question": x["question"], "images": x["images"], "answers": x["answers"],
                "a": x["error"] or x["prediction"], "b": y["error"] or y["prediction"],
            })  # fmt: skip
    return {
        "a": str(a),
        "b": str(b),
        "metric": " ".join(rules[0]),
        **{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in found.items()},
        "only_a": len(rows_a) - len(shared),
        "only_b": len(rows_b) - len(shared),
        "flips": flips,
    }


def to_text(found: dict[str, Any], show: int = 10) -> str:
    """For a terminal: the difference in a line, then flipped answers."""
    lines = [
        f"A {100 * found['mean_a']:.1f}  {found['a']}",
        f"B {100 * found['mean_b']:.1f}  {found['b']}",
        f"B - A {100 * found['difference']:+.1f}, 95 % {_bound(found['low'])} to {_bound(found['high'])}, "
        f"p {found['p_permutation']:.4f} (signs of pictures flipped), {found['metric']}, "
        f"{found['n']} questions about {found['clusters']} pictures; {found['gained']} higher, {found['lost']} lower",
    ]
    if found["only_a"] or found["only_b"]:
        lines.append(f"left out: {found['only_a']} questions of A alone, {found['only_b']} of B alone")
    for kind, title in (("gained", "right in B only"), ("lost", "right in A only")):
        rows = found["flips"][kind]
        lines += ["", f"{title}: {len(rows)}"]
        for row in rows[:show]:
            words = (row["id"], row["question"], row["a"], row["b"], " / ".join(row["answers"][:3]))
            name, question, said_a, said_b, right = (" ".join(str(w).split())[:70] for w in words)
            lines.append(f"  {name}: {question} | A {said_a!r} | B {said_b!r} | right {right!r}")
    return "\n".join(lines)


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f}"
