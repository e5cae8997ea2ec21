"""How long a user waits: for the model, and for an answer."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import vlm
from vlm.api import VLM

LOADING = """
import json, sys, time
name = sys.argv[1] or None
start = time.perf_counter()
import vlm
model = vlm.load(name)
first = time.perf_counter() - start
from PIL import Image
start = time.perf_counter()
model.answer(Image.new("RGB", (192, 192), "white"), "How many red circles are there?")
answered = time.perf_counter() - start
start = time.perf_counter()
vlm.load(name)
print(json.dumps([first, answered, time.perf_counter() - start]))
"""


def measure(name: str | None, repeats: int = 5, answers: int = 20) -> dict[str, Any]:
    """Medians and extremes, in seconds, of what `vlm.load(name)` gives: with whatever guard it has by default.

    Returns: load, in a fresh process with all imports; again, loading once they are done; first_answer of a fresh
    process; answer and large_answer, to a question about a picture never seen, 96 and 192 px, with its encode.
    """
    found = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", LOADING, name or ""], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"loading in a process of its own failed: {done.stderr.strip().splitlines()[-1][:200]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    columns = dict(zip(("load", "first_answer", "again"), zip(*found, strict=True), strict=True))
    model = vlm.load(name)
    for key, size in (("answer", 96), ("large_answer", 192)):
        columns[key] = _answers(model, size, answers)
    return {key: spread(values) for key, values in columns.items()}


def _answers(model: VLM, size: int, n: int) -> tuple[float, ...]:
    from vlm.data.worlds import sample

    options: dict[str, Any] = {"seed": 1, "mixture": {"scenes": 1.0}, "size": size, "split": "val", "n_questions": 1}
    asked = (drawn for number in itertools.count() if (drawn := sample(number, **options)).questions)
    times = []
    for drawn in itertools.islice(asked, n + 1):
        start = time.perf_counter()
        model.answer(drawn.image, drawn.questions[0].text)
        times.append(time.perf_counter() - start)
    return tuple(times[1:])  # the first one makes the engine's weights


def spread(values: tuple[float, ...]) -> dict[str, float]:
    """Median, least, most, and of how many."""
    return {
        "median": round(statistics.median(values), 4), "least": round(min(values), 4), "most": round(max(values), 4),
        "n": len(values),
    }  # fmt: skip
