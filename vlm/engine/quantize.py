"""Linear layers with weights of 8 or 4 bits: the decoder's, and the encoder's where that is asked for.

    quantize(model, "int4")           swaps every linear layer, one after another; its plain weight is freed at once

Notable here:
- int8: a scale per row, symmetric. int4: a scale and a zero per row and 128 weights (32 where 128 does not divide the
  width), asymmetric; the head, and layers of other widths, are int8. Embeddings, norms, gates and biases stay as they
  are. The numerics are torchao's weight-only ones; scales are rounded to bfloat16 before weights are counted in them,
  because that is what the kernels take.
- On a CPU a few tokens go through torch's own kernels, which read the small weights as they are, with activations in
  bfloat16; many tokens go through the matrix multiplied out, in their own dtype.
- int4 is held once, in the layout of its device's kernel, and written to files in a plain one. A head that is tied to
  the embeddings is quantized beside them when the engine reads the model (vlm/engine/weights.py).
- fp8 is torchao's: rows of weights and tokens in e4m3, scaled by row; it needs a GPU that multiplies them.

Shapes: N out_features, K in_features, G weights that share a scale, T tokens.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.lora import LoRALinear, linears
from vlm.config import near_match
from vlm.engine.memory import one_matrix

KINDS = ("int8", "int4", "fp8")
FEW_INT8 = 0  # tokens up to which a CPU uses torch's kernel; never: that of torch 2.14 crashes on small layers
FEW_INT4 = 16
GROUPS = (128, 32)
SCALES = torch.bfloat16  # of the stored scales and of the kernels' activations


class Int8Projection(nn.Module):
    """W in bytes, one scale per row."""

    weight: Tensor  # (N, K) int8
    scales: Tensor  # (N,)

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Int8Projection":
        """Quantize W (N, K)."""
        wide = weight.float()
        scales = (wide.abs().amax(1) / 127.5).clamp(min=torch.finfo(torch.float32).eps).to(SCALES)
        counts = (wide / scales.float()[:, None]).round_().clamp_(-128, 127)
        return cls(counts.to(torch.int8), scales, bias)

    @classmethod
    def empty(cls, n: int, k: int, bias: Tensor | None = None) -> "Int8Projection":
        """One to load weights into."""
        return cls(torch.empty(n, k, dtype=torch.int8), torch.empty(n, dtype=SCALES), bias)

    @classmethod
    def join(cls, layers: Sequence["Int8Projection"]) -> "Int8Projection | None":
        """One matrix for layers that read the same input, of which they become views; None where that cannot be."""
        if len(layers) == 1:
            return layers[0]
        if any(m.bias is not None for m in layers):
            return None
        weights = [m.weight for m in layers]
        weight = one_matrix(weights)
        whole = cls(torch.cat(weights) if weight is None else weight, torch.cat([m.scales for m in layers]))
        sizes = [m.out_features for m in layers]
        for layer, weight, scales in zip(layers, whole.weight.split(sizes), whole.scales.split(sizes), strict=True):
            layer.weight, layer.scales = weight, scales
        return whole

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """(N, K)."""
        return self.weight.to(dtype) * self.scales.to(dtype)[:, None]

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x (..., K) -> W x, or add + W x."""
        flat = x.reshape(-1, self.in_features)
        fits = self.out_features % 16 == 0 and self.in_features % 64 == 0  # else the kernel reads past the end
        if x.device.type == "cpu" and fits and len(flat) <= FEW_INT8:
            out = torch._weight_int8pack_mm(flat.to(SCALES).contiguous(), self.weight, self.scales).to(x.dtype)
        else:
            out = F.linear(flat, self.weight.to(x.dtype)) * self.scales.to(x.dtype)
        return _finish(out, x, self.bias, add)


