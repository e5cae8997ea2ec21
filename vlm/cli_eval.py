"""Commands that measure models: predict, score, report, all three in one, and the comparison of two runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Task = Annotated[str, typer.Argument(help="A name of vlm eval-tasks; own for your own data.")]
Data = Annotated[str, typer.Option(help="Folder, zip or annotation file, as it is distributed.")]
Output = Annotated[str, typer.Option(help="Folder of the run; the same command goes on with it.")]
Model = Annotated[
    str | None, typer.Option(help="Folder or hub id of ours; hf:PATH for transformers; openai:URL#MODEL.")
]  # fmt: skip
Prompt = Annotated[str | None, typer.Option(help="A name of prompts.yaml; the model's or the task's own where absent.")]
Prompts = Annotated[str | None, typer.Option(help="Another file of prompts.")]
Metric = Annotated[str | None, typer.Option(help="The task's own where absent.")]
Variant = Annotated[str | None, typer.Option(help="Of the metric; stated in the report.")]
Tokens = Annotated[int | None, typer.Option(help="New tokens at most; the prompt's own where absent.")]
BatchSize = Annotated[str, typer.Option(help="auto or a number; halved where memory does not suffice.")]
Limit = Annotated[int | None, typer.Option(help="Ask only so many: the first, or with --seed at random.")]
Shard = Annotated[str | None, typer.Option(help="i/n: this process's share; torchrun sets it by itself.")]
Blind = Annotated[str | None, typer.Option(help="question, shuffled or majority.")]
Retry = Annotated[bool, typer.Option("--retry-errors", help="Ask again what ended in an error.")]
Engine = Annotated[str, typer.Option(help="local, or ray.")]
Json = Annotated[str | None, typer.Option("--json", help="Write all figures to this file; - is standard output.")]
Run = Annotated[str, typer.Argument(help="Folder of a run.")]
Submission = Annotated[str | None, typer.Option(help="Also write the file that the benchmark's server takes.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `vlm`."""
    app.command(name="eval")(evaluate)
    for command in (predict, score, report):
        app.command()(command)
    app.command(name="eval-compare")(compare)
    app.command(name="eval-tasks")(tasks)


def evaluate(
    task: Task, data: Data, output: Output, model: Model = None, prompt: Prompt = None, prompts: Prompts = None,
    metric: Metric = None, variant: Variant = None, max_new_tokens: Tokens = None, batch_size: BatchSize = "auto",
    limit: Limit = None, seed: int | None = None, shard: Shard = None, blind: Blind = None,
    with_blind: Annotated[bool, typer.Option("--with-blind", help="Also run the three blind baselines.")] = False,
    retry_errors: Retry = False, submission: Submission = None, device: str = "auto", dtype: str = "auto",
    revision: str | None = None, engine: Engine = "local", workers: int = 1, gpus: float = 0, json_path: Json = None,
) -> None:  # fmt: skip
    """Ask a model every question of a benchmark, score the answers, write report.html, report.md and report.json."""
    asked = {
        "task": task, "data": data, "prompt": prompt, "prompts": prompts, "metric": metric, "variant": variant,
        "max_new_tokens": max_new_tokens, "limit": limit, "seed": seed,
    }  # fmt: skip
    source = {"name": model, "device": device, "dtype": dtype, "revision": revision}
    how: dict[str, Any] = {"batch_size": batch_size, "shard": shard, "retry_errors": retry_errors}
    ray = {"workers": workers, "gpus": gpus} if engine_is_ray(engine) else None
    kinds = [blind, "question", "shuffled", "majority"] if with_blind and blind is None else [blind]
    loaded: dict[str, Any] = {}
    for kind in kinds[1:]:
        if run({**asked, "blind": kind}, source, f"{output}/blind-{kind}", loaded, ray, **how):
            score_run(f"{output}/blind-{kind}")
    if not run({**asked, "blind": blind}, source, output, loaded, ray, **how):
        return
    found = score_run(output)
    show_score(output, found, json_path, submission, data)


def predict(
    task: Task, data: Data, output: Output, model: Model = None, prompt: Prompt = None, prompts: Prompts = None,
    max_new_tokens: Tokens = None, batch_size: BatchSize = "auto", limit: Limit = None, seed: int | None = None,
    shard: Shard = None, blind: Blind = None, retry_errors: Retry = False, device: str = "auto", dtype: str = "auto",
    revision: str | None = None, engine: Engine = "local", workers: int = 1, gpus: float = 0, json_path: Json = None,
) -> None:  # fmt: skip
    """Only ask: one line of OUTPUT/predictions.jsonl a question, on disk at once."""
    asked = {
        "task": task, "data": data, "prompt": prompt, "prompts": prompts, "max_new_tokens": max_new_tokens,
        "limit": limit, "seed": seed, "blind": blind,
    }  # fmt: skip
    source = {"name": model, "device": device, "dtype": dtype, "revision": revision}
    ray = {"workers": workers, "gpus": gpus} if engine_is_ray(engine) else None
    run(asked, source, output, {}, ray, batch_size=batch_size, shard=shard, retry_errors=retry_errors)
    from vlm.evaluation.folder import RunFolder

    rows = RunFolder(output).rows().values()
    counts = {"output": output, "answered": len(rows), "errors": sum(r["error"] is not None for r in rows)}
    if json_path != "-":
        print(f"{counts['answered']} answers in {output}, {counts['errors']} errors; next: vlm score {output}")
    to_json(json_path, counts)


