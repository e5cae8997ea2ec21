"""Random weights to begin with, for what no checkpoint brings along."""

import torch
from torch import Tensor, nn

from encoders.tiled_vit import TiledViT


def initialise(model: nn.Module) -> None:
    """Small normal weights, residual outputs scaled down with depth (GPT-2); encoders of libraries keep their own."""
    ours = {name: module for name, module in model.named_modules() if "backbone" not in name.split(".")}
    depth = sum(name.endswith("attn.o_proj") for name in ours)
    for name, module in ours.items():
        if isinstance(module, nn.Linear):
            scale = (2 * depth) ** -0.5 if depth and name.endswith(("o_proj", "down_proj", "fc2")) else 1.0
            nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module.kernel_size == (1, 1) else "relu")
            if name.endswith(".conv2"):  # of a residual block, which adds nothing at first
                nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, TiledViT):  # as large as what a patch shows, or "where" is learnt long after "what"
            places = module.position_embedding
            with torch.no_grad():
                places.copy_(sine_cosine(round((len(places) - 1) ** 0.5), places.shape[1]))
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def sine_cosine(side: int, dim: int, temperature: float = 100.0) -> Tensor:
    """Places of a class token (zero) and side x side patches as sines and cosines of both axes, of mean square one."""
    frequencies = temperature ** -(torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(side)[:, None] * frequencies  # (side, dim / 4)
    waves = 2**0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim / 2)
    rows, cols = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    patches = torch.cat([rows, cols], dim=2).flatten(0, 1)
    return nn.functional.pad(patches, (0, dim - patches.shape[1], 1, 0))