class Int4Projection(nn.Module):
    """W in half bytes, a scale and a zero per row and group: w = (count - 8) * scale + zero."""

    weight: Tensor  # of a kernel's layout; (N, K / 2) in files, the first of two weights in the low bits
    scales: Tensor  # (K / G, N, 2): scale and zero; (N, K / G, 2) in files

    def __init__(self, weight: Tensor, scales: Tensor, k: int, bias: Tensor | None = None):
        """From the form of files; `pack` then makes it ready."""
        super().__init__()
        self.out_features, self.in_features = len(weight), k
        self.group = k // scales.shape[1]
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Int4Projection":
        """Quantize W (N, K)."""
        n, k = weight.shape
        wide = weight.float().view(n, -1, group_of(k))  # (N, K / G, G)
        low, high = wide.aminmax(dim=2)
        scale = ((high - low) / 15).clamp(min=torch.finfo(torch.float32).eps).to(SCALES)
        zero = (low + 8 * scale.float()).to(SCALES)
        lowest = zero.float() - 8 * scale.float()
        counts = ((wide - lowest[..., None]) / scale.float()[..., None]).round_().clamp_(0, 15)
        return cls(_pairs(counts.to(torch.uint8).view(n, k)), torch.stack([scale, zero], -1), k, bias).pack()

    @classmethod
    def empty(cls, n: int, k: int, bias: Tensor | None = None) -> "Int4Projection":
        """One to load weights into; `pack` it then."""
        weight, scales = torch.empty(n, k // 2, dtype=torch.uint8), torch.empty(n, k // group_of(k), 2, dtype=SCALES)
        return cls(weight, scales, k, bias)

    @classmethod
    def join(cls, layers: Sequence["Int4Projection"]) -> "Int4Projection | None":
        """As `Int8Projection.join`; the rows of each layer must be whole blocks of the kernel's layout."""
        if len(layers) == 1:
            return layers[0]
        block = cpu_block() if layers[0].weight.device.type == "cpu" else 8
        if any(m.bias is not None or m.out_features % (block or m.out_features + 1) for m in layers):
            return None
        whole = cls.__new__(cls)
        nn.Module.__init__(whole)
        whole.out_features, whole.in_features = sum(m.out_features for m in layers), layers[0].in_features
        whole.group, whole.bias = layers[0].group, None
        weight = one_matrix([m.weight for m in layers])
        whole.register_buffer("weight", torch.cat([m.weight for m in layers]) if weight is None else weight)
        whole.register_buffer("scales", torch.cat([m.scales for m in layers], dim=1))
        for layer, part in zip(layers, whole.weight.split([len(m.weight) for m in layers]), strict=True):
            layer.weight = part
        return whole

    def pack(self) -> "Int4Projection":
        """From the form of files to that of the device's kernel."""
        counts = _counts(self.weight)
        if self.weight.device.type == "cpu":
            self.weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(counts.int(), 1)
        else:
            tiles = next(t for t in (8, 4, 2) if self.in_features % (16 * t) == 0)
            high_first = (counts[:, ::2] << 4 | counts[:, 1::2]).contiguous()
            self.weight = torch.ops.aten._convert_weight_to_int4pack(high_first, tiles)
        self.scales = self.scales.transpose(0, 1).contiguous()
        return self

    def plain(self) -> tuple[Tensor, Tensor]:
        """Weight and scales in the form of files."""
        return _pairs(self.counts()), self.scales.transpose(0, 1).contiguous()

    def counts(self) -> Tensor:
        """(N, K) uint8 from 0 to 15, out of the kernel's layout."""
        if self.weight.device.type == "cpu" and (block := cpu_block()):
            return _unpack(self.weight, self.in_features, block)
        ones = torch.zeros_like(self.scales)  # any other layout: multiply by the identity, scale 1 and zero 8
        ones[..., 0], ones[..., 1] = 1, 8
        rows = torch.eye(self.in_features, dtype=SCALES, device=self.weight.device)
        return torch.cat([self._kernel(part, ones).to(torch.uint8) for part in rows.split(1024)]).t().contiguous()

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """(N, K)."""
        scale, zero = self.scales.transpose(0, 1).to(dtype)[..., None].unbind(2)  # (N, K / G, 1)
        groups = self.counts().view(self.out_features, -1, self.group).to(dtype)
        return groups.sub_(8).mul_(scale).add_(zero).view(self.out_features, -1)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x (..., K) -> W x, or add + W x."""
        flat = x.reshape(-1, self.in_features)
        if x.device.type == "cpu" and len(flat) > FEW_INT4:
            out = F.linear(flat, self.dequantize(x.dtype))
        else:
            out = self._kernel(flat.to(SCALES).contiguous(), self.scales).to(x.dtype)
        return _finish(out, x, self.bias, add)

    def _kernel(self, x: Tensor, scales: Tensor) -> Tensor:
        name = "_weight_int4pack_mm_for_cpu" if x.device.type == "cpu" else "_weight_int4pack_mm"
        return getattr(torch.ops.aten, name)(x, self.weight, self.group, scales)


Quantized = Union[Int8Projection, Int4Projection]  # noqa: UP007 - isinstance takes it as well
PROJECTIONS = (Int8Projection, Int4Projection)


def _finish(out: Tensor, x: Tensor, bias: Tensor | None, add: Tensor | None) -> Tensor:
    out = out if bias is None else out + bias
    out = out.view(*x.shape[:-1], -1)
    return out if add is None else add + out


def group_of(k: int) -> int:
    """Weights that share a scale in int4."""
    return next(g for g in GROUPS if k % g == 0)


def _pairs(counts: Tensor) -> Tensor:
    return counts[:, ::2] | counts[:, 1::2] << 4


def _counts(pairs: Tensor) -> Tensor:
    return torch.stack([pairs & 15, pairs >> 4], dim=-1).flatten(1)


def _unpack(packed: Tensor, k: int, block: int) -> Tensor:
    """(N, K) out of a CPU's layout: blocks of rows, in each a weight beside that half a block below, K-major."""
    n = len(packed)
    whole = n - n % block
    halves = packed[:whole].reshape(-1, k, block // 2)
    rows = torch.stack([halves & 15, halves >> 4], dim=2).view(-1, k, block).transpose(1, 2).reshape(-1, k)
    if whole == n:
        return rows
    rest = packed[whole:].reshape(k, -1)  # beside that in the next row
    return torch.cat([rows, torch.stack([rest & 15, rest >> 4], dim=2).view(k, -1).t()])


@cache
def cpu_block() -> int | None:
    """Rows of a block in this CPU's layout of int4, found by trying; None where it is another one."""
    counts = torch.arange(80 * 32, dtype=torch.int32).view(80, 32).mul(7).add(torch.arange(80)[:, None]).remainder(16)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(counts.int(), 1)
    return next((b for b in (64, 32, 16) if torch.equal(_unpack(packed, 32, b).int(), counts.int())), None)


def _form(path: str, linear: nn.Linear, kind: str) -> type[Int8Projection] | type[Int4Projection]:
    fits = linear.in_features % GROUPS[-1] == 0 and linear.out_features % 16 == 0
    return Int4Projection if kind == "int4" and fits and path != "decoder.lm_head" else Int8Projection


def _chosen(model: nn.Module, encoder: bool) -> dict[str, nn.Linear]:
    parts = ("decoder.", "encoder.", "connector.") if encoder else ("decoder.",)
    return {path: m for path, m in linears(model).items() if path.startswith(parts)}


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"quantization: found {kind!r}, expected {', '.join(KINDS)}{near_match(str(kind), KINDS)}")


@torch.no_grad()
def quantize(model: nn.Module, kind: str, *, encoder: bool = False, device: torch.device | None = None) -> None:
    """Swap the linear layers of a model in place.

    Args:
        kind: "int8", "int4" or "fp8".
        encoder: the image encoder and the connector as well.
        device: where the model is to stand; each layer goes there by itself before it is quantized.

    Raises:
        ValueError: an unknown kind, a model that is quantized already, carries adapters or is spread over devices, or
            fp8 without a GPU that has it. ImportError: fp8 without torchao.
    """
    check_kind(kind)
    device = device or next(model.parameters()).device
    if found := quantization_of(model):
        raise ValueError(f"the model holds {found['kind']} weights already; load the unquantized one to make {kind}")
    if any(isinstance(m, LoRALinear) for m in model.modules()):
        raise ValueError("the model carries adapters; take them into its weights first: adapters.lora.fold(model)")
    if any(hasattr(m, "_hf_hook") for m in model.modules()):
        raise ValueError("a model that is spread over devices cannot be quantized; load it without device_map")
    if kind == "fp8":
        _quantize_fp8(model, encoder, device)
    else:
        for path, linear in _chosen(model, encoder).items():
            bias = None if linear.bias is None else linear.bias.data.to(device)
            _put(model, path, _form(path, linear, kind).of(linear.weight.data.to(device), bias))
    model.to(device)


def _quantize_fp8(model: nn.Module, encoder: bool, device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"fp8 needs a GPU, the model is on {device.type}; take quantization='int8' or 'int4' there")
    if (found := torch.cuda.get_device_capability(device)) < (8, 9):
        raise ValueError(
            f"fp8 needs compute capability 8.9, this GPU has {found[0]}.{found[1]}; take quantization='int8' or 'int4'"
        )
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_
    except ImportError:
        raise ImportError("fp8 needs torchao, which is not installed: pip install torchao") from None
    chosen = {id(m) for m in _chosen(model, encoder).values() if m.in_features % 16 == 0 and m.out_features % 16 == 0}
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    quantize_(model.to(torch.bfloat16), config, filter_fn=lambda module, path: id(module) in chosen, device=device)


def quantization_of(model: nn.Module) -> dict[str, Any] | None:
    """{"kind", "encoder"} of a quantized model, read off its modules; None of a plain one."""
    names = {path: type(m) for path, m in model.named_modules() if isinstance(m, PROJECTIONS)}
    if names:
        kind = "int4" if Int4Projection in names.values() else "int8"
        return {"kind": kind, "encoder": any(not path.startswith("decoder.") for path in names)}
    eights = [p for p, m in linears(model).items() if type(m.weight.data).__module__.startswith("torchao")]
    return {"kind": "fp8", "encoder": any(not p.startswith("decoder.") for p in eights)} if eights else None


def head_of(table: Tensor, model: nn.Module) -> Int8Projection | None:
    """The quantized head of a model whose embeddings (V, D) are its head too; None where it is not quantized."""
    return Int8Projection.of(table) if any(isinstance(m, PROJECTIONS) for m in model.modules()) else None


def prepare_to_load(model: nn.Module, kind: str, encoder: bool) -> None:
    """Swap the linear layers of an empty model for empty quantized ones, under whose names files keep them."""
    for path, linear in _chosen(model, encoder).items():
        with linear.weight.device:
            bias = None if linear.bias is None else linear.bias.data
            _put(model, path, _form(path, linear, kind).empty(linear.out_features, linear.in_features, bias))


def finish_loading(model: nn.Module) -> None:
    """Bring what was loaded into the layout of its device's kernels."""
    for module in model.modules():
        if isinstance(module, Int4Projection):
            module.pack()


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model as files keep them.

    Raises:
        ValueError: fp8 weights, whose form is torchao's own.
    """
    if (found := quantization_of(model)) and found["kind"] == "fp8":
        raise ValueError("fp8 weights cannot be saved; save the unquantized model, and load it with quantization='fp8'")
    state = model.state_dict()
    for path, module in model.named_modules():
        if isinstance(module, Int4Projection):
            state[f"{path}.weight"], state[f"{path}.scales"] = module.plain()
    return state


def count_weights(model: nn.Module) -> int:
    """Parameters, and the weights that are quantized."""
    quantized = (m.in_features * m.out_features for m in model.modules() if isinstance(m, PROJECTIONS))
    return sum(p.numel() for p in model.parameters()) + sum(quantized)
