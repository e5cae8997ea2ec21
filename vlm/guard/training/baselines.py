"""What the shipped guard has to beat: refusing everything, counting words, and heads that lack one of its senses.

They are trained on the guard's own data, so that a difference is due to what they are, not to what they saw.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vlm.checkpoints.files import Weights
from vlm.guard.training.example import Example
from vlm.guard.words import split_words

BUCKETS = 2**18


def word_features(text: str) -> np.ndarray:
    """Buckets of a text's words and pairs of neighbours, each once."""
    words = split_words(text)
    grams = {*words, *(f"{a} {b}" for a, b in zip(words, words[1:], strict=False))}
    return np.array(sorted({zlib.crc32(g.encode()) % BUCKETS for g in grams}), dtype=np.int64)


class BagOfWords:
    """Logistic regression over hashed words and pairs of words, typed and read alike."""

    def __init__(self):
        self.weights, self.bias, self.threshold = np.zeros(BUCKETS), 0.0, 0.0

    def fit(self, examples: Sequence[Example], seed: int = 0, epochs: int = 3, lr: float = 0.02) -> "BagOfWords":
        """Adam on mini-batches, with a little decay."""
        torch.manual_seed(seed)
        rows = [torch.from_numpy(word_features(f"{e.text} {e.read}")) for e in examples]
        unsafe = torch.tensor([float(e.unsafe) for e in examples])
        weights, bias = torch.nn.EmbeddingBag(BUCKETS, 1, mode="sum", sparse=True), torch.zeros(1, requires_grad=True)
        torch.nn.init.zeros_(weights.weight)
        rules = [torch.optim.SparseAdam(weights.parameters(), lr), torch.optim.Adam([bias], lr)]
        for _ in range(epochs):
            for batch in torch.randperm(len(rows)).split(128):
                some = [rows[i] for i in batch]
                offsets = torch.tensor([0, *map(len, some[:-1])]).cumsum(0)
                logit = weights(torch.cat(some), offsets)[:, 0] + bias
                loss = F.binary_cross_entropy_with_logits(logit, unsafe[batch])
                for rule in rules:
                    rule.zero_grad()
                loss.backward()
                for rule in rules:
                    rule.step()
        self.weights, self.bias = weights.weight.detach()[:, 0].numpy(), float(bias.detach())
        return self

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """The logit of each example (n,)."""
        return np.array([self.weights[word_features(f"{e.text} {e.read}")].sum() + self.bias for e in examples])

    def save(self, path: Path) -> None:
        """Write the weights, the bias and the threshold as safetensors."""
        rest = torch.tensor([self.bias, self.threshold])
        save_file({"weights": torch.from_numpy(self.weights).float().contiguous(), "rest": rest}, path)

    @classmethod
    def load(cls, path: Path) -> "BagOfWords":
        """What `save` wrote."""
        bag, stored = cls(), Weights().add_safetensors(path)
        bag.weights = stored.read("weights").numpy()
        bag.bias, bag.threshold = stored.read("rest").tolist()
        return bag
