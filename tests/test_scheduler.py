"""Requests join, leave, fail and vanish as they like: every answer is that of the request alone, and nothing stays."""

import asyncio
import random
import threading

import pytest
import torch
from conftest import tiny_config, tiny_model
from test_engine import NOTHING, held, picture, prompt

from vlm.engine import Engine, Limits, QueueFull, Sampling
from vlm.engine import scheduler as module
from vlm.engine.forward import Piece, forward, lay_out
from vlm.engine.pages import PAGE, OutOfPages, PagePool
from vlm.engine.sampling import guess

WORDS = "how many red circles are there is a blue square left of the large green star see this".split()


@pytest.fixture(scope="module")
def pictures(model):
    sizes = [(28, 28), (56, 28), (28, 56), (56, 56), (20, 90)]
    return [picture(model, *size, seed=i) for i, size in enumerate(sizes)]


def mix(rng, chat, pictures):
    """A request as anyone might send it: prompt, pictures, how to answer."""
    shown = rng.sample(pictures, rng.choice([0, 1, 1, 1, 2, 3]))
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 25)))
    before = " ".join(rng.choices(WORDS, k=rng.randint(0, 20)))
    sampling = Sampling(
        max_new_tokens=rng.randint(1, 12), lookup=rng.choice([0, 0, 3]),
        **(dict(temperature=1.3, top_k=20, seed=rng.randrange(99)) if rng.random() < 0.2 else {}),
    ) if rng.random() < 0.9 else Sampling(max_new_tokens=3)  # fmt: skip
    return prompt(chat, text, len(shown), before), shown, sampling


def safe_mix(rng, chat, pictures):
    while True:
        try:
            return mix(rng, chat, pictures)
        except ValueError:  # a guess beside a temperature
            continue


def engine_for(model, chat, **limits):
    return Engine(model, stop_ids=frozenset(list(chat.stop_ids)[:1]), limits=Limits(**limits))


def answers(engine, asked):
    found = {number: steps for number, steps in engine.run(iter(asked))}
    return [[s.token for s in found[i]] for i in range(len(asked))]


def test_two_hundred_mixes_are_each_their_answer_alone(model, chat, pictures):
    rng = random.Random(0)
    asked = [safe_mix(rng, chat, pictures) for _ in range(200)]
    plain = engine_for(model, chat, rows=1)
    alone = [answers(plain, [one])[0] for one in asked]
    crowd = engine_for(model, chat, rows=13, chunk=24, picture_bytes=1)
    assert answers(crowd, asked) == alone
    assert held(crowd) == NOTHING and not crowd.scheduler.cache.held
    tight = engine_for(model, chat, rows=8, chunk=40, cache_tokens=192)  # sequences give their pages back
    assert answers(tight, asked[:60]) == alone[:60]
    assert held(tight) == NOTHING


def test_a_sequence_that_gives_its_pages_back_goes_on_where_it_was(model, chat, pictures, monkeypatch):
    engine = engine_for(model, chat, cache_tokens=64)
    back = []
    put_back = module.Scheduler._put_back
    monkeypatch.setattr(module.Scheduler, "_put_back", lambda self, s: (back.append(s.made), put_back(self, s)))
    asked = [(prompt(chat, "red", 0), [], Sampling(max_new_tokens=40)) for _ in range(3)]
    free = Engine(model, stop_ids=frozenset())
    engine.stop_ids = frozenset()
    assert answers(engine, asked) == answers(free, asked)
    assert any(made > 0 for made in back)


def test_many_questions_share_one_encode(model, chat, pictures, monkeypatch):
    engine = engine_for(model, chat)
    asked = [(prompt(chat, f"red {'a ' * i}", 1), [p], Sampling(max_new_tokens=3)) for i in range(4) for p in pictures]
    answers(engine, asked)
    assert engine.scheduler.cache.encodes == len(pictures)
    answers(engine, asked)
    assert engine.scheduler.cache.encodes == len(pictures)
    both = [(prompt(chat, "red", 2), pictures[:2], Sampling(max_new_tokens=3))] * 3
    answers(engine, both)
    assert engine.scheduler.cache.encodes == len(pictures)
    size = engine.scheduler.cache.n_bytes
    assert size == sum(e.n_bytes for e in engine.scheduler.cache.held.values()) > 0


def test_only_real_tiles_are_kept(model, chat, pictures):
    engine = engine_for(model, chat)
    answers(engine, [(prompt(chat, "red", 1), [p], Sampling(max_new_tokens=1)) for p in pictures])
    per_tile = model.encoder.n_tokens
    kept = sorted(e.image[1].key.shape[2] for e in engine.scheduler.cache.held.values())
    assert kept == sorted(len(tiles) * per_tile for tiles, _ in pictures)


