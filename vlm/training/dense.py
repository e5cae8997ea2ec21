"""Dense labels: heads that name what stands in each patch, so that the encoder sees before it is asked.

They are scaffolding: trained beside the model, kept in the training state, never shipped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.training.data import DENSE_CLASSES


class DenseHeads(nn.Module):
    """One linear classifier per kind of label on the encoder's features."""

    def __init__(self, dim: int):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(dim, n) for name, n in DENSE_CLASSES.items()})

    def forward(self, features: Tensor, n_tiles: int, labels: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over patches; patches with something in them weigh as much as the empty ones.

        features (B, 1, L, N, C), class and register tokens first; labels (B, L * patches).
        """
        n = labels["what"].shape[1] // n_tiles
        patches = features[:, 0, :n_tiles, -n:].flatten(1, 2)  # (B, L * patches, C)
        weight = 1.0 + 3.0 * (labels["what"] > 0)
        total = patches.new_zeros((), dtype=torch.float32)
        for name, head in self.heads.items():
            loss = F.cross_entropy(head(patches).float().flatten(0, 1), labels[name].flatten(), reduction="none")
            total = total + (loss * weight.flatten()).sum() / weight.sum()
        return total
