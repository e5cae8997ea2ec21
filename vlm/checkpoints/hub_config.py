"""config.json, preprocessor_config.json and generation_config.json of the hub <-> our dataclasses."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from encoders.tiled_vit import aspect_ratios
from vlm.checkpoints.files import CheckpointError, read_json
from vlm.config import ConnectorConfig, DecoderConfig, EncoderConfig, ModelConfig, RopeScaling, from_dict, near_match
from vlm.image import ImageConfig

MLLAMA_EXTRA_ROWS = 8  # of the embedding, past the vocabulary; transformers has this number in its code
GENERATION = {  # ours <- generation_config.json
    "max_new_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}
LLAMA = {  # ours <- config.json of LlamaForCausalLM and what transformers assumes where the key is absent
    "dim": ("hidden_size", 4096),
    "n_layers": ("num_hidden_layers", 32),
    "n_heads": ("num_attention_heads", 32),
    "n_kv_heads": ("num_key_value_heads", None),
    "head_dim": ("head_dim", None),
    "hidden_dim": ("intermediate_size", 11008),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "vocab_size": ("vocab_size", 32000),
    "max_seq_len": ("max_position_embeddings", 2048),
    "tie_embeddings": ("tie_word_embeddings", False),
}
MLLAMA_TEXT = LLAMA | {  # text_config of Mllama
    "n_layers": ("num_hidden_layers", 40),
    "n_kv_heads": ("num_key_value_heads", 8),
    "hidden_dim": ("intermediate_size", 14336),
    "norm_eps": ("rms_norm_eps", 1e-5),
    "vocab_size": ("vocab_size", 128256),
    "max_seq_len": ("max_position_embeddings", 131072),
}
MLLAMA_VISION = {  # vision_config of Mllama
    "dim": ("hidden_size", 1280),
    "n_layers": ("num_hidden_layers", 32),
    "n_global_layers": ("num_global_layers", 8),
    "n_heads": ("attention_heads", 16),
    "hidden_dim": ("intermediate_size", 5120),
    "taps": ("intermediate_layers_indices", (3, 7, 15, 23, 30)),
    "patch_size": ("patch_size", 14),
    "norm_eps": ("norm_eps", 1e-5),
}
TEXT_KEYS = (  # read one by one
    "rope_scaling", "rope_parameters", "rope_theta", "hidden_act", "attention_bias", "mlp_bias",
    "cross_attention_layers",
)  # fmt: skip
VISION_KEYS = (
    "hidden_act", "num_channels", "image_size", "max_num_tiles", "vision_output_dim", "supported_aspect_ratios",
)  # fmt: skip
TOP_KEYS = ("text_config", "vision_config", "image_token_index", "image_token_id")
NO_EFFECT = frozenset(  # what transformers 4 and 5 write into every config, and nothing in a Llama depends on
    """add_cross_attention architectures attention_dropout auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dropout dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id id2label initializer_range is_decoder is_encoder_decoder is_llama_config
    label2id length_penalty max_length max_sequence_length min_length model_type no_repeat_ngram_size num_beam_groups
    num_beams num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix
    pretraining_tp problem_type pruned_heads quantization_config remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate rope_interleaved sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p use_bfloat16 use_cache""".split()
)
CROSS_ATTENTION_LAYERS = (3, 8, 13, 18, 23, 28, 33, 38)  # of Mllama, where the key is absent


def model_config(data: dict, path: Path) -> ModelConfig:
    """config.json -> ModelConfig; `path` is for messages. Image settings beside it are read as well."""
    kind = data.get("model_type")
    if kind not in ("mllama", "llama"):
        raise CheckpointError(
            f"{path}: model_type is {kind!r}{near_match(str(kind), ('mllama', 'llama'))}; "
            "supported are mllama (Llama 3.2 Vision) and llama (LLaMA 1 to 3.3 and what is built like it)"
        )
    if data.get("quantization_config"):
        method = data["quantization_config"].get("quant_method", "unknown")
        raise CheckpointError(f"{path}: the weights are quantized ({method}); take the unquantized checkpoint")
    text, vision = data.get("text_config") or {}, data.get("vision_config") or {}
    if kind == "llama":
        _known(path, "", data, LLAMA, TEXT_KEYS)
    else:
        _known(path, "", data, MLLAMA_TEXT, TEXT_KEYS + TOP_KEYS)
        _known(path, "text_config.", text, MLLAMA_TEXT, TEXT_KEYS)
        _known(path, "vision_config.", vision, MLLAMA_VISION, VISION_KEYS)
    try:
        if kind == "llama":
            return ModelConfig(encoder=None, decoder=_decoder(data, LLAMA, 10000.0, ()))
        _only(vision, "hidden_act", ("gelu",), "gelu")
        _only(vision, "num_channels", (3,), 3)
        sizes = _read(vision, MLLAMA_VISION)
        encoder = from_dict(EncoderConfig, sizes | {"patch_size": _side(sizes["patch_size"])}, "vision_config")
        image = ImageConfig(tile_size=_side(vision.get("image_size", 448)), max_tiles=vision.get("max_num_tiles", 4))
        _only(vision, "supported_aspect_ratios", (_grids(image.max_tiles), None), None)
        layers = text.get("cross_attention_layers")
        decoder = _decoder(text, MLLAMA_TEXT, 500000.0, CROSS_ATTENTION_LAYERS if layers is None else layers)
        config = ModelConfig(encoder=encoder, connector=ConnectorConfig(), decoder=decoder, image=image)
        width = encoder.dim * (1 + len(encoder.taps))
        if vision.get("vision_output_dim", width) != width:
            raise ValueError(
                f"vision_output_dim is {vision['vision_output_dim']}, "
                f"but hidden_size and intermediate_layers_indices give {width}"
            )
        return replace(config, image=image_config(path.parent, image))
    except CheckpointError:
        raise
    except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: {error}; expected the config of a Llama or Llama 3.2 Vision model") from None


def _known(path: Path, part: str, data: dict, table: dict, keys: tuple[str, ...]) -> None:
    """Refuse fields that we do not know: a misspelt size would silently become its default."""
    known = {theirs for theirs, _ in table.values()} | {*keys}
    for key in data if isinstance(data, dict) else ():
        if key not in known | NO_EFFECT and not key.startswith(("_", "unsloth", "transformers.js")):
            raise CheckpointError(
                f"{path}: unknown field {part + key!r}{near_match(key, known)}; correct it, or delete it if nothing in "
                "the model depends on it"
            )


def _decoder(data: dict, table: dict, rope_theta: float, cross_layers) -> DecoderConfig:
    _only(data, "hidden_act", ("silu",), "silu")
    for key in ("attention_bias", "mlp_bias", "rope_interleaved"):
        _only(data, key, (False,), False)
    sizes = _read(data, table)
    merged = sorted(cross_layers)
    own = [i for i in range(sizes["n_layers"]) if i not in merged]
    if table is MLLAMA_TEXT:
        sizes |= {"n_layers": len(own), "n_extra_tokens": MLLAMA_EXTRA_ROWS, "head_dim": None}
    if bad := [i for i in merged if not 0 <= i < len(own) + len(merged) or i + 1 not in own]:
        raise ValueError(
            f"cross_attention_layers has {bad[0]}, which no Llama layer follows (of {len(own) + len(merged)} in all)"
        )
    if sizes["n_kv_heads"] is None:
        sizes["n_kv_heads"] = sizes["n_heads"]
    if sizes["head_dim"] is None:
        if sizes["n_heads"] < 1 or sizes["dim"] % sizes["n_heads"]:
            raise ValueError(f"num_attention_heads {sizes['n_heads']} does not divide hidden_size {sizes['dim']}")
        sizes["head_dim"] = sizes["dim"] // sizes["n_heads"]
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    theta = rope.get("rope_theta", data.get("rope_theta", rope_theta))
    sizes |= {"rope_theta": float(theta), "rope_scaling": rope_scaling(rope, sizes["max_seq_len"])}
    sizes["cross_attention_layers"] = [own.index(i + 1) for i in merged]
    return from_dict(DecoderConfig, sizes, "text_config" if table is MLLAMA_TEXT else "config")


def rope_scaling(rope: dict, max_seq_len: int) -> RopeScaling | None:
    """rope_scaling of transformers 4 or rope_parameters of transformers 5 -> RopeScaling."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial_rotary_factor is not supported: no Llama has it")
    if kind == "default":
        return None
    original = rope.get("original_max_position_embeddings") or max_seq_len
    values = {"kind": kind, "factor": rope.get("factor"), "original_max_seq_len": original}
    if kind == "dynamic":
        values["original_max_seq_len"] = max_seq_len  # whatever else the dict says, as in transformers
    elif kind == "llama3":
        values |= {key: float(rope[key]) for key in ("low_freq_factor", "high_freq_factor") if key in rope}
    elif kind == "yarn":
        values["factor"] = rope.get("factor") or max_seq_len / original
        values |= {
            key: float(rope[key]) for key in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim") if rope.get(key)
        }
        values |= {"attention_factor": rope.get("attention_factor"), "truncate": rope.get("truncate", True)}
    if values["factor"] is None:
        raise ValueError(f"the rope settings of kind {kind!r} lack 'factor'")
    return RopeScaling(**values | {"factor": float(values["factor"])})


