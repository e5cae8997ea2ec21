"""A packed row is its conversations, nothing more: same tokens, same labels, same logits."""

import pytest
import torch

from vlm.chat import IGNORE
from vlm.model import token_intervals
from vlm.training.packing import MULTIPLE, PADDING, pack

ASKED = (("How many red circles?", "Two."), ("Why?", "Because of a star."), ("How many red stars are there?", "None."))


def conversation(chat, question, answer):
    content = [{"type": "image", "image": None}, {"type": "text", "text": question}]
    return chat.encode([{"role": "user", "content": content}, {"role": "assistant", "content": answer}], generate=False)


@pytest.fixture
def prompts(chat):
    return [conversation(chat, *asked) for asked in ASKED]


def segment(rows, row, number):
    """Where a conversation stands in its row, the shared beginning included."""
    return (rows.segments[row] == 0) | (rows.segments[row] == number)


def test_every_conversation_is_there_whole(chat, prompts):
    rows = pack([prompts, prompts[1:]], chat.pad_id)
    assert rows.tokens.shape[1] % MULTIPLE == 0
    for row, packed in enumerate((prompts, prompts[1:])):
        for number, p in enumerate(packed, 1):
            here = segment(rows, row, number)
            assert rows.tokens[row, here].tolist() == p.tokens
            assert rows.sees[row, here].tolist() == [list(s) for s in p.sees]
            assert rows.positions[row, here].tolist() == list(range(len(p.tokens)))
            assert rows.labels[row, here].tolist() == [*p.labels[1:], IGNORE]
    filling = rows.segments == PADDING
    assert filling.any() and (rows.tokens[filling] == chat.pad_id).all() and (rows.labels[filling] == IGNORE).all()
    assert not rows.sees[filling].any()


def test_the_common_beginning_is_laid_down_once(chat, prompts):
    rows = pack([prompts], chat.pad_id)
    shared = int((rows.segments == 0).sum())
    assert shared > 5 and int((rows.tokens == chat.image_id).sum()) == 1
    assert int((rows.segments != PADDING).sum()) == sum(len(p.tokens) for p in prompts) - shared * (len(prompts) - 1)


@pytest.mark.parametrize("n", [1, 2])
def test_equal_conversations_share_no_answer(chat, prompts, n):
    rows = pack([[prompts[0]] * n], chat.pad_id)
    assert int((rows.labels != IGNORE).sum()) == n * sum(label != IGNORE for label in prompts[0].labels)


@torch.no_grad()
def test_logits_are_those_of_the_conversations_alone(chat, prompts, model):
    tiles, grid = torch.randn(2, 1, 2, 3, 28, 28), torch.tensor([[[1, 2]], [[1, 1]]])
    rows = pack([prompts, prompts[:2]], chat.pad_id)
    image, lengths = model.encode_images(tiles, grid)
    packed = model.decoder(
        rows.tokens, image=image, intervals=token_intervals(rows.sees, lengths), positions=rows.positions,
        mask=rows.mask(),
    )  # fmt: skip
    for row, n in ((0, 3), (1, 2)):
        for number in range(1, n + 1):
            p = prompts[number - 1]
            alone = model(
                torch.tensor([p.tokens]), tiles[row : row + 1], grid[row : row + 1], torch.tensor([p.sees])
            )  # fmt: skip
            torch.testing.assert_close(packed[row, segment(rows, row, number)], alone[0], atol=1e-5, rtol=1e-4)
