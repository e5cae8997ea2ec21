"""Whether evaluation data is in the training data: pictures by exact and perceptual hashes, sentences by their words.

Notable here:
- Exact: SHA-256 of the RGB pixels at 64 x 64. Perceptual: dHash (the sign of 8 x 8 horizontal differences) and pHash
  (the sign of 64 low frequencies, Zauner 2010), 64 bits each; near is NEAR bits or fewer in both for the same picture.
  Hashes see grey alone: of what is near, those count as nearly equal whose colours differ by less than ALIKE too.
- A distance says nothing by itself. Beside it stands the distance of each picture to the nearest other picture of its
  own set, which has nothing to do with training.
- Sentences are equal when their words are, near when they share most pairs of neighbouring words (Dice's coefficient).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CANONICAL = 64  # px of the side at which pixels are compared exactly
THUMB = 16  # px of the side at which colours are compared
NEAR = 4  # of 64 bits
ALIKE = 8.0  # root mean square of the difference of thumbs, of 255
NEAR_WORDS = 0.8  # Dice's coefficient of pairs of words
WORD = re.compile(r"[a-z0-9]+")

_CUT = 32
_LOW = 8
_COSINES = np.cos(np.pi / _CUT * np.outer(np.arange(_LOW), np.arange(_CUT) + 0.5)).astype(np.float32)  # DCT-II


def pixel_hash(image: Image.Image) -> bytes:
    """SHA-256 of a picture's RGB pixels at the canonical size."""
    return hashlib.sha256(
        image.convert("RGB").resize((CANONICAL, CANONICAL), Image.Resampling.BOX).tobytes()
    ).digest()  # fmt: skip


def difference_hash(image: Image.Image) -> int:
    """dHash, 64 bits: whether each of 8 x 8 cells is brighter than the one to its left."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), dtype=np.int16)
    return _bits(grey[:, 1:] > grey[:, :-1])


def frequency_hash(image: Image.Image) -> int:
    """pHash, 64 bits: which of the 8 x 8 lowest frequencies of a 32 x 32 picture are above their median."""
    grey = np.asarray(image.convert("L").resize((_CUT, _CUT), Image.Resampling.BILINEAR), dtype=np.float32)
    low = np.round(_COSINES @ grey @ _COSINES.T)  # what a flat picture leaves of rounding is no frequency
    return _bits(low > np.median(low))


def _bits(mask: np.ndarray) -> int:
    return int.from_bytes(np.packbits(mask).tobytes(), "big")


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits that differ: hashes (n,) and (m,), uint64 -> (n, m)."""
    return np.bitwise_count(a[:, None] ^ b[None, :])


@dataclass
class Pictures:
    """Hashes of pictures, as many of each kind as there are pictures."""

    exact: list[bytes] = field(default_factory=list)
    difference: list[int] = field(default_factory=list)
    frequency: list[int] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)  # (THUMB, THUMB, 3) uint8
    asked: list[frozenset[str]] = field(default_factory=list)  # plain sentences about each picture

    def add(self, image: Image.Image, sentences: Iterable[str] = ()) -> None:
        self.exact.append(pixel_hash(image))
        self.difference.append(difference_hash(image))
        self.frequency.append(frequency_hash(image))
        self.thumbs.append(np.asarray(image.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX)))
        self.asked.append(frozenset(plain(s) for s in sentences))

    def __len__(self) -> int:
        return len(self.exact)

    def hashes(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.difference, dtype=np.uint64), np.array(self.frequency, dtype=np.uint64)


def compare_pictures(held: Pictures, drawn: Pictures) -> dict[str, Any]:
    """How near the pictures of an evaluation set come to drawn ones, and to one another.

    Returns counts of held pictures: `equal` to a drawn one; `near` one; `nearly_equal`, in colour too; `with_question`,
    nearly equal to one that was asked the same; and of `difference` and `frequency` the distances to the nearest drawn
    picture and, as `itself`, to the nearest other one of the set: least, 5 % quantile, median.
    """
    if not len(held) or not len(drawn):
        raise ValueError(f"found {len(held)} and {len(drawn)} pictures to compare; expected some of both")
    mine, theirs = held.hashes(), drawn.hashes()
    known = set(drawn.exact)
    near, alike, both = set[int](), set[int](), set[int]()
    nearest: dict[str, list[int]] = defaultdict(list)
    for i in range(len(held)):
        gaps = [distances(a[i : i + 1], b)[0] for a, b in zip(mine, theirs, strict=True)]
        own = [distances(a[i : i + 1], a)[0] for a in mine]
        for name, gap, other in zip(("difference", "frequency"), gaps, own, strict=True):
            nearest[name].append(int(gap.min()))
            if len(held) > 1:
                nearest[f"{name} itself"].append(int(np.delete(other, i).min()))
        for j in np.flatnonzero((gaps[0] <= NEAR) & (gaps[1] <= NEAR)):
            near.add(i)
            off = held.thumbs[i].astype(np.float32) - drawn.thumbs[j].astype(np.float32)
            if float(np.sqrt(np.mean(off**2))) < ALIKE:
                alike.add(i)
                if held.asked[i] & drawn.asked[j]:
                    both.add(i)
    return {
        "pictures": len(held), "drawn": len(drawn),
        "equal": sum(h in known for h in held.exact), "near": len(near), "nearly_equal": len(alike),
        "with_question": len(both),
        **{name: {"": quantiles(nearest[name]), "itself": quantiles(nearest[f"{name} itself"])}
           for name in ("difference", "frequency")},
    }  # fmt: skip


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The least, the 5 % quantile and the median of some distances."""
    if not values:
        return {}
    least, low, median = np.quantile(values, (0.0, 0.05, 0.5))
    return {"least": round(float(least), 3), "5%": round(float(low), 3), "median": round(float(median), 3)}


def plain(sentence: str) -> str:
    """The words of a sentence, without case and punctuation."""
    return " ".join(WORD.findall(sentence.lower()))


class Sentences:
    """Finds of many sentences those that share the most pairs of neighbouring words with one of a fixed set."""

    def __init__(self, sentences: Iterable[str]):
        self.texts = sorted({plain(s) for s in sentences} - {""})
        postings: dict[tuple[str, str], list[int]] = defaultdict(list)
        pairs = [_pairs(text) for text in self.texts]
        for i, found in enumerate(pairs):
            for pair in found:
                postings[pair].append(i)
        self.sizes = np.array([len(p) for p in pairs])
        self.postings = {pair: np.array(rows) for pair, rows in postings.items()}

    def similarity(self, text: str) -> np.ndarray:
        """Dice's coefficient of a plain sentence with each of the set, (n,)."""
        found = _pairs(text)
        rows = [self.postings[p] for p in found if p in self.postings]
        shared = np.bincount(np.concatenate(rows), minlength=len(self.texts)) if rows else np.zeros(len(self.texts))
        return 2 * shared / (self.sizes + len(found))


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    words = ["", *text.split(), ""]
    return frozenset(zip(words, words[1:], strict=False))


