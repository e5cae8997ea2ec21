"""What models are measured on: name -> how its files are read, what is asked, how answers are scored.

Data is read as its makers distribute it, or in the neutral form (`tasks/neutral.py`); nothing is downloaded.
"""

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vlm.evaluation.tasks import choice, documents, drawn, neutral, pictures, vqa
from vlm.evaluation.tasks.files import Files
from vlm.evaluation.tasks.item import Item
from vlm.evaluation.tasks.submissions import choices, coco, docvqa, gqa, letters, pope
from vlm.evaluation.tasks.submissions import vqa as vqa_form


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark.

    Attributes:
        about: what it is, for the list.
        load: files -> items, in the data's order.
        prompt: a name of prompts.yaml.
        metric: a name of vlm.evaluation.metrics.METRICS; None where the rows tell.
        variant: of the metric; None for its default.
        submission: scored rows -> what the benchmark's server takes.
    """

    about: str
    load: Callable[[Files], list[Item]]
    prompt: str
    metric: str | None
    variant: str | None = None
    submission: Callable[[list[dict[str, Any]]], Any] | None = None


TASKS: dict[str, Task] = {
    "vqav2": Task(about="VQAv2 (Goyal 2017)", load=vqa.load, prompt="short", metric="vqa", submission=vqa_form),
    "okvqa": Task(about="OK-VQA (Marino 2019)", load=vqa.load, prompt="short", metric="vqa", submission=vqa_form),
    "vizwiz": Task(about="VizWiz-VQA (Gurari 2018)", load=vqa.load_vizwiz, prompt="unanswerable", metric="vqa"),
    "textvqa": Task(about="TextVQA 0.5.1 (Singh 2019)", load=documents.load_textvqa, prompt="short", metric="textvqa",
                    submission=vqa_form),
    "docvqa": Task(about="DocVQA (Mathew 2021)", load=documents.load_docvqa, prompt="exact", metric="anls",
                   submission=docvqa),
    "infovqa": Task(about="InfographicVQA (Mathew 2022)", load=documents.load_docvqa, prompt="exact", metric="anls",
                    submission=docvqa),
    "chartqa": Task(about="ChartQA (Masry 2022)", load=documents.load_chartqa, prompt="short", metric="relaxed"),
    "sroie": Task(about="SROIE receipts, four fields (Huang 2019)", load=documents.load_sroie, prompt="exact",
                  metric="anls"),
    "gqa": Task(about="GQA testdev balanced (Hudson 2019)", load=pictures.load_gqa, prompt="short", metric="gqa",
                submission=gqa),
    "scienceqa": Task(about="ScienceQA test (Lu 2022)", load=choice.load_scienceqa, prompt="letter",
                      metric="scienceqa", submission=choices),
    "ai2d": Task(about="AI2D diagrams (Kembhavi 2016)", load=choice.load_ai2d, prompt="letter", metric="choice"),
    "mmmu": Task(about="MMMU validation (Yue 2024)", load=choice.load_mmmu, prompt="letter", metric="mmmu",
                 submission=letters),
    "pope": Task(about="POPE object hallucination (Li 2023)", load=pictures.load_pope, prompt="yes-no", metric="pope",
                 submission=pope),
    "coco-caption": Task(about="COCO captions (Chen 2015)", load=pictures.load_captions, prompt="caption",
                         metric="cider", submission=coco),
    "nocaps": Task(about="NoCaps (Agrawal 2019)", load=pictures.load_captions, prompt="caption", metric="cider",
                   submission=coco),
    "flickr30k": Task(about="Flickr30k captions (Young 2014)", load=pictures.load_captions, prompt="caption",
                      metric="cider"),
    "flickr8k": Task(about="Flickr8k captions (Hodosh 2013)", load=pictures.load_captions, prompt="caption",
                     metric="cider"),
    "nlvr": Task(about="NLVR drawn boxes (Suhr 2017)", load=drawn.load_nlvr, prompt="statement", metric="nlvr"),
    "shapes": Task(about="SHAPES (Andreas 2016)", load=drawn.load_shapes, prompt="yes-no", metric="yes_no"),
    "daquar": Task(about="DAQUAR indoor photos (Malinowski 2014)", load=drawn.load_daquar, prompt="short",
                   metric="exact", variant="ignore_case_punctuation"),
    "own": Task(about="your own data: images/ and index.jsonl", load=neutral.load, prompt="short", metric=None),
}  # fmt: skip


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: unknown, with the nearest name.
    """
    if name not in TASKS:
        near = get_close_matches(name.lower(), TASKS, 1)
        raise ValueError(
            f"unknown task {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"expected {', '.join(TASKS)}")
        )
    return TASKS[name]


def load_items(name: str, path: str | Path) -> list[Item]:
    """Items of a task's data.

    Raises:
        ValueError: a missing file, rows that miss a field, ids that stand twice, no picture at all.
    """
    task = find_task(name)
    try:
        items = task.load(Files(path))
    except (zipfile.BadZipFile, RuntimeError) as error:  # the latter: encrypted
        raise ValueError(f"{path}: this zip cannot be read ({' '.join(str(error).split())}); get it again") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"a field {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: not in the form of {name}: missing or odd {what}; see `vlm eval-tasks`") from None
    if not items:
        raise ValueError(f"{path}: holds no questions")
    twice = [i for i, n in Counter(item.id for item in items).items() if n > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} ids stand twice (such as {twice[0]}); each row needs its own id")
    wanted = [image for item in items for image in item.images]
    if wanted and all(image.missing for image in wanted):
        raise ValueError(f"{path}: holds none of the {len(wanted)} pictures, such as {wanted[0].name}; put them there")
    return items


def infer_metric(items: list[Item]) -> str:
    """The metric that rows of the neutral form call for: by choices, captions, ten answers, or one."""
    kinds = {
        "choice"
        if i.choices
        else "cider"
        if i.question == neutral.CAPTION
        else "vqa"
        if len(i.answers) > 8
        else "exact"
        for i in items
    }
    if len(kinds) > 1:
        raise ValueError(f"rows call for {' and '.join(sorted(kinds))}; split the data, or choose one: --metric NAME")
    return kinds.pop()
