"""The shipped guard's head: a small transformer over the words of a request and the shipped model's picture features.

Notable here:
- The sequence is [typed words] + [words read from the picture] + [picture tokens]; text alone is the same model with a
  shorter sequence.
- The picture tokens are those of the frozen encoder that the answer uses anyway, so a picture is encoded once.
- The score is calibrated: 0.5 is the threshold that was fixed on validation data alone.

Shapes: B requests, T words, K = N_PARTS ids of a word, S picture tokens, C encoder.dim, D dim, H hazards (13).
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.checkpoints.files import Weights, new_folder, read_json, write_json, write_text, write_weights
from vlm.config import from_dict
from vlm.guard.int4 import dequantize, quantize
from vlm.guard.taxonomy import CATEGORIES
from vlm.guard.words import COUNTED, FIRST_PART, N_PARTS, PAD, READ, TYPED, Words, sentences, split_words, windows

FORMAT, VERSION = "gated-vlm-guard", 5  # 2: counted words, sentences; 3, 4: rows of words in 8, 4 bits; 5: print apart
MAX_PICTURE_TOKENS = 64
TABLES, SCALE = ("embed.weight", "meanings"), ".scale"  # kept in four bits, with a scale for each row
HAZARDS = tuple(CATEGORIES)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Sizes of a `GuardHead`.

    Args:
        dim, n_layers, n_heads, hidden_dim: of the transformer.
        picture_dim: C, what the frozen encoder gives; 0 for a head that reads text alone.
        n_buckets: rows for hashed parts of words.
        n_counted: rows for hashed words and pairs of neighbours that are merely counted (the "wide" part, Cheng et al.
            2016, arXiv 1606.07792) and added to what the transformer makes of them; 0 for none.
        meaning_dim: of the lexicon's vectors, which are not trained; 0 for a head without a lexicon.
        window, overlap: words of typed or read text that are judged together, and that two windows share.
        dropout: while training.
        threshold, temperature: P(unsafe) = sigmoid((logit - threshold) / temperature).
        print_offset: by which what stands in a picture, read as if it had been typed, must exceed the threshold.
        picture_offset: by which what is typed, printed and shown together must exceed it.
        long_offset: by which a text of more than two sentences, as `words.sentences` cuts them, must exceed the
            threshold as a whole, and each sentence of several. None judges all as a whole, by the threshold alone.
        model: fingerprint of the encoder whose features it was trained on, "" for none.
    """

    dim: int = 128
    n_layers: int = 3
    n_heads: int = 4
    hidden_dim: int = 256
    picture_dim: int = 0
    n_buckets: int = 4096
    n_counted: int = 0
    meaning_dim: int = 0
    window: int = 128
    overlap: int = 32
    dropout: float = 0.1
    threshold: float = 0.0
    temperature: float = 1.0
    print_offset: float = 0.0
    picture_offset: float = 0.0
    long_offset: float | None = None
    model: str = ""

    def __post_init__(self):
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of n_heads {self.n_heads}")
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap: found {self.overlap} of window {self.window}, expected less than the window")
        if self.n_counted < 0 or self.n_counted == 1:  # the first row is that of padding
            raise ValueError(f"n_counted: found {self.n_counted}, expected 0 for none or at least 2")
        if not self.temperature > 0:
            raise ValueError(f"temperature: found {self.temperature}, expected a number above 0")


class Row(NamedTuple):
    """One of the things that are judged of a request: ids (T, K), features (S, C) of a picture, and what it is."""

    ids: Tensor
    features: Tensor | None = None
    kind: str = "typed"  # "printed": what a picture says, as if typed; "shown": typed words, print and picture together
    long: bool = False  # of a text of more than two sentences as a whole, or of one sentence of several


