"""Ask a model every question of a task, so that no answer is lost and none is asked twice.

- Rows go to disk as they come; the same command goes on after whatever stopped it, with as many processes as then run.
- A run that would mix two models, prompts, data sets or versions of the code is refused: `RunFolder.begin`.
- Batches hold pictures of equal cost and questions of similar length; the questions of a picture stand together, so
  that one encode serves them. Out of memory, a batch is asked again in halves.
"""

import gc
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vlm import __version__
from vlm.evaluation.folder import RunFolder
from vlm.evaluation.models import Majority, Request, failed
from vlm.evaluation.prompts import Prompt, find_prompt
from vlm.evaluation.scoring import find_metric, score_row
from vlm.evaluation.tasks import find_task, infer_metric, load_items
from vlm.evaluation.tasks.item import Item

AUTO = 32  # requests at once, to begin with
WINDOW = 4096  # items that are sorted by cost at a time
Placed = tuple[int, Item]  # an item and its place in the data
BLIND = ("question", "shuffled", "majority")
OWN = {  # for data of one's own, by the metric that its rows call for: prompt, variant
    "choice": ("letter", None),
    "cider": ("caption", None),
    "vqa": ("short", None),
    "exact": ("short", "ignore_case_punctuation"),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run asks: items, how they are put, and how answers will be scored."""

    task: str
    data: str
    items: list[Item]
    prompt: Prompt
    metric: str
    variant: str | None
    max_new_tokens: int
    blind: str | None
    settings: dict[str, Any]

    def request(self, item: Item) -> Request:
        return Request(
            id=item.id, text=self.prompt.ask(item), images=item.images, max_new_tokens=self.max_new_tokens
        )  # fmt: skip

    def manifest(self, identity: dict[str, Any]) -> dict[str, Any]:
        """What makes this run this run and no other."""
        return {
            "task": self.task,
            "model": identity,
            "blind": self.blind,
            "prompt": self.prompt.to_dict(),
            "generation": {"max_new_tokens": self.max_new_tokens, "temperature": 0},
            **self.settings,
            "data": {"path": self.data, "items": len(self.items), "hash": hash_items(self.items)},
            "code": {"version": __version__, "commit": commit()},
            "scoring": {"metric": self.metric, "variant": self.variant},
        }


def make_plan(
    task: str, data: str | Path, *, prompt: str | None = None, prompts: str | None = None, metric: str | None = None,
    variant: str | None = None, max_new_tokens: int | None = None, limit: int | None = None, seed: int | None = None,
    blind: str | None = None,
) -> Plan:  # fmt: skip
    """Read the data and settle what is asked.

    Args:
        prompt, prompts: a name of the prompts, another file of them.
        limit, seed: only so many items: the first, or with a seed as many at random.
        blind: "question" without its picture, "shuffled" with another's, "majority" without a model.

    Raises:
        ValueError: an unknown name, with the nearest one; data that is not in the form of the task.
    """
    if blind is not None and blind not in BLIND:
        raise ValueError(f"--blind {blind!r}; expected {', '.join(BLIND)}")
    known, items = find_task(task), load_items(task, data)
    if limit is not None:
        if limit < 1:
            raise ValueError(f"--limit {limit}; expected at least 1")
        items = choose(items, limit, seed)
    wanted, usual = (known.prompt, known.variant) if known.metric or metric else OWN[infer_metric(items)]
    if metric is None:
        metric, variant = known.metric or infer_metric(items), variant or usual
    variant, _ = find_metric(metric, variant)
    for item in items:  # answers that the metric cannot judge show before any question is asked
        score_row({**vars(item), "prediction": "", "error": None}, metric, variant)
    chosen = find_prompt(prompt or wanted, prompts)
    return Plan(
        task=task, data=str(data), items=blinded(items, blind), prompt=chosen, metric=metric, variant=variant,
        max_new_tokens=max_new_tokens or chosen.max_new_tokens, blind=blind, settings={"limit": limit, "seed": seed},
    )  # fmt: skip


def choose(items: list[Item], limit: int, seed: int | None) -> list[Item]:
    """The first items, or some at random in the data's order."""
    if seed is None or limit >= len(items):
        return items[:limit]
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), limit))]


