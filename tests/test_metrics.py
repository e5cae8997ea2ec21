"""The table of metrics."""

import subprocess
import sys

import pytest

from vlm.evaluation.metrics import CHOICE_METRICS, METRICS

OPTIONS = ["red", "yes"]
TEXTS = ["", " ", "\n", ".", "%", "...", "é日本😀", "a" * 5000, "(" * 50, "1" * 400, "-1e999", "nan"]


def score(name: str, prediction: str, answer: str, **options):
    extra = (OPTIONS,) if name in CHOICE_METRICS else ()
    return METRICS[name][0](prediction, answer, *extra, **options)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_scores_one_item(name):
    function, variant, description = METRICS[name]
    answer = "B" if name in CHOICE_METRICS else "yes"
    wrong = {"pope": "no", "yes_no": "no", "nlvr": "no", "choice": "A", "scienceqa": "A", "mmmu": "A"}.get(name, "42")
    if name == "wups":
        assert function(answer, answer) == 1.0
        assert function("42", answer, variant, similarity=lambda a, b: 0.0) == 0.0
    else:
        assert score(name, answer, answer) == score(name, answer, answer, variant=variant) == 1.0
        assert score(name, wrong, answer) == 0.0
        with pytest.raises(ValueError, match="unknown variant"):
            score(name, answer, answer, variant="no such variant")
    assert description and function.__doc__


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("text", TEXTS)
def test_no_output_breaks_a_metric(name, text):
    options = {"similarity": lambda a, b: 0.0} if name == "wups" else {}
    got = score(name, text, "B" if name in CHOICE_METRICS else "yes", **options)
    assert got is None or 0.0 <= got <= 1.0


def test_importing_the_table_stays_cheap():
    heavy = "{'torch', 'nltk', 'numpy', 'transformers'}"
    code = f"import sys, vlm.evaluation.metrics; sys.exit(bool({heavy} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
