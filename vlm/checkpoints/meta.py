"""Meta's own dialect: params.json and consolidated.NN.pth, of one or several tensor-parallel shards.

Notable here:
- Self-attention q and k are stored for interleaved rotary pairs and are permuted to halves; cross-attention has no
  positions and is not permuted.
- Tile embeddings are a grid of tile places; ours have one row per aspect ratio, zero past the picture's tiles.
- The numbers of the image encoder are constants in Meta's code; what cannot be read off the weights (heads, taps) is
  here, and `vision_overrides.json` beside params.json replaces it for other encoders.
"""

import math
import re
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.tiled_vit import aspect_ratios
from vlm.checkpoints.files import CheckpointError, Weights, read_json
from vlm.checkpoints.keys import Numbering, foreign_names
from vlm.checkpoints.source import Source, open_source
from vlm.config import DecoderConfig, EncoderConfig, ModelConfig, RopeScaling, from_dict
from vlm.image import ImageConfig

TABLE = {
    "decoder.embed_tokens": "text_model.tok_embeddings",  # and text_model.learnable_embedding below it
    "decoder.norm": "text_model.norm",
    "decoder.lm_head": "text_model.output",
    "decoder.layers.{}.attn_norm": "text_model.layers.{}.attention_norm",
    "decoder.layers.{}.attn.q_proj": "text_model.layers.{}.attention.wq",
    "decoder.layers.{}.attn.k_proj": "text_model.layers.{}.attention.wk",
    "decoder.layers.{}.attn.v_proj": "text_model.layers.{}.attention.wv",
    "decoder.layers.{}.attn.o_proj": "text_model.layers.{}.attention.wo",
    "decoder.layers.{}.ffn_norm": "text_model.layers.{}.ffn_norm",
    "decoder.layers.{}.ffn.gate_proj": "text_model.layers.{}.feed_forward.w1",
    "decoder.layers.{}.ffn.up_proj": "text_model.layers.{}.feed_forward.w3",
    "decoder.layers.{}.ffn.down_proj": "text_model.layers.{}.feed_forward.w2",
    "decoder.cross_attention.{}.attn_norm": "text_model.cross_attention_layers.{}.attention_norm",
    "decoder.cross_attention.{}.attn.q_proj": "text_model.cross_attention_layers.{}.attention.wq",
    "decoder.cross_attention.{}.attn.k_proj": "text_model.cross_attention_layers.{}.attention.wk",
    "decoder.cross_attention.{}.attn.v_proj": "text_model.cross_attention_layers.{}.attention.wv",
    "decoder.cross_attention.{}.attn.o_proj": "text_model.cross_attention_layers.{}.attention.wo",
    "decoder.cross_attention.{}.attn.q_norm": "text_model.cross_attention_layers.{}.attention.q_norm",
    "decoder.cross_attention.{}.attn.k_norm": "text_model.cross_attention_layers.{}.attention.k_norm",
    "decoder.cross_attention.{}.attn_gate": "text_model.cross_attention_layers.{}.gate_attn",
    "decoder.cross_attention.{}.ffn_norm": "text_model.cross_attention_layers.{}.ffn_norm",
    "decoder.cross_attention.{}.ffn.gate_proj": "text_model.cross_attention_layers.{}.feed_forward.w1",
    "decoder.cross_attention.{}.ffn.up_proj": "text_model.cross_attention_layers.{}.feed_forward.w3",
    "decoder.cross_attention.{}.ffn.down_proj": "text_model.cross_attention_layers.{}.feed_forward.w2",
    "decoder.cross_attention.{}.ffn_gate": "text_model.cross_attention_layers.{}.gate_ffwd",
    "connector.proj": "vision_model.vision_projection",
    "encoder.patch_embedding": "vision_model.vision_encoder.conv1._linear",
    "encoder.class_embedding": "vision_model.vision_encoder.class_embedding",
    "encoder.position_embedding": "vision_model.vision_encoder.positional_embedding",
    "encoder.position_gate": "vision_model.vision_encoder.gated_positional_embedding_gate",
    "encoder.tile_position_embedding.weight": "vision_model.vision_encoder.gated_positional_embedding",
    "encoder.pre_tile_embedding.weight": "vision_model.vision_encoder.pre_tile_pos_embed.embedding",
    "encoder.pre_tile_gate": "vision_model.vision_encoder.pre_tile_pos_embed.gate",
    "encoder.post_tile_embedding.weight": "vision_model.vision_encoder.post_tile_pos_embed.embedding",
    "encoder.post_tile_gate": "vision_model.vision_encoder.post_tile_pos_embed.gate",
    "encoder.pre_norm": "vision_model.vision_encoder.ln_pre",
    "encoder.post_norm": "vision_model.vision_encoder.ln_post",
    "encoder.layers.{}.attn_norm": "vision_model.vision_encoder.transformer.resblocks.{}.ln_1",
    "encoder.layers.{}.attn.q_proj": "vision_model.vision_encoder.transformer.resblocks.{}.attn.wq",
    "encoder.layers.{}.attn.k_proj": "vision_model.vision_encoder.transformer.resblocks.{}.attn.wk",
    "encoder.layers.{}.attn.v_proj": "vision_model.vision_encoder.transformer.resblocks.{}.attn.wv",
    "encoder.layers.{}.attn.o_proj": "vision_model.vision_encoder.transformer.resblocks.{}.attn.wo",
    "encoder.layers.{}.ffn_norm": "vision_model.vision_encoder.transformer.resblocks.{}.ln_2",
    "encoder.layers.{}.ffn.fc1": "vision_model.vision_encoder.transformer.resblocks.{}.mlp.c_fc",
    "encoder.layers.{}.ffn.fc2": "vision_model.vision_encoder.transformer.resblocks.{}.mlp.c_proj",
    "encoder.global_layers.{}.attn_norm": "vision_model.vision_encoder.global_transformer.resblocks.{}.ln_1",
    "encoder.global_layers.{}.attn.q_proj": "vision_model.vision_encoder.global_transformer.resblocks.{}.attn.wq",
    "encoder.global_layers.{}.attn.k_proj": "vision_model.vision_encoder.global_transformer.resblocks.{}.attn.wk",
    "encoder.global_layers.{}.attn.v_proj": "vision_model.vision_encoder.global_transformer.resblocks.{}.attn.wv",
    "encoder.global_layers.{}.attn.o_proj": "vision_model.vision_encoder.global_transformer.resblocks.{}.attn.wo",
    "encoder.global_layers.{}.attn_gate": "vision_model.vision_encoder.global_transformer.resblocks.{}.gate_attn",
    "encoder.global_layers.{}.ffn_norm": "vision_model.vision_encoder.global_transformer.resblocks.{}.ln_2",
    "encoder.global_layers.{}.ffn.fc1": "vision_model.vision_encoder.global_transformer.resblocks.{}.mlp.c_fc",
    "encoder.global_layers.{}.ffn.fc2": "vision_model.vision_encoder.global_transformer.resblocks.{}.mlp.c_proj",
    "encoder.global_layers.{}.ffn_gate": "vision_model.vision_encoder.global_transformer.resblocks.{}.gate_ffn",
}
SPLIT = {  # ending of a name -> the dimension that Meta's tensor-parallel layers cut; all else is whole in each shard
    "wq.weight": 0, "wk.weight": 0, "wv.weight": 0, "wo.weight": 1,
    "w1.weight": 0, "w2.weight": 1, "w3.weight": 0,
    "c_fc.weight": 0, "c_fc.bias": 0, "c_proj.weight": 1,
    "_linear.weight": 0, "vision_projection.weight": 0, "vision_projection.bias": 0,
    "output.weight": 0, "learnable_embedding.weight": 0,
}  # fmt: skip
EXTRA_ROWS = "text_model.learnable_embedding.weight"
EMBEDDING, HEAD = "text_model.tok_embeddings.weight", "text_model.output.weight"
VISION = "vision_model.vision_encoder."
BUFFERS = ("rope.freqs",)  # stored by LLaMA 1 and 2, computed here
CONTEXTS = {500000.0: 8192, 1000000.0: 16384}  # by rope_theta: Llama 3, Code Llama; else LLaMA 1 (eps 1e-6) or 2
VISION_HEADS, VISION_TAPS = 16, (3, 7, 15, 23, 30)  # constants of Meta's code
SHARD = re.compile(r"consolidated(?:\.(\d+))?\.(pth|safetensors)")