def image_config(folder: Path, image: ImageConfig) -> ImageConfig:
    """preprocessor_config.json (processor_config.json of transformers 5) -> ImageConfig, checked against `image`."""
    path, data = folder / "preprocessor_config.json", None
    if path.is_file():
        data = read_json(path)
    elif (folder / "processor_config.json").is_file():
        path = folder / "processor_config.json"
        data = read_json(path).get("image_processor")
    if data is None:
        return image
    size = data.get("size") or {"height": image.tile_size, "width": image.tile_size}
    height, width, tiles = size.get("height"), size.get("width"), data.get("max_image_tiles", image.max_tiles)
    if (height, width, tiles) != (image.tile_size, image.tile_size, image.max_tiles):
        raise CheckpointError(
            f"{path}: {tiles} tiles of {height} x {width}, but config.json has {image.max_tiles} of "
            f"{image.tile_size} x {image.tile_size}; the two files are of different models"
        )
    if abs(data.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise CheckpointError(f"{path}: rescale_factor is {data['rescale_factor']}, expected 1/255")
    try:
        resample = Image.Resampling(data.get("resample", 2)).name.lower()
        mean, std = data.get("image_mean", image.mean), data.get("image_std", image.std)
        if data.get("do_normalize") is False:
            mean, std = (0.0,) * 3, (1.0,) * 3
        return replace(image, mean=tuple(mean), std=tuple(std), resample=resample)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}; get the file again") from None


