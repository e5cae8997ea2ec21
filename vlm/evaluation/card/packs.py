"""Pictures and questions of other people on the card, zero-shot: each pack with its three blind baselines."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm.evaluation.models import Ours
from vlm.evaluation.runner import BLIND, Plan, commit, make_plan, predict
from vlm.evaluation.scoring import score_folder

NAMES = {"question": "no_picture", "shuffled": "wrong_picture", "majority": "majority"}


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A data set that the model has never seen.

    Attributes:
        file: its name in the folder of packs.
        task, metric, variant: of vlm.evaluation; the task's own metric where None.
        types: type of question -> its name on the card; others are not asked.
        goals: name on the card -> least share aimed at.
        beside: what else is known of it, from its makers or others.
        ask: type -> the words it is asked in; as the data has them where absent.
        form: what is put around a question: what makes a question of a statement in training.
    """

    about: str
    file: str
    task: str
    types: Mapping[str, str]
    goals: Mapping[str, float]
    scored: str
    beside: str = ""
    metric: str | None = None
    variant: str | None = None
    ask: Mapping[str, str] = field(default_factory=dict)
    form: str = "{}"


PACKS: dict[str, Pack] = {
    "shapes": Pack(
        about="SHAPES (Andreas 2016), 30 x 30 px grids, yes/no questions", file="shapes_val.zip", task="shapes",
        types={"val": "SHAPES val"}, goals={"SHAPES val": 0.90}, scored="the first word says the yes or no",
    ),
    "nlvr": Pack(
        about="NLVR dev (Suhr 2017), statements that people wrote about drawn boxes", file="nlvr_dev.zip", task="nlvr",
        types={"": "NLVR dev"}, goals={"NLVR dev": 0.66}, form="Is it true that: {}",
        scored='asked "Is it true that: ..."; the first word says the yes or no',
        beside="trained on NLVR itself: CNN+RNN 56.6, NMN 63.1, CNN-BiATT 66.9 on dev",
    ),
    "chartqa": Pack(
        about="ChartQA (Masry 2022), half of test: charts of Statista, Pew, OECD and Our World in Data",
        file="chartqa_a.zip", task="chartqa",
        types={"human": "ChartQA, people's questions", "augmented": "ChartQA, generated questions"},
        goals={"ChartQA, people's questions": 0.10, "ChartQA, generated questions": 0.25},
        scored="relaxed accuracy as published: numbers within 5 %, other texts equal",
    ),
    "sroie": Pack(
        about="SROIE (Huang 2019), half of the scanned receipts", file="sroie_a.zip", task="sroie",
        types={"total": "SROIE, total", "date": "SROIE, date"}, goals={"SROIE, total": 0.25, "SROIE, date": 0.25},
        scored="the very text of the key", metric="exact", variant="strict",
        ask={"total": "What is the total?", "date": "What is the date?"},
    ),
}  # fmt: skip


def make(pack: Pack, path: Path, blind: str | None, limit: int | None = None) -> Plan:
    """What is asked of a pack, in the words that it was trained with: nothing around a question but the form."""
    plan = make_plan(pack.task, path, prompt="bare", metric=pack.metric, variant=pack.variant, blind=blind)
    asked = [i for i in plan.items if i.type in pack.types]
    items = [i.replace(question=pack.form.format(pack.ask.get(i.type, i.question))) for i in asked]
    if not items:
        raise ValueError(f"{path}: holds no questions of the types {', '.join(map(repr, pack.types))}")
    return dataclasses.replace(plan, items=items[:limit], settings={"limit": limit, "seed": None})


def measure(
    model: Ours, settings: dict[str, Any], path: Path, work: Path, *, batch_size: int = 64, progress: bool = True
) -> dict[str, Any]:  # fmt: skip
    """One pack: a row for each of its types.

    Args:
        settings: pack and limit.
        path: its file.
        work: folder of the predictions; a measurement that was cut off goes on from there.
    """
    pack = PACKS[settings["pack"]]
    folder = work / "-".join((model.identity["weights"], commit() or "installed", str(settings["limit"] or "all")))
    folder /= settings["pack"]
    found = {}
    for kind in (None, *BLIND):
        place = folder if kind is None else folder / f"blind-{kind}"
        plan = make(pack, path, kind, settings["limit"])
        predict(plan, model, place, batch_size=batch_size, progress=progress)
        found[kind] = by_type(score_folder(place), pack)
    rows = []
    for name, summary in found[None].items():
        blind = {NAMES[kind]: round(found[kind][name]["score"], 4) for kind in BLIND}
        rows.append({
            "name": name, "n": summary["n"], "accuracy": round(summary["score"], 4), "low": round(summary["low"], 4),
            "high": round(summary["high"], 4), **blind,
        })  # fmt: skip
    return {"rows": rows}


def by_type(summary: dict[str, Any], pack: Pack) -> dict[str, dict[str, Any]]:
    """Name on the card -> score, interval and n."""
    kinds = summary["types"] or [{**summary, "type": next(iter(pack.types))}]
    return {pack.types[row["type"]]: row for row in kinds}
