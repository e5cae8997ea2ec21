"""From a config to a model folder: tokenizer, model, loop, export."""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from vlm.chat import Chat, Tokenizer
from vlm.config import PRESETS, ModelConfig, from_dict, to_dict
from vlm.data.tokenizer import train_tokenizer
from vlm.data.worlds import WORLDS, sample
from vlm.model import VisionLanguageModel
from vlm.training.config import TrainConfig
from vlm.training.data import CAPTION_REQUESTS
from vlm.training.loop import initialise, pick_device, train
from vlm.training.parallel import join

READ_ALOUD = {"text"}  # worlds whose answers are spelled, not known words: they stay out of the tokenizer's merges


def sentences(config: TrainConfig, count: int = 6000) -> Iterator[str]:
    """What the worlds say and ask, for the tokenizer."""
    worlds = {w: 1.0 for w in WORLDS}
    for i in range(count):
        drawn = sample(i, seed=config.seed + 1, mixture=worlds, emoji_path=config.emoji or None)
        yield from (q.text for q in drawn.questions)
        if drawn.world not in READ_ALOUD:
            yield from drawn.captions
            yield from (q.answer for q in drawn.questions)
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
    """
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    architecture = model_config(config)
    group = join(pick_device(config))
    path = output / "tokenizer.json"
    if config.tokenizer:
        path = Path(config.tokenizer)
    elif not path.is_file() and group.first:
        partial = path.with_suffix(".tmp")
        train_tokenizer(sentences(config), architecture.decoder.vocab_size).save(str(partial))
        partial.rename(path)
    group.wait()
    tokenizer = Tokenizer.from_file(path)
    chat = Chat(tokenizer)
    if chat.image_id != architecture.decoder.vocab_size:
        raise ValueError(
            f"{path}: its image token is {chat.image_id}, the model expects {architecture.decoder.vocab_size}; "
            "set overrides {'decoder.vocab_size': ...} or use another tokenizer"
        )
    model = VisionLanguageModel(architecture)
    initialise(model)
    if config.init:
        load_weights(model, Path(config.init))
    train(config, model, chat, stop_after=stop_after)
    if group.first:
        export(model, chat, output / "model")
    group.wait()
    return output / "model"


def export(model: VisionLanguageModel, chat: Chat, path: Path) -> Path:
    """Write the model folder in bf16, without the scaffolding of training."""
    from vlm.checkpoints import Checkpoint, save_checkpoint

    model = model.eval().to(torch.bfloat16)
    generation = {"temperature": 0.0, "stop_ids": sorted(chat.stop_ids)}
    return save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat, generation=generation), path)


def load_weights(model: VisionLanguageModel, folder: Path) -> None:
    """Start from a model folder: every tensor must be there and fit."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"init: {path} does not exist; give a model folder written by `vlm train`")
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"init: {path} is of another model: {len(missing)} missing and {len(unexpected)} unexpected tensors"
        )