def generation_settings(data: dict, config: dict) -> dict:
    """generation_config.json (else config.json) -> what the engine asks for; greedy unless sampling is switched on."""
    out = {ours: data[theirs] for ours, theirs in GENERATION.items() if data.get(theirs) is not None}
    if not data.get("do_sample", False):
        out = {k: v for k, v in out.items() if k in ("max_new_tokens", "repetition_penalty")} | {"temperature": 0.0}
    stop = data.get("eos_token_id")
    if stop is None:
        stop = (config.get("text_config") or config).get("eos_token_id")
    return out | {"stop_ids": sorted(stop if isinstance(stop, list) else [] if stop is None else [stop])}


def _read(data: dict, table: dict) -> dict:
    out = {}
    for ours, (theirs, default) in table.items():
        value = out[ours] = data.get(theirs, default)
        if isinstance(value, str | bool | dict) and ours != "tie_embeddings":
            raise ValueError(f"{theirs} is {value!r}, expected a number")
        most = 1000 if ours in ("n_layers", "n_global_layers") else 10**8
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value <= most:
            raise ValueError(f"{theirs} is {value}, an impossible size")
    return out


def _only(data: dict, key: str, allowed: tuple, default) -> None:
    if data.get(key, default) not in allowed:
        raise ValueError(f"{key} is {data[key]!r}, supported is {allowed[0]!r}")


def _grids(max_tiles: int) -> list[list[int]]:
    """The grids of a picture's tiles as the hub lists them."""
    return [list(grid) for grid in aspect_ratios(max_tiles)]


