"""The same run on a Ray cluster: an actor per worker holds a model, this process alone writes the rows."""

import json
from typing import Any

from vlm.evaluation.folder import RunFolder
from vlm.evaluation.models import open_model
from vlm.evaluation.runner import BatchSize, Plan, batches, halving, make_plan, ordered, to_row


def require_ray() -> Any:
    try:
        import ray.data
    except ImportError:
        raise ImportError('--engine ray needs Ray Data: pip install "ray[data]"') from None
    return ray


class Worker:
    """Reads the data by itself, as handles to pictures do not travel, and answers places in it."""

    def __init__(self, plan: dict[str, Any], model: dict[str, Any], batch_size: int | str):
        self.plan, self.model = make_plan(**plan), open_model(**model)
        self.batch = BatchSize(batch_size)

    def __call__(self, table: dict[str, Any]) -> dict[str, list[str]]:
        """Columns of places, one list of them a row -> a column of rows as JSON."""
        out = []
        for places in table["places"]:
            asked = [(place, self.plan.items[place]) for place in json.loads(places)]
            waiting = iter(asked)
            for results, seconds in halving(self.model, [self.plan.request(item) for _, item in asked], self.batch):
                out += [to_row(self.plan, *next(waiting), result, seconds / len(results)) for result in results]
        return {"row": [json.dumps(row, ensure_ascii=False) for row in out]}


def predict_with_ray(
    plan: Plan, asked: dict[str, Any], model: dict[str, Any], output: str, *, batch_size: int | str = "auto",
    workers: int = 1, gpus: float = 0, retry_errors: bool = False,
) -> RunFolder:  # fmt: skip
    """As `runner.predict`.

    Args:
        asked: what `make_plan` was given; its paths must be readable on every machine.
        model: what `open_model` is to be given.
        workers, gpus: how many models, and GPUs for each.

    Raises:
        ImportError: Ray is not installed.
    """
    from tqdm import tqdm

    ray = require_ray()
    ray.init(ignore_reinit_error=True)
    folder = RunFolder(output)
    identity = ray.get(ray.remote(num_gpus=gpus)(lambda: open_model(**model).identity).remote())
    folder.begin(plan.manifest(identity))
    with folder.append_to((0, 1)) as out:
        done = {name for name, row in folder.rows().items() if not (retry_errors and row["error"])}
        pending = [(place, item) for place, item in enumerate(plan.items) if item.id not in done]
        table = [
            {"places": json.dumps([place for place, _ in rows])}
            for rows in batches(ordered(pending, plan.prompt, None), BatchSize(batch_size))
        ]
        if table:
            answered = ray.data.from_items(table).map_batches(
                Worker, fn_constructor_args=(asked, model, batch_size), batch_size=1, concurrency=workers, num_gpus=gpus
            )
            rows = tqdm(answered.iter_rows(), total=len(pending), desc=plan.task, unit="q")
            for row in rows:
                out.write([json.loads(row["row"])])
    return folder
