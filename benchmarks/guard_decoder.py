"""Whether the shipped decoder's own states tell harmful words: `python -m benchmarks.guard_decoder --ailuminate CSV`.

The frozen decoder reads the typed words; a logistic regression on its last token's state, on the mean of its states or
on both is trained on the guard's own requests and measured on families that are held out and on AILuminate's held-out
prompts. Beside it stand counted words and the guard's own transformer, trained on the same requests.
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import typer
from torch.nn import functional as F

from benchmarks.report import circumstances, show
from vlm.chat import Chat
from vlm.checkpoints import load_checkpoint
from vlm.guard.datasets import read_held_out, read_prompts
from vlm.guard.training.ailuminate import read_ailuminate
from vlm.guard.training.baselines import BagOfWords
from vlm.guard.training.data import TEXTS, draw
from vlm.guard.training.example import Example
from vlm.guard.training.metrics import measure
from vlm.guard.training.run import HEAD
from vlm.guard.training.train import TrainConfig, logits, train_head
from vlm.loading import SHIPPED
from vlm.model import VisionLanguageModel

MOST_TOKENS = 256
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
STATES = {"last token": slice(0, 1), "mean of states": slice(1, 2), "both": slice(0, 2)}


@torch.inference_mode()
def states_of(model: VisionLanguageModel, chat: Chat, texts: list[str], size: int = 64) -> torch.Tensor:
    """The last token's state and the mean of all, (n, 2, D), of texts as the decoder reads them."""
    ids = [chat.tokenizer.encode(text)[-MOST_TOKENS:] or [0] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = torch.zeros(len(ids), 2, model.config.decoder.dim)
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        lengths = torch.tensor([len(ids[i]) for i in rows])
        tokens = torch.tensor([ids[i] + [0] * (int(lengths.max()) - len(ids[i])) for i in rows])
        x = model.decoder.hidden_states(tokens).float()  # (R, T, D); what is behind a token does not change it
        inside = (torch.arange(tokens.shape[1]) < lengths[:, None])[..., None]
        found[rows, 0] = x[torch.arange(len(rows)), lengths - 1]
        found[rows, 1] = (x * inside).sum(1) / lengths[:, None]
    return found


def regress(x: torch.Tensor, y: torch.Tensor, decay: float) -> torch.nn.Linear:
    """Logistic regression of y (n,) on x (n, D) by L-BFGS."""
    line = torch.nn.Linear(x.shape[1], 1)
    torch.nn.init.zeros_(line.weight)
    rule = torch.optim.LBFGS(line.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        rule.zero_grad()
        found = F.binary_cross_entropy_with_logits(line(x)[:, 0], y) + decay * line.weight.square().sum()
        found.backward()
        return found

    rule.step(loss)
    return line.requires_grad_(False)


def labels(examples: list[Example]) -> np.ndarray:
    return np.array([e.unsafe for e in examples])


def to_markdown(report: dict) -> str:
    """One row a head: AUROC, and recall where 5 % of the harmless validation requests are flagged."""
    lines = [
        "| trained on the same requests | held-out families, AUROC | recall | AILuminate, AUROC | recall |",
        "|---" * 5 + "|",
    ]
    for name, row in report["heads"].items():
        cells = [row[data][figure] for data in ("templates", "ailuminate") for figure in ("auroc", "recall")]
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f} ({low:.3f}-{high:.3f})" for v, low, high in cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    ailuminate: Annotated[str, typer.Option(help="CSV of AILuminate's prompts")],
    share: Annotated[float, typer.Option(help="of the guard's typed requests")] = 0.35,
    seed: int = 0,
    json_path: Annotated[str | None, typer.Option("--json", help="write all figures here too; - for stdout")] = None,
) -> None:
    """Measure heads on the shipped decoder's states beside counted words and the guard's transformer."""
    loaded = load_checkpoint(SHIPPED, device="cpu", dtype=torch.float32)
    assert isinstance(loaded.chat, Chat)
    collected = read_ailuminate(ailuminate)
    train = draw("train", seed, TEXTS.scaled(share), collected["train"])
    val = draw("val", seed, replace(TEXTS.scaled(0.08), padded=0), collected["val"])
    tests = {"templates": read_prompts(), "ailuminate": read_held_out(ailuminate)}
    sets = {"train": train, "val": val, **tests}
    report = circumstances("cpu") | {"seed": seed, "n": {name: len(part) for name, part in sets.items()}, "heads": {}}

    def note(name: str, scores: dict[str, np.ndarray]) -> None:
        threshold = np.quantile(scores["val"][~labels(val)], 0.95, method="higher")
        report["heads"][name] = {d: measure(scores[d], scores[d] > threshold, labels(sets[d])) for d in tests}

    states = {name: states_of(loaded.model, loaded.chat, [e.text for e in part]) for name, part in sets.items()}
    for name, part in STATES.items():
        x = {key: value[:, part].flatten(1) for key, value in states.items()}
        mean, std = x["train"].mean(0), x["train"].std(0) + 1e-6
        x = {key: (value - mean) / std for key, value in x.items()}
        wanted = torch.from_numpy(labels(train)).float()
        tried = []
        for decay in DECAYS:
            line = regress(x["train"], wanted, decay)
            scores = {key: line(value)[:, 0].numpy() for key, value in x.items() if key != "train"}
            tried.append((measure(scores["val"], scores["val"] > 0, labels(val), rounds=1)["auroc"][0], scores))
        note(f"decoder's states, {name}", max(tried, key=lambda pair: pair[0])[1])
    bag = BagOfWords().fit(train, seed)
    note("bag of words", {key: bag.score(part) for key, part in sets.items() if key != "train"})
    head = train_head(train, HEAD, TrainConfig(), seed)
    note("the guard's head, words alone", {key: logits(head, part) for key, part in sets.items() if key != "train"})
    show(to_markdown(report), report, json_path)


if __name__ == "__main__":
    typer.run(main)
