"""The decoder's linear layers as the engine reads them: fewer and larger, on a CPU in oneDNN's own layout.

Notable here:
- Layers that read the same input are one matrix (q, k and v; gate and up). The model's own weights become views of it,
  so nothing is stored twice and the model stays what it was.
- On a CPU the matrix is repacked once for oneDNN, which reads it faster, above all for more than one token
  (docs/engine.md has the figures). That is a second copy, so it is made only where memory is plentiful.
- Layers that carry a LoRA adapter, or hooks that move weights between devices, are called as the modules they are.
- Quantized layers (vlm/engine/quantize.py) are joined in the same way.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.decoder import Decoder
from vlm.engine.attention import attention
from vlm.engine.compiled import library
from vlm.engine.memory import one_matrix
from vlm.engine.native import Native, runs
from vlm.engine.quantize import PROJECTIONS, head_of

PACK_SHARE = 0.4  # of the free memory that packed copies may take
PACK_FROM = 2**18  # elements: below, oneDNN takes longer to begin than to multiply


class Projection(nn.Linear):
    """One matrix for all layers that read the same input."""

    def __init__(self, weight: Tensor):
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x (N, D) -> W x, or add + W x."""
        if add is None:
            return F.linear(x, self.weight)
        if type(self.weight.data) is not Tensor:  # a quantized weight
            return add + F.linear(x, self.weight)
        return torch.addmm(add, x, self.weight.t())


class PackedProjection(nn.Module):
    """A `Projection` in oneDNN's layout.

    Args:
        then: "none", or "gelu" on what comes out.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, then: str = "none"):
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self.bias, self.then = bias, then

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x (N, D) -> W x, or add + W x."""
        if add is None:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, self.then, [], "none")
        return torch.ops.mkldnn._linear_pointwise.binary(x, add, self.packed, self.bias, "add")


class Modules(nn.Module):
    """Layers that are called one by one, where they are."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = list(layers)  # not registered: they belong to the model

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x (N, D) -> all outputs side by side, or add + them."""
        out = torch.cat([layer(x) for layer in self.layers], dim=-1) if len(self.layers) > 1 else self.layers[0](x)
        return out if add is None else add + out


def join(layers: Sequence[nn.Module], fuse: bool, pack: bool) -> nn.Module:
    """The best form of layers that read the same input."""
    if (kind := type(layers[0])) in PROJECTIONS and all(type(m) is kind for m in layers) and fuse:
        return kind.join(layers) or Modules(layers)  # type: ignore[arg-type]  # all are of this kind
    plain = all(type(m) is nn.Linear and m.bias is None and not hasattr(m, "_hf_hook") for m in layers)
    weights = [m.weight.data for m in layers if isinstance(m, nn.Linear)]
    devices = {w.device for w in weights}
    if not (fuse and plain) or len(devices) > 1 or any(type(w) is not Tensor for w in weights):
        return Modules(layers)
    if pack and sum(w.numel() for w in weights) >= PACK_FROM:
        return PackedProjection(torch.cat(weights) if len(weights) > 1 else weights[0])
    if len(weights) == 1:
        return Projection(weights[0])
    if (whole := one_matrix(weights)) is not None:
        return Projection(whole)
    whole = torch.cat(weights)
    for layer, part in zip(layers, whole.split([len(w) for w in weights]), strict=True):
        layer.weight.data = part
    return Projection(whole)


def should_pack(module: nn.Module) -> bool:
    """Whether this is on a CPU with oneDNN, in a dtype that it packs, and there is memory for a second copy."""
    weight = next(module.parameters())
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    bf16 = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32  # not without AVX-512
    if weight.dtype not in (torch.float32, bf16):
        return False
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    return size < PACK_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


class FeedForward:
    """SwiGLU with its first two matrices as one."""

    def __init__(self, ffn, fuse: bool, pack: bool):
        self.gate_up = join([ffn.gate_proj, ffn.up_proj], fuse, pack)
        self.down = join([ffn.down_proj], fuse, pack)

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate).mul_(up), add)


class Layer:
    """One Llama layer."""

    def __init__(self, layer, fuse: bool, pack: bool):
        attn = layer.attn
        self.attn_norm, self.ffn_norm = layer.attn_norm, layer.ffn_norm
        self.qkv = join([attn.q_proj, attn.k_proj, attn.v_proj], fuse, pack)
        self.o = join([attn.o_proj], fuse, pack)
        self.ffn = FeedForward(layer.ffn, fuse, pack)
        self.device = attn.o_proj.weight.device


class CrossLayer:
    """One gated cross-attention block; its keys and values are computed by the model, once per picture."""

    def __init__(self, block, fuse: bool, pack: bool):
        attn = block.attn
        self.attn_norm, self.ffn_norm, self.q_norm = block.attn_norm, block.ffn_norm, attn.q_norm
        self.q = join([attn.q_proj], fuse, pack)
        self.o = join([attn.o_proj], fuse, pack)
        self.ffn = FeedForward(block.ffn, fuse, pack)
        self.attn_gate, self.ffn_gate = block.attn_gate, block.ffn_gate
        self.device = attn.o_proj.weight.device


class DecoderWeights:
    """A decoder's layers in the form that the engine runs.

    Args:
        fuse: join layers that read the same input; False leaves the model's modules and storage alone (training).
        pack: repack for oneDNN; None where it pays and fits.
        compile: take passes of a few single tokens (vlm/engine/native.py) and attention of prompts through C++.
    """

    def __init__(self, decoder: Decoder, fuse: bool = True, pack: bool | None = None, compile: bool = False):
        pack = fuse and (should_pack(decoder) if pack is None else pack)
        weight, tied = decoder.embed_tokens.weight, decoder.config.tie_embeddings
        table = weight.data[: decoder.config.vocab_size]
        small = head_of(table, decoder) if tied else None
        head = small or (decoder.embed_tokens if tied else decoder.lm_head)
        code = library() if fuse and compile and runs(decoder, head) else None
        self.native = None if code is None else Native(decoder, head, code)
        self.attend = attention(weight.dtype, weight.device, compile and fuse)
        self.config, self.embed, self.norm = decoder.config, decoder.embed_tokens, decoder.norm
        self.layers = [Layer(layer, fuse, pack) for layer in decoder.layers]
        self.cross = {int(i): CrossLayer(block, fuse, pack) for i, block in decoder.cross_attention.items()}
        if tied:
            table = weight.data[: decoder.config.vocab_size]  # where it lies now
            plain = PackedProjection if pack and table.numel() >= PACK_FROM else Projection
            self.lm_head: nn.Module = small or plain(table)
        else:
            self.lm_head = join([decoder.lm_head], fuse, pack)
