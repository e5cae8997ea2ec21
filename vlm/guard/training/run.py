"""Train the shipped guard and its baselines with one call: draw, see, train, validate, calibrate, save."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlm.guard.head import GuardHead, HeadConfig
from vlm.guard.training.ailuminate import read_ailuminate
from vlm.guard.training.baselines import BagOfWords
from vlm.guard.training.data import Counts, draw, print_alone, see
from vlm.guard.training.metrics import auroc, measure
from vlm.guard.training.train import TrainConfig, calibrate, calibrate_long, logits, logits_by_kind, train_head
from vlm.guard.words import sentences

HEAD = HeadConfig(dim=112, n_layers=2, n_heads=4, hidden_dim=256, n_buckets=2048, n_counted=2**17, meaning_dim=112)
VALIDATION, PICTURED, TYPESET = 0.06, 0.2, 0.4  # of the training counts; of those with pictures; of those in print
PADDED = 2_000  # for validation, among sentences


def train_guard(
    model: str | os.PathLike, out: str | os.PathLike, *, ailuminate: str | os.PathLike | None = None,
    emoji: str | None = None, baselines: str | os.PathLike | None = None, seed: int = 0, share: float = 1.0,
    config: TrainConfig | None = None, progress: Callable[[str], object] = print,
) -> dict[str, Any]:  # fmt: skip
    """Train a head on a model's pictures and save it; the figures are those of the validation data.

    Args:
        model: the folder whose encoder the head shall see with.
        ailuminate: CSV of AILuminate's prompts; without it the head learns from written prompts alone.
        emoji: zip of emoji; the system font where None.
        baselines: a folder for the baselines that are trained on the same data; none where None.
        share: of the examples that are drawn.
    """
    import torch

    from vlm.checkpoints import load_checkpoint
    from vlm.engine import Engine
    from vlm.guard.ocr import LineReader
    from vlm.guard.reading import Reader, fingerprint, states_dim

    began, config = time.monotonic(), config or TrainConfig()
    loaded = load_checkpoint(Path(model), device="cpu", dtype=torch.float32)
    reader = Reader(LineReader.load(), Engine(loaded.model, stop_ids=frozenset()))
    collected = read_ailuminate(ailuminate) if ailuminate is not None else {"train": [], "val": [], "test": []}
    counts = Counts().scaled(share, Counts().repeats)

    def note(line: str) -> None:
        progress(f"{time.monotonic() - began:6.0f} s  {line}")

    drawn = {"train": draw("train", seed, counts, collected["train"], emoji=emoji)}
    pictured = counts.scaled(PICTURED)
    shown = {name: getattr(pictured, name) for name in ("beside", "emoji", "worlds")}
    shown["typeset"] = counts.scaled(TYPESET).typeset
    held_out = replace(counts.scaled(VALIDATION), padded=round(PADDED * share), **shown)
    drawn["val"] = draw("val", seed, held_out, collected["val"], emoji=emoji)
    note(f"drawn {len(drawn['train']):,} examples, {len(drawn['val']):,} for validation")
    seen = {}
    for split, examples in drawn.items():
        noisy = random.Random(seed) if split == "train" else None
        seen[split] = see(examples, reader, noisy)
        note(f"seen the pictures of {split}: {sum(bool(e.pictures) for e in examples):,}")
    head_config = replace(HEAD, picture_dim=states_dim(loaded.model), model=fingerprint(loaded.model))
    examples, features = seen["train"] = _twice(*seen["train"])
    head = train_head(examples, head_config, config, seed, features, progress=note)
    found: dict[str, Any] = {"seed": seed, "counts": asdict(counts), "training": asdict(config)}
    found["guard"] = _validate(head, *seen["val"], note)
    head.save(out)
    if baselines is not None:
        found["baselines"] = _train_baselines(Path(baselines), seen, head_config, config, seed, note)
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def _twice(examples: list, features: list) -> tuple[list, list]:
    """Pictures are dear to draw and to see: each counts twice, and the print read in it once more, as if typed."""
    shown = [i for i, states in enumerate(features) if states is not None]
    alone = print_alone([examples[i] for i in shown])
    examples = [*examples, *(examples[i] for i in shown), *alone]
    return examples, [*features, *(features[i] for i in shown), *(None for _ in alone)]


def _validate(head: GuardHead, examples: list, features: list, note: Callable[[str], object]) -> dict[str, Any]:
    """Put the threshold where 5 % of the harmless validation requests are, and say what it finds there."""
    unsafe = np.array([e.unsafe for e in examples])
    head.config = replace(head.config, print_offset=0.0, picture_offset=0.0, long_offset=None)
    long = np.array([len(sentences(e.read or e.text)) > 2 and e.source == "padded" for e in examples])
    plain = ~long & np.array([e.source != "answers" for e in examples])  # thresholds are those of requests
    parts = {kind: values[plain] for kind, values in logits_by_kind(head, examples, features).items()}
    calibrate(head, parts["typed"], unsafe[plain], parts["printed"], parts["shown"])
    if (long & ~unsafe).any():
        harmless = np.flatnonzero(long & ~unsafe)
        calibrate_long(head, [examples[i] for i in harmless], [features[i] for i in harmless])
    scores = logits(head, examples, features)
    found = {"all": measure(scores, scores > head.config.threshold, unsafe)}
    for source in sorted({e.source for e in examples}):
        rows = np.array([e.source == source for e in examples])
        found[source] = measure(scores[rows], scores[rows] > head.config.threshold, unsafe[rows])
        against = scores[rows | ~unsafe], unsafe[rows | ~unsafe]  # a source of one kind is ranked among the others'
        note(f"validation, {source}: n {rows.sum()}, AUROC {auroc(*against):.3f}, {_shares(found[source])}")
    return found


def _shares(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {found[name][0]:.3f}" for name in ("recall", "fpr") if found[name] is not None)


def _train_baselines(
    folder: Path, seen: dict, head_config: HeadConfig, config: TrainConfig, seed: int, note: Callable[[str], object]
) -> dict[str, Any]:
    """Bag of words, a head that has no pictures (but print by itself, as if typed), and one that has them alone."""
    folder.mkdir(parents=True, exist_ok=True)
    found, (examples, features), (val, val_features) = {}, seen["train"], seen["val"]
    bag = BagOfWords().fit(examples, seed)
    scores, unsafe = bag.score(val), np.array([e.unsafe for e in val])
    bag.threshold = float(np.quantile(scores[~unsafe], 0.95, method="higher")) + 1e-4
    bag.save(folder / "bag-of-words.safetensors")
    found["bag-of-words"] = measure(scores, scores > bag.threshold, unsafe)
    note("trained the bag of words")
    typed = [replace(e, read="") for e in examples]
    head = train_head(typed, replace(head_config, picture_dim=0, model=""), config, seed)
    found["text-only"] = _validate(head, [replace(e, read="") for e in val], [None] * len(val), lambda line: None)[
        "all"
    ]
    head.save(folder / "text-only")
    note("trained the head that has the typed words alone")
    shown = [i for i, f in enumerate(features) if f is not None]
    bare, bare_val = (
        [replace(examples[i], text="") for i in shown],
        [i for i, f in enumerate(val_features) if f is not None],
    )
    head = train_head(bare, head_config, config, seed, [features[i] for i in shown])
    rows = [replace(val[i], text="") for i in bare_val], [val_features[i] for i in bare_val]
    found["picture-only"] = _validate(head, *rows, lambda line: None)["all"]
    head.save(folder / "picture-only")
    note("trained the head that has the picture alone")
    return found
