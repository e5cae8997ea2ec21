"""A confidence is what the model's own probabilities say, calibrated, and the same however it was asked."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.api import VLM
from vlm.calibration import Calibration, Confidence
from vlm.calibration.confidence import features, log_odds
from vlm.engine import Engine, Sampling
from vlm.image import collate_images

PRODUCT = Confidence(weights=(1.0, 0.0, 0.0), bias=0.0, longest=1000)  # of the tokens' probabilities
QUESTIONS = ["How many?", "Is there a blue square?", "a large green star"]


class Nowhere:
    """A domain that says the same of every picture."""

    def __call__(self, tiles, features):
        return 0.5


def picture(seed, width=28, height=28):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


PICTURES = [picture(0), picture(1, 56, 28), picture(2, 56, 56)]


def calibrated(model, chat, confidence=PRODUCT):
    """A model whose answers stop at tokens that the random model does say."""
    free, stops = VLM(model, chat), set()
    for image, question in zip(PICTURES, QUESTIONS, strict=True):
        asked = free._prepare(user(question, image), {})
        stops.add([s.token for s in free.engine.follow(free.engine.submit(*asked, Sampling(max_new_tokens=6)))][3])
    m = VLM(model, chat, calibration=Calibration(confidence=confidence, domain=Nowhere()))
    m.engine.stop_ids = frozenset(stops)
    return m


def user(question, image):
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]


@pytest.fixture
def m(model, chat):
    return calibrated(model, chat)


def reference(m, image, question, options, n):
    """Log-probabilities of an answer's tokens by plain forward passes, without engine and cache."""
    prompt, pictures = m._prepare(user(question, image), {})
    steps = list(m.engine.follow(m.engine.submit(prompt, pictures, Sampling(max_new_tokens=n, **options))))
    grown, logprobs = list(prompt.tokens), []
    for step in steps:
        sees = list(prompt.sees) + [prompt.sees[-1]] * (len(grown) - len(prompt.tokens))
        logits = m.model(torch.tensor([grown]), *collate_images([pictures]), torch.tensor([sees]))
        logprobs.append(float(logits[0, -1].log_softmax(-1)[step.token]))
        grown.append(step.token)
    return logprobs


@pytest.mark.parametrize("options", [{}, {"temperature": 1.3, "top_p": 0.9, "seed": 5}])
def test_it_is_the_product_of_the_models_own_probabilities(m, options):
    for image, question in zip(PICTURES, QUESTIONS, strict=True):
        result = m.answer(image, question, max_new_tokens=60, **options)
        with torch.no_grad():
            wanted = reference(m, image, question, options, 60)
        if result.finish_reason == "stop":
            assert result.confidence == pytest.approx(math.exp(sum(wanted)), rel=1e-3, abs=1e-9)
        assert result.logprob == pytest.approx(sum(wanted) / len(wanted), abs=2e-5)
    assert m.answer(PICTURES[0], QUESTIONS[0], max_new_tokens=60).finish_reason == "stop"


def test_a_constraint_leaves_the_probabilities_as_they_are(m):
    free = m.answer(PICTURES[0], QUESTIONS[0], max_new_tokens=20, regex="(?s).*")
    prompt, pictures = m._prepare(user(QUESTIONS[0], PICTURES[0]), {})
    forced = m.answer(PICTURES[0], QUESTIONS[0], max_new_tokens=3, regex="[0-9]{9}")
    steps = Engine(m.model, stop_ids=frozenset()).generate([prompt], [pictures], Sampling(max_new_tokens=1))[0]
    assert forced.logprob < free.logprob and forced.confidence is None and forced.finish_reason == "length"
    assert forced.logprob < steps[0].logprob


def test_looking_ahead_changes_no_probability(m):
    prompt, pictures = m._prepare(user("red red red red red", PICTURES[1]), {})
    plain, ahead = (
        m.engine.generate([prompt], [pictures], Sampling(max_new_tokens=24, lookup=n))[0] for n in (0, 4)
    )  # fmt: skip
    assert [s.token for s in plain] == [s.token for s in ahead]
    assert [s.logprob for s in ahead] == pytest.approx([s.logprob for s in plain], abs=2e-5)


