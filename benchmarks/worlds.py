"""How fast the worlds draw: python -m benchmarks.worlds --json PATH [--emoji ZIP].

Samples per second of one core, with their questions, once glyphs, masks and emoji are in their caches. The clock is the
processor's, so other programs on the machine weigh little; the best of the rounds is told, the JSON has them all.
"""

import time
from typing import Annotated

import typer

from benchmarks.report import check_options, circumstances, show
from vlm.cli import Json, one_line_errors
from vlm.data.worlds import WORLDS, sample

GOAL = 1000  # samples a second
WARM = 4  # rounds before the first that counts: a worker of a run draws tens of thousands


def rates(world: str, size: int, questions: int, count: int, rounds: int, emoji: str | None) -> list[float]:
    """Samples per second of processor time in each round, after WARM rounds that fill the caches."""
    found = []
    for number in range(WARM + rounds):
        start = time.process_time()
        for i in range(number * count, (number + 1) * count):
            sample(i, seed=2026, mixture={world: 1.0}, size=size, n_questions=questions, emoji_path=emoji)
        found.append(count / (time.process_time() - start))
    return found[WARM:]


def main(
    world: list[str] | None = None,
    size: list[int] | None = None,
    questions: Annotated[int, typer.Option(help="Questions of each picture.")] = 8,
    count: Annotated[int, typer.Option(help="Samples in a round.")] = 500,
    rounds: int = 3,
    emoji: Annotated[str | None, typer.Option(help="Zip of Noto drawings; the system's font where absent.")] = None,
    json_path: Json = None,
) -> None:
    """Measure samples per second per core of each world at 96 and 192 pixels."""
    worlds, sizes = world or list(WORLDS), size or [96, 192]
    check_options(world=(worlds, WORLDS))
    rows = [
        {"world": w, "size": s, "rounds": [round(r, 1) for r in rates(w, s, questions, count, rounds, emoji)]}
        for w in worlds
        for s in sizes
    ]
    lines = ["| world | size | samples/s of a core |", "|---|---|---|"]
    lines += [f"| {r['world']} | {r['size']} | {max(r['rounds']):.0f} |" for r in rows]
    below = [f"{r['world']} at {r['size']}" for r in rows if max(r["rounds"]) < GOAL]
    lines.append(f"\nbelow {GOAL} a second: {', '.join(below) or 'none'}")
    settings = {"questions": questions, "count": count, "emoji": bool(emoji), "goal": GOAL}
    show("\n".join(lines), {**circumstances("cpu"), "settings": settings, "worlds": rows}, json_path)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
