"""From a config to a model folder: tokenizer, model, loop, export."""

import math
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from adapters.lora import add_lora, fold
from encoders.tiled_vit import TiledViT
from vlm.chat import Chat, Tokenizer
from vlm.chat_template import TemplateChat
from vlm.checkpoints.peft import save_adapter
from vlm.composition import compose
from vlm.config import PRESETS, ModelConfig, from_dict, to_dict
from vlm.data.tokenizer import train_tokenizer
from vlm.data.worlds import WORLDS, sample
from vlm.data.worlds.wording_text import DOCUMENTS, TEXT
from vlm.initialise import initialise
from vlm.model import VisionLanguageModel, pick_device
from vlm.training.config import TrainConfig
from vlm.training.data import CAPTION_REQUESTS
from vlm.training.groups import format_table, freeze, group_layers, group_table
from vlm.training.loop import train
from vlm.training.parallel import Group, join
from vlm.training.state import check_parts

STEM_BLOCK = re.compile(r"patch_embedding\.\d+\.\d+\.conv[12]\.")  # its weights

READ_ALOUD = {"text": TEXT, "documents": DOCUMENTS}
"""Worlds whose answers are spelled, not known words: what is printed stays out of the tokenizer's merges."""


def sentences(config: TrainConfig, count: int = 6000) -> Iterator[str]:
    """What the worlds say and ask, for the tokenizer."""
    worlds = {w: 1.0 for w in WORLDS}
    for i in range(count):
        drawn = sample(i, seed=config.seed + 1, mixture=worlds, emoji_path=config.emoji or None)
        if drawn.world not in READ_ALOUD:
            yield from (q.text for q in drawn.questions)
            yield from drawn.captions
            yield from (q.answer for q in drawn.questions)
    for train_phrasings, _ in (pair for table in READ_ALOUD.values() for pair in table.values()):
        yield from [re.sub(r" ?\{\w+\}", "", text) for text in train_phrasings] * 20
    yield from CAPTION_REQUESTS * 100


def model_config(config: TrainConfig) -> ModelConfig:
    """The preset with the run's dotted overrides laid over it."""
    data = to_dict(PRESETS[config.model])

    def lay(over: dict, target: dict) -> None:
        for key, value in over.items():
            first, _, rest = str(key).partition(".")
            if rest or isinstance(value, dict):
                inner = target.get(first)
                target[first] = {} if inner is None else inner  # null (no rope scaling) has no keys yet
                if not isinstance(target[first], dict):
                    raise ValueError(f"overrides: {first!r} is the value {inner!r}, it has no key {rest or value!r}")
                lay({rest: value} if rest else value, target[first])
            else:
                target[first] = value

    lay(config.overrides, data)
    return from_dict(ModelConfig, data, "overrides")


def run_training(config: TrainConfig, *, stop_after: int | None = None) -> Path:
    """Train (or go on training) as the config says, then write the model folder `output/model`.

    Returns:
        The model folder.

    Raises:
        ValueError: the run's last checkpoint has other adapters or trainable groups, or is of another model.
    """
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    output = Path(config.output)
    check_parts(output, config)
    output.mkdir(parents=True, exist_ok=True)
    group = join(pick_device(config.device))
    tokenizer = find_tokenizer(config, output / "tokenizer.json", group)
    model, chat = new_model(config, tokenizer)
    if config.init:
        load_weights(model, Path(config.init))
    choose_parameters(model, config)
    if group.first:
        print(format_table(group_table(model)), file=sys.stderr)  # where the progress bar goes
    train(config, model, chat, stop_after=stop_after)
    if group.first:
        if config.lora:
            save_adapter(model, output / "adapter", base=config.init or None)
            fold(model)
        export(model, chat, output / "model")
    group.wait()
    return output / "model"


def find_tokenizer(config: TrainConfig, path: Path, group: Group) -> Path | None:
    """The tokenizer that the run was given or has trained; None where the decoder's checkpoint brings its own."""
    if config.compose and config.compose.decoder not in PRESETS:
        return None
    if config.tokenizer:
        return Path(config.tokenizer)
    if not path.is_file() and group.first:
        partial = path.with_suffix(".tmp")
        preset = PRESETS[config.compose.decoder] if config.compose else model_config(config)
        train_tokenizer(sentences(config), preset.decoder.vocab_size).save(str(partial))
        partial.rename(path)
    group.wait()
    return path


