"""The engine gives each row what it would get alone, and leaves nothing behind."""

import gc

import pytest
import torch
from conftest import tiny_config, tiny_model
from PIL import Image

from vlm.engine import Engine, Sampling
from vlm.engine.sampling import choose
from vlm.image import collate_images, preprocess
from vlm.model import token_intervals


def picture(model, width, height, seed):
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return preprocess(Image.fromarray(pixels.numpy()), model.config.image)


def prompt(chat, text, n_images, before=""):
    parts = [{"type": "text", "text": before}] if before else []
    parts += [{"type": "image", "image": i} for i in range(n_images)] + [{"type": "text", "text": text}]
    return chat.encode([{"role": "user", "content": parts}])


@pytest.fixture
def rows(model, chat):
    """Different prompt lengths, tiles and pictures, and a row without any."""
    sizes = [[(28, 28)], [], [(56, 28), (20, 90)], [(56, 56)]]
    texts = ["How many?", "Is there a blue square? Describe it.", "red", "a large green star and a red circle"]
    prompts = [prompt(chat, t, len(s), before="see " * i) for i, (t, s) in enumerate(zip(texts, sizes, strict=True))]
    pictures = [[picture(model, *wh, seed=10 * i + j) for j, wh in enumerate(s)] for i, s in enumerate(sizes)]
    return prompts, pictures


def engine_for(model, chat, stop=True):
    return Engine(model, stop_ids=chat.stop_ids if stop else frozenset())


def tokens_of(rows):
    return [[s.token for s in steps] for steps in rows]


def full_logits(model, row, pictures):
    """No cache, no padding: the plain forward pass of one row."""
    tokens, sees = torch.tensor([row.tokens]), torch.tensor([row.sees])
    if not pictures:
        return model(tokens)
    return model(tokens, *collate_images([pictures]), sees)


@pytest.mark.parametrize("tile_padding", ["reference", "none"])
def test_cached_equals_uncached(chat, rows, tile_padding):
    model = tiny_model(tiny_config(tile_padding))
    prompts, pictures = rows
    engine = engine_for(model, chat, stop=False)
    for p, images in zip(prompts, pictures, strict=True):
        steps = engine.generate([p], [images], Sampling(max_new_tokens=6))[0]
        grown = list(p.tokens)
        for step in steps:
            sees = list(p.sees) + [p.sees[-1]] * (len(grown) - len(p.tokens))
            tokens = torch.tensor([grown])
            logits = model(tokens, *collate_images([images]), torch.tensor([sees])) if images else model(tokens)
            logprobs = logits[0, -1].log_softmax(-1)
            assert int(logprobs.argmax()) == step.token
            assert float(logprobs.max()) == pytest.approx(step.logprob, abs=2e-5)
            grown.append(step.token)


def test_batch_equals_rows_alone(model, chat, rows):
    prompts, pictures = rows
    engine = engine_for(model, chat, stop=False)
    together = engine.generate(prompts, pictures, Sampling(max_new_tokens=8))
    for p, images, steps in zip(prompts, pictures, together, strict=True):
        alone = engine.generate([p], [images], Sampling(max_new_tokens=8))[0]
        assert [s.token for s in alone] == [s.token for s in steps]
        assert [s.logprob for s in steps] == pytest.approx([s.logprob for s in alone], abs=2e-5)


def test_rows_leave_the_batch_one_by_one(model, chat, rows):
    prompts, pictures = rows
    free = tokens_of(engine_for(model, chat, stop=False).generate(prompts, pictures, Sampling(max_new_tokens=8)))
    stop = frozenset({free[0][2], free[3][4]})
    out = Engine(model, stop_ids=stop).generate(prompts, pictures, Sampling(max_new_tokens=8))
    for steps, wanted in zip(tokens_of(out), free, strict=True):
        cut = next((i + 1 for i, t in enumerate(wanted) if t in stop), len(wanted))
        assert steps == wanted[:cut]
    assert out[0][-1].finish == "stop"


def test_text_before_a_picture_does_not_change_with_it(model, chat):
    p = prompt(chat, "How many?", 1, before="see this")
    first = p.tokens.index(chat.image_id)
    a, b = (full_logits(model, p, [picture(model, 28, 28, seed)]) for seed in (1, 2))
    torch.testing.assert_close(a[:, :first], b[:, :first], rtol=0, atol=0)
    assert (a[:, first:] - b[:, first:]).abs().max() > 1e-2
    torch.testing.assert_close(a[:, :first], model(torch.tensor([p.tokens[:first]])))


def test_a_row_without_a_picture_is_the_text_model(model, chat, rows):
    prompts, pictures = rows
    first = engine_for(model, chat).generate(prompts, pictures, Sampling(max_new_tokens=1))[1][0]
    wanted = full_logits(model, prompts[1], [])[0, -1].log_softmax(-1)
    assert first.token == int(wanted.argmax()) and first.logprob == pytest.approx(float(wanted.max()), abs=2e-5)


