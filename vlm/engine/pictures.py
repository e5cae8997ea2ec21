"""Encoded pictures: each is encoded once, held once, and shared by all questions, turns and samples about it.

Notable here:
- What is kept of a picture is what cross-attention reads, the keys and values of its real tiles, and no padding.
- Pictures are known by a hash of their pixels. Those in use stay; of the others the longest unused go first once
  `limit` bytes are full.
- A connector that numbers the pictures of a conversation makes them depend on each other: then all pictures of a row
  together are what is encoded and shared.
- Several pictures of a row are laid one after another while the row runs, in one copy for all rows that have the same.
- The encoder's features are not kept. Who wants something of them has an observer, which is shown them and the tiles
  once and whose small note stays with the picture.

Shapes: Hkv key/value heads, S image tokens, Dh head_dim, L tiles, T pixels of a tile's side, N tokens of a tile,
C channels of the encoder.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adapters.cross_attention import KeyValue
from vlm.image import collate_images
from vlm.model import VisionLanguageModel

Picture = tuple[Tensor, tuple[int, int]]  # tiles (L, 3, T, T) and grid (rows, cols)
Key = tuple[bytes, ...]  # hashes of pictures that are encoded together
Observer = Callable[[Tensor, Tensor], Any]  # tiles (L, 3, T, T) and their features (L, N, C) -> a note
Notes = dict[str, Any]  # by the name of the observer
TILES_AT_ONCE = 16


@dataclass(eq=False)
class Encoded:
    """Pictures as cross-attention reads them."""

    image: dict[int, KeyValue]  # by layer, (1, Hkv, S, Dh)
    ends: list[int]  # 0, then the image token at which each picture ends
    notes: list[Notes] = field(default_factory=list)  # of each picture
    users: int = 0

    def __post_init__(self):
        self.n_bytes = sum(t.numel() * t.element_size() for kv in self.image.values() for t in kv)


@dataclass
class PictureCache:
    """Encodes pictures for one model, at most once each while they are remembered."""

    model: VisionLanguageModel
    limit: int  # bytes of pictures that nobody uses at the moment and of those in use
    observers: Mapping[str, Observer] = field(default_factory=dict)
    encoder: nn.Module | None = None  # in place of the model's own
    held: OrderedDict[Key, Encoded] = field(default_factory=OrderedDict)
    joined: dict[tuple[Key, ...], Encoded] = field(default_factory=dict)
    encodes: int = 0  # pictures that went through the encoder

    def keys(self, pictures: list[Picture]) -> tuple[Key, ...]:
        """What `acquire` and `release` want: one key for each picture, or for all together."""
        hashes = [tiles_hash(p) for p in pictures]
        if len(hashes) > 1 and getattr(self.model.connector, "positions", None) is not None:
            return (tuple(hashes),)
        return tuple((h,) for h in hashes)

    def encode(self, rows: Iterable[tuple[tuple[Key, ...], list[Picture]]]) -> None:
        """Encode what is missing for these rows, pictures of as many tiles together."""
        missing: dict[Key, list[Picture]] = {}
        for keys, pictures in rows:
            for i, key in enumerate(keys):
                if key in self.held:
                    self.held.move_to_end(key)
                else:
                    missing[key] = pictures if len(key) > 1 else [pictures[i]]
        by_size: dict[tuple[int, ...], list[Key]] = {}
        for key, pictures in missing.items():
            by_size.setdefault(tuple(len(tiles) for tiles, _ in pictures), []).append(key)
        for sizes, alike in by_size.items():
            n = max(1, TILES_AT_ONCE // sum(sizes))
            for first in range(0, len(alike), n):
                self._encode(alike[first : first + n], missing)

    def _encode(self, keys: list[Key], pictures: dict[Key, list[Picture]]) -> None:
        tiles, grid = collate_images([pictures[key] for key in keys])
        weight = self.model.decoder.embed_tokens.weight
        grid = grid.to(weight.device)
        encoder = self.model.encoder if self.encoder is None else self.encoder
        features = encoder(tiles.to(weight.device, weight.dtype), grid)
        image, lengths = self.model.read_features(features, grid)
        self.encodes += sum(len(key) for key in keys)
        for row, (key, ends) in enumerate(zip(keys, lengths.cumsum(1).tolist(), strict=True)):
            own = {
                i: KeyValue(*(t[row : row + 1, :, : ends[-1]].clone() for t in kv)) for i, kv in image.items()
            }  # fmt: skip
            shown = [(own_tiles, features[row, i, : len(own_tiles)]) for i, (own_tiles, _) in enumerate(pictures[key])]
            notes = [{name: note(*one) for name, note in self.observers.items()} for one in shown]
            self.held[key] = Encoded(own, [0, *ends], notes)

    def acquire(self, keys: tuple[Key, ...]) -> Encoded:
        """The pictures of a row, just encoded; give them back with `release`."""
        parts = [self.held[key] for key in keys]
        if len(parts) > 1 and keys not in self.joined:
            self.joined[keys] = _concatenate(parts)
        whole = parts[0] if len(parts) == 1 else self.joined[keys]
        for entry in {id(e): e for e in (*parts, whole)}.values():
            entry.users += 1
        return whole

    def release(self, keys: tuple[Key, ...]) -> None:
        """A row is done with its pictures."""
        entries = {id(self.held[key]): self.held[key] for key in keys}
        if len(keys) > 1:
            whole = self.joined[keys]
            entries[id(whole)] = whole
        for entry in entries.values():
            entry.users -= 1
        if len(keys) > 1 and not whole.users:
            del self.joined[keys]
        for key in keys:
            self.held.move_to_end(key)
        self.shrink()

    @property
    def n_bytes(self) -> int:
        return sum(e.n_bytes for e in (*self.held.values(), *self.joined.values()))

    @property
    def n_used(self) -> int:
        """Pictures that a row holds at the moment."""
        return sum(e.users > 0 for e in self.held.values())

    def clear(self) -> None:
        """Forget what nobody uses."""
        for key in [k for k, e in self.held.items() if not e.users]:
            del self.held[key]

    def shrink(self) -> None:
        """Drop the longest unused until the rest fits."""
        size = self.n_bytes
        for key in [k for k, e in self.held.items() if not e.users]:
            if size <= self.limit:
                break
            size -= self.held.pop(key).n_bytes


def _concatenate(parts: list[Encoded]) -> Encoded:
    image = {
        i: KeyValue(*(torch.cat([p.image[i][side] for p in parts], dim=2) for side in (0, 1)))
        for i in parts[0].image
    }  # fmt: skip
    ends = [0]
    for part in parts:
        ends += [ends[-1] + e for e in part.ends[1:]]
    return Encoded(image, ends, [note for part in parts for note in part.notes])


def tiles_hash(picture: Picture) -> bytes:
    """What a picture is known by: its pixels and how they are tiled."""
    tiles, grid = picture
    digest = hashlib.blake2b(repr((tuple(grid), tuple(tiles.shape), tiles.dtype)).encode(), digest_size=16)
    digest.update(tiles.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.digest()
