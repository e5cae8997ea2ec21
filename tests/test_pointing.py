"""Where spelled characters stand, and attention that is taught to look there."""

import dataclasses
import random

import pytest
import torch
from PIL import Image, ImageDraw
from test_training import config_for, new_model
from torch.nn import functional as F

from vlm.chat import IGNORE
from vlm.data.sample import Sample, Thing
from vlm.data.worlds import sample
from vlm.data.worlds.language import DIRECTION
from vlm.image import preprocess
from vlm.training.data import WorldBatches
from vlm.training.loop import Trainee
from vlm.training.pointing import Canvas, looks, spelled_from, written


def line(text, top=0, left=0, side=10):
    """Characters side by side, as a page leaves them."""
    return [
        Thing(box=(left + side * i, top, left + side * (i + 1), top + side), what=f"char:{c}", place=i)
        for i, c in enumerate(text)
        if c.isalnum()
    ]


def drawn(*things):
    return Sample(image=Image.new("RGB", (200, 200)), world="text", captions=[], questions=[], things=list(things))


def letters(found):
    return "".join("." if t is None else t.what[-1] for t in found)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("BAKERY", "BAKERY"),
        ("12.50", "12.50"),
        ("open 24", "open.24"),
        ("open", "...."),  # stands there twice
        ("AKE", "..."),  # within a word
        ("BAKER", "....."),  # a word goes on
        ("yes", "..."),
        ("4", "."),
    ],
)
def test_an_answer_is_found_where_it_stands_once_as_whole_words(answer, expected):
    places = written(drawn(*line("BAKERY"), *line("open 24", 20), *line("open 12.50", 40), *line("yes", 60)))
    assert letters(spelled_from(list(answer), places)) == expected


def test_a_token_of_several_characters_points_to_its_first():
    places = written(drawn(*line("one of us")))
    found = spelled_from(["o", "ne", " of", " ", "us"], places)
    assert [t and (t.what, t.box[0]) for t in found] == [
        ("char:o", 0), ("char:n", 10), ("char:o", 40), None, ("char:u", 70)
    ]  # fmt: skip


def test_characters_of_another_picture_do_not_count():
    other = [Thing(box=t.box, what=t.what, place=t.place, picture=1) for t in line("BAKERY")]
    assert written(drawn(*other)) == []


