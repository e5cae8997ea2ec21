"""Whether a picture is of the worlds that a model was trained on: the density of what its encoder makes of them.

Notable here:
- A picture is described by the mean and spread of each channel of the encoder's features, the last layer's and the
  tapped ones', over all its patches: no pass of its own, the features are those that the answer is given from.
- The density is a mixture of Gaussians in the principal components, one for each world and number of tiles with one
  covariance for all (Lee et al. 2018, arXiv 1807.03888), and what lies off the components counts by itself.
- The score is the distance over that which the given share of the worlds' own new pictures stays below: 1 is the edge.

Shapes: L tiles, N tokens of a tile, C channels, F = 2 C, K components, G Gaussians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

COMPONENTS = 64
INSIDE = 0.98  # share of the worlds' own pictures that the threshold lets in
FEWEST = 20  # pictures of a world with a number of tiles that make a Gaussian


def describe(features: Tensor) -> Tensor:
    """The encoder's features of a picture (L, N, C) -> (F,) in fp32, on the CPU."""
    x = features.detach().float().flatten(0, 1)
    return torch.cat([x.mean(0), x.std(0)]).cpu()


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The worlds' pictures.

    Attributes:
        mean, scale: (F,) of each feature.
        basis: (K, F), orthonormal rows: the components.
        whiten: (K, K), after which the covariance within a Gaussian is the identity.
        centers: (G, K), of the Gaussians, whitened.
        spread: (2,) the mean squared distance inside the components and off them.
        edge: () the distance at which a picture is outside.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    whiten: Tensor
    centers: Tensor
    spread: Tensor
    edge: Tensor

    def __call__(self, features: Tensor) -> float:
        """How far a picture lies from the worlds, given the encoder's features of its tiles (L, N, C)."""
        return float(self.distance(describe(features)[None]) / self.edge)

    def distance(self, described: Tensor) -> Tensor:
        """(n, F) of `describe` -> (n,)."""
        z = (described - self.mean) / self.scale
        y = z @ self.basis.float().T  # (n, K)
        near = torch.cdist(y @ self.whiten, self.centers).square().amin(1)
        off = (z.square().sum(1) - y.square().sum(1)).clamp(min=0)
        return near / self.spread[0] + off / self.spread[1]

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a file."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Domain":
        """What `tensors` gave.

        Raises:
            ValueError: tensors that are missing, unknown or do not fit one another.
        """
        names = {f.name for f in fields(cls)}
        if wrong := names ^ set(tensors):
            raise ValueError(f"found {', '.join(sorted(tensors))}, expected {', '.join(sorted(names))} ({wrong})")
        k, f = tensors["basis"].shape if tensors["basis"].ndim == 2 else (0, 0)
        g = len(tensors["centers"])
        wanted = {"mean": (f,), "scale": (f,), "basis": (k, f), "whiten": (k, k), "centers": (g, k), "spread": (2,),
                  "edge": ()}  # fmt: skip
        for name, shape in wanted.items():
            if tuple(tensors[name].shape) != shape or not tensors[name].isfinite().all():
                raise ValueError(f"{name} is {tuple(tensors[name].shape)}, expected finite numbers of shape {shape}")
        return cls(**tensors)

    @classmethod
    def fit(cls, described: Tensor, groups: Sequence[str], held_out: Tensor) -> "Domain":
        """Fit the density on pictures (n, F) of these groups, and the threshold on others (m, F) of the same worlds."""
        mean, scale = described.mean(0), described.std(0) + 1e-6
        z = (described - mean) / scale
        k = min(COMPONENTS, *z.shape)
        _, vectors = torch.linalg.eigh(z.T.double() @ z.double() / len(z))
        basis = vectors[:, -k:].T.to(torch.float16).contiguous()
        y = z @ basis.float().T
        names = sorted(set(groups))
        of = torch.tensor([names.index(g) for g in groups])
        large = [i for i in range(len(names)) if int((of == i).sum()) >= FEWEST] or list(range(len(names)))
        centers = torch.stack([y[of == i].mean(0) for i in large])
        within = y - centers[torch.cdist(y, centers).argmin(1)]
        covariance = within.T.double() @ within.double() / len(within)
        covariance += 1e-3 * covariance.trace() / k * torch.eye(k)
        whiten = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
        one = torch.ones(())
        domain = cls(
            mean=mean, scale=scale, basis=basis, whiten=whiten, centers=centers @ whiten, spread=torch.ones(2), edge=one
        )
        near = torch.cdist(y @ whiten, domain.centers).square().amin(1).mean()
        off = (z.square().sum(1) - y.square().sum(1)).clamp(min=0).mean()
        domain = cls(**domain.tensors() | {"spread": torch.stack([near, off.clamp(min=1e-6)])})
        return cls(**domain.tensors() | {"edge": domain.distance(held_out).quantile(INSIDE)})