def test_the_longest_unused_picture_goes_first(model, chat, pictures):
    engine = engine_for(model, chat)
    ask = lambda p: answers(engine, [(prompt(chat, "red", 1), [p], Sampling(max_new_tokens=1))])  # noqa: E731
    cache = engine.scheduler.cache
    ask(pictures[0])
    one = cache.n_bytes
    cache.limit = int(2.5 * one)
    ask(picture(model, 28, 28, seed=50))
    ask(pictures[0])  # used again: now the other is the older
    ask(picture(model, 28, 28, seed=51))
    assert cache.n_bytes <= cache.limit and cache.keys([pictures[0]])[0] in cache.held
    assert cache.keys([picture(model, 28, 28, seed=50)])[0] not in cache.held


def test_guessing_ahead_changes_nothing_but_the_passes(model, chat):
    engine = Engine(model, stop_ids=frozenset())
    passes = []
    step = module.Scheduler.step
    p = prompt(chat, "red star " * 8, 0)
    for lookup in (0, 4):
        count = [0]
        engine.scheduler.step = lambda count=count: (count.__setitem__(0, count[0] + 1), step(engine.scheduler))
        steps = engine.generate([p], [[]], Sampling(max_new_tokens=60, lookup=lookup))[0]
        passes.append((count[0], [s.token for s in steps], [s.logprob for s in steps]))
    assert passes[0][1] == passes[1][1] and passes[0][2] == pytest.approx(passes[1][2], abs=2e-5)
    assert passes[1][0] < passes[0][0]  # a random model soon repeats itself


def test_guesses_are_what_followed_before():
    assert guess([1, 2, 3, 4, 1, 2, 3], 2) == [4, 1]
    assert guess([5, 9, 5, 8, 5], 3) == [8, 5]
    assert guess([1, 2, 3], 4) == [] and guess([7, 7], 3) == [7] and guess([1, 1, 1], 0) == []


@torch.no_grad()
def test_pages_hold_what_one_long_memory_would(model):
    tokens = torch.randint(0, 200, (50,)).tolist()
    pool = PagePool(model.config.decoder, 9, torch.float32)
    other: list[int] = []
    pages: list[int] = []
    weights = Engine(model, stop_ids=frozenset()).scheduler.weights
    got, done = [], 0
    for n in (20, 1, 1, 17, 11):  # pages of two sequences alternate
        pool.grow(pages, done + n)
        if len(other) < 4:
            pool.grow(other, len(other) * PAGE + 1)
        piece = Piece(tokens[done : done + n], done, pages, [(n, None)], n)
        got.append(forward(weights, pool, lay_out([piece], torch.device("cpu"))[0]))
        done += n
    torch.testing.assert_close(torch.cat(got), model(torch.tensor([tokens]))[0], atol=2e-5, rtol=0)
    with pytest.raises(OutOfPages):
        pool.grow(other, 10 * PAGE)
    pool.release(pages)
    pool.release(other)
    assert pool.n_used == 0 and sorted(pool._free) == list(range(1, 9))


def test_ranked_choices_are_sums_of_log_probabilities(model, chat, pictures):
    engine = engine_for(model, chat)
    p = prompt(chat, "How many?", 1)
    choices = [chat.tokenizer.encode(t) for t in ("red", "a large green star", "blue square", "red circles are there")]
    scores = engine.rank(p, [pictures[3]], choices)
    from vlm.image import collate_images

    for choice, score in zip(choices, scores, strict=True):
        tokens, sees = p.tokens + choice, list(p.sees) + [p.sees[-1]] * len(choice)
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), *collate_images([[pictures[3]]]), torch.tensor([sees]))[0]
        each = logits.log_softmax(-1)[len(p.tokens) - 1 : -1].gather(1, torch.tensor(choice)[:, None])
        assert score == pytest.approx(float(each.sum()), abs=1e-4)
    assert held(engine) == NOTHING
    with pytest.raises(ValueError, match="choices"):
        engine.rank(p, [pictures[3]], [[1], []])


# What goes wrong


def test_a_request_with_bad_logits_fails_alone(model, chat, pictures):
    engine = engine_for(model, chat)
    asked = [(prompt(chat, t, 0), [], Sampling(max_new_tokens=6)) for t in ("red", "blue square", "star")]
    wanted = answers(engine, asked)
    embed = engine.scheduler.weights.embed
    bad = torch.nn.Embedding.from_pretrained(embed.weight.detach().clone())
    unique = next(t for t in asked[1][0].tokens if t not in asked[0][0].tokens + asked[2][0].tokens)
    bad.weight[unique] = float("nan")
    engine.scheduler.weights.embed = bad
    found = dict(engine.run(iter(asked)))
    assert [s.token for s in found[0]] == wanted[0] and [s.token for s in found[2]] == wanted[2]
    assert found[1][-1].finish == "error" and "not finite" in found[1][-1].error
    engine.scheduler.weights.embed = embed
    assert answers(engine, asked) == wanted  # its pages are clean again
    assert held(engine) == NOTHING