class Shards:
    """The tensors of all shards, put together one at a time; a mapping like `Weights`."""

    def __init__(self, shards: list[Weights], kv_rows: int = 0):
        self.shards, self.kv_rows = shards, kv_rows

    def __iter__(self):
        return iter(self.shards[0])

    def __contains__(self, name: str) -> bool:
        return all(name in shard for shard in self.shards)

    def path(self, name: str) -> Path:
        return self.shards[0].path(name)

    def close(self) -> None:
        """Give back the pages of what was read."""
        for shard in self.shards:
            shard.close()

    def dim(self, name: str, dim: int) -> int:
        """The size of a tensor of the whole model, from the first shard's."""
        size = self.shards[0].read(name).shape[dim]
        return (
            size * len(self.shards)
            if next((d for end, d in SPLIT.items() if name.endswith(end)), None) == dim
            else size
        )

    def read(self, name: str) -> Tensor:
        """A tensor of the whole model."""
        parts = [shard.read(name) for shard in self.shards]
        if len(parts) == 1:
            return parts[0]
        if name == EMBEDDING:  # LLaMA 1 and 2 cut the embedding by columns, LLaMA 3 the vocabulary by rows
            by_rows = self.dim("text_model.norm.weight", 0) == parts[0].shape[1]
            return torch.cat(parts, dim=0 if by_rows else 1)
        split = next((dim for end, dim in SPLIT.items() if name.endswith(end)), None)
        if split is None:
            return parts[0]
        if name.startswith("text_model.") and name.endswith(("wk.weight", "wv.weight")):
            copies = len(parts) * parts[0].shape[0] // self.kv_rows  # more shards than key/value heads repeat them
            parts = parts[:: max(copies, 1)]
        return torch.cat(parts, dim=split)


