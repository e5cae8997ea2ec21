"""What a training run is: a YAML file of these fields, `vlm train CONFIG.yaml key=value ...`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vlm.config import PRESETS, from_dict, near_match
from vlm.training.groups import check_groups


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of the curriculum: from the end of the stage before it until step `until`."""

    until: int
    mixture: dict  # world -> share of the batches
    families: tuple[str, ...] = ()  # question families that are asked; () asks all
    text: bool = True  # False trains the encoder on dense labels alone
    max_objects: int = 8  # in a scene: few first, so that words are learnt before the search among many
    caption_share: float = 0.25  # of the batches also learn captions, which are long
    batch_pictures: int = 0  # 0 takes the run's
    questions: int = 0  # 0 takes the run's: fewer questions about more pictures teach to read sooner
    large: dict = field(default_factory=dict)  # world -> share of its batches drawn at twice the side: four tiles


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters in the linear layers of some groups, see adapters/lora.py."""

    groups: tuple[str, ...] = ("text",)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    use_rslora: bool = False


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Any encoder, connector and Llama in place of a preset; the fields are arguments of `vlm.composition.compose`."""

    encoder: str = "tiled"
    connector: str = "linear"
    decoder: str = "mini"
    cross_attention_every: int = 4
    cross_attention_layers: tuple[int, ...] | None = None
    gate_init: float = 0.0
    taps: tuple[int, ...] = ()
    prefix_tokens: bool = False
    pretrained: bool | str = False
    tile_size: int | None = None
    max_tiles: int | None = None
    positions: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run, reproducible from this and the code up to hardware rounding."""

    output: str
    model: str = "mini"  # a preset
    init: str = ""  # a model folder to start from
    tokenizer: str = ""  # a tokenizer.json; "" trains one on the world's sentences
    emoji: str = ""  # the Noto zip; "" uses the system font
    stages: tuple[Stage, ...] = ()
    batch_pictures: int = 32  # per micro-batch and process; of pictures of four tiles half as many
    questions: int = 8  # per picture: all share one encode
    accumulate: int = 1
    seed: int = 0
    lr: float = 1e-3
    min_lr: float = 0.02  # of lr, at the end of the cosine
    warmup: int = 200
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    caption_weight: float = 0.5
    dense_weight: float = 0.5
    point_weight: float = 0.25  # of where attention looks, see vlm/training/pointing.py
    dtype: str = "bf16"
    device: str = "auto"
    threads: int = 0  # 0 leaves torch's choice
    workers: int = 1
    log_every: int = 20
    sample_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    stop_minutes: float = 0.0  # end this call after so long, with a checkpoint; 0 runs to the last step
    compile: bool = False  # the layers, by torch.compile: a minute at the start, then about 1.7 times as fast on a CPU
    overrides: dict = field(default_factory=dict)  # dotted keys of the model preset
    compose: Composition | None = None  # in place of the preset
    trainable: tuple[str, ...] = ()  # groups of vlm/training/groups.py; () trains all, or with `lora` that alone
    lora: LoRA | None = None  # is merged into `output/model`, and saved as `output/adapter` for the model of `init`

    def __post_init__(self):
        for stage in self.stages:
            for world, share in stage.large.items():
                if world not in stage.mixture or not 0 <= share <= 1:
                    raise ValueError(
                        f"stages: found large {world}: {share}, expected a world of the mixture "
                        f"({', '.join(stage.mixture)}) and a share from 0 to 1"
                    )
        if self.model not in PRESETS:
            raise ValueError(
                f"model: found {self.model!r}, expected one of {', '.join(PRESETS)}{near_match(self.model, PRESETS)}"
            )
        ends = [s.until for s in self.stages]
        if not ends or ends != sorted(set(ends)):
            raise ValueError(f"stages: found ends {ends}, expected at least one, each `until` larger than the last")
        for name in (
            "batch_pictures",
            "questions",
            "accumulate",
            "log_every",
            "sample_every",
            "checkpoint_every",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        check_groups(self.trainable)
        if self.lora is not None:
            check_groups(self.lora.groups, "lora.groups")
            if self.trainable and "lora" not in self.trainable:
                raise ValueError(
                    f"trainable: found {', '.join(self.trainable)} with `lora`, expected 'lora' among them; without it "
                    "the adapter would stay as it begins"
                )
        if self.dtype not in ("bf16", "fp32"):
            raise ValueError(f"dtype: found {self.dtype!r}, expected bf16 or fp32")

    @property
    def steps(self) -> int:
        return self.stages[-1].until

    def stage(self, step: int) -> Stage:
        """The stage that step `step` (from 0) belongs to."""
        return next(s for s in self.stages if step < s.until)


class _Loader(yaml.SafeLoader):
    """YAML where 1e-3 is a number, as everywhere else; YAML 1.1 wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """A YAML file with dotted `key=value` overrides laid over it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such config file")
    try:
        data = yaml.load(path.read_text(), _Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: found {data!r:.80}, expected a mapping with the keys of TrainConfig")
    for item in overrides:
        _override(data, item)
    return from_dict(TrainConfig, data, str(path))


def _override(data: dict, item: str) -> None:
    """Lay one `a.b.0.c=value` over plain data; a number names an element of a list."""
    key, sep, value = item.partition("=")
    if not sep:
        raise ValueError(f"override {item!r}: expected key=value")
    target = data
    *parents, last = key.split(".")
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        target[int(last) if isinstance(target, list) else last] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"override {item!r}: not valid YAML: {' '.join(str(error).split())}") from None
    except (AttributeError, IndexError, TypeError, ValueError):
        raise ValueError(f"override {item!r}: {key!r} leads nowhere in this config; check its parts") from None