def blinded(items: list[Item], kind: str | None) -> list[Item]:
    """Items without their pictures, or with those of the group half-way round the list."""
    if kind == "question":
        return [item.replace(images=()) for item in items]
    if kind == "shuffled":
        seen = {item.group: item.images for item in items if item.images}
        groups = list(seen)
        if len(groups) < 2:
            raise ValueError("--blind shuffled needs at least two pictures")
        other = {g: seen[groups[(i + len(groups) // 2) % len(groups)]] for i, g in enumerate(groups)}
        return [item.replace(images=other[item.group]) if item.images else item for item in items]
    return items


def hash_items(items: Sequence[Item]) -> str:
    """Changes with any question, answer, choice or picture file."""
    digest = hashlib.sha256()
    for i in items:
        pictures = [(image.name, image.stamp) for image in i.images]
        digest.update(json.dumps([i.id, i.question, i.answers, i.choices, i.group, i.type, pictures]).encode())
    return digest.hexdigest()[:16]


@cache
def commit() -> str | None:
    """The commit of a checkout, None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
        )
    except OSError:
        return None
    return asked.stdout.strip() or None


def parse_shard(text: str | None) -> tuple[int, int]:
    """`i/n` -> (i, n), counted from 0; where nothing is said, torchrun's RANK and WORLD_SIZE, else (0, 1)."""
    if text is None:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    index, sep, count = text.partition("/")
    if not (sep and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text!r}; expected i/n with i from 0 to n - 1, such as 0/4")
    return int(index), int(count)


def of_shard(items: Sequence[Item], shard: tuple[int, int]) -> Iterator[Placed]:
    """(place in the data, item) of a process's share; a picture's questions go to one process."""
    groups: dict[str, int] = {}
    for place, item in enumerate(items):
        if groups.setdefault(item.group, len(groups)) % shard[1] == shard[0]:
            yield place, item


def ordered(pending: list[Placed], prompt: Prompt, model: Any) -> Iterator[tuple[int, list[Placed]]]:
    """(cost, a picture's questions), of equal cost and similar length in a row."""
    for first in range(0, len(pending), WINDOW):
        groups: dict[tuple[str, ...], list[Placed]] = defaultdict(list)
        for place, item in pending[first : first + WINDOW]:
            groups[tuple(i.name for i in item.images) or (f"no picture, {place}",)].append((place, item))
        measured = [
            (cost(rows[0][1], model), max(len(prompt.ask(item)) for _, item in rows), rows) for rows in groups.values()
        ]
        for tiles, _, rows in sorted(measured, key=lambda m: (m[0], m[1], m[2][0][0])):
            yield tiles, rows


def cost(item: Item, model: Any) -> int:
    """What the pictures of an item cost the model; an unreadable one costs nothing."""
    from vlm.image import ImageError

    if not hasattr(model, "tiles"):
        return len(item.images)
    total = 0
    for image in item.images:
        try:
            total += model.tiles(*image.size())
        except ImageError:
            pass
    return total


class BatchSize:
    """Requests at once; shrinks where memory does not suffice."""

    def __init__(self, value: int | str):
        self.size = AUTO if value == "auto" else int(value) if str(value).isdigit() else 0
        if self.size < 1:
            raise ValueError(f"--batch-size {value}; expected auto or at least 1")


def batches(groups: Iterator[tuple[int, list[Placed]]], batch: BatchSize) -> Iterator[list[Placed]]:
    """At most `batch.size` items of one cost; a picture's questions are parted only where they are more."""
    tiles, rest = -1, list[Placed]()
    for new_tiles, rows in groups:
        if rest and (new_tiles != tiles or len(rest) + len(rows) > batch.size):
            yield rest
            rest = []
        tiles, rest = new_tiles, rest + rows
        while len(rest) > batch.size:
            part, rest = rest[: batch.size], rest[batch.size :]
            yield part
    if rest:
        yield rest


def predict(
    plan: Plan, model: Any, output: str | Path, *, batch_size: int | str = "auto", shard: tuple[int, int] = (0, 1),
    retry_errors: bool = False, progress: bool = True,
) -> RunFolder:  # fmt: skip
    """Ask what is not yet answered and write each answer at once.

    Args:
        model: see `vlm.evaluation.models`; not used for the majority baseline.
        batch_size: requests at once; "auto" begins with 32. Both are halved where memory does not suffice.
        shard: (i, n): this process's share.
        retry_errors: ask again what ended in an error.

    Raises:
        ValueError: `output` holds another run.
    """
    if plan.blind == "majority":
        model = Majority(plan.items)
    batch, folder = BatchSize(batch_size), RunFolder(output)
    folder.begin(plan.manifest(model.identity))
    share = list(of_shard(plan.items, shard))
    with folder.append_to(shard) as out:
        done = {name for name, row in folder.rows().items() if not (retry_errors and row["error"])}
        pending = [(place, item) for place, item in share if item.id not in done]
        scores, errors = list[float](), 0
        bar = tqdm(total=len(share), initial=len(share) - len(pending), desc=plan.task, unit="q", disable=not progress)
        with bar:
            for asked in batches(ordered(pending, plan.prompt, model), batch):
                places = iter(asked)
                for results, seconds in halving(model, [plan.request(item) for _, item in asked], batch):
                    rows = [to_row(plan, *next(places), result, seconds / len(results)) for result in results]
                    out.write(rows)
                    scores += [row["score"] for row in rows if row["score"] is not None]
                    errors += sum(row["error"] is not None for row in rows)
                    bar.update(len(rows))
                    shown = {"score": f"{sum(scores) / len(scores):.3f}"} if scores else {}
                    bar.set_postfix({**shown, "batch": batch.size, **({"errors": errors} if errors else {})})
    return folder


def halving(model: Any, requests: Sequence[Request], batch: BatchSize) -> Iterator[tuple[list, float]]:
    """(results, seconds) in order, in as many parts as memory makes it; what is too large alone is an error result."""
    first = 0
    while first < len(requests):
        part = requests[first : first + batch.size]
        start, results, trouble = time.monotonic(), None, ""
        try:
            results = model.generate(part)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = str(error)
        if results is None:  # by now the traceback, which held the tensors, is gone
            free_memory()
            if len(part) > 1:
                batch.size = math.ceil(len(part) / 2)
                continue
            results = [failed(f"out of memory even alone: {trouble}"[:300])]
        yield results, time.monotonic() - start
        first += len(part)


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, torch.OutOfMemoryError, or the CPU allocator's plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )


def free_memory() -> None:
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def to_row(plan: Plan, place: int, item: Item, result: Any, seconds: float) -> dict[str, Any]:
    """What is kept of a sample: enough to score it again without data or model."""
    row: dict[str, Any] = {
        "id": item.id,
        "place": place,
        "group": item.group,
        "question": item.question,
        "images": [image.name for image in item.images],
        "choices": list(item.choices),
        "prediction": str(result),
        "answers": list(item.answers),
        "type": item.type,
        "finish_reason": result.finish_reason,
        "tokens": {"prompt": result.prompt_tokens, "completion": result.completion_tokens},
        "seconds": round(seconds, 5),
        "error": result.error,
        "metadata": item.metadata,
    }
    return {**row, **score_row(row, plan.metric, plan.variant)}