def files(folder: Path) -> list[Path]:
    """The consolidated files of a folder in order; a gap in their numbers is an error."""
    found = {p: m for p in folder.iterdir() if (m := SHARD.fullmatch(p.name))}
    if kinds := {m[2] for m in found.values()}:
        kind = "safetensors" if "safetensors" in kinds else "pth"
        found = {p: m for p, m in found.items() if m[2] == kind}
    numbers = sorted(int(m[1] or 0) for m in found.values())
    if missing := [i for i in range(len(numbers)) if i not in numbers]:
        name = sorted(found)[-1].name.rpartition(".")[2]
        raise CheckpointError(
            f"{folder}: consolidated.{missing[0]:02d}.{name} is missing beside {len(found)} others; get it again"
        )
    return sorted(found, key=lambda p: int(found[p][1] or 0))


def open_shards(folder: Path) -> Shards:
    """All shards, with the names of the vision models also where the model is text only."""
    paths = files(folder)
    if not paths:
        raise CheckpointError(
            f"{folder}: has params.json but no weights; expected consolidated.00.pth (or .safetensors) and so on"
        )
    shards = []
    for path in paths:
        weights = Weights().add_safetensors(path) if path.suffix == ".safetensors" else Weights().add_torch(path)
        if "tok_embeddings.weight" in weights:
            weights = weights.renamed(lambda name: f"text_model.{name}")
        shards.append(weights)
    for needed in (EMBEDDING, "text_model.layers.0.feed_forward.w1.weight", "text_model.norm.weight"):
        for path, shard in zip(paths, shards, strict=True):
            if needed not in shard:
                raise CheckpointError(
                    f"{path}: the tensor {needed.removeprefix('text_model.')} is missing; not a Llama of Meta's"
                )
    return Shards(shards)


def cross_attention_schedule(n_layers: int, n_blocks: int) -> tuple[int, ...]:
    """The Llama layers that gated blocks precede: evenly spaced, counted from the last layer."""
    step = math.ceil(n_layers / n_blocks)
    return tuple(sorted(range(n_layers - 1, -1, -step)[:n_blocks]))


def model_config(params: dict, overrides: dict, shards: Shards, path: Path) -> ModelConfig:
    """params.json and the shapes of the weights -> ModelConfig."""
    for key in ("dim", "n_layers", "n_heads"):
        if not isinstance(params.get(key), int) or not 0 < params[key] < 10**6:
            raise CheckpointError(
                f"{path}: {key} is {params.get(key)!r}, expected a positive number; get the file again"
            )
    if params.get("quantization_args"):
        raise CheckpointError(f"{path}: the weights are quantized (quantization_args); take the unquantized checkpoint")
    try:
        encoder, image = None, ImageConfig()
        blocks: tuple[int, ...] = ()
        if "vision_model.vision_projection.weight" in shards:
            n_blocks = params.get("vision_num_cross_attention_layers", -1)
            if n_blocks < 1:
                raise ValueError(
                    f"vision_num_cross_attention_layers is {n_blocks}, but the weights hold an image encoder"
                )
            blocks = cross_attention_schedule(params["n_layers"], n_blocks)
            image = ImageConfig(tile_size=params["vision_chunk_size"], max_tiles=params.get("vision_max_num_chunks", 4))
            encoder = _encoder(overrides, shards)
        return ModelConfig(encoder=encoder, decoder=_decoder(params, shards, blocks), image=image)
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: {error}; expected Meta's params.json of these weights") from None


