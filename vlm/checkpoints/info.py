"""What a checkpoint is and what it will cost in memory, from its config and the heads of its files alone.

Notable here:
- int8 keeps a matrix of the text model in a byte per weight and a 2-byte scale per row; int4 keeps those of its layers
  in half a byte and a 2-byte scale per 128 weights, its head in int8. Image encoder, embeddings and norms stay bf16.
- A cache in int8 or int4 has a 2-byte scale per head and token.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from vlm.checkpoints import detect, open_checkpoint
from vlm.checkpoints.download import find_folder
from vlm.checkpoints.files import read_json
from vlm.checkpoints.hub_config import model_config
from vlm.checkpoints.keys import empty_model
from vlm.config import ModelConfig, to_dict
from vlm.engine.quantize import quantization_of
from vlm.model import VisionLanguageModel

BITS = {"bf16": 16, "int8": 8, "int4": 4}
GROUP = 128  # weights that share a scale in int4
LATENTS = ("latent_embedding", "query_embedding")  # of connectors that give each picture a fixed number of tokens


def describe(
    name_or_path: str | Path, *, tiles: int | None = None, context: int | None = None, batch: int = 1,
    revision: str | None = None, token: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Layout, sizes, parameters by part, and bytes of weights and caches; of a hub id only the configs are fetched.

    Args:
        tiles: of each row; those of one picture at most where absent.
        context: text tokens of each row; 8192, or what the model can hold, where absent.
        batch: rows.
    """
    folder = find_folder(name_or_path, revision, token, patterns=["*.json"])
    layout, files = detect(folder), sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.pth"))
    if layout == "hub" and not files:
        data = read_json(folder / "config.json")
        model = empty_model(model_config(data, folder / "config.json"))
        dtype = data.get("dtype") or data.get("torch_dtype") or (data.get("text_config") or {}).get("dtype")
    else:
        source = open_checkpoint(folder)
        model, dtype = source.model, str(source.dtype).removeprefix("torch.")
    if quantization := quantization_of(model):
        model = empty_model(model.config)
    shapes, config = model.state_dict(), model.config
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    tiles = config.image.max_tiles * bool(config.encoder) if tiles is None else tiles
    context = min(8192, config.decoder.max_seq_len) if context is None else context
    for name, value, least in (("tiles", tiles, 0), ("context", context, 1), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    n_image_tokens = image_tokens(model, tiles)
    memory = {kind: _memory(kind, shapes, config, n_image_tokens * batch, context * batch) for kind in BITS}
    return {
        "source": str(name_or_path), "layout": layout, "dtype": dtype,
        "quantization": quantization and quantization["kind"], "files": len(files),
        "file_bytes": sum(f.stat().st_size for f in files), "parameters": sum(parts.values()), "parts": parts,
        "memory": memory, "tiles": tiles, "context": context, "batch": batch,
        "config": to_dict(config),
    }  # fmt: skip


def _memory(
    kind: str, shapes: dict[str, Tensor], config: ModelConfig, image_tokens: int, text_tokens: int
) -> dict[str, int]:
    """Bytes of the weights and of both caches."""
    decoder = config.decoder
    found = {
        "weights": sum(weight_bytes(name, tensor, kind) for name, tensor in shapes.items()),
        "text_cache": text_tokens * decoder.n_layers * cache_bytes(config, kind),
        "image_cache": image_tokens * len(decoder.cross_attention_layers) * cache_bytes(config, kind),
    }
    return found | {"total": sum(found.values())}


def image_tokens(model: VisionLanguageModel, tiles: int) -> int:
    """Image tokens that the text attends to for so many tiles."""
    if model.config.encoder is None:
        return 0
    fixed = [len(p) for name, p in model.connector.named_parameters() if name in LATENTS]  # tokens per picture
    encoder: Any = model.encoder
    return -(-tiles // model.config.image.max_tiles) * fixed[0] if fixed else tiles * encoder.n_tokens


def weight_bytes(name: str, tensor: Tensor, kind: str) -> int:
    """Bytes of one tensor; see the head of this file."""
    in_layer = name.startswith(("decoder.layers.", "decoder.cross_attention.")) and tensor.ndim == 2
    n = tensor.numel()
    if kind == "bf16" or not (in_layer or name == "decoder.lm_head.weight"):
        return 2 * n
    return n // 2 + 2 * -(-n // GROUP) if kind == "int4" and in_layer else n + 2 * len(tensor)


def cache_bytes(config: ModelConfig, kind: str) -> int:
    """Bytes that one token's key and value take in one layer."""
    scale = 0 if kind == "bf16" else 2
    return 2 * config.decoder.n_kv_heads * (config.decoder.head_dim * BITS[kind] // 8 + scale)


def to_text(found: dict[str, Any]) -> str:
    """What `describe` found, for people."""
    size = f", {found['file_bytes'] / 1e9:,.3f} GB in {found['files']} files" if found["files"] else ""
    kind = f", weights {found['quantization']}" if found["quantization"] else ""
    lines = [f"{found['source']}: {found['layout']} layout, {found['dtype']}{kind}{size}"]
    lines += [f"{found['parameters']:,} parameters"]
    lines += [f"  {part:<12}{count:>16,}" for part, count in found["parts"].items()]
    lines += [f"GB of memory at {found['tiles']} tiles, {found['context']:,} tokens, {found['batch']} rows"]
    lines += [" " * 14 + "".join(f"{kind:>10}" for kind in found["memory"])]
    for row in ("weights", "text_cache", "image_cache", "total"):
        cells = "".join(f"{figures[row] / 1e9:>10,.3f}" for figures in found["memory"].values())
        lines += [f"  {row.replace('_', ' '):<12}{cells}"]
    return "\n".join(lines)
