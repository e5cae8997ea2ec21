"""The `vlm` command: subcommand -> function, flags from the signature.

Heavy imports stand inside the commands, so that `vlm --help` answers at once. Errors of users are one line on standard
error and exit code 2.
"""

import contextlib
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vlm.cli_calibrate import register as register_calibration
from vlm.cli_card import register as register_card
from vlm.cli_eval import register as register_evaluation
from vlm.cli_guard import Guard, Policy, named
from vlm.cli_guard import register as register_guard
from vlm.guard import DEFAULT

app = typer.Typer(
    help="Vision-language models that see through gated cross-attention.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip
data_app = typer.Typer(help="Training data from the procedural worlds.", no_args_is_help=True)
app.add_typer(data_app, name="data")
register_evaluation(app)
register_guard(app)
register_calibration(app)
register_card(app)

Model = Annotated[str | None, typer.Option(help="Model folder or hub id; the shipped model where absent.")]
Quantization = Annotated[str | None, typer.Option(help="Hold the weights in int8, int4 or (GPU) fp8.")]
Adapter = Annotated[str | None, typer.Option(help="Folder of a LoRA adapter of the model, PEFT's or ours.")]
Json = Annotated[str | None, typer.Option("--json", help="Write all figures to this file; - is standard output.")]
MaxTokens = Annotated[int, typer.Option(help="New tokens at most.")]


def write_json(path: str | None, data: object) -> None:
    """Write what a command found, where it was asked for."""
    if path == "-":
        print(json.dumps(data, indent=1, ensure_ascii=False))
    elif path:
        Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str) -> object:
    """A file of the user's."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from None


def fail(message: str) -> None:
    print(f"vlm: {message}", file=sys.stderr)


@contextlib.contextmanager
def one_line_errors():
    """What the user or the machine did wrong becomes one line and exit code 2."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted")
        raise SystemExit(130) from None
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        fail(" ".join(str(error).split()) or type(error).__name__)
        raise SystemExit(2) from None


def warn(warnings: tuple[str, ...]) -> None:
    """Say what the guard found and let pass."""
    for warning in warnings:
        fail(f"the guard warns of the {warning}")


def show(results: list, names: list[str], path: str | None) -> None:
    """Print results, errors in their place; exit 2 at the end if there was one."""
    for name, result in zip(names, results, strict=True):
        warn(result.warnings)
        if result.error:
            fail(result.error)
        elif result.in_domain is False:
            fail(f"{name}: {result.remark}")
        if not result.error and path != "-":
            print(f"{name}: {result}" if len(results) > 1 else result)
    rows = [{"image": n, **r.to_dict()} for n, r in zip(names, results, strict=True)]
    write_json(path, rows)
    if any(r.error for r in results):
        raise SystemExit(2)


