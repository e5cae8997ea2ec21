"""Train the shipped guard's head from scratch on what is drawn: half an hour on two CPU cores, the same by seed.

Notable here:
- The threshold is the score that 5 % of the harmless validation requests exceed, of what is typed; what is printed and
  what is shown have offsets of their own by which the same holds for pictures. No test set has any part in it.
- Requests cost nothing to draw: many are seen three times rather than few often.
- Words are dropped while training, and whole words made unknown, so that the head does not lean on a single one.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlm.guard.head import HAZARDS, GuardHead, HeadConfig, Row, collate
from vlm.guard.training import lexicon
from vlm.guard.training.example import Example
from vlm.guard.words import COUNTED, FIRST_PART, PAD, UNKNOWN, split_words

FALSE_POSITIVES = 0.05  # of harmless validation requests, where the threshold is put
FEWEST, FEW = 100, 20  # harmless requests by which a threshold may be put, and an offset of those with print or without


@dataclass(frozen=True)
class TrainConfig:
    """How a head is trained.

    Args:
        epochs, batch_size, lr, weight_decay, warmup: of AdamW; the rate falls along a cosine.
        embed_lr: of the words' rows, most of which are met in few batches.
        hazard_weight: of the loss that names the hazard.
        unknown, bare, dropped: shares of words whose whole-word row is left out, all but their meaning, or everything.
        smoothing: of the labels.
        count_lr, count_epochs: of the counted words and pairs.
        max_words: of the vocabulary, the most frequent.
        min_count: how often a word must occur to be known whole.
    """

    epochs: int = 3
    batch_size: int = 64
    lr: float = 1.5e-3
    embed_lr: float = 5e-3
    weight_decay: float = 0.02
    warmup: int = 100
    hazard_weight: float = 0.3
    unknown: float = 0.15
    bare: float = 0.5
    dropped: float = 0.05
    smoothing: float = 0.02
    count_lr: float = 0.02
    count_epochs: int = 2
    max_words: int = 10_000
    min_count: int = 3


def vocabulary(examples: Sequence[Example], config: TrainConfig) -> list[str]:
    """The words that a head shall know whole, most frequent first."""
    counts = Counter(word for e in examples for word in set(split_words(f"{e.text} {e.read}")))
    known = [(word, n) for word, n in counts.items() if n >= config.min_count]
    return [word for word, _ in sorted(known, key=lambda pair: (-pair[1], pair[0]))][: config.max_words]


def train_head(
    examples: Sequence[Example], head_config: HeadConfig, config: TrainConfig, seed: int = 0,
    features: Sequence[Tensor | None] | None = None, progress: Callable[[str], object] = lambda line: None,
) -> GuardHead:  # fmt: skip
    """A head trained on examples; see `TrainConfig`.

    Args:
        features: (S, C) of the frozen encoder for each example, None where it has no picture.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    head = new_head(head_config, vocabulary(examples, config))
    ids = [head.encode_text(e.text, e.read).to(torch.int32) for e in examples]
    unsafe = torch.tensor([float(e.unsafe) for e in examples])
    hazard = torch.tensor([HAZARDS.index(e.category) if e.category else -100 for e in examples])
    if head_config.n_counted:
        fit_counts(head, ids, unsafe, config, seed)
    others = [p for name, p in head.named_parameters() if name.split(".")[0] not in ("embed", "wide")]
    groups: list[dict[str, Any]] = [{"params": head.embed.parameters(), "lr": config.embed_lr}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    steps = config.epochs * math.ceil(len(examples) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _rate(i, steps, config.warmup))
    step, total = 0, 0.0
    head.train()
    for epoch in range(config.epochs):
        for rows in batches(ids, features, config.batch_size, rng):
            batch = _noisy(collate([ids[i] for i in rows], features and [features[i] for i in rows]), config)
            logit, hazards = head.deep(**batch)
            target = unsafe[rows] * (1 - 2 * config.smoothing) + config.smoothing
            loss = F.binary_cross_entropy_with_logits(logit, target)
            if (hazard[rows] >= 0).any():
                loss = loss + config.hazard_weight * F.cross_entropy(hazards, hazard[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step, total = step + 1, total + loss.item()
        progress(
            f"epoch {epoch + 1} of {config.epochs}: loss {total / math.ceil(len(examples) / config.batch_size):.4f}"
        )
        total = 0.0
    return head.settle().eval()


def fit_counts(head: GuardHead, ids: Sequence[Tensor], unsafe: Tensor, config: TrainConfig, seed: int) -> None:
    """Train the counted words and pairs by themselves, as logistic regression: their mistakes shall not be the
    transformer's."""
    drawn = torch.Generator().manual_seed(seed)
    alone = [n for n, i in enumerate(ids) if len(i) and (i[:, 0] == i[0, 0]).all()]  # in the rest either may decide
    unsafe, rows = unsafe[alone], [ids[n][:, COUNTED:FIRST_PART].flatten() for n in alone]
    rows = [r[r > 0].long() for r in rows]
    wide = torch.nn.EmbeddingBag(head.config.n_counted, 1, mode="sum", sparse=True, _weight=head.wide.weight.data)
    rule = torch.optim.SparseAdam(wide.parameters(), config.count_lr)
    for _ in range(config.count_epochs):
        for batch in torch.randperm(len(rows), generator=drawn).split(128):
            some = [rows[i] for i in batch]
            offsets = torch.tensor([0, *map(len, some[:-1])]).cumsum(0)
            loss = F.binary_cross_entropy_with_logits(wide(torch.cat(some), offsets)[:, 0], unsafe[batch])
            rule.zero_grad()
            loss.backward()
            rule.step()


def new_head(config: HeadConfig, known: list[str]) -> GuardHead:
    """A head with random weights, and what the lexicon knows where the config wants it."""
    if not config.meaning_dim:
        return GuardHead(config, known)
    words, vectors = lexicon.read()
    head = GuardHead(replace(config, meaning_dim=vectors.shape[1]), known, words)
    head.meanings[1:] = vectors * vectors.shape[1] ** 0.5
    torch.nn.init.normal_(head.meaning_proj.weight, std=1 / vectors.shape[1] ** 0.5)
    return head


def batches(
    ids: Sequence[Tensor], features: Sequence[Tensor | None] | None, size: int, rng: random.Random
) -> list[list[int]]:
    """Indices of all examples in random batches of similar lengths, with pictures and without apart."""
    order = list(range(len(ids)))
    rng.shuffle(order)
    order.sort(key=lambda i: (features is not None and features[i] is not None, (len(ids[i]) + rng.randrange(6)) // 6))
    found = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(found)
    return found


def _rate(step: int, steps: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _noisy(batch: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Some words unknown, some known by their meaning alone, some gone; of no request all."""
    ids, mask = batch["text_ids"].long(), batch["text_mask"]  # (B, T, K), (B, T)
    unknown, bare, gone = torch.rand(3, *mask.shape)
    bare = (bare < config.bare) & (ids[..., 2] != PAD)
    ids[..., 1] = ids[..., 1].masked_fill((bare | (unknown < config.unknown)) & mask, UNKNOWN)
    ids[..., FIRST_PART:] = ids[..., FIRST_PART:].masked_fill(bare[..., None], PAD)
    kept = mask & ((gone >= config.dropped) | (mask.sum(1, keepdim=True) <= 3))
    return batch | {"text_ids": ids, "text_mask": kept}


@torch.no_grad()
def logits_by_kind(
    head: GuardHead, examples: Sequence[Example], features: Sequence[Tensor | None] | None = None, size: int = 256
) -> dict[str, np.ndarray]:
    """The highest unsafe logit (n,) among an example's rows that are "typed", "printed" or "shown"; -inf for no row."""
    judged: list[tuple[int, Row]] = []
    for i, e in enumerate(examples):
        states = features[i] if features else None
        judged += [(i, row) for row in head.rows([e.text], [(e.read, states)] if e.read or states is not None else [])]
    judged.sort(key=lambda pair: len(pair[1].ids))
    found = {kind: np.full(len(examples), -np.inf) for kind in ("typed", "printed", "shown")}
    for first in range(0, len(judged), size):
        some = judged[first : first + size]
        for (i, row), score in zip(some, head.scores([row for _, row in some])[0].tolist(), strict=True):
            found[row.kind][i] = max(found[row.kind][i], score)
    return found


def logits(head: GuardHead, examples: Sequence[Example], features: Sequence[Tensor | None] | None = None) -> np.ndarray:
    """The unsafe logit (n,) of each example: of what is judged of it the highest."""
    return np.maximum.reduce(list(logits_by_kind(head, examples, features).values()))


def calibrate_long(
    head: GuardHead, harmless: Sequence[Example], features: Sequence[Tensor | None] | None = None,
    fpr: float = FALSE_POSITIVES,
) -> GuardHead:  # fmt: skip
    """Let sentences of long texts count as far as a share `fpr` of harmless long requests exceeds the threshold."""
    head.config = replace(head.config, long_offset=0.0)
    highest = exceeded_by(logits(head, harmless, features), fpr)
    head.config = replace(head.config, long_offset=max(0.0, highest - head.config.threshold))
    return head


def calibrate(
    head: GuardHead, typed: np.ndarray, unsafe: np.ndarray, printed: np.ndarray | None = None,
    shown: np.ndarray | None = None, fpr: float = FALSE_POSITIVES,
) -> GuardHead:  # fmt: skip
    """Put P(unsafe) = 0.5 where a share `fpr` of the harmless validation requests is exceeded, and fit its slope.

    Args:
        typed, printed, shown: logits of each kind of row by a head without offsets, -inf where there is none. What is
            printed and what is shown get an offset each, by which the share holds for pictures with print and for those
            without, too.
    """
    none = np.full(len(typed), -np.inf)
    printed, shown = (none if part is None else part for part in (printed, shown))
    pictured = np.isfinite(shown)
    apart = min((~unsafe & ~pictured).sum(), (~unsafe & pictured).sum()) >= FEWEST
    everything = np.maximum.reduce([typed, printed, shown])
    threshold = exceeded_by(typed[~unsafe & ~pictured] if apart else everything[~unsafe], fpr)
    offsets = (0.0, 0.0)
    if apart:
        offsets = _offsets(printed[~unsafe & pictured] - threshold, shown[~unsafe & pictured] - threshold, fpr)
    x = torch.tensor(np.maximum.reduce([typed, printed - offsets[0], shown - offsets[1]]) - threshold)
    y = torch.tensor(unsafe, dtype=torch.double)
    grid = [0.25 * 1.25**k for k in range(20)]
    temperature = min(grid, key=lambda t: F.binary_cross_entropy_with_logits(x / t, y).item())
    head.config = replace(
        head.config, threshold=threshold, print_offset=offsets[0], picture_offset=offsets[1], temperature=temperature
    )
    return head


def _offsets(printed: np.ndarray, shown: np.ndarray, fpr: float) -> tuple[float, float]:
    """What lets a share `fpr` of harmless pictures with print exceed zero in either way, and of those without as many.

    Both ways may let the more of them through the more these are the same ones: from half the share, where they never
    are, to the whole.
    """
    worded = np.isfinite(printed)
    if worded.sum() < FEW:  # nothing to go by: print as all else
        both = max(0.0, exceeded_by(shown, fpr))
        return both, both
    least = exceeded_by(shown[~worded], fpr) if (~worded).sum() >= FEW else 0.0
    for share in np.linspace(fpr, fpr / 2, 26):
        of_print = max(0.0, exceeded_by(printed[worded], share))
        of_all = max(0.0, exceeded_by(shown[worded], share), least)
        if (np.maximum(printed - of_print, shown - of_all)[worded] > 0).mean() <= fpr:
            break
    return of_print, of_all


def exceeded_by(values: np.ndarray, share: float) -> float:
    """A value that at most a share of `values` is above.

    Raises:
        ValueError: there are none.
    """
    if not len(values):
        raise ValueError("found no harmless validation requests, expected some to put the threshold by")
    return float(np.quantile(values, 1 - share, method="higher")) + 1e-4