def _decoder(params: dict, shards: Shards, blocks: tuple[int, ...]) -> DecoderConfig:
    dim, n_heads = params["dim"], params["n_heads"]
    n_kv_heads = params.get("n_kv_heads") or n_heads
    scaled, theta = params.get("use_scaled_rope", False), float(params.get("rope_theta", 10000.0))
    rows = shards.dim("text_model.layers.0.attention.wq.weight", 0)
    if rows != dim:
        raise CheckpointError(
            f"{shards.path(EMBEDDING).parent}: {len(shards.shards)} consolidated files hold {rows} of {dim} rows of "
            "layers.0.attention.wq.weight; a shard is missing, or params.json is of another model"
        )
    tied = _is_tied(shards)
    vocab_size = shards.dim(HEAD, 0) if HEAD in shards else shards.read(EMBEDDING).shape[0]
    stated = params.get("vocab_size", -1)
    if stated not in (-1, vocab_size):
        raise ValueError(f"vocab_size is {stated}, but the weights have {vocab_size} rows of output")
    # Meta's code always stretches by 8; the hub's configs of Llama 3.2 1B and 3B, the tied ones, say 32.
    factor = float(params.get("rope_scaling_factor") or (32.0 if tied else 8.0))
    context = 131072 if scaled else CONTEXTS.get(theta, 2048 if params.get("norm_eps") == 1e-6 else 4096)
    return from_dict(
        DecoderConfig,
        dict(
            dim=dim, n_layers=params["n_layers"], n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=dim // n_heads,
            hidden_dim=shards.dim("text_model.layers.0.feed_forward.w1.weight", 0),
            norm_eps=params.get("norm_eps", 1e-5), rope_theta=theta,
            rope_scaling=RopeScaling(kind="llama3", factor=factor) if scaled else None,
            vocab_size=vocab_size, n_extra_tokens=shards.dim(EXTRA_ROWS, 0) if EXTRA_ROWS in shards else 0,
            max_seq_len=params.get("max_seq_len") or context, tie_embeddings=tied, cross_attention_layers=blocks,
        ),
        "params",
    )  # fmt: skip


def _is_tied(shards: Shards) -> bool:
    """Llama 3.2 1B and 3B store one matrix under both names."""
    if HEAD not in shards:
        return True
    head, embedding = shards.shards[0].read(HEAD), shards.shards[0].read(EMBEDDING)
    if head.shape != embedding.shape or not torch.equal(head[:8], embedding[:8]):
        return False
    return all(torch.equal(s.read(HEAD), s.read(EMBEDDING)) for s in shards.shards)