def _side(size) -> int:
    """A side that may be written as a pair of equal numbers."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise ValueError(f"found the size {size}, expected a square")
    return sides.pop()


def to_hub_config(config: ModelConfig) -> dict:
    """ModelConfig -> config.json, or an error that says what transformers' Llama and Mllama do not have."""
    d, e = config.decoder, config.encoder
    stretched = d.rope_scaling.original_max_seq_len if d.rope_scaling and d.rope_scaling.kind == "dynamic" else None
    checks = {
        f"{d.n_extra_tokens} extra embedding rows (it has {MLLAMA_EXTRA_ROWS if e else 0})":
            d.n_extra_tokens != (MLLAMA_EXTRA_ROWS if e else 0),
        "dynamic rope whose original_max_seq_len is not max_seq_len":
            stretched not in (None, d.max_seq_len),
    }  # fmt: skip
    if e:
        checks |= {
            f"the encoder {e.name!r}": not isinstance(e, EncoderConfig),
            f"the connector {config.connector.name!r}": config.connector.name != "linear",
            "a connector with positions": config.connector.positions,
            f"head_dim {d.head_dim} (it has dim / n_heads)": d.head_dim * d.n_heads != d.dim,
        }
    if isinstance(e, EncoderConfig):
        checks |= {
            f"stem {e.stem!r}": e.stem != "linear",
            f"tile_padding {e.tile_padding!r}": e.tile_padding != "reference",
        }
    if lacks := [what for what, wrong in checks.items() if wrong]:
        raise CheckpointError(
            f"the hub's {'Mllama' if e else 'Llama'} has no place for {', '.join(lacks)}; use layout='native'"
        )
    table = MLLAMA_TEXT if e else LLAMA
    text = {theirs: getattr(d, ours) for ours, (theirs, _) in table.items()}
    text |= {"hidden_act": "silu", "rope_theta": d.rope_theta, "rope_scaling": _rope_dict(d.rope_scaling)}
    if e is None:
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", **text,
            "attention_bias": False, "mlp_bias": False,
        }  # fmt: skip
    del text["head_dim"]
    cross = sorted(d.cross_attention_layers)
    text |= {
        "model_type": "mllama_text_model",
        "num_hidden_layers": d.n_layers + len(cross),
        "cross_attention_layers": [layer + i for i, layer in enumerate(cross)],
        "tie_word_embeddings": False,  # the head has fewer rows than the embedding; both are stored
    }
    max_tiles = config.image.max_tiles
    assert isinstance(e, EncoderConfig), "checked above"
    vision = {theirs: getattr(e, ours) for ours, (theirs, _) in MLLAMA_VISION.items()} | {
        "model_type": "mllama_vision_model",
        "intermediate_layers_indices": list(e.taps),
        "vision_output_dim": e.dim * (1 + len(e.taps)),
        "image_size": config.image.tile_size,
        "max_num_tiles": max_tiles,
        "supported_aspect_ratios": _grids(max_tiles),
        "hidden_act": "gelu",
        "num_channels": 3,
    }
    return {
        "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": d.vocab_size,
        "text_config": text, "vision_config": vision,
    }  # fmt: skip


def _rope_dict(scaling: RopeScaling | None) -> dict | None:
    if scaling is None:
        return None
    out = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind in ("llama3", "yarn"):
        out["original_max_position_embeddings"] = scaling.original_max_seq_len
    if scaling.kind == "llama3":
        out |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind == "yarn":
        out |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.truncate}
        optional = {k: getattr(scaling, k) for k in ("attention_factor", "mscale", "mscale_all_dim")}
        out |= {key: value for key, value in optional.items() if value}
    return out


def to_preprocessor_config(image: ImageConfig) -> dict:
    """ImageConfig -> preprocessor_config.json."""
    return {
        "image_processor_type": "MllamaImageProcessor",
        "do_convert_rgb": True, "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True,
        "size": {"height": image.tile_size, "width": image.tile_size},
        "max_image_tiles": image.max_tiles,
        "image_mean": list(image.mean), "image_std": list(image.std),
        "resample": int(Image.Resampling[image.resample.upper()]),
        "rescale_factor": 1 / 255,
    }  # fmt: skip


def to_generation_config(generation: dict, special_ids: dict) -> dict:
    """Our generation settings -> generation_config.json."""
    out = {theirs: generation[ours] for ours, theirs in GENERATION.items() if generation.get(ours) is not None}
    sample = bool(out.get("temperature", 0.0))
    if not sample:
        out.pop("temperature", None)
    out |= {"do_sample": sample, **special_ids}
    if stop := generation.get("stop_ids"):
        out["eos_token_id"] = sorted(stop)
    return out
