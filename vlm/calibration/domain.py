"""Whether a picture is of the worlds that a model was trained on, from what its encoder makes of it.

Notable here:
- No pass of its own: a picture is described by the mean and spread of each channel of the encoder's features (the last
  layer's and the tapped ones') and by how flat and how steep its pixels are, the tiles being at hand.
- Two measures, and the farther one counts. `density`: the distance to the nearest world, a Gaussian for each world and
  number of tiles with one covariance for all (Lee et al. 2018, arXiv 1807.03888). `texture`: how much the picture is
  like natural scenes and not like the worlds, a logistic model against drawn noise and leaves (textures.py), the idea
  of outlier exposure (Hendrycks et al. 2019, arXiv 1812.04606). No photograph has any part in either.
- Their sum would let one hide the other. Each has its own edge, and both together let INSIDE of the worlds' own new
  pictures pass: at 1 a picture is outside.

Shapes: L tiles, N tokens of a tile, C channels, T pixels of a tile's side, S pixel statistics, K components of the
2 C means and spreads, F = K + S, G Gaussians.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

COMPONENTS = 64
INSIDE = 0.98  # share of the worlds' own pictures that the two edges let in together,
BY_TEXTURE = 0.75  # and which part of the others is left outside by their texture
FEWEST = 20  # pictures of a world with a number of tiles that make a Gaussian
RIDGE = 1e-2
STEPS = (0.5, 1.5, 3, 6, 12, 24, 48, 96)  # brightness between neighbours, of 255
RANGES = (2, 6, 12, 24, 48, 96, 160)  # of brightness in a block
BLOCK = 8


def statistics(tiles: Tensor, pixels: Tensor) -> Tensor:
    """Shares of pixels by their step to the next one, and of blocks by their range, as logarithms (S,).

    What is left black at the right and at the bottom of a tile, as the canvas is beside a picture, does not count.

    Args:
        tiles: (L, 3, T, T) normalised.
        pixels: (2, 3) the mean and the deviation that they were normalised by.
    """
    x = (tiles.detach().float().cpu() * pixels[1, :, None, None] + pixels[0, :, None, None]) * 255
    painted = (x > 0.5).any(1)  # (L, T, T)
    rows, cols = (painted.any(d).flip(1).cummax(1).values.flip(1) for d in (2, 1))  # up to the last that is not black
    inside = rows[:, :, None] & cols[:, None]
    across, down = (x.diff(dim=d).abs().amax(1) for d in (3, 2))
    steps = torch.cat([across[inside[..., 1:]], down[inside[:, 1:]]])
    high, low = F.max_pool2d(x, BLOCK), -F.max_pool2d(-x, BLOCK)
    ranges = (high - low).amax(1)[F.avg_pool2d(inside.float()[:, None], BLOCK)[:, 0] == 1]
    shares = []
    for values, bounds in ((steps, STEPS), (ranges, RANGES)):
        count = torch.bincount(torch.bucketize(values, torch.tensor(bounds)), minlength=len(bounds) + 1)
        shares.append(count / max(1, len(values)))
    return (torch.cat(shares) + 1e-3).log()


def moments(features: Tensor) -> Tensor:
    """Mean and spread of each channel over a picture's tokens (L, N, C) -> (2 C,)."""
    x = features.detach().float().flatten(0, 1)
    return torch.cat([x.mean(0), x.std(0)]).cpu()


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The worlds' pictures.

    Attributes:
        pixels: (2, 3) mean and deviation that pixels are normalised by, as the model's image settings have it.
        mean, scale: (2 C,) of the moments.
        basis: (K, 2 C), orthonormal rows: the components.
        middle, spread: (F,) of components and statistics.
        whiten: (F, F), after which the covariance within a Gaussian is the identity.
        centers: (G, F), of the Gaussians, whitened.
        density_edge: () distance at which a picture is outside.
        texture: (F + 1,) weights and bias of the logistic model.
        texture_edge: (2,) its output at which a picture is outside, and by how much that is more than usual.
    """

    pixels: Tensor
    mean: Tensor
    scale: Tensor
    basis: Tensor
    middle: Tensor
    spread: Tensor
    whiten: Tensor
    centers: Tensor
    density_edge: Tensor
    texture: Tensor
    texture_edge: Tensor

    def __call__(self, tiles: Tensor, features: Tensor) -> float:
        """How far a picture lies from the worlds, from its tiles (L, 3, T, T) and the encoder's features (L, N, C)."""
        return float(self.score(moments(features)[None], statistics(tiles, self.pixels)[None])[0])

    def score(self, described: Tensor, shares: Tensor) -> Tensor:
        """(n, 2 C) of `moments` and (n, S) of `statistics` -> (n,), above 1 outside."""
        return torch.maximum(*self.measures(described, shares))

    def measures(self, described: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """The two that `score` takes the larger of: density and texture, (n,) each, 1 at their edge."""
        z = self._standard(described, shares)
        near = torch.cdist(z @ self.whiten, self.centers).amin(1)
        natural = z @ self.texture[:-1] + self.texture[-1]
        return near / self.density_edge, ((natural - self.texture_edge[0]) / self.texture_edge[1]).clamp(max=20).exp()

    def _standard(self, described: Tensor, shares: Tensor) -> Tensor:
        """(n, F), each of mean 0 and deviation 1 over the worlds."""
        components = ((described - self.mean) / self.scale) @ self.basis.float().T
        return (torch.cat([components, shares], dim=1) - self.middle) / self.spread

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
        if names != set(tensors):
            wrong = sorted(names ^ set(tensors))
            raise ValueError(f"found {'no' if wrong[0] in names else 'a tensor'} {wrong[0]}, expected {sorted(names)}")
        k, channels = tensors["basis"].shape if tensors["basis"].ndim == 2 else (0, 0)
        f = k + len(STEPS) + len(RANGES) + 2
        wanted = {
            "pixels": (2, 3), "mean": (channels,), "scale": (channels,), "basis": (k, channels), "middle": (f,),
            "spread": (f,), "whiten": (f, f), "centers": (*tensors["centers"].shape[:1], f), "density_edge": (),
            "texture": (f + 1,), "texture_edge": (2,),
        }  # fmt: skip
        for name, shape in wanted.items():
            if (found := tuple(tensors[name].shape)) != shape:
                raise ValueError(f"{name} has shape {found}, expected {shape}")
            if not tensors[name].isfinite().all():
                raise ValueError(f"{name} has entries that are not finite")
        return cls(**tensors)

    @classmethod
    def fit(cls, pixels: Tensor, own: "Pictures", groups: Sequence[str], textures: "Pictures",
            held_out: "Pictures") -> "Domain":  # fmt: skip
        """Fit both measures on the worlds' pictures and on textures, and their edges on other pictures of the worlds.

        Args:
            groups: world and number of tiles of each of `own`.
        """
        described, shares = own
        mean, scale = described.mean(0), described.std(0) + 1e-6
        z = (described - mean) / scale
        k = min(COMPONENTS, *z.shape)
        basis = torch.linalg.eigh(z.T.double() @ z.double())[1][:, -k:].T.to(torch.float16).contiguous()
        raw = torch.cat([z @ basis.float().T, shares], dim=1)
        middle, spread = raw.mean(0), raw.std(0) + 1e-3
        z = (raw - middle) / spread
        names = sorted(g for g, n in Counter(groups).items() if n >= FEWEST) or sorted(set(groups))
        centers = torch.stack([z[torch.tensor([g == name for g in groups])].mean(0) for name in names])
        within = z - centers[torch.cdist(z, centers).argmin(1)]
        covariance = within.T.double() @ within.double() / len(z) + RIDGE * torch.eye(z.shape[1])
        whiten = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
        domain = cls(
            pixels=pixels, mean=mean, scale=scale, basis=basis, middle=middle, spread=spread, whiten=whiten,
            centers=centers @ whiten, density_edge=torch.ones(()), texture=torch.zeros(z.shape[1] + 1),
            texture_edge=torch.tensor([0.0, 1.0]),
        )  # fmt: skip
        domain = replace(domain, texture=_against(z, domain._standard(*textures)))
        return domain.with_edges(*held_out)

    def with_edges(self, described: Tensor, shares: Tensor) -> "Domain":
        """The same with edges that leave 1 - INSIDE of these pictures outside."""
        z = self._standard(described, shares)
        natural, near = z @ self.texture[:-1] + self.texture[-1], torch.cdist(z @ self.whiten, self.centers).amin(1)
        out = 1 - INSIDE
        edge, usual = natural.quantile(1 - out * BY_TEXTURE), natural.median()
        found = replace(
            self, density_edge=near.quantile(1 - out * (1 - BY_TEXTURE)),
            texture_edge=torch.stack([edge, (edge - usual).clamp(min=1e-3)]),
        )  # fmt: skip
        rest = found.score(described, shares).quantile(INSIDE)  # the same picture may be outside twice
        moved = found.texture_edge[0] + rest.log() * found.texture_edge[1]
        return replace(
            found, density_edge=found.density_edge * rest, texture_edge=torch.stack([moved, found.texture_edge[1]])
        )


Pictures = tuple[Tensor, Tensor]  # `moments` (n, 2 C) and `statistics` (n, S)


def _against(own: Tensor, other: Tensor) -> Tensor:
    """Weights and bias (F + 1,) of the logistic model of `other` (m, F) against `own` (n, F), both weighed alike."""
    x = torch.cat([own, other]).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    y = torch.cat([torch.zeros(len(own)), torch.ones(len(other))]).double()
    each = torch.where(y > 0, 0.5 / len(other), 0.5 / len(own)).double()
    w = x.new_zeros(x.shape[1])
    ridge = RIDGE * torch.eye(len(w), dtype=x.dtype)
    for _ in range(30):
        p = (x @ w).sigmoid()
        hessian = (x * (each * p * (1 - p))[:, None]).T @ x + ridge
        w = w - torch.linalg.solve(hessian, x.T @ (each * (p - y)) + ridge @ w)
    return w.float()
