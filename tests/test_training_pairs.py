"""Training on questions about two pictures: rows see both, each has its dense labels, order matters."""

import pytest
import torch
from test_training import OVERRIDES, batches_of, config_for, new_model, same

from vlm.chat import IGNORE
from vlm.training import run
from vlm.training.config import Stage
from vlm.training.loop import Trainee

PLACES = OVERRIDES | {"connector.positions": True}


def of_pairs(tmp_path, mixture=None, **stage):
    stages = (Stage(until=40, mixture=mixture or {"pairs": 1.0}, **stage),)
    return config_for(tmp_path, stages=stages, batch_pictures=4, overrides=PLACES)


def test_rows_hold_two_pictures_and_see_both(tmp_path, chat):
    batch = batches_of(of_pairs(tmp_path, caption_share=1.0), chat)[0]
    assert batch.tiles.shape[:2] == batch.grid.shape[:2] == (2, 2)  # as many pictures as single ones would be
    rows = batch.text
    for tokens, sees, segments in zip(rows.tokens, rows.sees, rows.segments, strict=True):
        assert (tokens == chat.image_id).sum() == 2 and (segments[tokens == chat.image_id] == 0).all()
        assert (sees[segments > 0] == torch.tensor([0, 2])).all()
    patches = (56 // 14) ** 2
    assert batch.dense["color"].shape == (2, 2 * patches)
    assert all(v.shape[:2] == (2, 2 * patches) for v in batch.dense.values())
    assert (batch.dense["color"][:, patches:] > 0).any() and (batch.dense["color"][:, :patches] > 0).any()


def test_batches_hold_pairs_or_single_pictures(tmp_path, chat):
    batches = batches_of(of_pairs(tmp_path, {"pairs": 0.5, "shapes": 0.5}, text=False), chat)
    shapes = [tuple(batches[k].tiles.shape[:2]) for k in range(40)]
    assert set(shapes) == {(2, 2), (4, 1)} and 8 < shapes.count((2, 2)) < 32


@torch.no_grad()
def test_the_loss_is_that_of_the_questions_alone(tmp_path, chat):
    config = of_pairs(tmp_path)
    trainee = Trainee(new_model(config)).eval()
    trainee.model.connector.positions.picture_embedding.normal_()
    batch = batches_of(config, chat)[1]
    rows, total, count, swapped = batch.text, 0.0, 0, 0.0
    for i, segments in enumerate(rows.segments):
        for number in range(1, int(segments.max()) + 1):
            chosen = (segments == 0) | (segments == number)
            tokens, labels, sees = (x[i][chosen] for x in (rows.tokens, rows.labels, rows.sees))
            spoken = labels != IGNORE
            for pictures in (batch.tiles[i : i + 1], batch.tiles[i : i + 1].flip(1)):
                logits = trainee.model(tokens[None], pictures, batch.grid[i : i + 1], sees[None])[0][spoken]
                loss = -logits.log_softmax(-1).gather(1, labels[spoken][:, None]).sum()
                total, swapped = (total + loss, swapped) if pictures.data_ptr() == batch.tiles[i].data_ptr() else (
                    total, swapped + loss)  # fmt: skip
            count += int(spoken.sum())
    _, parts = trainee(batch, config)
    assert float(parts["answer"]) == pytest.approx(float(total) / count, rel=1e-4)
    assert abs(float(total - swapped)) > 1e-4


def test_a_model_without_places_of_pictures_learns_them(tmp_path, chat):
    small = new_model(config_for(tmp_path / "a"))
    run.export(small, chat, tmp_path / "model")
    model = new_model(of_pairs(tmp_path / "b"))
    run.load_weights(model, tmp_path / "model")
    assert not model.connector.positions.picture_embedding.any()
    del model.connector.positions
    assert same(model.bfloat16(), small.bfloat16())
