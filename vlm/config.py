"""All sizes of a model in frozen dataclasses, and the presets.

Notable here:
- One vocabulary in the whole repository: dim, n_layers, n_heads, n_kv_heads, head_dim, hidden_dim, vocab_size.
- An unknown key is an error that names the nearest known one; impossible sizes are errors when the config is made.
- Presets say only what they change.
"""

from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from adapters import check_connector
from vlm.image import ImageConfig

LIBRARIES = ("timm", "open_clip")


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched; each kind reads the fields that its paper or release names."""

    kind: str = "llama3"  # "linear", "dynamic", "llama3" or "yarn"
    factor: float = 8.0
    original_max_seq_len: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True

    def __post_init__(self):
        _choice("rope_scaling.kind", self.kind, ("linear", "dynamic", "llama3", "yarn"))


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The image encoder; see `encoders.tiled_vit.TiledViT` for the meaning of each field."""

    name: str = "tiled"
    dim: int = 1280
    n_layers: int = 32
    n_global_layers: int = 8
    n_heads: int = 16
    hidden_dim: int = 5120
    taps: tuple[int, ...] = (3, 7, 15, 23, 30)
    patch_size: int = 14
    norm_eps: float = 1e-5
    stem: str = "linear"
    stem_blocks: int = 0
    tile_padding: str = "reference"
    dedupe_padding: bool = True
    gate_init: float = 0.0

    def __post_init__(self):
        _choice("encoder.name", self.name, ("tiled",))
        _divides("encoder.n_heads", self.n_heads, "encoder.dim", self.dim)
        _choice("encoder.stem", self.stem, ("linear", "conv"))
        if self.stem_blocks < 0 or (self.stem_blocks and self.stem != "conv"):
            raise ValueError(
                f"encoder.stem_blocks: found {self.stem_blocks} of a {self.stem} stem, expected 0 (or conv)"
            )
        _choice("encoder.tile_padding", self.tile_padding, ("reference", "none"))
        if bad := [i for i in self.taps if not 0 <= i < self.n_layers]:
            raise ValueError(f"encoder.taps: found {bad}, expected layer numbers from 0 to {self.n_layers - 1}")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """An image encoder of another library, "timm:NAME" or "open_clip:NAME"; see `encoders` for the fields."""

    name: str
    taps: tuple[int, ...] = ()
    prefix_tokens: bool = False
    library: str = ""  # name and version that built it, for those who wonder later

    def __post_init__(self):
        if self.name.partition(":")[0] not in LIBRARIES or self.name.endswith(":"):
            raise ValueError(f"encoder.name: found {self.name!r}, expected 'tiled', 'timm:NAME' or 'open_clip:NAME'")


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig:
    """What stands between the encoder and the decoder; see `adapters.create_connector`."""

    name: str = "linear"  # "linear", "mlp", "perceiver:64", "qformer:32"
    positions: bool = False  # learnt places of tiles and pictures, for encoders that give none

    def __post_init__(self):
        check_connector(self.name)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A Llama-family decoder and where gated cross-attention stands in it."""

    dim: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 128
    hidden_dim: int = 14336
    norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    rope_scaling: RopeScaling | None = None
    vocab_size: int = 128256
    n_extra_tokens: int = 0  # embedding rows past vocab_size that lm_head does not have; the image token is the first
    max_seq_len: int = 131072
    tie_embeddings: bool = False
    cross_attention_layers: tuple[int, ...] = ()  # Llama layers that a gated block precedes
    gate_init: float = 0.0

    def __post_init__(self):
        for name in ("dim", "n_layers", "n_heads", "head_dim", "hidden_dim", "vocab_size", "max_seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoder.{name}: found {getattr(self, name)}, expected at least 1")
        _divides("decoder.n_kv_heads", self.n_kv_heads, "decoder.n_heads", self.n_heads)
        layers = self.cross_attention_layers
        if len(set(layers)) != len(layers) or any(not 0 <= i < self.n_layers for i in layers):
            raise ValueError(
                f"decoder.cross_attention_layers: found {list(layers)}, "
                f"expected distinct layer numbers from 0 to {self.n_layers - 1}"
            )
        if self.head_dim % 2:
            raise ValueError(f"decoder.head_dim: found {self.head_dim}, expected an even number (rotary pairs)")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Encoder, connector, decoder and how pictures are prepared; without an encoder it is a plain Llama."""

    encoder: EncoderConfig | BackboneConfig | None = field(default_factory=EncoderConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    image: ImageConfig = field(default_factory=ImageConfig)

    def __post_init__(self):
        if isinstance(self.encoder, EncoderConfig):
            _divides("encoder.patch_size", self.encoder.patch_size, "image.tile_size", self.image.tile_size, floor=True)


def _choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise ValueError(f"{name}: found {found!r}, expected one of {', '.join(choices)}{near_match(found, choices)}")


def _divides(name: str, small: int, of: str, large: int, floor: bool = False) -> None:
    if small < 1 or large < small or (large % small and not floor):
        raise ValueError(f"{name}: found {small}, expected a positive divisor of {of} ({large})")


def near_match(found: str, choices) -> str:
    """The hint of an error message: ' (did you mean ...?)', or nothing."""
    near = get_close_matches(found, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def from_dict(cls: type, data: dict, where: str = "config") -> Any:
    """Build a nested dataclass from plain data, strictly: unknown keys, missing keys and wrong types are errors."""
    if not isinstance(data, dict):
        raise ValueError(f"{where}: found {data!r}, expected a mapping with the keys of {cls.__name__}")
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    for key in data:
        if key not in names:
            raise ValueError(
                f"{where}: unknown key {key!r}{near_match(str(key), names)}; known keys: {', '.join(names)}"
            )
    for f in fields(cls):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in data:
            raise ValueError(f"{where}: the key {f.name!r} is missing")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kinds = [o for o in options if o is not type(None)]
    hint = next((o for o in kinds if isinstance(o, type) and isinstance(value, o)), kinds[0])
    if BackboneConfig in kinds and isinstance(value, dict) and ":" in str(value.get("name")):
        hint = BackboneConfig
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    origin = get_origin(hint) or hint
    if origin is tuple and isinstance(value, list | tuple):
        inner = get_args(hint)[0] if get_args(hint) else Any
        return tuple(_convert(inner, v, where) for v in value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is not Any and (not isinstance(value, origin) or (origin is int and isinstance(value, bool))):
        expected = origin.__name__ + (" or null" if type(None) in options else "")
        raise ValueError(f"{where}: found {value!r} ({type(value).__name__}), expected {expected}")
    return value


to_dict = asdict

_LLAMA3 = RopeScaling(kind="llama3", factor=8.0, original_max_seq_len=8192)
_11B = ModelConfig(
    decoder=DecoderConfig(rope_scaling=_LLAMA3, n_extra_tokens=8, cross_attention_layers=tuple(range(3, 32, 4)))
)
_MINI = ModelConfig(
    encoder=EncoderConfig(
        dim=192, n_layers=4, n_global_layers=2, n_heads=6, hidden_dim=768, taps=(1, 3), patch_size=12,
        stem="conv", tile_padding="none", gate_init=0.5,
    ),
    decoder=DecoderConfig(
        dim=192, n_layers=4, n_heads=6, n_kv_heads=3, head_dim=32, hidden_dim=384, vocab_size=1024, n_extra_tokens=8,
        max_seq_len=2048, tie_embeddings=True, cross_attention_layers=(1, 2, 3), gate_init=0.5,
    ),
    image=ImageConfig(tile_size=96, max_tiles=1),
)  # fmt: skip

PRESETS: dict[str, ModelConfig] = {
    "debug": ModelConfig(
        encoder=EncoderConfig(
            dim=16, n_layers=3, n_global_layers=1, n_heads=2, hidden_dim=32, taps=(0, 2), patch_size=14
        ),
        decoder=DecoderConfig(
            dim=32, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=8, hidden_dim=48, rope_scaling=_LLAMA3,
            vocab_size=300, n_extra_tokens=8, max_seq_len=256, cross_attention_layers=(1, 3),
        ),
        image=ImageConfig(tile_size=28),
    ),
    "mini": _MINI,
    "11b": _11B,
    "90b": replace(
        _11B,
        decoder=replace(
            _11B.decoder, dim=8192, n_layers=80, n_heads=64, hidden_dim=28672,
            cross_attention_layers=tuple(range(3, 80, 4)),
        ),
    ),
}  # fmt: skip
