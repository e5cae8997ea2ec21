"""The Hugging Face hub's dialect: Mllama and Llama folders, in the names of 4.45 and of transformers 5.

Notable here:
- The hub numbers Llama layers and gated cross-attention in one list; ours are two; `merged_numbers` maps between them.
- transformers 5 renames in memory but still writes the 4.45 names; both are read, the 4.45 names are written.
- transformers computes other image features than Meta from the same weights: it taps the outputs of the named layers,
  not their inputs. The weights and indices that we write are Meta's, as on the hub.
"""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from encoders.tiled_vit import aspect_ratios
from vlm.checkpoints.files import CheckpointError, Weights, open_folder, read_json
from vlm.checkpoints.hub_config import model_config, to_hub_config
from vlm.checkpoints.keys import Numbering, foreign_names, padded_rows_are_zero
from vlm.checkpoints.source import Source, open_source
from vlm.config import DecoderConfig, EncoderConfig, ModelConfig
from vlm.model import VisionLanguageModel

TABLE = {
    "decoder.embed_tokens": "language_model.model.embed_tokens",
    "decoder.norm": "language_model.model.norm",
    "decoder.lm_head": "language_model.lm_head",
    "decoder.layers.{}.attn_norm": "language_model.model.layers.{}.input_layernorm",
    "decoder.layers.{}.attn.q_proj": "language_model.model.layers.{}.self_attn.q_proj",
    "decoder.layers.{}.attn.k_proj": "language_model.model.layers.{}.self_attn.k_proj",
    "decoder.layers.{}.attn.v_proj": "language_model.model.layers.{}.self_attn.v_proj",
    "decoder.layers.{}.attn.o_proj": "language_model.model.layers.{}.self_attn.o_proj",
    "decoder.layers.{}.ffn_norm": "language_model.model.layers.{}.post_attention_layernorm",
    "decoder.layers.{}.ffn.gate_proj": "language_model.model.layers.{}.mlp.gate_proj",
    "decoder.layers.{}.ffn.up_proj": "language_model.model.layers.{}.mlp.up_proj",
    "decoder.layers.{}.ffn.down_proj": "language_model.model.layers.{}.mlp.down_proj",
    "decoder.cross_attention.{}.attn_norm": "language_model.model.layers.{}.input_layernorm",
    "decoder.cross_attention.{}.attn.q_proj": "language_model.model.layers.{}.cross_attn.q_proj",
    "decoder.cross_attention.{}.attn.k_proj": "language_model.model.layers.{}.cross_attn.k_proj",
    "decoder.cross_attention.{}.attn.v_proj": "language_model.model.layers.{}.cross_attn.v_proj",
    "decoder.cross_attention.{}.attn.o_proj": "language_model.model.layers.{}.cross_attn.o_proj",
    "decoder.cross_attention.{}.attn.q_norm": "language_model.model.layers.{}.cross_attn.q_norm",
    "decoder.cross_attention.{}.attn.k_norm": "language_model.model.layers.{}.cross_attn.k_norm",
    "decoder.cross_attention.{}.attn_gate": "language_model.model.layers.{}.cross_attn_attn_gate",
    "decoder.cross_attention.{}.ffn_norm": "language_model.model.layers.{}.post_attention_layernorm",
    "decoder.cross_attention.{}.ffn.gate_proj": "language_model.model.layers.{}.mlp.gate_proj",
    "decoder.cross_attention.{}.ffn.up_proj": "language_model.model.layers.{}.mlp.up_proj",
    "decoder.cross_attention.{}.ffn.down_proj": "language_model.model.layers.{}.mlp.down_proj",
    "decoder.cross_attention.{}.ffn_gate": "language_model.model.layers.{}.cross_attn_mlp_gate",
    "connector.proj": "multi_modal_projector",
    "encoder.patch_embedding": "vision_model.patch_embedding",
    "encoder.class_embedding": "vision_model.class_embedding",
    "encoder.position_embedding": "vision_model.gated_positional_embedding.embedding",
    "encoder.position_gate": "vision_model.gated_positional_embedding.gate",
    "encoder.tile_position_embedding": "vision_model.gated_positional_embedding.tile_embedding",
    "encoder.pre_tile_embedding": "vision_model.pre_tile_positional_embedding.embedding",
    "encoder.pre_tile_gate": "vision_model.pre_tile_positional_embedding.gate",
    "encoder.post_tile_embedding": "vision_model.post_tile_positional_embedding.embedding",
    "encoder.post_tile_gate": "vision_model.post_tile_positional_embedding.gate",
    "encoder.pre_norm": "vision_model.layernorm_pre",
    "encoder.post_norm": "vision_model.layernorm_post",
    "encoder.layers.{}.attn_norm": "vision_model.transformer.layers.{}.input_layernorm",
    "encoder.layers.{}.attn.q_proj": "vision_model.transformer.layers.{}.self_attn.q_proj",
    "encoder.layers.{}.attn.k_proj": "vision_model.transformer.layers.{}.self_attn.k_proj",
    "encoder.layers.{}.attn.v_proj": "vision_model.transformer.layers.{}.self_attn.v_proj",
    "encoder.layers.{}.attn.o_proj": "vision_model.transformer.layers.{}.self_attn.o_proj",
    "encoder.layers.{}.ffn_norm": "vision_model.transformer.layers.{}.post_attention_layernorm",
    "encoder.layers.{}.ffn.fc1": "vision_model.transformer.layers.{}.mlp.fc1",
    "encoder.layers.{}.ffn.fc2": "vision_model.transformer.layers.{}.mlp.fc2",
    "encoder.global_layers.{}.attn_norm": "vision_model.global_transformer.layers.{}.input_layernorm",
    "encoder.global_layers.{}.attn.q_proj": "vision_model.global_transformer.layers.{}.self_attn.q_proj",
    "encoder.global_layers.{}.attn.k_proj": "vision_model.global_transformer.layers.{}.self_attn.k_proj",
    "encoder.global_layers.{}.attn.v_proj": "vision_model.global_transformer.layers.{}.self_attn.v_proj",
    "encoder.global_layers.{}.attn.o_proj": "vision_model.global_transformer.layers.{}.self_attn.o_proj",
    "encoder.global_layers.{}.attn_gate": "vision_model.global_transformer.layers.{}.gate_attn",
    "encoder.global_layers.{}.ffn_norm": "vision_model.global_transformer.layers.{}.post_attention_layernorm",
    "encoder.global_layers.{}.ffn.fc1": "vision_model.global_transformer.layers.{}.mlp.fc1",
    "encoder.global_layers.{}.ffn.fc2": "vision_model.global_transformer.layers.{}.mlp.fc2",
    "encoder.global_layers.{}.ffn_gate": "vision_model.global_transformer.layers.{}.gate_ffn",
}
TRANSFORMERS_5 = {  # beginnings of names in memory -> in files
    "model.language_model.": "language_model.model.",
    "model.vision_model.": "vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
TEXT_ONLY = {  # LlamaForCausalLM -> the language model of Mllama
    "model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
BUFFERS = ("rotary_emb.inv_freq", "self_attn.masked_bias", "self_attn.bias")  # stored by old transformers, not weights
log = logging.getLogger(__name__)
LM_HEAD, EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


def merged_numbers(config: DecoderConfig) -> Numbering:
    """Our layer numbers -> the hub's, whose one list holds each gated block right before the layer that it feeds."""
    cross = sorted(config.cross_attention_layers)
    return {
        "decoder.cross_attention": {layer: layer + i for i, layer in enumerate(cross)},
        "decoder.layers": {i: i + sum(layer <= i for layer in cross) for i in range(config.n_layers)},
    }


def rename(name: str, prefixes: dict[str, str]) -> str:
    """Replace the beginning of a name where the table has it."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def open_checkpoint(folder: Path) -> Source:
    """A folder with config.json and safetensors."""
    data = read_json(folder / "config.json")
    config = model_config(data, folder / "config.json")
    prefixes = TRANSFORMERS_5 if config.encoder else TEXT_ONLY
    weights = open_folder(folder).renamed(lambda name: rename(name, prefixes))
    if config.decoder.tie_embeddings and LM_HEAD in weights and EMBEDDING in weights and not _same_rows(weights):
        config = replace(config, decoder=replace(config.decoder, tie_embeddings=False))
    if isinstance(config.encoder, EncoderConfig) and not all(_zero_rows(weights, config)):
        config = replace(config, encoder=replace(config.encoder, dedupe_padding=False))
        log.warning(
            "%s: the embeddings of padded tiles are not zero, as in Meta's checkpoints, but trained; every picture is "
            "encoded with all its %d tiles, which is exact and slow", folder, config.image.max_tiles,
        )  # fmt: skip
    weights.close()

    def names(ours: Collection[str]) -> dict[str, str]:
        return foreign_names(ours, TABLE, merged_numbers(config.decoder), "hub")

    ignore = (*BUFFERS, LM_HEAD) if config.decoder.tie_embeddings else BUFFERS
    return open_source("hub", folder, config, weights, names, ignore=ignore)


def _same_rows(weights: Weights) -> bool:
    """A head stored beside "tied" embeddings: a fine-tune may have untied them without saying so."""
    head, embedding = weights.read(LM_HEAD), weights.read(EMBEDDING)
    return torch.equal(head, embedding)


def _zero_rows(weights: Weights, config: ModelConfig) -> list[bool]:
    """Per tile embedding, whether padded tiles have rows of zeros, as in all checkpoints that Meta released."""
    max_tiles = config.image.max_tiles
    grids = aspect_ratios(max_tiles)
    ours = ("encoder.tile_position_embedding", "encoder.pre_tile_embedding", "encoder.post_tile_embedding")
    tables = [weights.read(name) for row in ours if (name := f"{TABLE[row]}.weight") in weights]
    fits = [t for t in tables if t.ndim == 2 and len(t) == len(grids) + 1 and t.shape[1] % max_tiles == 0]
    return [padded_rows_are_zero(table, grids, max_tiles) for table in fits]  # misfits are reported by `fill`


def hub_names(config: ModelConfig, ours: Collection[str]) -> dict[str, str]:
    """Our names -> the hub's; the head of tied embeddings is among them where the hub has to store it."""
    extra = ["decoder.lm_head.weight"] if stores_tied_head(config) else []
    names = foreign_names([*ours, *extra], TABLE, merged_numbers(config.decoder), "hub")
    back = {} if config.encoder else {new: old for old, new in TEXT_ONLY.items()}
    return {name: rename(theirs, back) for name, theirs in names.items()}


def stores_tied_head(config: ModelConfig) -> bool:
    """The hub's embedding has rows that its head lacks, so that tied ones become two tensors."""
    return config.decoder.tie_embeddings and config.decoder.n_extra_tokens > 0


def hub_tensors(model: VisionLanguageModel) -> tuple[dict, dict[str, Tensor]]:
    """config.json and tensors of a model under the names of the hub; an error where transformers has no such model."""
    data, state = to_hub_config(model.config), dict(model.state_dict())
    names = hub_names(model.config, state)
    if stores_tied_head(model.config):
        rows = state["decoder.embed_tokens.weight"][: model.config.decoder.vocab_size]
        state["decoder.lm_head.weight"] = rows.clone()
    dtypes = {str(t.dtype).removeprefix("torch.") for t in state.values() if t.is_floating_point()}
    if len(dtypes) != 1:
        raise CheckpointError(
            f"the model mixes {', '.join(sorted(dtypes))}; convert it with model.to(dtype) before saving"
        )
    return data | {"torch_dtype": dtypes.pop()}, {names[ours]: tensor for ours, tensor in state.items()}
