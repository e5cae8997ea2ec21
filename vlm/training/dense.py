"""Heads that name what stands in each patch, so that the encoder sees before it is asked.

They are scaffolding: trained beside the model, kept in the training state, never shipped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.tiled_vit import ConvStem
from vlm.training.labels import CLASSES


class DenseHeads(nn.Module):
    """One linear classifier per kind of label on the encoder's features, for each cell of a patch.

    Args:
        dim: channels of the features.
        cells: of `label_cells`; with "stem" among them `watch` the stem.
    """

    def __init__(self, dim: int, cells: dict[str, int]):
        super().__init__()
        self.cells = cells
        self.heads = nn.ModuleDict({n: nn.Linear(dim, CLASSES[n] * f**2) for n, f in cells.items() if n != "stem"})
        self.stem: nn.Linear | None = None
        self._map: Tensor | None = None

    def watch(self, stem: ConvStem) -> None:
        """Learn from the map of a stem's residual blocks as well, one label for each of its places."""
        assert stem.blocks is not None
        stem.blocks.register_forward_hook(lambda _, __, out: setattr(self, "_map", out))
        self.stem = nn.Linear(stem.channels, CLASSES["stem"])

    def forward(self, features: Tensor, n_tiles: int, labels: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over cells; those with something in them weigh as much as the empty ones.

        features (B, I, L, N, C), class and register tokens first; labels (B, P) or (B, P, cells), P = I * L * patches.
        """
        n = labels["color"].shape[1] // (features.shape[1] * n_tiles)
        patches = features[:, :, :n_tiles, -n:].flatten(1, 3)  # (B, P, C)
        logits = {name: head(patches) for name, head in self.heads.items()}
        if self.stem is not None:
            assert self._map is not None
            f, side = self.cells["stem"], round(n**0.5)
            places = self._map.unflatten(2, (side, f)).unflatten(4, (side, f))  # (B * I * L, C, rows, f, cols, f)
            logits["stem"], self._map = self.stem(places.permute(0, 2, 4, 3, 5, 1)), None
        anything = labels["what"].amax(-1).flatten() > 0
        total = patches.new_zeros((), dtype=torch.float32)
        for name, said in logits.items():
            target = labels[name].flatten()
            weight = 1.0 + 3.0 * (anything if name in ("color", "size", "center") else target > 0)
            loss = F.cross_entropy(said.float().reshape(len(target), -1), target, reduction="none")
            total = total + (loss * weight).sum() / weight.sum()
        return total