def score(
    run: Run, metric: Metric = None, variant: Variant = None, submission: Submission = None,
    data: Annotated[str | None, typer.Option(help="Where the pictures are now.")] = None, json_path: Json = None,
) -> None:  # fmt: skip
    """Merge and score what was predicted, by the task's metric or another; needs no model."""
    show_score(run, score_run(run, metric, variant), json_path, submission, data)


def report(
    run: Run, data: Annotated[str | None, typer.Option(help="Where the pictures are now.")] = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Write report.html, report.md and report.json of a scored run anew."""
    from vlm.evaluation.report import write_report

    paths = {name: str(path) for name, path in write_report(run, data).items()}
    if json_path != "-":
        print(paths["html"])
    to_json(json_path, paths)


def compare(
    a: Run, b: Run, show: Annotated[int, typer.Option(help="Flipped answers to show, each way.")] = 10,
    json_path: Json = None,
) -> None:  # fmt: skip
    """How much better B answers than A on the same questions, with interval and p-value, and which answers flipped."""
    from vlm.evaluation.compare import compare_runs, to_text

    found = compare_runs(a, b)
    if json_path != "-":
        print(to_text(found, show))
    to_json(json_path, found)


def tasks(json_path: Json = None) -> None:
    """List what models can be measured on."""
    from vlm.evaluation.tasks import TASKS

    rows = [{"task": n, "about": t.about, "prompt": t.prompt, "metric": t.metric} for n, t in TASKS.items()]
    if json_path != "-":
        for row in rows:
            print(f"{row['task']:14}{row['about']:46}{row['prompt']:14}{row['metric'] or 'as the rows tell'}")
    to_json(json_path, rows)


def engine_is_ray(name: str) -> bool:
    if name not in ("local", "ray"):
        raise ValueError(f"--engine {name!r}; expected local or ray")
    if name == "ray":
        from vlm.evaluation.ray_engine import require_ray

        require_ray()
    return name == "ray"


def run(
    asked: dict[str, Any], source: dict[str, Any], output: str, loaded: dict[str, Any], ray: dict[str, Any] | None, *,
    batch_size: str, shard: str | None, retry_errors: bool,
) -> bool:  # fmt: skip
    """Predict; True where this leaves no question open, False where other processes are still at theirs."""
    from vlm.evaluation.models import open_model, usual_prompt
    from vlm.evaluation.runner import make_plan, parse_shard, predict

    asked = asked | {"prompt": asked["prompt"] or usual_prompt(source["name"])}
    plan = make_plan(**asked)
    if ray and asked["blind"] != "majority":
        from vlm.evaluation.ray_engine import predict_with_ray

        folder = predict_with_ray(
            plan, asked, source, output, batch_size=batch_size, retry_errors=retry_errors, **ray
        )  # fmt: skip
    else:
        if asked["blind"] != "majority" and "model" not in loaded:
            loaded["model"] = open_model(**source)
        part = parse_shard(shard)
        folder = predict(
            plan, loaded.get("model"), output, batch_size=batch_size, shard=part, retry_errors=retry_errors,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
    left = len(plan.items) - len(folder.rows())
    if left:
        print(
            f"vlm: {left} of {len(plan.items)} questions are left to other shards; then: vlm score {output}",
            file=sys.stderr,
        )
    return not left


def score_run(output: str, metric: str | None = None, variant: str | None = None) -> dict[str, Any]:
    from vlm.evaluation.scoring import score_folder

    return score_folder(output, metric, variant)


def show_score(
    output: str, found: dict[str, Any], json_path: str | None, submission: str | None, data: str | None
) -> None:
    """The score in a line, the reports in files; exit 2 where not one question could be asked."""
    from vlm.evaluation.report import interval, percent, write_report, write_submission

    if submission:
        write_submission(output, submission)
    html = write_report(output, data)["html"]
    if json_path != "-":
        print(
            f"{percent(found['score'])} ({interval(found)}), n {found['n']}, errors {found['errors']}, "
            f"unparsed {found['unparsed']}"
        )
        print(html)
    to_json(json_path, found)
    if found["errors"] == found["n"]:
        raise ValueError(f"every question ended in an error, such as: {found['first_error']}")


def to_json(path: str | None, data: object) -> None:
    from vlm.cli import write_json

    write_json(path and str(Path(path)), data)