@app.command()
def caption(
    images: list[str], model: Model = None, adapter: Adapter = None, quantization: Quantization = None,
    max_new_tokens: MaxTokens = 96, guard: Guard = DEFAULT, policy: Policy = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Describe pictures."""
    import vlm

    loaded = vlm.load(model, adapter=adapter, quantization=quantization, guard=named(guard), policy=policy)
    show(loaded.caption(images, max_new_tokens=max_new_tokens), images, json_path)


@app.command()
def ask(
    image: str, question: str, model: Model = None, adapter: Adapter = None, quantization: Quantization = None,
    max_new_tokens: MaxTokens = 48,
    regex: Annotated[str | None, typer.Option(help="What the whole answer must match, such as '[0-9]+'.")] = None,
    json_schema: Annotated[str | None, typer.Option(help="File of the JSON schema that the answer must meet.")] = None,
    lookup: Annotated[int, typer.Option(help="Tokens to guess ahead from the text: same answer, fewer passes.")] = 0,
    guard: Guard = DEFAULT, policy: Policy = None, json_path: Json = None,
) -> None:  # fmt: skip
    """Ask a question about a picture."""
    import vlm

    schema = read_json(json_schema) if json_schema else None
    result = vlm.load(model, adapter=adapter, quantization=quantization, guard=named(guard), policy=policy).answer(
        image, question, max_new_tokens=max_new_tokens, regex=regex, json_schema=schema, lookup=lookup
    )
    warn(result.warnings)
    if result.in_domain is False:
        fail(f"{image}: {result.remark}")
    if json_path != "-":
        print(result)
    write_json(json_path, {"image": image, "question": question, **result.to_dict()})


@app.command()
def choose(
    image: str, question: str, choices: list[str], model: Model = None, adapter: Adapter = None,
    quantization: Quantization = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="By log-probability per byte.")] = False,
    guard: Guard = DEFAULT, policy: Policy = None, json_path: Json = None,
) -> None:  # fmt: skip
    """Rank given answers to a question about a picture, the likeliest first, with their shares."""
    import vlm
    from vlm.choices import check_choices

    check_choices(choices)  # before a model is loaded
    loaded = vlm.load(model, adapter=adapter, quantization=quantization, guard=named(guard), policy=policy)
    found = loaded.choose(image, question, choices, normalize)
    warn(found.warnings)
    if json_path != "-" and found.error:
        print(found.error)
    elif json_path != "-":
        for choice in found:
            print(f"{choice.share:6.1%}  {choice.text}")
    write_json(json_path, {"image": image, "question": question, "normalize": normalize, **found.to_dict()})


@app.command()
def demo(
    model: Model = None, adapter: Adapter = None, quantization: Quantization = None,
    host: str = "127.0.0.1", port: int = 7860, share: bool = False,
    guard: Guard = DEFAULT, policy: Policy = None, json_path: Json = None,
) -> None:  # fmt: skip
    """Open the image Q&A page."""
    import vlm

    loaded = vlm.load(model, adapter=adapter, quantization=quantization, guard=named(guard), policy=policy)
    write_json(json_path, {"host": host, "port": port, "model": loaded.describe()})
    page = importlib.import_module("demo.app")  # by name: the arrow of imports runs from the demo to us
    page.serve(loaded, host=host, port=port, share=share)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="Folder or hub id; the shipped model where absent.")] = None,
    tiles: Annotated[int | None, typer.Option(help="Image tiles per row; a picture's most where absent.")] = None,
    context: Annotated[int | None, typer.Option(help="Text tokens per row; up to 8192 where absent.")] = None,
    batch: Annotated[int, typer.Option(help="Rows at once.")] = 1,
    json_path: Json = None,
) -> None:
    """Say what a model is made of and what memory it needs, without loading it."""
    from vlm.checkpoints.info import describe, to_text
    from vlm.loading import SHIPPED

    found = describe(model or SHIPPED, tiles=tiles, context=context, batch=batch)
    found["source"] = model or "shipped"
    if json_path != "-":
        print(to_text(found))
    write_json(json_path, found)


@app.command()
def compose(
    encoder: Annotated[str, typer.Option(help="tiled, timm:NAME or open_clip:NAME; `vlm encoders` lists them.")],
    connector: Annotated[str, typer.Option(help="linear, mlp, perceiver:64 or qformer:32 (tokens per picture).")],
    decoder: Annotated[str, typer.Option(help="Folder or hub id of a Llama, or a preset (random weights).")],
    out: Annotated[str, typer.Option(help="Folder of the new model.")],
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json, for presets.")] = None,
    every: Annotated[int, typer.Option(help="A gated block before every n-th layer.")] = 4,
    layers: Annotated[str | None, typer.Option(help="Or before just these, such as 3,7.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Fetch the encoder's weights.")] = False,
    tile_size: Annotated[int | None, typer.Option(help="Pixels; the encoder's own where absent.")] = None,
    max_tiles: Annotated[int | None, typer.Option(help="Tiles per picture; 4, or as the preset says.")] = None,
    taps: Annotated[str | None, typer.Option(help="Inner layers that join the features, such as 1,3.")] = None,
    json_path: Json = None,
) -> None:
    """Put gated cross-attention between an image encoder and a Llama, and write the model that training begins with."""
    import vlm
    from vlm.checkpoints.info import describe, to_text

    made = vlm.compose(
        device="cpu", encoder=encoder, connector=connector, decoder=decoder, tokenizer=tokenizer,
        cross_attention_every=every, pretrained=pretrained, tile_size=tile_size, max_tiles=max_tiles,
        cross_attention_layers=parse_numbers("--layers", layers), taps=parse_numbers("--taps", taps) or (),
    )  # fmt: skip
    made.save(out)
    found = describe(out)
    if json_path != "-":
        print(to_text(found))
    write_json(json_path, found)


@app.command()
def encoders(
    filter: Annotated[str, typer.Argument(help="A part of the name, or a glob such as 'timm:*siglip*'.")] = "",
    json_path: Json = None,
) -> None:
    """List the image encoders that a model can be composed with."""
    from encoders import list_encoders
    from vlm.config import near_match

    names = list_encoders(filter)
    if not names:
        hint = near_match(filter, list_encoders())
        raise ValueError(f"no encoder has {filter!r} in its name{hint}; a glob such as 'timm:*vit*' is fine too")
    if json_path != "-":
        print("\n".join(names))
    write_json(json_path, names)


@app.command()
def train(config: str, overrides: Annotated[list[str] | None, typer.Argument()] = None, json_path: Json = None) -> None:
    """Train as CONFIG.yaml says; key=value lays over it. Goes on from the run's last checkpoint."""
    from vlm.training.config import read_config

    run = read_config(config, overrides or [])
    from vlm.training.run import run_training

    folder = run_training(run)
    log = Path(run.output) / "log.jsonl"
    last = json.loads(log.read_text().splitlines()[-1]) if log.is_file() else {}
    if json_path != "-":
        print(folder)
    write_json(json_path, {"model": str(folder), **last})


@app.command()
def eval_world(
    model: Model = None, quantization: Quantization = None, count: int = 2000, seed: int = 1,
    split: list[str] | None = None,
    world: list[str] | None = None, emoji: str | None = None, pack: list[str] | None = None, batch_size: int = 64,
    markdown: str | None = None, json_path: Json = None,
) -> None:  # fmt: skip
    """Accuracy by question family on held-out pictures, beside the same model with the wrong picture.

    --split val, test-combos or test (all three where absent) asks COUNT questions each; --world NAME=WEIGHT mixes
    worlds; --pack FILE.zip adds a pack of yes/no questions that others drew.
    """
    import vlm
    from vlm.evaluation.world import SPLITS, evaluate_pack, evaluate_world, to_markdown

    loaded = vlm.load(model, quantization=quantization, guard=None)
    mixture = parse_weights(world or ["scenes=1"])
    evaluate = partial(
        evaluate_world, loaded, n=count, seed=seed, mixture=mixture, batch_size=batch_size, emoji=emoji
    )  # fmt: skip
    tables = {name: evaluate(split=name) for name in split or SPLITS}
    if pack:
        tables["packs"] = {Path(path).stem: evaluate_pack(loaded, path, batch_size=batch_size) for path in pack}
    titles = {**SPLITS, "packs": "yes/no questions about pictures that others drew, zero-shot"}
    text = "\n".join(f"{name}: {titles.get(name, '')}\n\n{to_markdown(table)}" for name, table in tables.items())
    if json_path != "-":
        print(text)
    if markdown:
        Path(markdown).write_text(text, encoding="utf-8")
    write_json(json_path, {"count": count, "seed": seed, "mixture": mixture, "tables": tables})


@app.command()
def convert(source: str, target: str, layout: str = "native", json_path: Json = None) -> None:
    """Write a checkpoint in another layout: native (ours) or hub (what transformers loads); run again to go on."""
    from tqdm import tqdm

    from vlm.checkpoints.convert import convert_checkpoint

    bar: tqdm | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, unit="B", unit_scale=True, desc=target)
        bar.update(done - bar.n)

    try:
        folder = convert_checkpoint(source, target, layout, progress=progress)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on with what is done")
        raise SystemExit(130) from None
    finally:
        if bar:
            bar.close()
    if json_path != "-":
        print(folder)
    write_json(json_path, {"source": source, "target": str(folder), "layout": layout})