def test_batches_and_streams_say_what_single_answers_say(m):
    alone = [m.answer(p, q) for p, q in zip(PICTURES, QUESTIONS, strict=True)]
    together = m.answer(PICTURES, QUESTIONS, batch_size=3)
    streamed = [list(m.chat(user(q, p), stream=True, max_new_tokens=48))
                for p, q in zip(PICTURES, QUESTIONS, strict=True)]  # fmt: skip
    for single, one, (*pieces, last) in zip(alone, together, streamed, strict=True):
        assert single.finish_reason == "stop" and "".join(pieces) == single == one and last == ""
        for other in (one, last):
            assert other.confidence == pytest.approx(single.confidence, abs=1e-4)
            found = {k: v for k, v in other.to_dict().items() if k not in ("text", "seconds", "confidence", "logprob")}
            assert found == {k: single.to_dict()[k] for k in found}
    assert alone[0].in_domain is True and alone[0].domain_score == 0.5
    assert len({round(r.confidence, 6) for r in alone}) > 1


def test_where_the_fit_says_nothing_there_is_none(m, model, chat):
    whole = [(p, q, m.answer(p, q)) for p, q in zip(PICTURES, QUESTIONS, strict=True)]
    image, question, answer = max(whole, key=lambda one: one[2].completion_tokens)
    n = answer.completion_tokens
    assert n > 1 and answer.confidence is not None
    assert m.answer(image, question, max_new_tokens=n - 1).confidence is None  # cut off
    for longest in (n, n - 1):
        other = calibrated(model, chat, Confidence(weights=(1.0, 0.0, 0.0), bias=0.0, longest=longest))
        assert (other.answer(image, question).confidence is None) is (longest < n)
    none = VLM(model, chat).answer(PICTURES[0], QUESTIONS[0], max_new_tokens=4)
    assert (none.confidence, none.in_domain, none.domain_score) == (None, None, None)
    words = m.chat([{"role": "user", "content": "a"}], max_new_tokens=9)
    assert words.in_domain is None and words.domain_score is None


def sampled(n, seed=0):
    """Answers whose true chance to be right is known: half of what their log-odds promise."""
    rng = random.Random(seed)
    answers = [[-(10 ** rng.uniform(-4, 0.5)) for _ in range(rng.randrange(1, 8))] for _ in range(n)]
    chances = [1 / (1 + math.exp(-0.5 * log_odds(sum(a)) + 0.3)) for a in answers]
    return answers, [rng.random() < c for c in chances], chances


def test_the_fit_finds_the_true_chances():
    answers, right, chances = sampled(4000)
    fitted = Confidence.fit(answers, right)
    new, _, wanted = sampled(500, seed=1)
    assert np.mean([abs(fitted(a) - w) for a, w in zip(new, wanted, strict=True)]) < 0.02
    assert fitted.longest == max(map(len, answers))


def test_a_likelier_token_never_lowers_it_and_order_does_not_matter():
    rng = random.Random(3)
    for seed in range(20):
        answers, right, _ = sampled(200, seed)
        if seed % 2:  # labels that say the contrary
            right = [not r for r in right]
        fitted = Confidence.fit(answers, right)
        for a in answers[:50]:
            i = rng.randrange(len(a))
            likelier = [*a[:i], a[i] * rng.random(), *a[i + 1 :]]
            assert fitted(likelier) >= fitted(a) - 1e-12
            assert fitted(rng.sample(a, len(a))) == pytest.approx(fitted(a), abs=1e-9)
            assert 0 <= fitted(a) <= 1


def test_answers_that_are_all_as_sure_as_can_be_stay_finite():
    sure = [[0.0] * 3] * 80 + [[-30.0, 0.0]] * 80
    fitted = Confidence.fit(sure, [True] * 80 + [False] * 80)
    assert fitted([0.0] * 3) > 0.95 and fitted([-30.0, 0.0]) < 0.05 and fitted([-1e5]) >= 0
    assert all(map(math.isfinite, features([0.0])))


@pytest.mark.parametrize("n, right", [(99, [True, False]), (100, [True]), (100, [False])])
def test_what_cannot_be_fitted_says_so(n, right):
    with pytest.raises(ValueError, match=f"found {n} answers .* expected 100 or more of both kinds"):
        Confidence.fit([[-0.1]] * n, (right * n)[:n])
