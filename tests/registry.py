"""The smallest encoder of every family of timm and open_clip, for tests that run over all of them."""

import json
from pathlib import Path

import open_clip
import torch
from torch import nn

from encoders import create_encoder

TIMM = {  # the smallest of each family -> tile size
    "vit_tiny_patch16_224": 32,
    "deit3_small_patch16_224": 32,
    "beit_base_patch16_224": 32,
    "eva02_tiny_patch14_224": 28,
    "vit_base_patch16_siglip_224": 32,
    "vit_small_patch14_reg4_dinov2": 28,
    "vit_small_patch16_dinov3": 32,
    "vit_tiny_r_s16_p8_224": 64,  # hybrid
    "vitamin_small_224": 32,
    "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 64,
    "hiera_tiny_224": 64,
    "efficientvit_b0": 64,
    "fastvit_t8": 64,
    "resnet10t": 64,
    "mobilenetv3_small_050": 64,
}
TOWERS = {  # small open_clip configs; MobileCLIP and SigLIP are open_clip's own
    "tiny-vit": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "output_tokens": True},
    "tiny-clipa": {
        "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "output_tokens": True,
        "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True,
    },
    "tiny-coca": {
        "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "output_tokens": True,
        "attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2,
    },
    "tiny-resnet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
    "tiny-eva": {"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None},
    "tiny-convnext": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"},
    "tiny-mambaout": {"timm_model_name": "test_mambaout", "timm_pool": "avg", "timm_proj": "linear"},
}  # fmt: skip
OPEN_CLIP = {
    "tiny-vit": 32,
    "tiny-clipa": 32,
    "tiny-coca": 32,
    "tiny-resnet": 64,
    "tiny-eva": 28,
    "tiny-convnext": 64,
    "ViT-B-16-SigLIP": 32,
    "MobileCLIP2-S0": 64,
}
NAMES = [*(f"timm:{n}" for n in TIMM), *(f"open_clip:{n}" for n in OPEN_CLIP)]
GRID = torch.tensor([[(1, 2), (0, 0)], [(1, 1), (3, 1)]])  # 2 + 1 + 3 real tiles of 12 slots


def register_towers(folder: Path) -> None:
    """Make the small towers known to open_clip."""
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    for name, vision in TOWERS.items():
        config = {"embed_dim": 24, "vision_cfg": {"image_size": 64, **vision}, "text_cfg": text}
        if name == "tiny-coca":
            config |= {"multimodal_cfg": {**text, "n_queries": 3, "attn_pooler_heads": 2}, "custom_text": True}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def tile_size(name: str) -> int:
    return {**TIMM, **OPEN_CLIP}[name.partition(":")[2]]


def random_tiles(size: int) -> torch.Tensor:
    return torch.randn(2, 2, 3, 3, size, size)


def stirred(module: nn.Module) -> nn.Module:
    """Layer scales start near zero and hide what a block does; batch norms start as the identity."""
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim < 2:
                p.add_(0.2 * torch.randn_like(p))
        for m in module.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.normal_(std=0.1)
                m.running_var.uniform_(0.5, 1.5)
    return module.eval()


def build(name: str) -> nn.Module:
    """An encoder in eval mode with every parameter away from its start, the same at every call."""
    torch.manual_seed(0)
    encoder = stirred(create_encoder(name, tile_size=tile_size(name))).train()
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # statistics of this batch, else the signal dies out on the way
    if norms:
        with torch.no_grad():
            encoder(random_tiles(tile_size(name)), GRID)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return encoder.eval()
