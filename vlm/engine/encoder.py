"""The image encoder as the engine runs it on a CPU: Llama 3.2's with its linear layers packed and its attention in C++.

Notable here:
- Only the blocks are others; what goes in and comes out of them stays the encoder's own code (encoders/tiled_vit.py).
- q, k and v are one matrix, GELU and residuals are added by the products that they follow, and the last block leaves
  out the padding, whose output nobody reads.
- Encoders of other libraries, and layers that are quantized, adapted or spread over devices, run as they are.

Shapes: B pictures, S tokens of a picture and its padding, n real ones, C dim, H heads, Dh head_dim.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from encoders.tiled_vit import Block, Padding, TiledViT
from vlm.engine.attention import Attend, attention
from vlm.engine.weights import PackedProjection, should_pack


class FastBlock(nn.Module):
    """What `Block` computes."""

    def __init__(self, block: Block, attend: Attend, last: bool):
        super().__init__()
        attn: Any = block.attn
        ffn: Any = block.ffn
        self.n_heads, self.attend, self.last = attn.n_heads, attend, last
        self.attn_norm, self.ffn_norm = block.attn_norm, block.ffn_norm
        self.qkv = PackedProjection(torch.cat([p.weight for p in (attn.q_proj, attn.k_proj, attn.v_proj)]))
        self.o = PackedProjection(attn.o_proj.weight.data)
        self.fc1 = PackedProjection(ffn.fc1.weight.data, ffn.fc1.bias.data, "gelu")
        self.fc2 = PackedProjection(ffn.fc2.weight.data, ffn.fc2.bias.data)
        gates: Any = (block.attn_gate, block.ffn_gate)
        self.gates = [None if gate is None else gate.data.tanh() for gate in gates]

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """(B, S, C) -> the same, or (B, n, C) where it is the last block."""
        qkv = self.qkv(self.attn_norm(x)).unflatten(-1, (3, self.n_heads, -1))  # (B, S, 3, H, Dh)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, S, Dh)
        if padding is None:
            out = self.attend(q, k, v)  # (B, S, H, Dh)
        else:
            n = padding.n_real
            out = self.attend(q[:, :, :n], k, v, bias=padding.key_bias.flatten())
            if self.last:
                x = x[:, :n]
            else:
                padded = self.attend(q[:, :, n:], k[:, :, :n], v[:, :, :n])
                out = torch.cat([out, padded], dim=1)
        x = self._add(x, self.o, out.flatten(2), self.gates[0])
        return self._add(x, self.fc2, self.fc1(self.ffn_norm(x)), self.gates[1])

    @staticmethod
    def _add(x: Tensor, layer: PackedProjection, h: Tensor, gate: Tensor | None) -> Tensor:
        return layer(h, x.contiguous()) if gate is None else torch.addcmul(x, gate, layer(h))


@torch.no_grad()
def fast(encoder: nn.Module, pack: bool | None = None, compile: bool = True) -> nn.Module:
    """The encoder with fast blocks, or itself where it cannot have them.

    Args:
        pack: as in `DecoderWeights`; without packed layers nothing is changed.
        compile: as in `Engine`.
    """
    if type(encoder) is not TiledViT or not _is_plain(encoder):
        return encoder
    if not (should_pack(encoder) if pack is None else pack):
        return encoder
    weight = encoder.class_embedding
    attend, twin = attention(weight.dtype, weight.device, compile), copy.copy(encoder)
    twin._modules = dict(encoder._modules)  # the copy's own: the model keeps its blocks
    twin.layers = nn.ModuleList(FastBlock(b, attend, False) for b in _blocks(encoder.layers))
    last = len(encoder.global_layers) - 1
    twin.global_layers = nn.ModuleList(FastBlock(b, attend, i == last) for i, b in enumerate(encoder.global_layers))  # type: ignore[arg-type]
    return twin


def _blocks(layers: nn.ModuleList) -> list[Block]:
    return list(layers)  # type: ignore[arg-type]  # nn.ModuleList has no type for its values


def _is_plain(encoder: TiledViT) -> bool:
    """Whether it is in main memory, in one dtype, of layers without adapters and hooks."""
    blocks = [*_blocks(encoder.layers), *_blocks(encoder.global_layers)]
    linears = [m for b in blocks for m in (*b.attn.children(), *b.ffn.children())]
    hooked = any(hasattr(m, "_hf_hook") or m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())
    tensors = [p.data for p in encoder.parameters()]
    kinds = {(type(t), t.device.type, t.dtype) for t in tensors}
    return (
        not hooked
        and all(type(m) is nn.Linear for m in linears)
        and len(kinds) == 1
        and tensors[0].device.type == "cpu"
    )