def compare_sentences(held: Sequence[str], generated: Iterable[str]) -> dict[str, Any]:
    """How near the sentences of an evaluation set, one per question, come to generated ones, and to one another.

    Returns `sentences` (different ones), `questions`, `equal` and `near` sentences, `equal_questions` and
    `near_questions` (rows with such a sentence), and the similarity to the nearest: generated, and other of the set.
    """
    index = Sentences(held)
    if not index.texts:
        raise ValueError("found no sentences to compare")
    made = {plain(s) for s in generated} - {""}
    best = np.zeros(len(index.texts))
    for text in made:
        np.maximum(best, index.similarity(text), out=best)
    own = np.zeros(len(index.texts))
    for i, text in enumerate(index.texts):
        similar = index.similarity(text)
        similar[i] = 0.0
        own[i] = similar.max()
    equal = {text for text in index.texts if text in made}
    near = {text for text, value in zip(index.texts, best, strict=True) if value >= NEAR_WORDS} | equal
    rows = [plain(s) for s in held]
    return {
        "sentences": len(index.texts), "questions": len(held), "generated": len(made),
        "equal": len(equal), "near": len(near),
        "equal_questions": sum(r in equal for r in rows), "near_questions": sum(r in near for r in rows),
        "similarity": {"median": round(float(np.median(best)), 3), "itself": round(float(np.median(own)), 3)},
    }  # fmt: skip


SENTENCES = ("nlvr_dev.zip", "shapes_val.zip")  # packs whose questions are compared too
PACKS = (*SENTENCES, "chartqa_a.zip", "sroie_a.zip", "flickr8k_val.zip", "guard_figstep_a.zip")
NATIVE = {"shapes": 30, "nlvr": 100}  # px: as published, so that an equal picture would be equal bit for bit
SIZES = (96, 192)


def read_pack(path: Path) -> Iterator[tuple[str, Image.Image, str]]:
    """Each row's (name of the picture, picture, question or "") of a zip with index.jsonl; what cannot be read is left
    out."""
    from vlm.evaluation.tasks import neutral
    from vlm.evaluation.tasks.files import Files
    from vlm.image import ImageError

    files = Files(path)
    found = neutral.rows(files)
    if found is None:
        raise ValueError(f"{path}: found no {neutral.INDEX}; expected a pack with images/ and {neutral.INDEX}")
    for row in found:
        for picture in neutral.pictures(files, row):
            try:
                yield picture.name, picture.open(), str(row.get("question") or row.get("sentence") or "")
            except ImageError:
                continue


def check(
    data: str | Path, mixture: dict[str, float], *, n: int = 20_000, seed: int = 1, emoji: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Draw training pictures and compare them and their sentences with the evaluation packs of a folder.

    Args:
        data: folder of PACKS; those that it lacks are left out.
        mixture: world -> share, as in training.
        n, seed: how many pictures, and of which series of the split "train".

    Returns: pack -> {"pictures": ..., "sentences": ... or None}, and under "" what was drawn.
    """
    from tqdm import tqdm

    from vlm.data.worlds import sample

    packs = [Path(data) / name for name in PACKS if (Path(data) / name).is_file()]
    if not packs:
        raise ValueError(f"{data}: holds none of {', '.join(PACKS)}")
    drawn, generated = Pictures(), set[str]()
    worlds, total = sorted(mixture), sum(mixture.values())
    for world in worlds:
        for i in tqdm(range(round(n * mixture[world] / total)), desc=f"drawing {world}", disable=not progress):
            made = sample(
                i, seed=seed, mixture={world: 1.0}, size=NATIVE.get(world, SIZES[i % 2]), split="train",
                n_questions=8, emoji_path=emoji,
            )  # fmt: skip
            texts = [*made.captions, *(q.text for q in made.questions)]
            generated.update(map(plain, texts))
            for image in made.pictures:
                drawn.add(image, texts)
    out: dict[str, Any] = {"": {"pictures": len(drawn), "sentences": len(generated), "seed": seed}}
    for path in packs:
        held, asked, pictures = Pictures(), list[str](), dict[str, tuple[Image.Image, list[str]]]()
        for name, image, question in read_pack(path):
            pictures.setdefault(name, (image, []))[1].append(question)
            asked.append(question)
        for image, questions in pictures.values():
            held.add(image, filter(None, questions))
        words = compare_sentences(asked, generated) if path.name in SENTENCES else None
        out[path.stem] = {"pictures": compare_pictures(held, drawn), "sentences": words}
    return out
