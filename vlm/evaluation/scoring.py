"""Predicted rows -> scores, with the counts that a score must not hide: errors, unparsed and cut-off answers."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vlm.checkpoints.files import write_json, write_text
from vlm.evaluation.folder import RunFolder
from vlm.evaluation.metrics import CHOICE_METRICS, METRICS
from vlm.evaluation.metrics.captions import caption_scores
from vlm.evaluation.metrics.pope import pope_summary
from vlm.evaluation.metrics.stats import mean_score, wilson

Rows = list[dict[str, Any]]
CAPTIONS = {"cider": "CIDEr", "rouge-l": "ROUGE-L", "bleu-4": "BLEU-4"}  # scored over a whole set of pictures
OF_CAPTIONS = "{} over the words of PTB's tokenizer; CIDEr's rare words are those of this very set"


def find_metric(name: str, variant: str | None) -> tuple[str, str]:
    """(variant, description) of a metric, tried once, so that a mistake shows before any question is asked.

    Raises:
        ValueError: unknown metric or variant, with the nearest one.
        ImportError: it needs a package that is not there.
    """
    if name in CAPTIONS:
        if variant not in (None, "all"):
            raise ValueError(f"metric {name} has no variant {variant!r}; leave --variant out")
        return "all", OF_CAPTIONS.format(CAPTIONS[name])
    if name not in METRICS:
        near = get_close_matches(name, [*METRICS, *CAPTIONS], 1)
        expected = f"did you mean {near[0]!r}?" if near else f"expected {', '.join([*METRICS, *CAPTIONS])}"
        raise ValueError(f"unknown metric {name!r}; {expected}")
    _, default, about = METRICS[name]
    try:
        _call(name, variant or default, "", ["yes"], ["no", "yes"])
    except LookupError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return variant or default, about


def _call(name: str, variant: str, prediction: str, answers: Sequence[str], choices: Sequence[str]) -> float | None:
    function = METRICS[name][0]
    if name in CHOICE_METRICS:
        return function(prediction, answers, choices, variant=variant)
    return function(prediction, answers, variant=variant)


def score_row(row: dict[str, Any], metric: str, variant: str | None) -> dict[str, float | None]:
    """The score of one sample: 0 for an error; None if unparsed, without answers, or scored over the whole set."""
    if not row["answers"] or metric in CAPTIONS:
        return {"score": None}
    if row["error"] is not None:
        return {"score": 0.0}
    if metric in CHOICE_METRICS and metric != "mmmu" and not row["choices"]:
        raise ValueError(f"question {row['id']} has no choices, which metric {metric} needs; choose another --metric")
    return {"score": _call(metric, variant or METRICS[metric][1], row["prediction"], row["answers"], row["choices"])}


def score_folder(output: str | Path, metric: str | None = None, variant: str | None = None) -> dict[str, Any]:
    """Merge the rows of all processes in the data's order, score them, write scores.jsonl and scores.json.

    Raises:
        ValueError: questions that nobody has answered yet; an unknown metric.
    """
    folder = RunFolder(output)
    manifest, found = folder.manifest, folder.rows()
    if missing := manifest["data"]["items"] - len(found):
        raise ValueError(
            f"{output}: {missing} of {manifest['data']['items']} questions are not answered yet; "
            "run the command that began it again, or its other shards"
        )
    if metric is None:
        metric, variant = manifest["scoring"]["metric"], variant or manifest["scoring"]["variant"]
    variant, about = find_metric(metric, variant)
    rows = sorted(found.values(), key=lambda row: row["place"])
    extra: dict[str, str] = {}
    if metric in CAPTIONS:
        extra = score_captions(rows, metric)
    else:
        rows = [{**row, **score_row(row, metric, variant)} for row in rows]
    summary = {"metric": metric, "variant": variant, "about": about, **summarise(rows, metric), "extra": extra}
    if summary["score"] is not None and metric not in CAPTIONS:
        summary["extra"] = extras(rows, metric, variant, summary)
    if metric in CAPTIONS and (manifest["limit"] or len(rows) < 100):
        summary["warnings"].append("CIDEr of a few pictures is not comparable with that of a whole data set.")
    write_text(folder.path / "scores.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_json(folder.path / "scores.json", summary)
    return summary


def score_captions(rows: Rows, metric: str) -> dict[str, str]:
    """Set each row's score, and return all caption metrics of the set."""
    judged = [row for row in rows if row["answers"]]
    if not judged:
        return {}
    found = caption_scores([row["prediction"] for row in judged], [row["answers"] for row in judged])
    for row, score in zip(judged, found[CAPTIONS[metric]]["items"], strict=True):  # type: ignore[arg-type]
        row["score"] = score
    return {name: f"{100 * float(values['score']):.1f}" for name, values in found.items()}  # type: ignore[arg-type]


