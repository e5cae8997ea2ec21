"""Measure a guard on labelled requests: any guard, through the same `check` that stands around a model.

Notable here:
- Baselines are trained on the guard's own data (vlm/guard/training/baselines.py) and see the same print.
- The threshold is the guard's own, fixed on validation data alone.
- How many requests stand word for word in the training data is said, and left out of a second row where there are any.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlm.guard.datasets import read_dataset, seen_in_training
from vlm.guard.policy import Policy
from vlm.guard.taxonomy import CATEGORIES
from vlm.guard.training.ailuminate import read_ailuminate
from vlm.guard.training.example import Example
from vlm.guard.training.metrics import measure
from vlm.guard.training.padding import pad

COLUMNS = ("precision", "recall", "f1", "fpr", "auroc", "auprc", "recall_at_5")
PADDED, SENTENCES = 600, (0, 1, 3, 6)  # requests that are measured among so many harmless sentences


def evaluate_guard(
    dataset: str, data: str | os.PathLike | None = None, *, guard: str = "default", policy: str | None = None,
    baselines: str | os.PathLike | None = None, ailuminate: str | os.PathLike | None = None,
    emoji: str | None = None, seed: int = 0, limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Figures of a guard and its baselines on a data set: {"guards": {name: tables}, "table": lines for people}.

    Args:
        dataset, data: a name of `DATASETS`, and its file.
        guard: as for `vlm.load`. policy: a file; the package's own where None.
        baselines: the folder that `vlm guard train` filled.
        ailuminate: CSV whose training prompts count as seen, beside the written ones.
        limit: at most so many unsafe and safe ones each, at random.
    """
    from vlm.guard.shield import load_shield
    from vlm.guard.training.data import TEXTS, draw

    examples = _some(read_dataset(dataset, data), limit, seed)
    shield = load_shield(guard, policy)
    assert shield is not None, "there is a guard"
    trained_on = draw("train", 0, TEXTS, read_ailuminate(ailuminate)["train"] if ailuminate else ())
    known = np.array(seen_in_training(examples, trained_on))
    scores, flagged = map(np.array, zip(*judge(shield.guard, shield.policy, examples), strict=True))
    found = {guard: tables(examples, scores, flagged, seed)}
    if known.any() and not known.all():
        rest = [e for e, k in zip(examples, known, strict=True) if not k]
        found[f"{guard}, unseen words only"] = tables(rest, scores[~known], flagged[~known], seed)
    everything = np.ones(len(examples), bool)
    found["always unsafe"] = tables(examples, everything.astype(float), everything, seed)
    if baselines is not None:
        for name, (s, f) in run_baselines(Path(baselines), examples, shield.guard).items():
            found[name] = tables(examples, s, f, seed)
    facts: dict[str, Any] = {"dataset": dataset, "seed": seed, "seen in training": int(known.sum())}
    facts["policy"], table = policy or "default", lines(dataset, found, int(known.sum()))
    if dataset == "templates":
        facts["padded"] = measure_padded(shield.guard, shield.policy, examples[:PADDED], seed)
        table += padded_lines(facts["padded"])
    return {**facts, "guards": found, "table": table}


def measure_padded(guard: Any, policy: Policy, examples: Sequence[Example], seed: int = 0) -> dict[int, dict[str, Any]]:
    """Figures of the same requests with 0, 1, 3 and 6 harmless sentences around them, by their number."""
    found = {}
    for count in SENTENCES:
        rng = random.Random(f"padded/{seed}")
        made = [pad(e, rng, "test", count) for e in examples]
        scores, flagged = zip(*judge(guard, policy, made), strict=True)
        found[count] = measure(scores, flagged, [e.unsafe for e in made], seed)
    return found


def padded_lines(found: dict[int, dict[str, Any]]) -> list[str]:
    """A table of `measure_padded` for people."""
    rows = ["", "| harmless sentences around | n | recall | false alarms | AUROC |", "|---" * 5 + "|"]
    for count, row in found.items():
        cells = " | ".join(_cell(row[name]) for name in ("recall", "fpr", "auroc"))
        rows.append(f"| {count} | {row['n']} | {cells} |")
    return rows


