"""What is noted of a picture is noted once, while it is encoded, and comes with the answer."""

import pytest
import torch
from test_engine import picture, prompt

from vlm.config import ModelConfig
from vlm.engine import Engine, Limits, Sampling
from vlm.image import collate_images
from vlm.model import VisionLanguageModel


@pytest.fixture
def engine(model, chat):
    return Engine(model, stop_ids=frozenset(), limits=Limits(rows=4))


def test_an_observer_is_shown_the_encoders_features_of_the_real_tiles(engine, model):
    shown = []
    engine.observe("seen", lambda tiles, features: shown.append((tiles, features)) or len(shown))
    pictures = [picture(model, *size, seed=i) for i, size in enumerate([(28, 28), (56, 28), (28, 56), (56, 56)])]
    assert sorted(note["seen"] for note in engine.notes(pictures)) == [1, 2, 3, 4]
    for tiles, features in shown:
        (own,) = [p for p in pictures if p[0].shape == tiles.shape and torch.equal(p[0], tiles)]
        torch.testing.assert_close(features, model.encoder(*collate_images([[own]]))[0, 0], rtol=0, atol=1e-5)


def test_notes_come_with_the_last_token_and_cost_no_second_encode(engine, model, chat):
    engine.observe("mean", lambda tiles, features: float(features.mean()))
    shown = [picture(model, 28, 28, seed=1), picture(model, 56, 56, seed=2)]
    noted = engine.notes(shown)
    steps = engine.generate([prompt(chat, "How many?", 2)] * 3, [shown] * 3, Sampling(max_new_tokens=3))
    for row in steps:
        assert [s.notes for s in row[:-1]] == [(), ()] and row[-1].notes == tuple(noted)
    assert noted[0] != noted[1] and engine.scheduler.cache.encodes == 2
    assert engine.generate([prompt(chat, "How many?", 0)], [[]], Sampling(max_new_tokens=2))[0][-1].notes == ()


def test_an_observer_that_is_taken_away_notes_no_more(engine, model):
    engine.observe("a", lambda tiles, features: 1)
    engine.observe("b", lambda tiles, features: 2)
    assert engine.notes([picture(model, 28, 28, seed=1)]) == [{"a": 1, "b": 2}]
    engine.observe("a", None)
    assert engine.notes([picture(model, 28, 28, seed=1)]) == [{"b": 2}]


def test_a_model_that_sees_nothing_says_so(model):
    text = VisionLanguageModel(ModelConfig(encoder=None, decoder=model.config.decoder)).eval()
    with pytest.raises(ValueError, match="no image encoder"):
        Engine(text, stop_ids=frozenset()).notes([picture(model, 28, 28, seed=1)])