class GuardHead(nn.Module):
    """P(unsafe) and the hazards of a request, from its words and its picture's features."""

    meanings: Tensor

    def __init__(self, config: HeadConfig, vocabulary: list[str], lexicon: list[str] | None = None):
        """Random weights for these words; the lexicon's vectors are `meanings`, to be filled from row 1 on."""
        super().__init__()
        self.config, self.words = config, Words(vocabulary, config.n_buckets, lexicon or [], config.n_counted)
        d = config.dim
        self.embed = nn.Embedding(self.words.n_rows, d, padding_idx=PAD)
        self.positions = nn.Embedding(2 * config.window, d)  # of typed and of read words
        self.word_norm = nn.LayerNorm(d)
        if config.meaning_dim:
            self.register_buffer("meanings", torch.zeros(len(self.words.lexicon) + 1, config.meaning_dim))
            self.meaning_proj = nn.Linear(config.meaning_dim, d, bias=False)
        if config.picture_dim:
            self.picture_proj = nn.Sequential(nn.LayerNorm(config.picture_dim), nn.Linear(config.picture_dim, d))
        layer = nn.TransformerEncoderLayer(
            d, config.n_heads, config.hidden_dim, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.n_layers, nn.LayerNorm(d), enable_nested_tensor=False)
        if config.n_counted:
            self.wide = nn.EmbeddingBag(config.n_counted, 1, mode="sum", padding_idx=0)
            nn.init.zeros_(self.wide.weight)
        self.pool = nn.Linear(d, 1)
        self.out = nn.Linear(2 * d, 1 + len(HAZARDS))
        nn.init.normal_(self.embed.weight, std=0.05)
        nn.init.zeros_(self.embed.weight.data[PAD])
        nn.init.normal_(self.positions.weight, std=0.05)

    def encode_text(self, text: str, read: str = "") -> Tensor:
        """Ids (T, K) of the first window of the typed words and of those read; see `windows` for all of them."""
        return self.windows(text, read)[0]

    def windows(self, text: str, read: str = "") -> list[Tensor]:
        """Ids (T, K) of every window of a request, none left out: typed words as they stand, read ones mended."""
        return self._windows(split_words(text), self.words.repair(split_words(read)))

    def _windows(self, typed: list[str], seen: list[str]) -> list[Tensor]:
        """Windows of typed and of read words side by side; the shorter one's last beside the longer one's others."""
        c = self.config
        cut = [windows(words, c.window, c.overlap) for words in (typed, seen)]
        rows = []
        for i in range(max(map(len, cut))):
            both = zip(cut, (TYPED, READ), strict=True)
            ids = [row for some, kind in both for row in self.words.encode(some[min(i, len(some) - 1)], kind)]
            rows.append(torch.tensor(ids, dtype=torch.long).view(-1, N_PARTS))
        return rows

    def rows(self, texts: Sequence[str], seen: Sequence[tuple[str, Tensor | None]] = ()) -> list[Row]:
        """All that is judged of a request: its worst row counts.

        What is typed is judged alone, what stands in a picture as if it had been typed, and both together: neither
        harmless words beside a picture nor a harmless picture take anything away. Print counts as it was read and
        mended, what is typed as it stands: who types "glock" does not mean a lock. Of several sentences each is judged
        too, typed and printed ones alike.

        Args:
            texts: each is judged by itself.
            seen: words and features (S, C) of each picture.
        """
        typed = [(text, [split_words(text)], sentences(text)) for text in texts]
        printed = [(read, self._readings(split_words(read)), sentences(" ".join(read.split()))) for read, _ in seen]
        found: list[Row] = []
        for kind, some in (("typed", typed), ("printed", printed)):
            for text, readings, cut in some:
                found += self._alone(readings, cut, kind) if text.strip() else []
        for _, (words,), cut in typed:
            for (_, readings, lines), (_, states) in zip(printed, seen, strict=True):
                for reading in readings:
                    both = self._windows(words, reading) if words else self._windows(reading, [])
                    found += [Row(ids, states, "shown", max(len(cut), len(lines)) > 2) for ids in both]
        return found or self._alone([[]], [], "typed")

    def _alone(self, readings: list[list[str]], cut: list[list[str]], kind: str) -> list[Row]:
        """Rows of a text by itself, as if typed: the windows of each reading of it, and its sentences."""
        rows = [Row(ids, None, kind, len(cut) > 2) for words in readings for ids in self._windows(words, [])]
        if self.config.long_offset is None or len(cut) < 2:
            return rows
        said = [some for words in cut for some in (self._readings(words) if kind == "printed" else [words])]
        return rows + [Row(torch.tensor(self.words.encode(words, TYPED)), None, kind, True) for words in said]

    def _readings(self, words: list[str]) -> list[list[str]]:
        """The words of print as they were read and, where that differs, mended."""
        mended = self.words.repair(words)
        return [words] if mended == words else [words, mended]

    def scores(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Logits of unsafe (B,), each lowered by its `offset`, and of the hazards (B, H), of `rows`."""
        logits, hazards = self(**collate([row.ids for row in rows], [row.features for row in rows]))
        return logits - torch.tensor([self.offset(row) for row in rows]), hazards

    def offset(self, row: Row) -> float:
        """What is taken off a row's logit."""
        extra = {"printed": self.config.print_offset, "shown": self.config.picture_offset}.get(row.kind, 0.0)
        return extra + (self.config.long_offset or 0.0) * row.long

    def forward(
        self, text_ids: Tensor, text_mask: Tensor,
        picture_features: Tensor | None = None, picture_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Logits of unsafe (B,) and of the hazards (B, H), before calibration.

        Args:
            text_ids: (B, T, K) as `encode_text` gives them, padded with `PAD`.
            text_mask: (B, T), True for a word.
            picture_features: (B, S, C) of the frozen encoder, tiles flattened; None for no picture.
            picture_mask: (B, S), True for a token of a picture; a row may have none.
        """
        logits, hazards = self.deep(text_ids, text_mask, picture_features, picture_mask)
        return (logits + self.count(text_ids, text_mask) if self.config.n_counted else logits), hazards

    def count(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """What words and pairs add to the logits of unsafe (B,): of the typed and of the read ones the higher sum."""
        parts = []
        for segment in (TYPED, READ):
            mask = text_mask & (text_ids[..., 0] == segment)
            found = self.wide((text_ids[..., COUNTED:FIRST_PART] * mask[..., None]).flatten(1))[:, 0]
            parts.append(found.masked_fill(~mask.any(1), -torch.inf))
        return torch.stack(parts).amax(0).masked_fill(~text_mask.any(1), 0.0)

    def deep(
        self, text_ids: Tensor, text_mask: Tensor,
        picture_features: Tensor | None = None, picture_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The transformer's part of `forward`."""
        parts = text_ids[..., FIRST_PART:]
        count = (parts != PAD).sum(-1, keepdim=True).clamp(min=1)
        x = self.embed(text_ids[..., :2]).sum(-2) + self.embed(parts).sum(-2) / count.sqrt()  # (B, T, D)
        if self.config.meaning_dim:
            x = x + self.meaning_proj(self.meanings[text_ids[..., 2]])
        x = self.word_norm(x) + self.positions(self._places(text_ids))
        mask = text_mask
        if picture_features is not None:
            assert picture_mask is not None, "picture features come with their mask"
            x = torch.cat([x, self.picture_proj(picture_features)], 1)
            mask = torch.cat([mask, picture_mask], 1)
        x = F.pad(x, (0, 0, 1, 0))  # one empty token: a request of no words and no picture has something to attend
        mask = F.pad(mask, (1, 0), value=True)
        x = self.layers(x, src_key_padding_mask=~mask)  # (B, 1 + T + S, D)
        weights = self.pool(x).masked_fill(~mask[..., None], -torch.inf).softmax(1)
        highest = x.masked_fill(~mask[..., None], -torch.inf).amax(1)
        logits = self.out(torch.cat([(weights * x).sum(1), highest], -1))  # (B, 1 + H)
        return logits[:, 0], logits[:, 1:]

    def _places(self, text_ids: Tensor) -> Tensor:
        """Where each word stands in its own segment (B, T); read words count from the window's end on."""
        read = text_ids[..., 0] == READ
        place = torch.arange(text_ids.shape[1], device=text_ids.device).expand_as(read)
        typed = (text_ids[..., 0] == TYPED).sum(1, keepdim=True)
        place = torch.where(read, place - typed + self.config.window, place)
        return place.clamp(max=2 * self.config.window - 1)

    def probability(self, logits: Tensor) -> Tensor:
        """P(unsafe) of unsafe logits; 0.5 at the threshold that validation fixed."""
        return torch.sigmoid((logits.float() - self.config.threshold) / self.config.temperature)

    def settle(self) -> "GuardHead":
        """Round all weights to what `save` keeps of them, so that what is calibrated is what is saved."""
        for name, t in self.state_dict().items():
            t.copy_(dequantize(*quantize(t), t.shape[1]) if name in TABLES else t.bfloat16())
        return self

    def save(self, folder: str | os.PathLike) -> None:
        """Write `config.json`, two lists of words and `model.safetensors` into a folder, whole or not at all.

        Rows of words are kept in 4 bits, all else in bf16.
        """
        tensors = {name: t.detach().to(torch.bfloat16) for name, t in self.state_dict().items()}
        for name in TABLES:
            if name in tensors:
                tensors[name], tensors[name + SCALE] = quantize(self.state_dict()[name])
        with new_folder(Path(folder), is_guard) as scratch:
            write_json(scratch / "config.json", {"format": FORMAT, "version": VERSION, "head": asdict(self.config)})
            write_text(scratch / "words.txt", "\n".join(self.words.vocabulary) + "\n")
            write_text(scratch / "lexicon.txt", "\n".join(self.words.lexicon) + "\n")
            write_weights(scratch, tensors, tensors.__getitem__, max_shard_bytes=2**40)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "GuardHead":
        """The head of a folder in fp32, in evaluation mode.

        Raises:
            ValueError: the folder holds no guard, another version's, or weights that do not fit its config.
        """
        path = Path(folder)
        data = read_json(path / "config.json")
        if data.get("format") != FORMAT:
            raise ValueError(f"{path}: holds no guard (format {data.get('format')!r}); expected {FORMAT!r}")
        if data.get("version") != VERSION:
            raise ValueError(
                f"{path}: a guard of version {data.get('version')!r}; this package reads {VERSION}: vlm guard train"
            )
        config = from_dict(HeadConfig, data.get("head", {}), f"{path}: head")
        head = cls(config, *(_read_words(path / name) for name in ("words.txt", "lexicon.txt")))
        weights = Weights().add_safetensors(path / "model.safetensors")
        shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
        tables = {name: shapes[name] for name in TABLES if name in shapes}
        expected = shapes | {name: (n, math.ceil(dim / 2)) for name, (n, dim) in tables.items()}
        expected |= {name + SCALE: (n, 1) for name, (n, _) in tables.items()}
        read = {name: weights.read(name) for name in expected if name in weights}
        for name, shape in expected.items():
            found = tuple(read[name].shape) if name in read else None
            if found != shape:
                raise ValueError(f"{path}: {name} is {found}, expected {shape}; get it again")
            if name in tables and read[name].dtype != torch.uint8:
                raise ValueError(f"{path}: {name} is {read[name].dtype}, expected uint8; get it again")
        if extra := sorted(set(weights) - set(expected)):
            raise ValueError(f"{path}: found weights that no guard has ({extra[0]}); get it again")
        whole = {name: dequantize(read[name], read[name + SCALE], dim) for name, (_, dim) in tables.items()}
        head.load_state_dict({name: whole.get(name, read[name].float()) for name in shapes})
        return head.eval()


def is_guard(folder: str | os.PathLike) -> bool:
    """Whether a folder says of itself that it holds a `GuardHead`."""
    try:
        return read_json(Path(folder) / "config.json").get("format") == FORMAT
    except (ValueError, OSError):
        return False


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the guard's words cannot be read ({error}); get it again") from None


def collate(ids: Sequence[Tensor], features: Sequence[Tensor | None] | None = None) -> dict[str, Any]:
    """Arguments of `GuardHead.forward` for requests of different lengths.

    Args:
        ids: (T, K) for each request.
        features: (S, C) for each, None where it has no picture; S above `MAX_PICTURE_TOKENS` is pooled.
    """
    lengths = torch.tensor([len(i) for i in ids])
    most = max(1, int(lengths.max()))
    padded = torch.stack([F.pad(i, (0, 0, 0, most - len(i)), value=PAD) for i in ids])
    found: dict[str, Any] = {"text_ids": padded, "text_mask": torch.arange(most) < lengths[:, None]}
    if features and any(f is not None for f in features):
        pooled = [None if f is None else pool_tokens(f) for f in features]
        dim = next(f.shape[-1] for f in pooled if f is not None)
        sizes = torch.tensor([0 if f is None else len(f) for f in pooled])
        rows = [torch.zeros(0, dim) if f is None else f.float() for f in pooled]
        found["picture_features"] = torch.stack([F.pad(r, (0, 0, 0, int(sizes.max()) - len(r))) for r in rows])
        found["picture_mask"] = torch.arange(int(sizes.max())) < sizes[:, None]
    return found


def pool_tokens(features: Tensor) -> Tensor:
    """At most `MAX_PICTURE_TOKENS` of the tokens (S, C), neighbours averaged where there are more."""
    if len(features) <= MAX_PICTURE_TOKENS:
        return features
    return F.adaptive_avg_pool1d(features.T[None], MAX_PICTURE_TOKENS)[0].T