def evaluate_hazards(
    ailuminate: str | os.PathLike | None, *, seed: int = 0, share: float = 0.1,
    progress: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Leave one hazard out: a head of text trained without harmful requests of a hazard, tested on that hazard.

    Thresholds are fixed as always, on validation requests of the other hazards. The harmless test requests are the same
    for all; recall beside it is that of a head that was trained on all hazards.
    """
    from vlm.guard.training.data import TEXTS, draw
    from vlm.guard.training.run import HEAD, VALIDATION
    from vlm.guard.training.train import TrainConfig, calibrate, logits, train_head

    rows = read_ailuminate(ailuminate) if ailuminate else {"train": [], "val": [], "test": []}
    counts = TEXTS.scaled(share, TEXTS.repeats)
    asked = replace(TEXTS, prompts=8_000, headings=1_200, carriers=30, padded=0, repeats=1)
    test = draw("test", seed + 1, asked, rows["test"])
    safe = [e for e in test if not e.unsafe]
    found: dict[str, Any] = {}
    whole = None
    for left_out in ("", *sorted({e.category for e in test if e.unsafe}, key=lambda c: int(c[1:]))):
        head = train_head(draw("train", seed, counts, rows["train"], left_out), HEAD, TrainConfig(), seed)
        val = draw("val", seed, replace(TEXTS.scaled(VALIDATION), padded=0), rows["val"], left_out)
        calibrate(head, logits(head, val), np.array([e.unsafe for e in val]))
        if not left_out:
            whole = head
            continue
        harmful = [e for e in test if e.category == left_out]
        row: dict[str, Any] = {}
        for name, some in (("left out", head), ("trained on", whole)):
            assert some is not None
            both = [*harmful, *safe]
            scores = logits(some, both)
            row[name] = measure(scores, scores > some.config.threshold, [e.unsafe for e in both], seed)
        found[left_out] = row
        recall, area = (_cell(row["left out"][name]) for name in ("recall", "auroc"))
        progress(f"{CATEGORIES[left_out]}: recall {recall}, AUROC {area}")
    table = ["| hazard left out | n | recall | AUROC | recall if trained on | AUROC if trained on |", "|---" * 6 + "|"]
    for key, row in found.items():
        cells = [_cell(row[kind][name]) for kind in ("left out", "trained on") for name in ("recall", "auroc")]
        n = round(row["left out"]["n"] * row["left out"]["unsafe"])
        table.append(f"| {CATEGORIES[key]} | {n} | " + " | ".join(cells) + " |")
    return {"dataset": "hazards", "seed": seed, "hazards": found, "table": table}


def run_baselines(folder: Path, examples: Sequence[Example], guard: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and verdicts of the baselines of a folder; print is what the guard's own reader reads."""
    from vlm.guard.head import GuardHead
    from vlm.guard.training.baselines import BagOfWords
    from vlm.guard.training.data import see
    from vlm.guard.training.train import logits

    seen: list[Example] = list(examples)
    states: list[Any] = [None] * len(examples)
    if any(e.pictures for e in examples):
        seen, states = see(examples, guard.reader)
    bag = BagOfWords.load(folder / "bag-of-words.safetensors")
    found = {"bag of words": (scores := bag.score(seen), scores > bag.threshold)}
    bare = {"text-only": [replace(e, read="") for e in seen], "picture-only": [replace(e, text="") for e in seen]}
    for name, part in bare.items():
        head = GuardHead.load(folder / name)
        scores = logits(head, part, states if head.config.picture_dim else None)
        found[name] = scores.round(4), scores > head.config.threshold  # in batches of other sizes sums round otherwise
    return found


def judge(guard: Any, policy: Policy, examples: Sequence[Example]) -> Iterator[tuple[float, bool]]:
    """Score and whether it is unsafe, of each request by itself; what a guard fails at is unsafe, as around a model."""
    for example in examples:
        content = [*({"type": "image", "image": p} for p in example.pictures), {"type": "text", "text": example.text}]
        try:
            verdict = policy.apply(guard.check([{"role": "user", "content": content}]))
        except Exception:  # noqa: BLE001 - whatever it is, the request would be refused
            yield 1.0, True
            continue
        yield (float(not verdict.safe) if verdict.score is None else verdict.score), not verdict.safe


def tables(examples: Sequence[Example], scores: np.ndarray, flagged: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The figures of all requests, and of each family: the share that is flagged, with its interval."""
    unsafe = np.array([e.unsafe for e in examples])
    families = [e.family if e.source != "templates" or e.unsafe else "(harmless templates)" for e in examples]
    groups = {}
    for name in sorted(set(families)):
        for kind in (True, False):
            rows = np.array([f == name and e.unsafe is kind for f, e in zip(families, examples, strict=True)])
            if rows.any():
                found = measure(flagged[rows], flagged[rows], np.ones(int(rows.sum()), bool), seed)
                groups[f"{name} ({'unsafe' if kind else 'safe'})"] = {"n": found["n"], "flagged": found["recall"]}
    return {"all": measure(scores, flagged, unsafe, seed), "groups": groups}


def lines(name: str, found: dict[str, Any], known: int = 0) -> list[str]:
    """A table for people."""
    whole = next(iter(found.values()))["all"]
    rows = [f"{name}: n {whole['n']}, unsafe {whole['unsafe']:.1%}, word for word in the training data {known}"]
    rows += ["| guard | n | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for guard, table in found.items():
        figures = table["all"]
        rows.append(f"| {guard} | {figures['n']} | " + " | ".join(_cell(figures[c]) for c in COLUMNS) + " |")
    rows += ["", "| family | n | flagged |", "|---|---|---|"]
    for family, group in next(iter(found.values()))["groups"].items():
        rows.append(f"| {family} | {group['n']} | {_cell(group['flagged'])} |")
    return rows


def _cell(value: list[float] | None) -> str:
    return "-" if value is None else f"{value[0]:.3f} ({value[1]:.3f} - {value[2]:.3f})"


def _some(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """At most `limit` unsafe and safe ones each."""
    if limit is None:
        return examples
    kinds = [[e for e in examples if e.unsafe is unsafe] for unsafe in (True, False)]
    rng = np.random.default_rng(seed)
    return [kind[i] for kind in kinds for i in sorted(rng.permutation(len(kind))[:limit])]
