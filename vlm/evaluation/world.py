"""Accuracy on the procedural worlds and on packs of yes/no questions that others drew.

Every accuracy stands beside two blind ones: the same model given the picture of another question, and the majority
answer of the family. Intervals are Wilson's, 95 %.
"""

import io
import json
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from vlm.api import VLM
from vlm.data.worlds import sample
from vlm.evaluation.metrics.stats import wilson

FEW = ("0", "1", "2", "3", "4", "5")
SPLITS = {
    "val": "new pictures, phrasings as in training",
    "test-combos": "new pictures; every question is about a pair of colour and shape that training never showed",
    "test": "new pictures, phrasings held out from training",
}
"""What is new in the splits of every world; charts have "test-style" too."""


def score(rows: list[dict], said: list[str], blind: list[str]) -> dict[str, dict[str, Any]]:
    """Exact-match accuracy by family; `all` is over every row, `count to 5` over the counts up to five."""
    groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for row, a, b in zip(rows, said, blind, strict=True):
        entry = (row["answer"].lower(), a.lower().strip(" ."), b.lower().strip(" ."))
        groups[row["family"]].append(entry)
        groups["all"].append(entry)
        if row["family"] == "count" and row["answer"] in FEW:
            groups["count to 5"].append(entry)
    table = {}
    for family, entries in sorted(groups.items()):
        n, right = len(entries), sum(answer == a for answer, a, _ in entries)
        low, high = wilson(right, n)
        table[family] = {
            "n": n,
            "accuracy": round(right / n, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "blind": round(sum(answer == b for answer, _, b in entries) / n, 4),
            "majority": round(max(Counter(answer for answer, *_ in entries).values()) / n, 4),
        }
    return table


def ask_all(model: VLM, rows: list[dict], batch_size: int, progress: bool = True) -> tuple[list[str], list[str]]:
    """Answers with the right pictures and, blind, with those of the question half-way round the list."""
    out = []
    for shift, name in ((0, "answers"), (len(rows) // 2, "blind")):
        said: list[str] = []
        for i in tqdm(range(0, len(rows), batch_size), desc=name, disable=not progress):
            batch = rows[i : i + batch_size]
            images = [rows[(i + j + shift) % len(rows)]["images"] for j in range(len(batch))]
            said += model.answer(images, [r["question"] for r in batch], max_new_tokens=16, batch_size=batch_size)
        out.append(said)
    return out[0], out[1]


def evaluate_world(
    model: VLM, *, n: int = 2000, seed: int = 1, split: str = "test", mixture: dict[str, float] | None = None,
    batch_size: int = 64, emoji: str | None = None, progress: bool = True,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Ask n questions about held-out pictures, one or two per picture, and `score` the answers by family."""
    rows: list[dict] = []
    index = 0
    while len(rows) < n:
        drawn = sample(
            index, seed=seed, mixture=mixture or {"scenes": 1.0}, size=model.model.config.image.tile_size, split=split,
            n_questions=2, emoji_path=emoji,
        )  # fmt: skip
        rows += [
            {"images": drawn.pictures, "question": q.text, "answer": q.answer, "family": q.family}
            for q in drawn.questions
        ]
        index += 1
    return score(rows[:n], *ask_all(model, rows[:n], batch_size, progress))


def evaluate_pack(
    model: VLM, path: str | Path, *, limit: int | None = None, batch_size: int = 64, progress: bool = True
) -> dict:
    """Zero-shot yes/no accuracy on a zip of NLVR sentences or SHAPES arrays (`index.jsonl` with pictures or arrays)."""
    rows = []
    with zipfile.ZipFile(path) as pack:
        arrays: dict[str, Any] = {}
        for line in pack.read("index.jsonl").decode().splitlines()[:limit]:
            item = json.loads(line)
            answer = str(item.get("label", item.get("answer"))).lower()
            rows.append({
                "images": (_picture(pack, item, arrays),),
                "question": item.get("question") or item["sentence"],
                "answer": {"true": "yes", "false": "no"}.get(answer, answer),
                "family": Path(path).stem,
            })  # fmt: skip
    said, blind = ([_yes_no(a) for a in s] for s in ask_all(model, rows, batch_size, progress))
    return score(rows, said, blind)[Path(path).stem]


def _yes_no(text: str) -> str:
    word = text.lower().strip(" .")
    return {"true": "yes", "false": "no"}.get(word, word)


def _picture(pack: zipfile.ZipFile, item: dict, arrays: dict[str, Any]) -> Image.Image:
    """A picture file, or a row of a BGR uint8 array."""
    import numpy as np

    from vlm.image import open_image

    if "array" not in item:
        return open_image(pack.read(f"images/{item['images'][0]}"))
    if item["array"] not in arrays:
        arrays[item["array"]] = np.load(io.BytesIO(pack.read(item["array"])), allow_pickle=False)
    return Image.fromarray(np.ascontiguousarray(arrays[item["array"]][item["row"]][..., ::-1]))


def to_markdown(table: dict[str, dict[str, Any]]) -> str:
    """A table for a model card."""
    lines = ["| family | n | accuracy | 95 % | wrong picture | majority |", "|---|---|---|---|---|---|"]
    for family, r in table.items():
        interval = f"{r['low']:.1%} - {r['high']:.1%}"
        cells = [family, str(r["n"]), f"{r['accuracy']:.1%}", interval, f"{r['blind']:.1%}", f"{r['majority']:.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
