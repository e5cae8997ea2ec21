"""What words mean, by WordNet: vectors in which `strangle` lies near `kill`, and `steal` near `embezzle`.

`join` sets beside them how words are used (vlm/guard/training/glove.py).

A word's features are the synsets that it stands for and all those above them, its lexicographer files, the synsets
that it is derived from, and the words of its glosses; each sense counts as often as WordNet's concordances found it.
The matrix is weighted by inverse document frequency and reduced by a singular value decomposition. No language model
has a part in it. WordNet 3.0 is copyright 2006 by Princeton University; its notice stands in LEXICON-LICENSE.txt
beside the vectors.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vlm.checkpoints.files import PARTIAL
from vlm.guard.int4 import dequantize, quantize
from vlm.guard.words import base_forms, split_words

FILE = Path(__file__).parent / "lexicon.safetensors"
POS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
UP, DERIVED, ALIKE = {"@", "@i"}, {"+", "\\", "<"}, {"&", "$", "^", ";c", "#m", "*"}
STOP = set("a an the of or and in to for with that by is as on from be it its at used are one which who was has have "
           "not some any etc you he she they his her their this being having into especially usually something someone "
           "somebody such".split())  # fmt: skip
WORD = re.compile(r"[a-z]{2,}")


def build(wordnet: Path, words: Iterable[str], dim: int = 48, count: int = 20_000) -> tuple[list[str], Tensor]:
    """Words and their vectors (n, dim) from a folder of WordNet's database files.

    Args:
        words: that are wanted whatever their frequency, where WordNet has them.
        count: of words altogether; the most frequent fill it up.

    Raises:
        ValueError: the folder holds no WordNet.
    """
    try:
        synsets = {name: _read(wordnet / f"data.{name}") for name in POS}
        counts = _counts(wordnet / "cntlist.rev")
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"{wordnet}: expected WordNet's database files (Debian: wordnet-base); {error!r:.80}"
        ) from None
    of = {letter: synsets[name] for name, letter in POS.items()} | {"s": synsets["adj"]}
    senses: dict[str, list] = defaultdict(list)  # lemma -> (pos, offset, how often)
    for name, letter in POS.items():
        for offset, synset in synsets[name].items():
            for lemma, key in synset["words"]:
                if WORD.fullmatch(lemma):
                    senses[lemma].append((letter, offset, counts.get(key, 0)))
    frequent = sorted(senses, key=lambda w: (-sum(n for *_, n in senses[w]), -len(senses[w]), w))
    wanted = list(dict.fromkeys([w for w in words if w in senses] + frequent))[:count]
    rows = [_features(senses[word], of) for word in wanted]
    document = Counter(f for row in rows for f in row)
    columns = {f: i for i, f in enumerate(sorted(f for f, n in document.items() if n > 1))}
    where, values = [], []
    for i, row in enumerate(rows):
        weighted = {f: math.sqrt(v) * math.log(len(rows) / document[f]) for f, v in row.items() if f in columns}
        norm = math.sqrt(sum(v * v for v in weighted.values())) or 1.0
        where += [(i, columns[f]) for f in weighted]
        values += [v / norm for v in weighted.values()]
    size = (len(rows), len(columns))
    matrix = torch.sparse_coo_tensor(
        torch.tensor(where).T, torch.tensor(values), size, check_invariants=True
    ).coalesce()
    torch.manual_seed(0)
    u, s, _ = torch.svd_lowrank(matrix, q=dim + 16, niter=3)
    vectors = (u * s.sqrt())[:, :dim]
    vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    rows_of = {word: i for i, word in enumerate(wanted)}
    irregular = {form: rows_of[base] for name in POS for form, base in _irregular(wordnet / f"{name}.exc")
                 if base in rows_of and form not in rows_of}  # fmt: skip
    return wanted + list(irregular), torch.cat([vectors, vectors[list(irregular.values())]])


def _features(senses: list, of: dict) -> dict[str, float]:
    """What one word is, over all its senses."""
    total = sum(n + 0.5 for *_, n in senses)
    found: dict[str, float] = defaultdict(float)
    for letter, offset, n in senses:
        share = (n + 0.5) / total
        _climb(found, of, letter, offset, share, 0.85)
        synset = of[letter][offset]
        found[f"file {synset['file']}"] += share
        gloss = [w for w in WORD.findall(synset["gloss"].split(";")[0]) if w not in STOP]
        for word in gloss:
            found[f"gloss {stem(word)}"] += share / len(gloss)
        for symbol, target, pos in synset["pointers"]:
            if symbol in DERIVED:
                _climb(found, of, pos, target, 0.4 * share, 0.85)
            elif symbol in ALIKE:
                _climb(found, of, pos, target, 0.3 * share, 0.7)
    return found


def _climb(found: dict[str, float], of: dict, letter: str, offset: str, weight: float, decay: float) -> None:
    """Add a synset and those above it, the farther the less."""
    level, seen = [(letter, offset)], set()
    while level and weight > 0.02:
        above = []
        for pos, at in level:
            if (pos, at) in seen or at not in of[pos]:
                continue
            seen.add((pos, at))
            found[f"{pos}{at}"] += weight
            above += [(p, target) for symbol, target, p in of[pos][at]["pointers"] if symbol in UP]
        level, weight = above, weight * decay


def _read(path: Path) -> dict[str, dict]:
    """Synsets of a data file by offset (wndb(5WN))."""
    found = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        data, _, gloss = line.partition(" | ")
        parts = data.split()
        n = int(parts[3], 16)
        kind = {"n": 1, "v": 2, "a": 3, "r": 4, "s": 5}[parts[2]]
        words = []
        for lemma, number in zip(parts[4 : 4 + 2 * n : 2], parts[5 : 4 + 2 * n : 2], strict=True):
            lemma = lemma.split("(")[0].lower()
            words.append((lemma, (lemma, kind, int(parts[1]), int(number, 16))))
        rest = parts[5 + 2 * n :]
        pointers = [(rest[4 * i], rest[4 * i + 1], rest[4 * i + 2]) for i in range(int(parts[4 + 2 * n]))]
        found[parts[0]] = {"file": parts[1], "words": words, "pointers": pointers, "gloss": gloss.lower()}
    return found


def _counts(path: Path) -> dict[tuple, int]:
    """How often each sense was found (cntlist(5WN))."""
    found = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split()
        lemma, _, rest = key.partition("%")
        kind, file, number, *_ = rest.split(":")
        found[lemma, int(kind), int(file), int(number)] = int(count)
    return found


def _irregular(path: Path) -> list[tuple[str, str]]:
    """Forms such as "stolen" and what they are forms of."""
    pairs = [line.split()[:2] for line in path.read_text(encoding="latin-1").splitlines() if line.strip()]
    return [(form, base) for form, base in pairs if WORD.fullmatch(form)]


def stem(word: str) -> str:
    """A crude stem, so that a gloss's "killing" meets "kill"."""
    for end in ("ing", "ed", "es", "s", "er", "ly"):
        if word.endswith(end) and len(word) - len(end) > 2:
            return word[: -len(end)]
    return word