def test_a_picture_that_cannot_be_encoded_fails_alone(model, chat, pictures):
    engine = engine_for(model, chat)
    broken = (torch.randn(1, 3, 13, 13), (1, 1))
    asked = [(prompt(chat, "red", 1), [p], Sampling(max_new_tokens=3)) for p in (pictures[0], broken, pictures[1])]
    found = dict(engine.run(iter(asked)))
    assert [found[i][-1].finish == "error" for i in range(3)] == [False, True, False]
    assert "could not be encoded" in found[1][-1].error and held(engine) == NOTHING


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_shrinks_the_batch_and_loses_nothing(model, chat, pictures, monkeypatch, caplog, error):
    engine = engine_for(model, chat)
    asked = [(prompt(chat, "red " * i, 1), [pictures[i % 5]], Sampling(max_new_tokens=5)) for i in range(1, 8)]
    wanted = answers(engine, asked)
    real = module.forward

    def small_machine(weights, pool, plan):
        if len(engine.scheduler.running) > 2:
            raise error
        return real(weights, pool, plan)

    monkeypatch.setattr(module, "forward", small_machine)
    assert answers(engine, asked) == wanted
    assert engine.scheduler.max_rows <= 2 and "out of memory with 7" in caplog.text and held(engine) == NOTHING
    monkeypatch.setattr(module, "forward", lambda *_: (_ for _ in ()).throw(error))
    found = dict(engine.run(iter(asked[:1])))
    assert found[0][-1].error == "out of memory" and held(engine) == NOTHING


