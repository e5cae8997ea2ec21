"""TextVQA, DocVQA, InfoVQA: one JSON with `data`; ChartQA: lists of `imgname, query, label`; SROIE: receipts."""

from vlm.evaluation.tasks import neutral
from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item

FIELDS = ("company", "date", "address", "total")


def load_textvqa(files: Files) -> list[Item]:
    """Items of `TextVQA_0.5.1_val.json`: ten answers a question."""
    return [
        Item(
            id=str(row["question_id"]),
            question=row["question"],
            images=(files.picture(f"{row['image_id']}.jpg"),),
            answers=tuple(row.get("answers", ())),
        )
        for row in files.json(files.one("TextVQA*.json"), "data")
    ]


def load_docvqa(files: Files) -> list[Item]:
    """Items of DocVQA's or InfographicVQA's JSON (`val_v1.0*.json`, `infographicsVQA_val*.json`)."""
    name = files.one("val_v*.json", "test_v*.json", "train_v*.json", "infographicsVQA*.json")
    return [
        Item(
            id=str(row["questionId"]),
            question=row["question"],
            images=(files.picture(row.get("image") or row["image_local_name"]),),
            answers=tuple(row.get("answers", ())),
            type=", ".join(row.get("question_types") or []),
        )
        for row in files.json(name, "data")
    ]


def load_chartqa(files: Files) -> list[Item]:
    """Items of `test_human.json` and `test_augmented.json`, or a pack whose rows say `human`."""
    if rows := neutral.rows(files):
        kinds = {True: "human", False: "augmented"}
        return [
            neutral.to_item(files, {"type": kinds[row["human"]], **row} if "human" in row else row, number)
            for number, row in enumerate(rows, 1)
        ]
    found = files.find("test_human.json", "test_augmented.json") or [files.one("*_human.json", "*_augmented.json")]
    return [
        Item(
            id=f"{name.rsplit('/', 1)[-1].removesuffix('.json')}-{number}",
            question=row["query"],
            images=(files.picture(row["imgname"]),),
            answers=(str(row["label"]),),
            type="human" if "human" in name else "augmented",
        )
        for name in found
        for number, row in enumerate(files.json(name))
    ]


def load_sroie(files: Files) -> list[Item]:
    """One question per field of a receipt: a pack whose rows have `fields`, or the official `key/*.json`."""
    if rows := neutral.rows(files):
        receipts = [(str(r["id"]), neutral.pictures(files, r), r.get("fields") or {}) for r in rows]
    else:
        keys = [n for n in files.find("*.json") if n.rsplit("/", 1)[-1][:1] in "X0123456789"]
        if not keys:
            raise ValueError(f"{files.path}: found no receipts; expected key/*.json beside img/, or index.jsonl")
        stems = {n: n.rsplit("/", 1)[-1].removesuffix(".json") for n in keys}
        receipts = [(stems[n], (files.picture(stems[n]),), files.json(n)) for n in keys]
    return [
        Item(id=f"{name}-{field}", question=f"What is the {field} on the receipt?", images=images,
             answers=(fields[field],), type=field)
        for name, images, fields in receipts
        for field in FIELDS
        if fields.get(field)
    ]  # fmt: skip