def summarise(rows: Rows, metric: str) -> dict[str, Any]:
    """Score with its interval, of all and by type, and the counts."""
    judged = [row for row in rows if row["answers"]]
    kinds: dict[str, Rows] = defaultdict(list)
    for row in judged:
        kinds[row["type"]].append(row)
    errors = [row for row in rows if row["error"] is not None]
    unparsed = [row for row in judged if row["score"] is None and row["error"] is None]
    seconds = sum(row["seconds"] for row in rows)
    tokens = {kind: sum(row["tokens"][kind] for row in rows) for kind in ("prompt", "completion")}
    warnings = []
    if errors:
        warnings.append(f"{len(errors)} questions ended in an error and count as wrong: {errors[0]['error']}")
    if 10 * len(unparsed) > len(rows):
        warnings.append(f"{len(unparsed)} of {len(rows)} answers could not be parsed and count as wrong.")
    if judged and len(judged) < len(rows):
        warnings.append(
            f"{len(rows) - len(judged)} questions have no answer in the data and are left out of the score."
        )
    return {
        **with_interval(judged, metric),
        "n": len(rows),
        "clusters": len({row["group"] for row in rows}),
        "interval": kind_of_interval(judged),
        "types": [{"type": k, **with_interval(kinds[k], metric), "n": len(kinds[k])} for k in sorted(kinds)]
        if len(kinds) > 1 else [],
        "errors": len(errors),
        "first_error": errors[0]["error"] if errors else None,
        "unparsed": len(unparsed),
        "truncated": sum(row["finish_reason"] == "length" for row in rows),
        "warnings": warnings,
        "note": "" if judged else "the data holds no answers; --submission writes the file for the benchmark's server",
        "throughput": {
            "seconds": round(seconds, 3),
            "questions_per_second": round(len(rows) / seconds, 4) if seconds else 0.0,
            "tokens_per_second": round(tokens["completion"] / seconds, 4) if seconds else 0.0,
            "prompt_tokens": tokens["prompt"],
            "completion_tokens": tokens["completion"],
        },
    }  # fmt: skip


def kind_of_interval(rows: Rows) -> str:
    """How `with_interval` finds the interval of these rows, in words."""
    if len({row["group"] for row in rows}) < len(rows):
        return "clustered by picture"
    shares = {row["score"] or 0.0 for row in rows} <= {0.0, 1.0}
    return ("Wilson's" if shares else "of the mean") + ", a picture a question"


def with_interval(rows: Rows, metric: str) -> dict[str, float | None]:
    """Mean and 95 % interval, clustered by picture; where all clusters agree, Wilson's over the clusters."""
    if not rows:
        return {"score": None, "low": None, "high": None}
    scores, groups = [row["score"] for row in rows], [row["group"] for row in rows]
    found = mean_score(scores, groups if len(set(groups)) < len(groups) else None)
    low, high = found["low"], found["high"]
    if found["error"] == 0 and found["mean"] in (0.0, 1.0):
        low, high = wilson(found["mean"] * found["clusters"], int(found["clusters"]))
    most = math.inf if metric in CAPTIONS else 1.0
    bounds = {"low": max(low, 0.0), "high": min(high, most)}
    return {"score": found["mean"], **{k: None if math.isnan(v) else v for k, v in bounds.items()}}


def extras(rows: Rows, metric: str, variant: str, summary: dict[str, Any]) -> dict[str, str]:
    """What else belongs to a metric."""
    judged = [row for row in rows if row["answers"]]
    out = {}
    if metric == "pope":
        f1 = []
        for kind in sorted({row["type"] for row in judged}):
            part = [row for row in judged if row["type"] == kind]
            found = pope_summary([r["prediction"] for r in part], [r["answers"][0] for r in part], variant)
            f1.append(float(found["f1"]))
            for name in ("precision", "recall", "f1", "yes_ratio"):
                out[f"{name.replace('_', ' ')} {kind}".strip()] = f"{100 * float(found[name]):.1f}"
        out["f1, mean of the files"] = f"{100 * sum(f1) / len(f1):.1f}"
    if summary["unparsed"]:
        parsed = [row["score"] for row in judged if row["score"] is not None]
        out["score of the parsed answers alone"] = f"{100 * sum(parsed) / len(parsed):.1f}" if parsed else "-"
    if summary["unparsed"] and metric in CHOICE_METRICS:
        guessed = [1 / max(len(r["choices"]), 1) if r["score"] is None else r["score"] for r in judged]
        out["score if unparsed answers were guesses"] = f"{100 * sum(guessed) / len(guessed):.1f}"
    return out
