"""What a training run is: a YAML file of these fields, `vlm train CONFIG.yaml key=value ...`."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vlm.config import PRESETS, from_dict, near_match


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of the curriculum: from the end of the stage before it until step `until`."""

    until: int
    mixture: dict  # world -> share of the batches
    families: tuple[str, ...] = ()  # question families that are asked; () asks all
    text: bool = True  # False trains the encoder on dense labels alone


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run, reproducible from this and the code up to hardware rounding."""

    output: str
    model: str = "mini"  # a preset
    init: str = ""  # a model folder to start from
    tokenizer: str = ""  # a tokenizer.json; "" trains one on the world's sentences
    emoji: str = ""  # the Noto zip; "" uses the system font
    stages: tuple[Stage, ...] = ()
    batch_pictures: int = 32  # one-tile pictures per micro-batch and process; wider ones are fewer, tiles stay equal
    questions: int = 8  # per picture: all share one encode
    accumulate: int = 1
    seed: int = 0
    lr: float = 1e-3
    min_lr: float = 0.02  # of lr, at the end of the cosine
    warmup: int = 200
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.98)
    clip: float = 1.0
    caption_weight: float = 0.5
    caption_share: float = 0.25  # of the batches also learn captions, which are long
    dense_weight: float = 0.5
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

    def __post_init__(self):
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


def read_config(path: str | Path, overrides: list[str] = ()) -> TrainConfig:
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
