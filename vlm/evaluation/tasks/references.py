"""Published scores of other models, in percent: each with what was asked and who says so.

A number without its prompt regime is no reference: the same weights differ by tens of points between regimes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One published score."""

    model: str
    score: float
    regime: str
    source: str


CARD = "Meta's model card"
ZOO = "LLaVA model zoo"
MOLMO = "table of the Molmo paper"
BASE = "base model, zero-shot"
SHORT = "instruction model, single word or phrase"


def _rows(regime: str, source: str, **scores: float) -> tuple[Reference, ...]:
    names = {"llama11": "Llama 3.2 11B Vision", "llama90": "Llama 3.2 90B Vision", "llava7": "LLaVA-1.5-7B",
             "llava13": "LLaVA-1.5-13B"}  # fmt: skip
    return tuple(Reference(names[name], score, regime, source) for name, score in scores.items())


REFERENCES: dict[str, tuple[Reference, ...]] = {
    "vqav2": (
        *_rows(f"{BASE}, val", CARD, llama11=66.8, llama90=73.6),
        *_rows("instruct, test", CARD, llama11=75.2, llama90=78.1),
        *_rows(f"{SHORT}, test-dev", ZOO, llava7=78.5, llava13=80.0),
        Reference("OpenFlamingo-9B", 48.3, "0-shot (4-shot: 49.4 on the card, 54.8 in the README)", "its model card"),
    ),
    "textvqa": (
        *_rows(f"{BASE}, val, relaxed match", CARD, llama11=73.1, llama90=73.5),
        *_rows("instruct", MOLMO, llama11=79.7, llama90=82.3),
        *_rows(f"{SHORT}, OCR tokens in the prompt", ZOO, llava7=58.2, llava13=61.3),
    ),
    "docvqa": (
        *_rows(f"{BASE}, val", CARD, llama11=62.3, llama90=70.7),
        *_rows("instruct, test (77.4 was measured with a bare prompt)", CARD, llama11=88.4, llama90=90.1),
        *_rows("instruct", MOLMO, llava7=28.1, llava13=30.3),
    ),
    "infovqa": (
        *_rows(BASE, CARD, llama11=43.2, llama90=56.8),
        *_rows("instruct", MOLMO, llama11=63.6, llama90=67.2),
    ),
    "chartqa": (
        *_rows(BASE, CARD, llama11=39.4, llama90=54.2),
        *_rows("instruct, chain of thought", CARD, llama11=83.4, llama90=85.5),
        *_rows("instruct", MOLMO, llava7=17.8, llava13=18.2),
    ),
    "ai2d": (
        *_rows(BASE, CARD, llama11=62.4, llama90=75.3),
        *_rows("instruct (11B: about 75 in VLMEvalKit)", CARD, llama11=91.1, llama90=92.3),
        *_rows("instruct", MOLMO, llava7=55.5, llava13=61.1),
    ),
    "mmmu": (
        *_rows(f"{BASE}, val", CARD, llama11=41.7, llama90=49.3),
        *_rows("instruct, val, chain of thought (without: 42.8 and 43.0)", CARD, llama11=50.7, llama90=60.3),
        *_rows("instruct, val", MOLMO, llava7=35.7, llava13=37.0),
    ),
    "gqa": _rows(SHORT, ZOO, llava7=62.0, llava13=63.3),
    "scienceqa": _rows("letter, questions with a picture only", ZOO, llava7=66.8, llava13=71.6),
    "pope": _rows("mean F1 of the three files, random of 2,910 lines", ZOO, llava7=85.9, llava13=85.9),
    "vizwiz": _rows(f"{SHORT}, or unanswerable", ZOO, llava7=50.0),
    "coco-caption": (Reference("OpenFlamingo-9B", 79.5, "CIDEr, 0-shot (4-shot 89.0)", "its model card"),),
    "nlvr": (
        Reference("majority", 55.3, "dev", "Suhr 2017"),
        Reference("CNN+RNN", 56.6, "dev, trained on NLVR", "Suhr 2017"),
        Reference("NMN", 63.1, "dev, trained on NLVR", "Suhr 2017"),
        Reference("CNN-BiATT", 66.9, "dev, trained on NLVR", "Tan and Bansal 2018"),
    ),
    "shapes": (Reference("majority", 63.0, "", "Andreas 2016"),),
}
