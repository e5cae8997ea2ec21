"""Any image encoder, any connector, any Llama: a new model around a trained decoder.

Notable here:
- The gates of the new blocks start at zero, so the composed model *is* the Llama until it is trained: its text logits
  are bit for bit the same, with and without a picture.
- The Llama's weights are taken as they are, not copied; only the embedding grows, where the vocabulary has no room for
  the image token, by as many rows as in Llama 3.2 Vision, each the mean of the old ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer
from torch import Tensor

from encoders import create_encoder
from encoders.tiled_vit import TiledViT
from vlm.chat import IMAGE, Chat, Tokenizer
from vlm.chat_template import TemplateChat
from vlm.checkpoints import Checkpoint, load_checkpoint
from vlm.checkpoints.keys import NoRandom
from vlm.config import PRESETS, BackboneConfig, ConnectorConfig, DecoderConfig, EncoderConfig, ModelConfig, near_match
from vlm.decoder import Decoder, cross_attention_blocks
from vlm.image import RESAMPLE, ImageConfig
from vlm.initialise import initialise
from vlm.model import VisionLanguageModel, build_encoder

if TYPE_CHECKING:
    from encoders import Encoder

N_EXTRA_TOKENS = 8  # of Llama 3.2 Vision; the image token is the first of them


def compose(
    *, encoder: str | EncoderConfig = "tiled", connector: str = "linear", decoder: str | Path,
    cross_attention_every: int = 4, cross_attention_layers: Sequence[int] | None = None, gate_init: float = 0.0,
    taps: Sequence[int] = (), prefix_tokens: bool = False, pretrained: bool | str = False,
    tile_size: int | None = None, max_tiles: int | None = None, positions: bool | None = None,
    tokenizer: str | Path | None = None, dtype: str | torch.dtype = "auto",
) -> Checkpoint:  # fmt: skip
    """Put gated cross-attention between an image encoder and a Llama-family decoder.

    Args:
        encoder: "timm:NAME", "open_clip:NAME", an EncoderConfig, or "tiled": the ViT of the preset that `decoder`
            names, of 11b where it is a checkpoint.
        connector: "linear", "mlp", "perceiver:64" or "qformer:32" (tokens per picture).
        decoder: a preset (random weights), a checkpoint folder or a hub id; of a vision model only its Llama is taken.
        cross_attention_every: a gated block before every n-th layer (4: before layers 3, 7, 11, ..., as in Llama 3.2).
        cross_attention_layers: or before just these.
        gate_init: zero keeps the Llama; training a random decoder wants open gates, 0.5.
        taps, prefix_tokens, pretrained: of a timm or open_clip encoder, see `encoders`.
        tile_size: pixels; the encoder's own where absent.
        max_tiles: tiles per picture; 1 shows the encoder the whole picture at once. 4, or as the preset says.
        positions: learn the places of tiles and pictures; where absent, if the encoder does not know them.
        tokenizer: tokenizer.json, for presets; without one `chat` of the result is None.

    Raises:
        ValueError: an unknown name, with the nearest one; impossible layers or tile sizes.
    """
    llama, base, chat, generation = _llama(decoder, dtype, tokenizer)
    chat = chat and with_image_token(chat)
    image_id = base.vocab_size if chat is None else chat.image_id
    assert image_id is not None, "with_image_token gives every chat one"
    extra = max(N_EXTRA_TOKENS, image_id + 1 - base.vocab_size) if image_id >= base.vocab_size else 0
    text = replace(
        base, cross_attention_layers=_layers(base.n_layers, cross_attention_every, cross_attention_layers),
        gate_init=gate_init, n_extra_tokens=max(base.n_extra_tokens, extra),
    )  # fmt: skip
    preset = PRESETS[decoder] if decoder in PRESETS else PRESETS["11b"]
    options = {"taps": tuple(taps), "prefix_tokens": prefix_tokens}
    vision, vision_config, image = _vision(encoder, preset, tile_size, max_tiles, pretrained, options)
    positions = not getattr(vision, "has_tile_positions", True) if positions is None else positions
    config = ModelConfig(
        encoder=vision_config, connector=ConnectorConfig(name=connector, positions=positions), decoder=text, image=image
    )
    model = VisionLanguageModel(config, encoder=vision, decoder=_decoder(llama, base, text, image_id))
    initialise(model.connector)
    model = model.to(model.decoder.embed_tokens.weight.dtype).eval()
    return Checkpoint(config=config, model=model, chat=chat, generation=generation, source=f"{encoder} + {decoder}")


def _llama(
    decoder: str | Path, dtype: str | torch.dtype, tokenizer: str | Path | None
) -> tuple[Decoder | None, DecoderConfig, Chat | TemplateChat | None, dict]:
    """The decoder to build on (None: a random one), its config, chat and generation settings."""
    chat = None if tokenizer is None else Chat(Tokenizer.from_file(tokenizer))
    if decoder in PRESETS:
        return None, PRESETS[decoder].decoder, chat, {}
    if not Path(decoder).exists() and "/" not in str(decoder):
        hint = near_match(str(decoder), PRESETS)
        raise ValueError(
            f"decoder: found {str(decoder)!r}{hint}, expected a folder, a hub id or a preset: {', '.join(PRESETS)}"
        )
    found = load_checkpoint(decoder, dtype=dtype)
    return found.model.decoder, found.config.decoder, chat or found.chat, found.generation


def with_image_token(chat: Chat | TemplateChat) -> Chat | TemplateChat:
    """The same chat, with a token for pictures where it has none."""
    rust = RustTokenizer.from_str(chat.tokenizer.rust.to_str())
    rust.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])  # nothing happens if it is there
    if isinstance(chat, Chat):
        return Chat(Tokenizer(rust))
    return TemplateChat(
        Tokenizer(rust), chat.template, special=chat.special, stop_ids=chat.stop_ids, image_id=rust.token_to_id(IMAGE)
    )


def _layers(n_layers: int, every: int, layers: Sequence[int] | None) -> tuple[int, ...]:
    if layers is not None:
        return tuple(layers)  # DecoderConfig checks them
    if not 1 <= every <= n_layers:
        raise ValueError(f"cross_attention_every: found {every}, expected 1 to {n_layers}, the layers of the decoder")
    return tuple(range(every - 1, n_layers, every))


def _vision(
    encoder: str | EncoderConfig, preset: ModelConfig, tile_size: int | None, max_tiles: int | None,
    pretrained: bool | str, options: dict,
) -> tuple["Encoder", EncoderConfig | BackboneConfig, ImageConfig]:  # fmt: skip
    """The encoder, its config, and how pictures are prepared for it."""
    if isinstance(encoder, EncoderConfig) or encoder == "tiled":
        config = encoder if isinstance(encoder, EncoderConfig) else preset.encoder
        assert config is not None, "every preset has an encoder"
        changes: dict[str, Any] = {"tile_size": tile_size, "max_tiles": max_tiles}
        image = replace(preset.image, **{k: v for k, v in changes.items() if v is not None})
        if pretrained or options["prefix_tokens"] or options["taps"]:
            raise ValueError(
                "encoder 'tiled': found pretrained, taps or prefix_tokens, expected none of them; they are of timm and "
                "open_clip encoders. Give an EncoderConfig for other taps"
            )
        tiled = build_encoder(ModelConfig(encoder=config, image=image))
        initialise(tiled)
        return tiled, config, image
    vision = create_encoder(encoder, tile_size=tile_size, pretrained=pretrained, **options)
    assert not isinstance(vision, TiledViT), "that is 'tiled', above"
    settings = dict(vision.image_settings)
    if settings["resample"] not in RESAMPLE:  # timm's "random"
        settings["resample"] = "bicubic"
    image = ImageConfig(**settings, max_tiles=4 if max_tiles is None else max_tiles)
    return vision, BackboneConfig(name=encoder, library=vision.library, **options), image


def _decoder(llama: Decoder | None, base: DecoderConfig, config: DecoderConfig, image_id: int) -> Decoder:
    """The Llama's own layers with new gated blocks beside them."""
    if llama is None:
        decoder = Decoder(config)
        initialise(decoder)
        return decoder
    with torch.device("meta"), NoRandom():
        decoder = Decoder(config)
    decoder.cross_attention = cross_attention_blocks(config)
    initialise(decoder.cross_attention)
    state = {k: v for k, v in llama.state_dict().items() if not k.startswith("cross_attention.")}
    rows = config.vocab_size + config.n_extra_tokens
    state["embed_tokens.weight"] = _grown(state["embed_tokens.weight"], rows, image_id, base)
    decoder.load_state_dict(state, strict=False, assign=True)
    return decoder


def _grown(table: Tensor, rows: int, image_id: int, base: DecoderConfig) -> Tensor:
    """The embedding with room for the image token; new rows, and an unused row that becomes its, are the mean."""
    if image_id >= base.vocab_size and base.n_extra_tokens:
        return table  # of a vision model, which knows its image token
    mean = table[: base.vocab_size].float().mean(0).to(table.dtype)
    if rows > len(table):
        return torch.cat([table, mean.expand(rows - len(table), -1)])
    table = table.clone()
    table[image_id] = mean
    return table
