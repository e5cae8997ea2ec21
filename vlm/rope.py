"""Rotary position embedding and every way in which Llama-family configs stretch it.

Notable here:
- Dimensions are paired half against half (i with i + Dh/2), the layout of the Hugging Face hub; Meta's interleaved
  checkpoints are permuted once when they are loaded.
- Frequencies are computed in float32 whatever the model's dtype is: bf16 angles are wrong from a few hundred tokens on.
"""

import math

import torch
from torch import Tensor

from vlm.config import DecoderConfig, RopeScaling


def rotary(positions: Tensor, config: DecoderConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions (R, T), each (R, 1, T, Dh / 2)."""
    scaling = config.rope_scaling
    seq_len = int(positions.max()) + 1 if scaling is not None and scaling.kind == "dynamic" else 0
    angles = positions[:, None, :, None].float() * inverse_frequencies(config, seq_len, positions.device)
    scale = attention_scale(scaling)
    return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of dimensions of x (R, H, T, Dh) by its angle (Su et al. 2021, RoFormer, eq. 34)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def inverse_frequencies(config: DecoderConfig, seq_len: int, device: torch.device) -> Tensor:
    """Radians per position of each pair, (Dh / 2,), after scaling."""
    scaling, dim = config.rope_scaling, config.head_dim
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    theta = config.rope_theta
    freqs = (
        1.0 / theta**exponents
    )  # rounded as Meta rounds; theta**-exponents is 5e-3 off in cosines at position 131071
    if scaling is None:
        return freqs
    if scaling.kind == "linear":
        return freqs / scaling.factor
    if scaling.kind == "dynamic":  # NTK-aware: a larger base once the text is longer than the model was trained on
        length = max(seq_len, scaling.original_max_seq_len)
        growth = scaling.factor * length / scaling.original_max_seq_len - (scaling.factor - 1)
        return 1.0 / (theta * growth ** (dim / (dim - 2))) ** exponents
    if scaling.kind == "llama3":
        return _llama3(freqs, scaling)
    return _yarn(freqs, scaling, theta, dim)


def attention_scale(scaling: RopeScaling | None) -> float:
    """YaRN's temperature, folded into cosines and sines (Peng et al. 2023, eq. 22); 1 for every other kind."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return mscale(scaling.mscale) / mscale(scaling.mscale_all_dim)
    return mscale(1.0)


def _llama3(freqs: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: leave fast pairs, divide slow ones by the factor, blend between the two wavelengths."""
    turns = scaling.original_max_seq_len * freqs / (2 * math.pi)  # over the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return keep * freqs + (1 - keep) * freqs / scaling.factor


def _yarn(freqs: Tensor, scaling: RopeScaling, theta: float, dim: int) -> Tensor:
    """YaRN "NTK-by-parts" (Peng et al. 2023, section 3.2): interpolate slow pairs, keep fast ones, ramp between."""

    def pair_that_turns(n: float) -> float:
        return dim * math.log(scaling.original_max_seq_len / (n * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    span = high - low or 1e-3
    ramp = ((torch.arange(dim // 2, device=freqs.device, dtype=torch.float32) - low) / span).clamp(0, 1)
    return freqs * (1 - ramp) + freqs / scaling.factor * ramp
