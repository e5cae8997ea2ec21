"""Recorded passes give what others give, whatever their buffers held before; the recorder here calls the function."""

import logging
import random

import pytest
import torch
from conftest import tiny_model
from test_engine import NOTHING, held
from test_engine_native import asked

from vlm.engine import Engine, Sampling, graphs
from vlm.engine.graphs import Graphs


def record(run):
    """What a graph does: the memory of the first result is what each replay writes."""
    out = run().clone()
    return lambda: out.copy_(run()), out


def engine_for(model, record):
    engine = Engine(model, stop_ids=frozenset(), compile=False)
    scheduler = engine.scheduler
    scheduler.graphs = record and Graphs(scheduler.weights, scheduler.pool, record)
    return engine


@pytest.fixture
def small(monkeypatch):
    """Picture buffers that fit the tiny model's pictures, so that their sizes vary."""
    monkeypatch.setattr(graphs, "IMAGE_TOKENS", 4)


def answers(engine, model, chat):
    """Rows that join and leave, so that sizes, pictures and their order change from pass to pass."""
    rng = random.Random(0)
    prompts, pictures = asked(model, chat, 11)
    requests = [
        (p, shown, Sampling(max_new_tokens=rng.randint(2, 14))) for p, shown in zip(prompts, pictures, strict=True)
    ]
    found = dict(engine.run(iter(requests), rows=3))
    return [found[i] for i in range(len(requests))]


def test_recorded_passes_equal_others(chat, small):
    model = tiny_model()
    plain = answers(engine_for(model, None), model, chat)
    engine = engine_for(model, record)
    recorded = answers(engine, model, chat)
    sizes = list(engine.scheduler.graphs.recorded)
    assert {rows for rows, *_ in sizes} >= {2, 4} and len({tokens for *_, tokens in sizes}) > 1
    for a, b in zip(recorded, plain, strict=True):
        assert [s.token for s in a] == [s.token for s in b]
        assert [s.logprob for s in a] == pytest.approx([s.logprob for s in b], abs=3e-5)
    assert held(engine) == NOTHING


def test_a_size_is_recorded_once(chat, small):
    model, runs = tiny_model(), []

    def counting(run):
        runs.append(run)
        return record(run)

    engine = engine_for(model, counting)
    answers(engine, model, chat)
    n = len(runs)
    assert n == len(engine.scheduler.graphs.recorded)
    answers(engine, model, chat)
    assert len(runs) == n


def test_picture_buffers_stay_within_their_limit(chat, small, monkeypatch):
    model = tiny_model()
    plain = answers(engine_for(model, None), model, chat)
    engine = engine_for(model, record)
    limit = engine.scheduler.graphs._bytes((4, 1, 64))
    monkeypatch.setattr(graphs, "IMAGE_BYTES", limit)
    assert [[s.token for s in r] for r in answers(engine, model, chat)] == [[s.token for s in r] for r in plain]
    assert 0 < sum(map(engine.scheduler.graphs._bytes, engine.scheduler.graphs.recorded)) <= limit


def test_what_cannot_be_recorded_runs_as_before(chat, caplog):
    model = tiny_model()
    plain = answers(engine_for(model, None), model, chat)

    def broken(run):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    engine = engine_for(model, broken)
    with caplog.at_level(logging.WARNING, "vlm.engine"):
        assert answers(engine, model, chat) == plain
    assert caplog.text.count("no CUDA graphs") == 1 and not engine.scheduler.graphs.recorded


def test_only_a_gpu_records(model):
    assert Engine(model, stop_ids=frozenset()).scheduler.graphs is None and not torch.cuda.is_initialized()