def new_model(config: TrainConfig, tokenizer: Path | None) -> tuple[VisionLanguageModel, Chat | TemplateChat]:
    """The model that training begins with, in fp32: a preset, or composed around a Llama."""
    if config.compose:
        made = compose(**vars(config.compose), tokenizer=tokenizer, dtype=torch.float32)
        if made.chat is None:
            raise ValueError(f"compose.decoder: {config.compose.decoder} has no tokenizer; set tokenizer: PATH")
        return made.model, made.chat
    assert tokenizer is not None
    architecture, chat = model_config(config), Chat(Tokenizer.from_file(tokenizer))
    if chat.image_id != architecture.decoder.vocab_size:
        raise ValueError(
            f"{tokenizer}: its image token is {chat.image_id}, the model expects {architecture.decoder.vocab_size}; "
            "set overrides {'decoder.vocab_size': ...} or use another tokenizer"
        )
    model = VisionLanguageModel(architecture)
    initialise(model)
    return model, chat


def choose_parameters(model: VisionLanguageModel, config: TrainConfig) -> None:
    """Add the adapter that the config asks for, and freeze what it does not train."""
    trainable = config.trainable
    if lora := config.lora:
        add_lora(
            model, group_layers(model, lora.groups), rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout,
            use_rslora=lora.use_rslora,
        )  # fmt: skip
        trainable = trainable or ("lora",)
    if trainable:
        freeze(model, trainable)


def export(model: VisionLanguageModel, chat: Chat | TemplateChat, path: Path) -> Path:
    """Write the model folder in bf16, without the scaffolding of training."""
    from vlm.checkpoints import Checkpoint, save_checkpoint

    model = model.eval().to(torch.bfloat16)
    generation = {"temperature": 0.0, "stop_ids": sorted(chat.stop_ids), "prompt": "bare"}  # the question alone
    return save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat, generation=generation), path)


def load_weights(model: VisionLanguageModel, folder: Path) -> None:
    """Start from a model folder: every tensor must be there and fit, but for more tiles and what begins at zero.

    That is residual blocks of a stem, and `connector.positions`, without which the text cannot tell which of several
    pictures it looks at.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"init: {path} does not exist; give a model folder written by `vlm train`")
    weights = {k: v.float() for k, v in load_file(path).items()}
    if isinstance(model.encoder, TiledViT):
        grow_tiles(model.encoder, weights)
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValueError(f"init: {path} is of another model: {' '.join(str(error).split())[:300]}") from None
    missing = [name for name in missing if not name.startswith("connector.positions.") and not STEM_BLOCK.search(name)]
    if missing or unexpected:
        raise ValueError(
            f"init: {path} is of another model: {len(missing)} missing and {len(unexpected)} unexpected tensors"
        )


def grow_tiles(encoder: TiledViT, weights: dict[str, torch.Tensor]) -> None:
    """Let weights of one-tile pictures begin on several: half the place in its tile, half that in the whole picture."""
    name = "encoder.tile_position_embedding.weight"
    n_tokens, dim = encoder.position_embedding.shape
    if name not in weights or weights[name].shape != (2, n_tokens * dim) or encoder.max_tiles == 1:
        return
    gate = weights["encoder.position_gate"].tanh()
    one_tile = (1 - gate) * weights["encoder.position_embedding"] + gate * weights[name][1].view(n_tokens, dim)
    side = math.isqrt(n_tokens - 1)
    plane = one_tile[1:].T.reshape(1, dim, side, side)
    table = torch.zeros(len(encoder.grids) + 1, encoder.max_tiles, n_tokens, dim)
    for i, (rows, cols) in enumerate(encoder.grids):
        drawn_out = F.interpolate(plane, scale_factor=(rows, cols), mode="bilinear", align_corners=False)[0]
        tiles = drawn_out.view(dim, rows, side, cols, side).permute(1, 3, 2, 4, 0).reshape(rows * cols, -1, dim)
        table[i + 1, : len(tiles)] = torch.cat([one_tile[:1].expand(len(tiles), 1, dim), tiles], dim=1)  # (n, N, dim)
    weights |= {
        name: table.flatten(1),
        "encoder.position_embedding": one_tile,
        "encoder.position_gate": torch.tensor([math.atanh(0.5)]),
    }
    for place in ("encoder.pre_tile_embedding.weight", "encoder.post_tile_embedding.weight"):
        weights[place] = weights[place][1:].repeat(len(encoder.grids) + 1, encoder.max_tiles)