@data_app.command()
def render(
    out: Annotated[str, typer.Option(help="Folder of the shards.")], count: int = 10000, seed: int = 0,
    split: str = "train", world: list[str] | None = None, emoji: str | None = None, size: int = 96,
    per_shard: int = 1000, json_path: Json = None,
) -> None:  # fmt: skip
    """Draw pictures with captions and questions into webdataset shards; run again to go on.

    What is written is written in the fonts of this machine: for the worlds text, documents and charts install several,
    on Debian fonts-dejavu, fonts-liberation, fonts-freefont-ttf, fonts-open-sans, fonts-roboto-unhinted, fonts-lato,
    fonts-inconsolata, fonts-hack and the others that vlm/data/worlds/fonts.py names.
    """
    from tqdm import tqdm

    from vlm.data.shards import write_shards

    mixture = parse_weights(world or ["scenes=1"])
    with tqdm(total=count, unit="picture") as bar:
        found = write_shards(
            out, count=count, seed=seed, split=split, mixture=mixture, emoji=emoji, size=size, per_shard=per_shard,
            progress=lambda done: bar.update(done - bar.n),
        )  # fmt: skip
    if json_path != "-":
        print(f"{found['samples']} samples in {found['shards']} shards in {out}")
    write_json(json_path, found)


def parse_numbers(flag: str, text: str | None) -> tuple[int, ...] | None:
    """Layer numbers written with commas."""
    try:
        return None if text is None else tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{flag} {text!r}: expected numbers with commas between, such as {flag} 3,7") from None


def parse_weights(items: list[str]) -> dict[str, float]:
    """NAME=WEIGHT pairs -> shares."""
    weights = {}
    for item in items:
        name, sep, value = item.partition("=")
        try:
            weights[name] = float(value) if sep else 1.0
        except ValueError:
            raise ValueError(f"--world {item!r}: expected NAME=WEIGHT, such as scenes=0.8") from None
    return weights


def _version(asked: bool) -> None:
    if asked:
        from vlm import __version__

        print(f"vlm {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


def main() -> None:
    """The console script."""
    with one_line_errors():
        app()


if __name__ == "__main__":
    main()
