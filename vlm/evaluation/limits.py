"""Does a model know its limits: how true its confidence is, and whether it tells its worlds from other pictures.

Notable here:
- Confidence on new pictures (val), on phrasings and fonts that training never used (test) and on pairs of colour and
  shape that it never showed (test-combos); one question per picture, so that answers are independent.
- The domain score on the worlds' own pictures, as drawn and as other programs hand them over, against photographs. The
  edge was fixed when the calibration was fitted; nothing here is fitted or chosen.
- Pictures of other people are read from their zips and appear in figures alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlm.api import VLM
from vlm.calibration.fit import AT_ONCE, Said, answers, batches, half_varied, questions
from vlm.calibration.textures import texture
from vlm.calibration.worlds import Worlds
from vlm.evaluation.metrics.detection import auroc, calibration
from vlm.evaluation.metrics.stats import wilson
from vlm.evaluation.tasks.files import PICTURES, Files
from vlm.image import ImageError, open_image, preprocess

SPLITS = ("val", "test", "test-combos")
PHOTOGRAPHS = {"Flickr8k val": "flickr8k_val.zip", "DAQUAR": "daquar_train.zip"}
DRAWN_BY_OTHERS = {"ChartQA": "chartqa_a.zip", "SROIE receipts": "sroie_a.zip", "NLVR dev": "nlvr_dev.zip"}
EMOJI = "emoji_noto.zip"
EDGES = np.round(np.arange(0, 4.01, 0.1), 1)  # of the histograms of scores; what is more goes into the last bin
Progress = Callable[[str], object]


def evaluate_limits(
    model: VLM, *, n: int = 2000, seed: int = 101, worlds: Worlds | None = None, data: str | Path | None = None,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure both sides of a model's calibration.

    Args:
        n: questions of each split, and pictures of each set.
        worlds: those that the model was trained on; as the calibration names them where absent.
        data: folder with the zips of PHOTOGRAPHS and DRAWN_BY_OTHERS, and of the emoji; None measures on drawn
            pictures alone.

    Raises:
        ValueError: a model without a calibration.
    """
    if model.calibration is None:
        raise ValueError(f"{model.source}: has no calibration; run `vlm calibrate` on its folder first")
    folder = Path(data) if data is not None else None
    if worlds is None:
        emoji = folder / EMOJI if folder and (folder / EMOJI).is_file() else None
        mixture = model.calibration.fitted.get("mixture") or Worlds().mixture
        worlds = Worlds(mixture=mixture, emoji=str(emoji) if emoji else None)
    confidence: dict[str, Any] = {}
    inside: dict[str, list[float]] = {}
    for split in SPLITS:
        progress(split)
        confidence[split], inside[f"worlds, {split}"] = _of_answers(model, worlds, n, seed, split)
        if split == "val":
            progress("val: descriptions, and pictures as other programs hand them over")
            confidence["descriptions"], _ = _of_answers(model, worlds, n // 4, seed + 1, split, captions=True)
            drawn = (s.image for s in worlds.draw(model.model.config.image, n, seed=seed + 2, split=split))
            inside["worlds, val, varied"] = domain_scores(model, islice(half_varied(drawn, seed), 1, None, 2))
    outside = {"drawn textures": domain_scores(model, (texture(10**6 + i) for i in range(n // 4)))}
    for name, file in {**PHOTOGRAPHS, **DRAWN_BY_OTHERS}.items():
        if folder is not None and (folder / file).is_file():
            progress(name)
            outside[name] = domain_scores(model, islice(pictures(folder / file), n))
    sets = {name: _of_scores(scores) for name, scores in {**inside, **outside}.items()}
    return {
        "n": n, "seed": seed, "mixture": worlds.mixture, "confidence": confidence,
        "domain": {
            "edges": EDGES.tolist(), "inside": list(inside), "photographs": [k for k in PHOTOGRAPHS if k in outside],
            "sets": sets,
            "auroc": {a: {b: auroc(inside[a], outside[b]) for b in outside} for a in inside},
        },
    }  # fmt: skip


def pictures(path: Path) -> Iterator[Image.Image]:
    """The pictures of a zip or a folder, in order; one that cannot be read is left out."""
    files = Files(path)
    for name in files.names:
        if name.lower().endswith(PICTURES):
            try:
                yield open_image(files.read(name))
            except ImageError:
                continue


def domain_scores(model: VLM, shown: Iterable[Image.Image]) -> list[float]:
    """`Result.domain_score` of each picture."""
    config = model.model.config.image
    found: list[float] = []
    for some in batches(shown, AT_ONCE):
        laid = [preprocess(open_image(picture), config) for picture in some]
        found += [note["domain"] for note in model.engine.notes(laid)]
    return found


def _of_answers(
    model: VLM, worlds: Worlds, n: int, seed: int, split: str, captions: bool = False
) -> tuple[dict[str, Any], list[float]]:  # fmt: skip
    """The confidence of n answers, or of n descriptions, beside whether they were right; the scores of the pictures."""
    assert model.calibration is not None
    drawn = worlds.draw(model.model.config.image, 2 * n, seed=seed, split=split, questions=0 if captions else 1)
    said = list(answers(model, islice(questions(drawn, captions=captions), n)))
    sure = [model.calibration.confidence(s.logprobs) if s.finish == "stop" else None for s in said]
    known = [(s, p) for s, p in zip(said, sure, strict=True) if p is not None]
    by_world: dict[str, list[tuple[Said, float]]] = defaultdict(list)
    for s, p in known:
        by_world[s.asked.world].append((s, p))
    found = {
        "without": len(said) - len(known),
        **calibration([s.right for s, _ in known], [p for _, p in known]),
        "worlds": {
            world: {
                "n": len(rows), "accuracy": sum(s.right for s, _ in rows) / len(rows),
                "confidence": sum(p for _, p in rows) / len(rows),
            } for world, rows in sorted(by_world.items())
        },
    }  # fmt: skip
    return found, [s.domain_score for s in said if s.domain_score is not None]


def _of_scores(scores: list[float]) -> dict[str, Any]:
    """How many of a set are found outside, and how their scores are spread."""
    values = np.array(scores)
    out = int((values > 1).sum())
    low, high = wilson(out, len(values))
    return {
        "n": len(values), "outside": out / max(1, len(values)), "low": low, "high": high,
        "quantiles": dict(zip(("5", "50", "95"), np.quantile(values, (0.05, 0.5, 0.95)).tolist(), strict=True)),
        "histogram": np.histogram(values.clip(max=EDGES[-1] - 1e-6), EDGES)[0].tolist(),
    }  # fmt: skip


def to_markdown(found: dict[str, Any]) -> str:
    """Both tables, for a page."""
    percent = lambda r, key="mean": f"{r[key]:.1%} ({r['low']:.1%} to {r['high']:.1%})"  # noqa: E731
    lines = [
        "| answers | n | right | mean confidence | calibration error | of perfect confidence | Brier | of a constant | "
        "AUROC |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, r in found["confidence"].items():
        brier, area = r["brier"], r["auroc"]
        lines.append(
            f"| {name} | {r['n']} | {percent(r['accuracy'])} | {r['confidence']:.1%} | {percent(r['ece'])} | "
            f"{r['ece']['expected']:.1%} | {brier['mean']:.3f} ({brier['low']:.3f} to {brier['high']:.3f}) | "
            f"{brier['constant']:.3f} | "
            + (f"{area['auroc']:.3f} ({area['low']:.3f} to {area['high']:.3f}) |" if area else "- |")
        )
    domain = found["domain"]
    against = [name for name in domain["sets"] if name not in domain["inside"]]
    lines += ["", "| pictures | n | found outside | " + " | ".join(f"AUROC, {a}" for a in domain["inside"]) + " |",
              "|---|---|---|" + "---|" * len(domain["inside"])]  # fmt: skip
    for name in (*domain["inside"], *against):
        areas = [domain["auroc"][a].get(name) for a in domain["inside"]]
        cells = [f"{a['auroc']:.4f} ({a['low']:.4f} to {a['high']:.4f})" if a else "" for a in areas]
        lines.append(f"| {name} | {domain['sets'][name]['n']} | {percent(domain['sets'][name], 'outside')} | "
                     + " | ".join(cells) + " |")  # fmt: skip
    return "\n".join(lines) + "\n"


def plot_limits(found: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw reliability.png and domain.png; needs matplotlib.

    Raises:
        ImportError: without matplotlib, with the command that installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("the plots need matplotlib: pip install 'gated-vlm[docs]'") from None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    colors = {"val": "#2563eb", "test": "#d97706", "test-combos": "#059669", "descriptions": "#7c3aed"}
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    curve, risk = figure.subplots(1, 2)
    curve.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1, zorder=0)
    for name, r in found["confidence"].items():
        x, y = ([b[key] for b in r["bins"]] for key in ("confidence", "accuracy"))
        error = [[b["accuracy"] - b["low"] for b in r["bins"]], [b["high"] - b["accuracy"] for b in r["bins"]]]
        label = f"{name}: error {r['ece']['mean']:.1%}, n {r['n']}"
        curve.errorbar(x, y, yerr=error, fmt="o-", ms=4, lw=1.2, elinewidth=0.8, color=colors[name], label=label)
        points = r["risk_coverage"]
        risk.plot([p["coverage"] for p in points], [p["risk"] for p in points], color=colors[name], lw=1.4, label=name)
    curve.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1), title="Reliability")
    risk.set(xlabel="share of questions answered, the surest first", ylabel="share of those that is wrong",
             xlim=(0, 1), ylim=(0, None), title="Risk and coverage")  # fmt: skip
    curve.legend(fontsize=8, loc="lower right", frameon=False)
    risk.legend(fontsize=8, loc="best", frameon=False)
    paths = [folder / "reliability.png", folder / "domain.png"]
    figure.savefig(paths[0], dpi=130)

    domain = found["domain"]
    middle = (np.array(domain["edges"][:-1]) + domain["edges"][1:]) / 2
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots()
    shown = [*domain["inside"][:2], *(name for name in domain["sets"] if name not in domain["inside"])]
    for i, name in enumerate(shown):
        r = domain["sets"][name]
        style = "-" if name in domain["inside"] else "--" if name in domain["photographs"] else ":"
        heights = np.array(r["histogram"]) / max(1, r["n"])
        label = f"{name}: {r['outside']:.1%} outside, n {r['n']}"
        axes.plot(middle, heights, style, lw=1.5, drawstyle="steps-mid", color=f"C{i}", label=label)
    axes.axvline(1, color="#111827", lw=1)
    axes.annotate("edge", (1, 1), xycoords=("data", "axes fraction"), xytext=(3, -12), textcoords="offset points",
                  fontsize=8)  # fmt: skip
    axes.set(xlabel=f"domain score ({domain['edges'][-1]:g} and more in the last step)", ylabel="share of the pictures",
             xlim=(0, domain["edges"][-1]), ylim=(0, None), title="How far pictures lie from the worlds")  # fmt: skip
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(paths[1], dpi=130)
    return paths
