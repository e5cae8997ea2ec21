"""Dense labels: heads that name what stands in each patch, so that the encoder sees before it is asked.

They are scaffolding: trained beside the model, kept in the training state, never shipped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.training.data import CELLS, DENSE_CLASSES


class DenseHeads(nn.Module):
    """One linear classifier per kind of label on the encoder's features, for each cell of a patch."""

    def __init__(self, dim: int):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(dim, n * CELLS[name] ** 2) for name, n in DENSE_CLASSES.items()})

    def forward(self, features: Tensor, n_tiles: int, labels: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over cells; those with something in them weigh as much as the empty ones.

        features (B, I, L, N, C), class and register tokens first; labels (B, P) or (B, P, cells), P = I * L * patches.
        """
        n = labels["color"].shape[1] // (features.shape[1] * n_tiles)
        patches = features[:, :, :n_tiles, -n:].flatten(1, 3)  # (B, P, C)
        total = patches.new_zeros((), dtype=torch.float32)
        for name, head in self.heads.items():
            target = labels[name].flatten()
            weight = 1.0 + 3.0 * (target > 0 if name == "what" else labels["what"].amax(-1).flatten() > 0)
            loss = F.cross_entropy(head(patches).float().reshape(len(target), -1), target, reduction="none")
            total = total + (loss * weight).sum() / weight.sum()
        return total