@pytest.mark.parametrize("size", [(200, 200), (300, 90), (90, 300), (40, 40)])
def test_an_image_token_shows_the_thing_that_it_stands_for(model, size):
    """A spot changes that patch of the tiles that the model sees most which it is said to fall into."""
    config, patches = model.config.image, 4
    image = Image.new("RGB", size, "white")
    plain, grid = preprocess(image, config)
    for x, y in ((0.1, 0.2), (0.8, 0.3), (0.4, 0.9)):
        spot = (x * size[0] - 6, y * size[1] - 6, x * size[0] + 6, y * size[1] + 6)
        marked = image.copy()
        ImageDraw.Draw(marked).ellipse(spot, fill="black")
        canvas = Canvas(size, grid, config.tile_size, patches, patches**2 + 1)
        changed = (torch.as_tensor(preprocess(marked, config)[0]).float() - torch.as_tensor(plain).float()).abs()
        cells = F.avg_pool2d(changed.mean(1), config.tile_size // patches).flatten(1)  # (L, P)
        seen = divmod(int(cells.argmax()), patches**2)
        tile, token = divmod(canvas.token(tuple(map(round, spot))), patches**2 + 1)
        (row, col), (other_row, other_col) = (
            (t // grid[1] * patches + k // patches, t % grid[1] * patches + k % patches)
            for t, k in (seen, (tile, token - 1))
        )
        assert token > 0 and abs(row - other_row) <= 1 and abs(col - other_col) <= 1


def batch_of(chat, tmp_path):
    """Four pictures to be read."""
    config = config_for(tmp_path)
    batches = WorldBatches(config, new_model(config).config, chat, n_tokens=17)
    drawn_ones = (sample(i, seed=1, mixture={"text": 1.0}, size=112, families=("read",)) for i in range(20))
    samples = [s for s in drawn_ones if s.questions][:4]
    return config, batches.collate(samples, random.Random(0), config.stages[0])


def test_batches_say_where_to_look(chat, tmp_path):
    """At what comes next, and once it is said at what was said; answers alone look, and never at the class token."""
    _, batch = batch_of(chat, tmp_path)
    rows = batch.text
    following, said = rows.points.unbind(-1)
    there = following != IGNORE
    assert there.sum() > 10 and (rows.labels[there] != IGNORE).all()
    assert following[there].min() >= 1 and following[there].max() < batch.tiles.shape[2] * 17
    assert (following[there] % 17 > 0).all()
    assert torch.equal(said[:, 1:][there[:, :-1]], following[:, :-1][there[:, :-1]])


def test_places_and_anchors_are_looked_at_before_the_answer(chat, tmp_path):
    config = config_for(tmp_path)
    batches = WorldBatches(config, new_model(config).config, chat, n_tokens=17)
    scene = sample(
        0, seed=1, mixture={"scenes": 1.0}, size=56, families=("two-hop", "attribute", "relate"), n_questions=12
    )
    placed = [q for q in scene.questions if q.place and q.anchor]
    assert placed and all(q.place in [t.box for t in scene.things] for q in placed)
    canvas = Canvas(scene.image.size, (1, 1), 56, 4, 17)
    for q in placed:
        assert looks(q, ["a", "b"], None, canvas) == [(canvas.token(q.place), canvas.token(q.anchor)), (IGNORE, IGNORE)]
    rows = batches.collate([dataclasses.replace(scene, questions=placed[:2])], random.Random(0), config.stages[0]).text
    first = [(rows.segments[0] == n + 1).logical_and(rows.labels[0] != IGNORE).nonzero()[0].item() for n in range(2)]
    for q, t in zip(placed, first, strict=False):
        assert rows.points[0, t].tolist() == [canvas.token(q.place), canvas.token(q.anchor)]
    assert (rows.points[0, rows.labels[0] == IGNORE] == IGNORE).all()


def test_a_place_is_where_the_answer_is_seen():
    """The things that questions about scenes and emoji point to look as their answers say."""
    seen = 0
    for i in range(60):
        drawn = sample(i, seed=2, mixture={"scenes": 1.0}, size=96, n_questions=12)
        of = {t.box: (t.size, t.color, t.what) for t in drawn.things}
        for q in drawn.questions:
            if q.place and q.answer not in ("yes", "no") and q.family not in ("position", "cannot-tell"):
                if q.answer in (*DIRECTION, "left", "right"):
                    continue
                seen += 1
                assert set(q.answer.split()) <= set(of[q.place]), q
    assert seen > 100


def test_values_of_bars_are_looked_for_at_their_ends():
    seen = 0
    for i in range(80):
        drawn = sample(i, seed=3, mixture={"charts": 1.0}, size=192, families=("chart retrieval",), n_questions=8)
        boxes = [t.box for t in drawn.things if t.what == "nothing"]
        for q in drawn.questions:
            if q.anchor and boxes:
                x, y = (q.anchor[0] + q.anchor[2]) / 2, (q.anchor[1] + q.anchor[3]) / 2
                seen += any(b[0] - 2 <= x <= b[2] + 2 and b[1] - 2 <= y <= b[3] + 2 for b in boxes)
    assert seen > 60


def test_worlds_without_places_point_nowhere(chat, tmp_path):
    config = config_for(tmp_path)
    batches = WorldBatches(config, new_model(config).config, chat, n_tokens=17)
    assert (batches[0].text.points == IGNORE).all()


def looks_away(config, batch, steps=30):
    """The pointing loss before and after some steps."""
    trainee = Trainee(new_model(config))
    optimizer = torch.optim.Adam(trainee.parameters(), lr=3e-3)
    seen = []
    for _ in range(steps):
        loss, parts = trainee(batch, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(parts["point"].detach()))
    return seen[0], seen[-1]


def test_attention_learns_to_look_where_the_letters_stand(chat, tmp_path):
    config, batch = batch_of(chat, tmp_path)
    begin, taught = looks_away(dataclasses.replace(config, point_weight=1.0), batch)
    same, untaught = looks_away(dataclasses.replace(config, point_weight=0.0), batch)
    assert same == begin and taught < 0.7 * begin and taught < untaught - 1


def test_the_loss_is_that_of_attention_written_out(chat, tmp_path):
    config, batch = batch_of(chat, tmp_path)
    trainee = Trainee(new_model(config))
    blocks = trainee.model.decoder.cross_attention
    inputs = {}
    for i, block in blocks.items():
        block.attn.register_forward_pre_hook(lambda _, args, i=i: inputs.__setitem__(i, args))
    _, parts = trainee(batch, config)
    rows, expected = batch.text, []
    for which, (layers, head) in enumerate(((list(blocks)[1:], 0), (list(blocks)[:-1], -1))):
        points = rows.points[..., which]
        for i in layers:
            attn, (x, image, _) = blocks[i].attn, inputs[i]
            query = attn.q_norm(attn.q_proj(x).unflatten(-1, (-1, attn.head_dim)))[:, :, head]  # (B, T, Dh)
            shares = (query @ image.key[:, head].transpose(1, 2) / attn.head_dim**0.5).softmax(-1)
            picked = [-shares[b, t, points[b, t]].log() for b, t in (points != IGNORE).nonzero().tolist()]
            expected.append(torch.stack(picked).mean())
    torch.testing.assert_close(parts["point"], torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_connectors_that_mix_places_are_not_taught(chat, tmp_path):
    config = config_for(tmp_path, overrides={**config_for(tmp_path).overrides, "connector.name": "perceiver:8"})
    assert Trainee(new_model(config)).pointing is None