def wanted_words(texts: Iterable[str]) -> list[str]:
    """The words of texts and what they may be forms of."""
    return sorted({form for text in texts for word in split_words(text) for form in base_forms(word)})


def join(meant: tuple[list[str], Tensor], used: tuple[list[str], Tensor]) -> tuple[list[str], Tensor]:
    """All words of two lexicons, and both vectors side by side (n, D + E); zeros where one has none for the word.

    What the first lacks it takes from the word that it may be an inflection of.
    """
    rows = [{word: i for i, word in enumerate(words)} for words, _ in (meant, used)]
    words = sorted(rows[0].keys() | rows[1].keys())
    base = [next((rows[0][w] for w in base_forms(word) if w in rows[0]), -1) for word in words]
    same = [rows[1].get(word, -1) for word in words]
    tables = [F.pad(vectors, (0, 0, 0, 1)) for _, vectors in (meant, used)]  # row -1 is zeros
    return words, torch.cat([tables[0][base], tables[1][same]], 1)


def spread(vectors: Tensor) -> Tensor:
    """Vectors (n, dim) turned alike at random, so that four bits hold each row well.

    Distances stay, and no few numbers of a row outweigh all others (so QuaRot turns activations, Ashkboos et al. 2024,
    arXiv 2404.00456).
    """
    drawn = torch.randn(vectors.shape[1], vectors.shape[1], generator=torch.Generator().manual_seed(0))
    return vectors @ torch.linalg.qr(drawn).Q


def write(words: list[str], vectors: Tensor, path: Path = FILE) -> None:
    """Vectors in 4 bits, and their words in the header."""
    quantized, scale = quantize(vectors)
    scratch = path.with_name(f"{path.name}{PARTIAL}0")
    save_file({"vectors": quantized, "scale": scale}, scratch, {"words": " ".join(words), "dim": str(vectors.shape[1])})
    scratch.chmod(0o644)  # safetensors makes it the owner's alone
    scratch.replace(path)


def read(path: Path = FILE) -> tuple[list[str], Tensor]:
    """What `write` wrote: words and vectors (n, dim)."""
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        words, rows = about.get("words", "").split(" "), file.get_slice("vectors").get_shape()[0]
        if "dim" not in about or len(words) != rows:
            raise ValueError(f"{path}: no lexicon as this version writes it; make it again: vlm guard lexicon")
        return words, dequantize(file.get_tensor("vectors"), file.get_tensor("scale"), int(about["dim"]))