def test_closed_gates_are_the_text_model_bit_for_bit(chat):
    model = tiny_model()
    for block in model.decoder.cross_attention.values():
        block.attn_gate.data.zero_()
        block.ffn_gate.data.zero_()
    p = prompt(chat, "How many?", 1)
    with_picture = full_logits(model, p, [picture(model, 56, 56, 3)])
    assert torch.equal(with_picture, model(torch.tensor([p.tokens])))


def test_several_questions_share_one_picture(model, chat):
    images = [picture(model, 28, 28, 1), picture(model, 56, 28, 2)]
    prompts = [prompt(chat, t, 1) for t in ("How many?", "Is it?", "a red one", "a star?")]
    width = max(len(p.tokens) for p in prompts)
    tokens = torch.tensor([p.tokens + [0] * (width - len(p.tokens)) for p in prompts])
    sees = torch.tensor([p.sees + [(0, 0)] * (width - len(p.sees)) for p in prompts])
    together = model(tokens, *collate_images([[i] for i in images]), sees)  # rows 0, 1 on picture 0; 2, 3 on picture 1
    for r, p in enumerate(prompts):
        alone = full_logits(model, p, [images[r // 2]])
        torch.testing.assert_close(together[r : r + 1, : len(p.tokens)], alone, atol=2e-5, rtol=0)


def test_intervals_count_the_tokens_of_real_tiles():
    sees = torch.tensor([[[0, 0], [0, 1], [1, 3]]])
    assert token_intervals(sees, torch.tensor([[5, 10, 20]])).tolist() == [[[0, 0], [0, 5], [5, 35]]]


def held(engine):
    """Pages and pictures that sequences hold."""
    scheduler = engine.scheduler
    return scheduler.pool.n_used, scheduler.cache.n_used, len(scheduler.cache.joined), scheduler.busy


NOTHING = (0, 0, 0, False)


def test_a_closed_stream_frees_all_it_holds(model, chat, rows):
    engine = engine_for(model, chat, stop=False)
    steps = engine.steps(*rows, Sampling(max_new_tokens=20))
    next(steps)
    assert held(engine)[:3] == (sum(-(-len(p.tokens) // 16) for p in rows[0]), 4, 1)
    steps.close()
    assert held(engine) == NOTHING
    forgotten = engine.follow(engine.submit(rows[0][0], rows[1][0], Sampling(max_new_tokens=20)))
    next(forgotten)
    assert engine.scheduler.busy
    del forgotten
    gc.collect()
    assert held(engine) == NOTHING


def test_sampling_is_reproducible_and_respects_its_limits():
    logits = torch.randn(3, 50)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    again = [torch.Generator().manual_seed(i) for i in range(3)]
    warm = Sampling(temperature=1.0)
    assert torch.equal(choose(logits, [warm] * 3, generators), choose(logits, [warm] * 3, again))
    for sure in (Sampling(temperature=1.0, top_k=1), Sampling(temperature=1.0, top_p=1e-6), Sampling()):
        assert torch.equal(choose(logits, [sure] * 3, generators), logits.argmax(-1))
    top = logits.topk(5).indices
    for _ in range(50):
        drawn = choose(logits, [Sampling(temperature=2.0, top_k=5)] * 3, generators)
        assert (drawn[:, None] == top).any(-1).all()


def test_sampling_draws_by_the_probabilities_each_row_its_own_way():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]] * 3)
    ways = [Sampling(temperature=1.0), Sampling(temperature=0.5, top_p=0.9), Sampling(temperature=2.0, top_k=2)]
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    drawn = torch.stack([choose(logits, ways, generators) for _ in range(4000)])  # (draws, rows)
    shares = torch.stack([(drawn == token).float().mean(0) for token in range(4)], dim=1)
    hot = (logits[0] / 2)[:2].softmax(-1)
    cold = (logits[0] / 0.5).softmax(-1)[:2]
    wanted = torch.stack([logits[0].softmax(-1), *(torch.cat([p / p.sum(), torch.zeros(2)]) for p in (cold, hot))])
    torch.testing.assert_close(shares, wanted, atol=0.03, rtol=0)
    alone = [choose(logits[:1], ways[:1], [torch.Generator().manual_seed(5)]) for _ in range(2)]
    mixed = choose(logits, ways, [torch.Generator().manual_seed(5 + i) for i in range(3)])
    assert alone[0] == alone[1] == mixed[0]


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}])
def test_impossible_sampling_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)


def test_a_prompt_longer_than_the_context_is_refused(model, chat):
    with pytest.raises(ValueError, match="context"):
        engine_for(model, chat).generate([prompt(chat, "star " * 400, 0)], [[]], Sampling())


def test_the_context_ends_an_answer(chat):
    model = tiny_model(tiny_config(max_seq_len=32))
    p = prompt(chat, "star", 0)
    steps = engine_for(model, chat, stop=False).generate([p], [[]], Sampling(max_new_tokens=100))[0]
    assert steps[-1].finish == "length" and len(p.tokens) + len(steps) == 33  # the last one needs no slot
