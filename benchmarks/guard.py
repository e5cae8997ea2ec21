"""What the small guard costs, and what it takes to get past it: `python -m benchmarks.guard`.

Two tables: milliseconds of requests with and without the guard, and how often a picture goes through the encoder; and
recall on harmful print in pictures that are clean, noisy or attacked (vlm/guard/attack.py), by eps of 255.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
import typer
from PIL import Image

import vlm
from benchmarks.report import circumstances, show
from vlm.api import VLM
from vlm.data.worlds import sample
from vlm.evaluation.metrics.stats import wilson
from vlm.guard.attack import attack
from vlm.guard.shield import Shield, load_shield
from vlm.guard.training import prompts
from vlm.guard.training.example import Example
from vlm.guard.training.pictures import typeset_pairs, with_noise

QUESTION = "What color is the text?"


def pictures(count: int) -> list[Image.Image]:
    """Pictures of words, that the guard has something to read in."""
    return [sample(i, seed=5, mixture={"text": 1.0}, size=192, split="val").image for i in range(count)]


def milliseconds(call: Callable[[Image.Image], object], images: list[Image.Image]) -> float:
    """The median of calls with one picture each; the first fifth of them warms up."""
    took = []
    for image in images:
        began = time.perf_counter()
        call(image)
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took[len(took) // 5 :])


def asks(made: VLM) -> dict[str, Callable[[Image.Image], object]]:
    """The kinds of requests that are timed."""

    def content(image: Image.Image) -> list[dict]:
        return [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]

    return {
        "words": lambda image: made.generate([[{"role": "user", "content": QUESTION}]], max_new_tokens=8),
        "picture": lambda image: made.answer(image, QUESTION, max_new_tokens=8),
        "stream": lambda image: "".join(
            made.chat([{"role": "user", "content": content(image)}], stream=True, max_new_tokens=8)
        ),
    }


def cost(shield: Shield, count: int) -> list[dict]:
    """What requests take with the guard and without, and what a window of a stream takes."""
    rows: list[dict] = []
    for name, guard in (("without", None), ("with", shield)):
        made = vlm.load(guard=guard)
        images, row = pictures(3 * count), {"guard": name, "n": count}
        for i, (kind, call) in enumerate(asks(made).items()):
            row[kind] = milliseconds(call, images[i * count : (i + 1) * count])
        cache = made.engine.scheduler.cache
        row["encodes"] = cache.encodes / (2 * count) if cache else 0.0  # two of the kinds show pictures
        rows.append(row)
    window, said = shield.policy.stream_window, "word " * (shield.policy.stream_window - 1)
    took = milliseconds(lambda _: shield.check([{"role": "user", "content": QUESTION}], said), pictures(1) * count)
    fresh = window - shield.policy.stream_overlap  # tokens that a window adds
    rows.append({"guard": f"a window of {window} tokens", "n": count, "window": took, "per_token": took / fresh})
    return rows


def recall(shield: Shield, examples: list[Example]) -> dict:
    """The share of harmful examples that is found unsafe, with Wilson's interval."""
    found = 0
    for example in examples:
        content = [*({"type": "image", "image": p} for p in example.pictures), {"type": "text", "text": example.text}]
        found += not shield.policy.apply(shield.guard.check([{"role": "user", "content": content}])).safe
    return {"n": len(examples), "recall": found / len(examples), "interval": wilson(found, len(examples))}


def robustness(shield: Shield, count: int, eps: list[int], steps: int, seed: int) -> list[dict]:
    """Recall on the same pictures: clean, with random noise, attacked."""
    texts = prompts.examples(seed, 60 * count, "test")
    harmful = [e for e in typeset_pairs(texts, seed, 4 * count, "test") if e.unsafe][:count]
    rng = random.Random(seed)
    rows = [{"eps": 0, "kind": "clean", **recall(shield, harmful)}]
    for most in eps:
        rows.append({"eps": most, "kind": "random", **recall(shield, [with_noise(e, rng, most) for e in harmful])})
        changed = []
        for i, example in enumerate(harmful):
            made = attack(shield.guard, example.text, example.pictures[0], most, steps=steps, seed=seed + i)
            changed.append(replace(example, pictures=(made,)))
        rows.append({"eps": most, "kind": "attack", **recall(shield, changed)})
    return rows


def to_markdown(report: dict) -> str:
    """The tables of a report."""
    lines = [
        "| guard | words, ms | picture, ms | streamed, ms | encodes a picture | a window, ms | a streamed token, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = ("words", "picture", "stream", "encodes", "window", "per_token")
    for row in report["cost"]:
        cells = [f"{row[key]:.2f}" if key in row else "-" for key in columns]
        lines.append(f"| {row['guard']} | " + " | ".join(cells) + " |")
    lines += ["", "| eps of 255 | pictures | recall | 95 % | n |", "|---|---|---|---|---|"]
    for row in report["robustness"]:
        low, high = row["interval"]
        lines.append(f"| {row['eps']} | {row['kind']} | {row['recall']:.1%} | {low:.1%} - {high:.1%} | {row['n']} |")
    return "\n".join(lines) + "\n"


def main(
    guard: Annotated[str, typer.Option(help="default, or a folder of vlm guard train")] = "default",
    count: Annotated[int, typer.Option(help="requests of each kind", min=5)] = 40,
    attacked: Annotated[int, typer.Option(help="harmful pictures; 0 leaves the attack out", min=0)] = 60,
    eps: Annotated[str, typer.Option(help="of 255, with commas")] = "2,4,8,16",
    steps: Annotated[int, typer.Option(help="of the attack", min=1)] = 30,
    seed: int = 0,
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here too; - for stdout")] = None,
) -> None:
    """Measure the small guard around the shipped model on this CPU."""
    shield = load_shield(guard)
    assert shield is not None, "there is a guard"
    report = circumstances("cpu") | {
        "guard": shield.name,
        "steps": steps,
        "seed": seed,
        "threads": torch.get_num_threads(),
    }
    report["cost"] = cost(shield, count)
    strengths = [int(e) for e in eps.split(",")]
    report["robustness"] = robustness(shield, attacked, strengths, steps, seed) if attacked else []
    show(to_markdown(report), report, json_path)


if __name__ == "__main__":
    typer.run(main)
