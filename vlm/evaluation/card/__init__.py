"""The card of a model: every figure that is stated of it, measured anew from its weights.

Notable here:
- A card is a list of jobs, one a table. Each is written as it is finished; what the file has of the same weights with
  the same settings is not measured again, so the command goes on where it was stopped.
- Jobs share nothing: on a CPU they run in as many processes as asked for, each with a model of its own. What takes the
  time of a user is measured first, alone.
- A table that cannot be measured here (no data, no package) is named with the reason, and the others are made.
"""

import concurrent.futures
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm.evaluation.card import packs, worlds
from vlm.evaluation.card.figures import Figures
from vlm.evaluation.families import PER_PICTURE

if TYPE_CHECKING:
    from vlm.evaluation.models import Ours

PARTS = ("times", "limits", "worlds", "packs", "contamination")
UNIFORM = dict.fromkeys(worlds.WORLDS, 1.0)
EMOJI = "emoji_noto.zip"
_handle: "Ours | None" = None  # the model of a worker process


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a card is to hold.

    Attributes:
        model: folder or hub id; None for the shipped model.
        out: folder of card.json, index.html and pictures.
        data: folder of the packs of other people's data, and of the zip of emoji; None where there is none.
        parts: of PARTS, what is measured now; what the file has already is shown in any case.
        count: questions of each family.
        drawn: pictures that are compared with the evaluation pictures.
        limit: questions per pack at most.
        examples: right and wrong answers shown per family.
    """

    model: str | None = None
    out: Path = Path("docs/card")
    data: Path | None = None
    parts: tuple[str, ...] = PARTS
    count: int = 2000
    drawn: int = 20_000
    limit: int | None = None
    examples: int = 2
    seed: int = 1
    batch_size: int = 64
    workers: int = 1
    device: str = "auto"
    work: Path = Path("runs/card")
    mixture: dict[str, float] = field(default_factory=lambda: UNIFORM)

    def __post_init__(self):
        if wrong := [p for p in self.parts if p not in PARTS]:
            raise ValueError(f"--only {wrong[0]!r}; expected some of {', '.join(PARTS)}")
        for name, least in (("count", 1), ("drawn", 1), ("workers", 1), ("batch_size", 1), ("examples", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}; expected at least {least}")
        if self.data is not None and not self.data.is_dir():
            raise ValueError(f"--data {self.data}: no such folder")

    def file(self, name: str) -> Path | None:
        """A file of the data folder, where it is there."""
        path = self.data / name if self.data else None
        return path if path and path.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A table: its name in the file, what it hangs on, and how it is measured."""

    name: str
    settings: dict[str, Any]
    run: Callable[["Ours | None", Request, dict[str, Any]], Any]
    of_weights: bool = True


def jobs(request: Request) -> Iterator[Job]:
    """The tables of a request, in the order of PARTS."""
    for part in [p for p in PARTS if p in request.parts]:
        yield from _JOBS[part](request)


def _of_times(request: Request) -> Iterator[Job]:
    yield Job(name="times", settings={"repeats": 5, "answers": 20}, run=_times)


def _of_worlds(request: Request) -> Iterator[Job]:
    emoji = request.file(EMOJI)
    for name, world in worlds.WORLDS.items():
        for split in world.splits:
            settings = {
                "world": name, "split": split, "count": request.count, "per_picture": PER_PICTURE, "seed": request.seed,
                "examples": request.examples if split in world.shown else 0, "emoji": emoji and emoji.name,
            }  # fmt: skip
            yield Job(name=f"worlds/{name}/{split}", settings=settings, run=_world)


def _of_packs(request: Request) -> Iterator[Job]:
    for name, pack in packs.PACKS.items():
        if request.file(pack.file):
            yield Job(name=f"packs/{name}", settings={"pack": name, "limit": request.limit}, run=_pack)


def _of_contamination(request: Request) -> Iterator[Job]:
    from vlm.evaluation.contamination import PACKS

    if found := [name for name in PACKS if request.file(name)]:
        settings = {"drawn": request.drawn, "seed": request.seed, "mixture": request.mixture, "packs": found}
        yield Job(name="contamination", settings=settings, run=_contamination, of_weights=False)


def _of_limits(request: Request) -> Iterator[Job]:
    yield Job(name="limits", settings={"n": request.count, "data": request.data is not None}, run=_limits)