def test_other_errors_are_not_swallowed(model, chat, monkeypatch):
    engine = engine_for(model, chat)
    monkeypatch.setattr(module, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        engine.generate([prompt(chat, "red", 0)], [[]], Sampling())
    assert held(engine) == NOTHING


def test_limits_are_kept(model, chat, pictures):
    engine = engine_for(model, chat, waiting=2, pictures=1, cache_tokens=64)
    p = prompt(chat, "red", 0)
    sequences = [engine.submit(p, [], Sampling()) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait"):
        engine.submit(p, [], Sampling())
    for s in sequences:
        engine.cancel(s)
    with pytest.raises(ValueError, match="2 pictures, expected at most 1"):
        engine.submit(prompt(chat, "red", 2), pictures[:2], Sampling())
    with pytest.raises(ValueError, match="the engine's cache holds 64"):
        engine.submit(prompt(chat, "red star " * 20, 0), [], Sampling())
    with pytest.raises(ValueError, match="max_new_tokens"):
        Sampling(max_new_tokens=-1)
    with pytest.raises(ValueError, match="rows: found 0"):
        Limits(rows=0)
    assert held(engine) == NOTHING


def test_a_text_that_outgrows_the_cache_fails_with_what_to_do(model, chat):
    engine = Engine(model, stop_ids=frozenset(), limits=Limits(cache_tokens=32))
    steps = engine.generate([prompt(chat, "red", 0)], [[]], Sampling(max_new_tokens=60))[0]
    assert "cache_tokens" in steps[-1].error and held(engine) == NOTHING


def test_a_request_that_takes_too_long_ends(model, chat, monkeypatch):
    engine = engine_for(model, chat, seconds=5.0)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    s = engine.submit(prompt(chat, "red", 0), [], Sampling(max_new_tokens=50))
    s.began = now[0]
    steps = engine.follow(s)
    next(steps)
    now[0] += 6
    assert list(steps)[-1].error == "took longer than 5.0 s" and held(engine) == NOTHING


def test_clients_take_turns(model, chat):
    engine = Engine(model, stop_ids=frozenset(), limits=Limits(rows=1))
    p = prompt(chat, "red", 0)
    order = [engine.submit(p, [], Sampling(max_new_tokens=1), client=c) for c in "aaaab"]
    ended = []
    while engine.scheduler.busy:
        engine.scheduler.step()
        ended += [i for i, s in enumerate(order) if s.finish and i not in ended]
    assert ended == [0, 4, 1, 2, 3]


def test_a_thousand_joins_cancels_and_failures_leave_nothing(model, chat, pictures, monkeypatch):
    rng = random.Random(1)
    engine = engine_for(model, chat, rows=6, chunk=32, cache_tokens=400)
    real = module.forward

    def flaky(weights, pool, plan):
        chance = rng.random()
        if chance < 0.02:
            raise torch.OutOfMemoryError("now and then")
        logits = real(weights, pool, plan)
        if chance < 0.06 and len(logits):
            logits = logits.clone()
            logits[rng.randrange(len(logits)) :][:1] = float("nan")
        return logits

    monkeypatch.setattr(module, "forward", flaky)
    live, ends = [], {}
    for _ in range(1000):
        p, shown, sampling = safe_mix(rng, chat, pictures)
        if rng.random() < 0.03 and shown:
            shown = [(torch.randn(1, 3, 13, 13), (1, 1)), *shown[1:]]
        s = engine.submit(p, shown, sampling)
        live.append((s, engine.follow(s)))
        for _ in range(rng.randrange(3)):
            if not live:
                break
            s, steps = rng.choice(live)
            fate = rng.random()
            if fate < 0.15:
                engine.cancel(s)  # wherever it is: waiting, in its prompt, in its answer
            elif fate < 0.3:
                steps.close()
            else:
                next(steps, None)
            live = [(s, f) for s, f in live if s.finish is None]
            engine.scheduler.max_rows = 6
        if rng.random() < 0.1:
            live = live[: rng.randrange(len(live) + 1)]  # consumers that vanish
    for s, steps in live:
        for _ in steps:
            pass
        ends[s.finish] = ends.get(s.finish, 0) + 1
    assert held(engine) == NOTHING
    assert sorted(engine.scheduler.pool._free) == list(range(1, engine.scheduler.pool.n_pages))
    assert all(e.users == 0 for e in engine.scheduler.cache.held.values())


# Faces


def test_threads_share_one_batch_and_get_their_own(model, chat, pictures):
    engine = engine_for(model, chat)
    rng = random.Random(3)
    asked = [safe_mix(rng, chat, pictures) for _ in range(24)]
    wanted = answers(engine_for(model, chat, rows=1), asked)
    found: dict[int, list[int]] = {}

    def ask(i):
        found[i] = [s.token for s in engine.follow(engine.submit(*asked[i]))]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [found[i] for i in range(len(asked))] == wanted and held(engine) == NOTHING


def test_asyncio_streams_run_side_by_side_and_can_be_left(model, chat, pictures):
    engine = engine_for(model, chat)
    rng = random.Random(4)
    asked = [safe_mix(rng, chat, pictures) for _ in range(6)]
    wanted = answers(engine_for(model, chat, rows=1), asked)

    async def collect(one):
        return [step.token async for step in engine.stream(*one)]

    async def leave():
        stream = engine.stream(asked[0][0], asked[0][1], Sampling(max_new_tokens=50))
        async for _ in stream:
            break
        await stream.aclose()

    async def everything():
        return (await asyncio.gather(*(collect(one) for one in asked), leave()))[:-1]

    assert asyncio.run(everything()) == wanted and held(engine) == NOTHING


def test_the_model_keeps_its_weights_and_its_state(chat):
    model = tiny_model(tiny_config())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for fuse in (True, False):
        engine = Engine(model, stop_ids=frozenset(), fuse=fuse)
        engine.generate([prompt(chat, "red", 0)], [[]], Sampling(max_new_tokens=3))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize("pack", [False, True])
def test_fused_weights_are_no_second_copy_and_give_the_same(chat, pictures, pack, monkeypatch):
    from vlm.engine import weights
    from vlm.engine.weights import DecoderWeights, Modules, PackedProjection

    monkeypatch.setattr(weights, "PACK_FROM", 0)
    model = tiny_model(tiny_config())
    asked = [(prompt(chat, "How many?", 1), [pictures[3]], Sampling(max_new_tokens=6))]
    wanted = answers(Engine(model, stop_ids=frozenset(), fuse=False), asked)
    engine = Engine(model, stop_ids=frozenset(), compile=False)
    engine.scheduler.weights = DecoderWeights(model.decoder, fuse=True, pack=pack)
    assert answers(engine, asked) == wanted
    layer = engine.scheduler.weights.layers[0]
    if pack:
        assert isinstance(layer.qkv, PackedProjection)
    else:
        parts = [model.decoder.layers[0].attn.get_parameter(f"{n}_proj.weight") for n in "qkv"]
        assert {p.untyped_storage().data_ptr() for p in parts} == {layer.qkv.weight.untyped_storage().data_ptr()}
    plain = Engine(model, stop_ids=frozenset(), fuse=False).scheduler.weights.layers[0].qkv
    assert isinstance(plain, Modules)
