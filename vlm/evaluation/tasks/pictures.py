"""Captions (COCO, NoCaps, Flickr30k), GQA and POPE: pictures from photo collections."""

import re
from collections import defaultdict
from typing import Any

from vlm.evaluation.tasks import neutral
from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item


def load_captions(files: Files) -> list[Item]:
    """One item a picture with all its captions: COCO's layout, Karpathy's `dataset_*.json`, or the neutral form."""
    if neutral.rows(files):
        return neutral.load(files)
    if splits := files.find("dataset_*.json"):
        rows = [r for r in files.json(splits[0], "images") if r.get("split") == "test"]
        return [
            _caption(files, r.get("cocoid", r["filename"]), r["filename"], [s["raw"] for s in r["sentences"]])
            for r in rows
        ]
    name = files.one("captions_val*.json", "*captions*.json", "nocaps*.json")
    captions: dict[Any, list[str]] = defaultdict(list)
    for row in files.json(name, "annotations"):
        captions[row["image_id"]].append(row["caption"])
    images = files.json(name, "images")
    if unknown := captions.keys() - {i["id"] for i in images}:
        raise ValueError(
            f"{name}: captions of {len(unknown)} pictures that are not in its images (such as {min(unknown)})"
        )
    return [_caption(files, i["id"], i["file_name"], captions[i["id"]], i.get("domain", "")) for i in images]


def _caption(files: Files, name: Any, file: str, captions: list[str], kind: str = "") -> Item:
    return Item(str(name), neutral.CAPTION, (files.picture(file),), tuple(captions), type=kind)


def load_gqa(files: Files) -> list[Item]:
    """Items of `testdev_balanced_questions.json`: an object by question id."""
    questions = files.json(
        files.one("testdev_balanced_questions.json", "*_balanced_questions.json", "*_questions.json")
    )
    return [
        Item(
            id=str(name),
            question=row["question"],
            images=(files.picture(f"{row['imageId']}.jpg"),),
            answers=(row["answer"],) if row.get("answer") else (),
            type=(row.get("types") or {}).get("structural", ""),
            metadata={"semantic": (row.get("types") or {}).get("semantic", "")},
        )
        for name, row in questions.items()
    ]


def load_pope(files: Files) -> list[Item]:
    """Items of `coco_pope_random.json` (JSONL), `..._popular`, `..._adversarial`: the file is the type of a row."""
    found = files.find("*pope*.json", "*pope*.jsonl") or [files.one("*pope*.json", "index.jsonl")]
    items = []
    for name in found:
        kind = re.search("random|popular|adversarial", name)
        for number, row in enumerate(files.lines(name), 1):
            items.append(
                Item(
                    id=f"{kind.group()}-{row['question_id']}" if kind else str(row["question_id"]),
                    question=row["text"],
                    images=(files.picture(row["image"]),),
                    answers=(_yes_no(row["label"], f"{name} line {number}"),),
                    type=kind.group() if kind else "",
                )
            )
    return items


def _yes_no(label: str, where: str) -> str:
    if str(label).lower() not in ("yes", "no"):
        raise ValueError(f"{where}: label {label!r}, expected yes or no")
    return str(label).lower()