_JOBS = {"times": _of_times, "worlds": _of_worlds, "packs": _of_packs, "limits": _of_limits,
         "contamination": _of_contamination}  # fmt: skip


def _times(model: "Ours | None", request: Request, settings: dict[str, Any]) -> Any:
    from vlm.evaluation.card import times

    return times.measure(request.model, **settings)


def _world(model: "Ours | None", request: Request, settings: dict[str, Any]) -> Any:
    assert model is not None
    emoji = request.file(EMOJI)
    return worlds.measure(
        model.vlm, settings, request.out / "pictures", emoji=str(emoji) if emoji else None,
        batch_size=request.batch_size, progress=request.workers == 1,
    )  # fmt: skip


def _pack(model: "Ours | None", request: Request, settings: dict[str, Any]) -> Any:
    assert model is not None
    path = request.file(packs.PACKS[settings["pack"]].file)
    assert path is not None
    return packs.measure(
        model, settings, path, request.work, batch_size=request.batch_size, progress=request.workers == 1
    )  # fmt: skip


def _contamination(model: "Ours | None", request: Request, settings: dict[str, Any]) -> Any:
    from vlm.evaluation.contamination import check

    assert request.data is not None
    emoji = request.file(EMOJI)
    return check(
        request.data, settings["mixture"], n=settings["drawn"], seed=settings["seed"],
        emoji=str(emoji) if emoji else None, progress=request.workers == 1,
    )  # fmt: skip


def _limits(model: "Ours | None", request: Request, settings: dict[str, Any]) -> Any:
    from vlm.evaluation.limits import evaluate_limits

    assert model is not None
    return evaluate_limits(model.vlm, n=settings["n"], data=request.data)


def measure(request: Request, done: Callable[[Figures, dict[str, str]], None]) -> tuple[Figures, dict[str, str]]:
    """Measure what is missing.

    Args:
        done: is called with all figures whenever a table was added, and what cannot be measured with the reason.

    Returns: the figures, and name -> reason of the tables that could not be measured.
    """
    model = open_model(request)
    figures = Figures(request.out / "card.json", describe(request, model))
    if figures.dropped:
        print(f"{figures.path}: {len(figures.dropped)} tables of other weights are not used")
    pending = [job for job in jobs(request) if not figures.has(job.name, job.settings)]
    failed: dict[str, str] = {}

    def add(job: Job, attempt: Callable[[], tuple[Any, float]]) -> None:
        try:
            result, seconds = attempt()
        except (ValueError, OSError, ImportError) as error:
            failed[job.name] = " ".join(str(error).split()) or type(error).__name__
            print(f"{job.name}: {failed[job.name]}", flush=True)
        else:
            figures.put(job.name, job.settings, result, seconds, job.of_weights)
            print(f"{job.name}: {seconds:.0f} s", flush=True)
        done(figures, failed)

    alone = pending if request.workers == 1 else [job for job in pending if job.name == "times"]
    for job in alone:
        add(job, lambda job=job: _run(job, request, model))  # type: ignore[misc]
    rest = [job for job in pending if job not in alone]
    if rest:
        del model
        with concurrent.futures.ProcessPoolExecutor(
            request.workers, multiprocessing.get_context("spawn"), _start_worker, (request,)
        ) as pool:
            running = {pool.submit(_run_in_worker, job, request): job for job in rest}
            try:
                for future in concurrent.futures.as_completed(running):
                    add(running[future], future.result)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    done(figures, failed)
    return figures, failed


def open_model(request: Request) -> "Ours":
    from vlm.evaluation.models import Ours

    return Ours(request.model, device=request.device)


def describe(request: Request, model: "Ours") -> dict[str, Any]:
    """What is measured, as plain data: without paths, for the file is published."""
    found = model.vlm.describe()
    name = Path(request.model).name if request.model else "shipped"
    return {
        "name": name, "weights": model.identity["weights"], "parameters": found["parameters"], "parts": found["parts"],
        "dtype": found["dtype"], "config": found["config"],
    }  # fmt: skip


def _run(job: Job, request: Request, model: "Ours | None") -> tuple[Any, float]:
    start = time.monotonic()
    return job.run(model, request, job.settings), time.monotonic() - start


def _start_worker(request: Request) -> None:
    """A worker keeps to one core, so that as many as there are cores disturb each other least."""
    import torch

    global _handle
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // request.workers))
    _handle = open_model(request)


def _run_in_worker(job: Job, request: Request) -> tuple[Any, float]:
    return _run(job, request, _handle)