def _encoder(overrides: dict, shards: Shards) -> EncoderConfig:
    dim = shards.shards[0].read(f"{VISION}class_embedding").shape[0]
    depth = {
        stack: 1
        + max(
            (int(m[1]) for name in shards if (m := re.match(rf"{re.escape(VISION)}{stack}\.resblocks\.(\d+)\.", name))),
            default=-1,
        )
        for stack in ("transformer", "global_transformer")
    }
    patch = math.isqrt(shards.dim(f"{VISION}conv1._linear.weight", 1) // 3)
    taps = tuple(overrides.get("return_intermediate", VISION_TAPS))
    width = shards.dim("vision_model.vision_projection.weight", 1)
    if width != dim * (1 + len(taps)):
        raise ValueError(
            f"vision_projection reads {width} features, but an encoder of {dim} with {len(taps)} tapped layers has "
            f"{dim * (1 + len(taps))}; name the taps in vision_overrides.json (return_intermediate)"
        )
    return from_dict(
        EncoderConfig,
        dict(
            dim=dim, n_layers=depth["transformer"], n_global_layers=depth["global_transformer"],
            n_heads=overrides.get("heads", VISION_HEADS), taps=list(taps), patch_size=patch,
            hidden_dim=shards.dim(f"{VISION}transformer.resblocks.0.mlp.c_fc.weight", 0),
        ),
        "vision",
    )  # fmt: skip


def open_checkpoint(folder: Path) -> Source:
    """A folder with params.json and consolidated files."""
    params = read_json(folder / "params.json")
    params = params.get("model", params)
    extra = folder / "vision_overrides.json"
    shards = open_shards(folder)
    config = model_config(params, read_json(extra) if extra.is_file() else {}, shards, folder / "params.json")
    shards.kv_rows = config.decoder.n_kv_heads * config.decoder.head_dim

    def names(ours: Collection[str]) -> dict[str, str | tuple[str, ...]]:
        found: dict[str, str | tuple[str, ...]] = dict(foreign_names(ours, TABLE, numbers(config.decoder), "Meta"))
        if config.decoder.n_extra_tokens:
            found["decoder.embed_tokens.weight"] = (EMBEDDING, EXTRA_ROWS)
        return found

    def convert(ours: str, *tensors: Tensor) -> Tensor:
        return to_ours(ours, tensors, config)

    ignore = (*BUFFERS, HEAD) if config.decoder.tie_embeddings else BUFFERS
    return open_source("meta", folder, config, shards, names, convert=convert, ignore=ignore)


def numbers(config: DecoderConfig) -> Numbering:
    """Our layer numbers -> Meta's, which count the gated blocks on their own."""
    return {"decoder.cross_attention": {layer: i for i, layer in enumerate(sorted(config.cross_attention_layers))}}


def to_ours(name: str, tensors: tuple[Tensor, ...], config: ModelConfig) -> Tensor:
    """Meta's tensor (or tensors) of a parameter -> ours."""
    tensor = tensors[0]
    if len(tensors) > 1:
        return torch.cat([t.to(tensor.dtype) for t in tensors])
    if name.endswith("_gate"):
        return tensor.flatten()[:1]
    if name.startswith("decoder.layers.") and name.endswith(("q_proj.weight", "k_proj.weight")):
        if tensor.shape[0] % config.decoder.head_dim:
            return tensor  # the wrong shape, which is reported by whoever asked
        return tensor.unflatten(0, (-1, config.decoder.head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
    if name == "encoder.patch_embedding.weight":
        return tensor.unflatten(1, (3, math.isqrt(tensor.shape[1] // 3), -1))
    if name == "encoder.position_embedding":
        return resize_positions(tensor[None, None], config)[0, 0]
    if name == "encoder.tile_position_embedding.weight":
        return per_aspect_ratio(resize_positions(tensor, config), config.image.max_tiles)
    if name in ("encoder.pre_tile_embedding.weight", "encoder.post_tile_embedding.weight"):
        return per_aspect_ratio(tensor, config.image.max_tiles)
    return tensor


def per_aspect_ratio(grid: Tensor, max_tiles: int) -> Tensor:
    """Embeddings by tile place (R, C, N, D) -> rows by aspect ratio (grids + 1, max_tiles * N * D), zero past them."""
    if grid.ndim != 4 or min(grid.shape[:2]) < max_tiles:
        return grid  # the wrong shape, which is reported by whoever asked
    grids = aspect_ratios(max_tiles)
    out = grid.new_zeros(len(grids) + 1, max_tiles, *grid.shape[2:])
    for i, (rows, cols) in enumerate(grids):
        out[i + 1, : rows * cols] = grid[:rows, :cols].flatten(0, 1)
    return out.flatten(1)


def resize_positions(table: Tensor, config: ModelConfig) -> Tensor:
    """Positions (R, C, N, D) learned at another tile size -> this one's, over all tiles at once as Meta's code does.

    params.json may state another tile size than the embeddings are stored at.
    """
    rows, cols, n_tokens, dim = table.shape
    side = math.isqrt(n_tokens - 1)
    new = config.image.tile_size // config.encoder.patch_size if isinstance(config.encoder, EncoderConfig) else side
    if side == new:
        return table
    patches = table[:, :, 1:].unflatten(2, (side, side)).permute(4, 0, 2, 1, 3)  # (D, R, side, C, side)
    patches = patches.reshape(1, dim, rows * side, cols * side).float()
    patches = F.interpolate(patches, size=(rows * new, cols * new), mode="bilinear", align_corners=True)[0]
    patches = patches.view(dim, rows, new, cols, new).permute(1, 3, 2, 4, 0).flatten(2, 3)
    return torch.cat([table[:, :, :1], patches.to(table.dtype)], dim=2)
