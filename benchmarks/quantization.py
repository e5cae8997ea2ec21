"""What quantization costs in quality: `python -m benchmarks.quantization`, on the shipped model and our world.

Every form answers the same held-out questions. Beside its accuracy stand the share of answers equal to those in bf16,
and the perplexity of the right answers (the end of the turn included), which moves before any answer changes.
"""

import math
from typing import Annotated

import torch
import typer

import vlm
from benchmarks.report import check_options, circumstances, pick, show
from vlm.api import VLM
from vlm.choices import answer_tokens
from vlm.data.worlds import sample
from vlm.engine import Limits
from vlm.evaluation.metrics.stats import wilson
from vlm.image import preprocess

FORMS: dict[str, dict] = {  # name -> how the model is held
    "bf16": {}, "fp32": {"dtype": torch.float32}, "int8": {"quantization": "int8"}, "int4": {"quantization": "int4"},
    "fp8": {"quantization": "fp8"}, "bf16, cache int8": {"cache": "int8"}, "bf16, cache fp8": {"cache": "fp8"},
}  # fmt: skip


def load(form: dict, device: str) -> VLM:
    """The shipped model in one form."""
    options = {k: v for k, v in form.items() if k != "cache"}
    model = vlm.load(device=device, guard=None, **{"dtype": torch.bfloat16, **options})
    return VLM(model.model, model.chat_format, model.generation, limits=Limits(cache_dtype=form.get("cache")))


def questions(count: int, size: int, seed: int) -> list[tuple]:
    """Pictures, questions and answers of the split val."""
    rows: list[tuple] = []
    index = 0
    while len(rows) < count:
        drawn = sample(index, seed=seed, mixture={"scenes": 1.0}, size=size, split="val", n_questions=4)
        rows += [(drawn.image, q.text, q.answer) for q in drawn.questions]
        index += 1
    return rows[:count]


def nats(model: VLM, rows: list[tuple]) -> tuple[float, int]:
    """Negative log-likelihood of the right answers, and their tokens."""
    total, n = 0.0, 0
    for image, question, answer in rows:
        messages = [
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}
        ]
        prompt = model.chat_format.encode(messages)
        tokens = answer_tokens(model.chat_format, messages, prompt, answer)
        picture = preprocess(image, model.model.config.image)
        total -= model.engine.rank(prompt, [picture], [tokens])[0]
        n += len(tokens)
    return total, n


def measure(names: list[str], count: int, seed: int, device: str) -> list[dict]:
    """A row for each form."""
    rows, found, base = questions(count, 96, seed), [], None
    for name in names:
        model = load(FORMS[name], device)
        said = [str(s) for s in model.answer([r[0] for r in rows], [r[1] for r in rows], batch_size=64)]
        base = said if name == "bf16" else base
        right = sum(s.lower().strip(" .") == r[2].lower() for s, r in zip(said, rows, strict=True))
        total, n = nats(model, rows)
        found.append({
            "form": name, "n": count, "accuracy": right / count, "interval": wilson(right, count),
            "equal_to_bf16": None if base is None else sum(a == b for a, b in zip(said, base, strict=True)) / count,
            "perplexity": math.exp(total / n), "answer_tokens": n,
        })  # fmt: skip
    return found


def to_markdown(report: dict) -> str:
    """The table of a report."""
    lines = [
        "| form | accuracy | 95 % | answers as in bf16 | perplexity of the right answers |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        low, high = row["interval"]
        same = "-" if row["equal_to_bf16"] is None else f"{row['equal_to_bf16']:.1%}"
        cells = [row["form"], f"{row['accuracy']:.1%}", f"{low:.1%} - {high:.1%}", same, f"{row['perplexity']:.4f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    count: Annotated[int, typer.Option(help="questions", min=1)] = 2000,
    seed: int = 3,
    forms: Annotated[str, typer.Option(help=f"with semicolons: {'; '.join(FORMS)}")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here too; - for stdout")] = None,
) -> None:
    """Measure every form of the shipped model on the same questions."""
    device = pick(device)
    names = [f.strip() for f in forms.split(";")] if forms else [f for f in FORMS if f != "fp8" or device == "cuda"]
    check_options(forms=(names, FORMS))
    rows = measure(names, count, seed, device)
    report = circumstances(device) | {"seed": seed, "count": count, "rows": rows}
    show(to_markdown(report), report, json_path)


if __name__ == "__main__":
    typer.run(main)
