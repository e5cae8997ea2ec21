"""What the log of a training run shows: curves over the pictures that were seen."""

import json
from pathlib import Path

Curves = dict[str, list[tuple[int, float]]]  # name -> [(pictures seen, value), ...]
SHOWN = ("answer_right", "caption_right", "point_right", "answer", "caption", "dense", "point")


def read_log(path: Path) -> list[dict]:
    """The rows of a log.

    Raises:
        ValueError: no such file, or a line that is no row of one.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such log; give the log.jsonl of a run of `vlm train`")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "pictures": int(row["pictures"])})
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number}: found {line[:60]!r}, expected a row of a training log") from None
    return rows


def one_after_another(logs: list[Path]) -> Curves:
    """The curves of several logs as those of one run."""
    whole: Curves = {}
    seen = 0
    for log in logs:
        rows = read_log(log)
        for row in rows:
            for name in SHOWN:
                if name in row:
                    whole.setdefault(name, []).append((seen + row["pictures"], row[name]))
        seen += rows[-1]["pictures"] if rows else 0
    return whole


def smooth(points: list[tuple[int, float]], window: int = 5) -> list[float]:
    """Mean over the last `window` values, so that the trend shows."""
    values = [v for _, v in points]
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
