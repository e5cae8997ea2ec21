"""Any encoder, any connector, one Llama: every pair keeps the same promises."""

import socket
import tempfile

import pytest
import torch
from PIL import Image

import vlm
from tests.registry import TIMM, build, tile_size
from vlm.api import VLM
from vlm.checkpoints import save_checkpoint
from vlm.composition import compose
from vlm.image import collate_images, preprocess
from vlm.training.groups import freeze

TOWERS = ("tiny-vit", "ViT-B-16-SigLIP", "tiny-eva", "tiny-convnext", "tiny-coca", "MobileCLIP2-S0")
ENCODERS = [*(f"timm:{n}" for n in TIMM), *(f"open_clip:{n}" for n in TOWERS)]
CONNECTORS = ("linear", "mlp", "perceiver:4", "qformer:4")
TOKENS = torch.arange(14).view(2, 7) * 13 % 200
SEES = torch.tensor([(0, 0), *[(0, 1)] * 6]).expand(2, 7, 2)  # the first token sees nothing
GRID = torch.tensor([[(1, 2)], [(1, 1)]])


@pytest.fixture(scope="module", params=ENCODERS)
def built(request, towers):
    """An encoder, built once for all connectors."""
    return request.param, build(request.param)


@pytest.fixture(scope="module")
def composed(built, llama):
    """What `compose` makes around the encoder, with each connector."""
    name, encoder = built
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlm.composition.create_encoder", lambda *_, **__: encoder)
        torch.manual_seed(1)
        return {
            connector: compose(
                encoder=name, connector=connector, decoder=llama, cross_attention_every=2, max_tiles=2,
                tile_size=tile_size(name),
            )
            for connector in CONNECTORS
        }  # fmt: skip


@pytest.fixture
def made(composed, connector):
    """One pair with its gates open."""
    return with_gates(composed[connector], 0.5)


def with_gates(made, value):
    for name, p in made.model.named_parameters():
        if name.endswith("_gate") and "cross_attention" in name:
            p.data.fill_(value)
    return made


def pictures(made):
    side = made.config.image.tile_size
    return {"tiles": torch.randn(2, 1, 2, 3, side, side), "grid": GRID, "sees": SEES}


@pytest.fixture(scope="module")
def text_logits(llama):
    with torch.no_grad():
        return vlm.load(llama, device="cpu").model(TOKENS)


every_connector = pytest.mark.parametrize("connector", CONNECTORS)


@every_connector
@torch.no_grad()
def test_shut_gates_are_the_llama(made, text_logits):
    with_gates(made, 0.0)
    assert text_logits.shape == (2, 7, 300)
    assert torch.equal(made.model(TOKENS), text_logits)
    assert torch.equal(made.model(TOKENS, **pictures(made)), text_logits)


@every_connector
@torch.no_grad()
def test_a_batch_is_its_rows_alone(made, text_logits):
    batch = pictures(made)
    seen = made.model(TOKENS, **batch)
    assert seen.shape == text_logits.shape and seen.isfinite().all()
    assert torch.equal(seen[:, 0], made.model(TOKENS)[:, 0]) and (seen - text_logits)[:, 1:].abs().amax(-1).min() > 1e-3
    change = (made.model(TOKENS, **{**batch, "tiles": batch["tiles"].flip(0)}) - seen).abs().amax((1, 2))
    for row in range(2):
        tight = {"tiles": batch["tiles"][[row], :, : 2 - row], "grid": GRID[[row]], "sees": SEES[[row]]}
        alone = made.model(TOKENS[[row]], **tight)[0]
        assert (alone - seen[row]).abs().max() < 0.02 * change[row]  # another picture changes far more


@every_connector
def test_gradients_are_where_they_are_wanted(made):
    parameters = dict(made.model.named_parameters())
    before = {name: p.requires_grad for name, p in parameters.items()}
    freeze(made.model, ("connector", "cross_attention"))
    weights = torch.randn(2, 7, 300)
    (made.model(TOKENS, **pictures(made)) * weights).sum().backward()
    grads = {name: p.grad for name, p in parameters.items()}
    made.model.zero_grad()
    for name, p in parameters.items():
        p.requires_grad_(before[name])
        if name.startswith(("connector.", "decoder.cross_attention.")):
            assert grads[name] is not None and grads[name].isfinite().all() and grads[name].any(), name
        else:
            assert grads[name] is None, name


@pytest.mark.parametrize("connector", ["linear"])
def test_gradients_reach_the_encoder_and_the_llama(made):
    weights = torch.randn(2, 7, 300)
    (made.model(TOKENS, **pictures(made)) * weights).sum().backward()
    grads = {name: p.grad for name, p in made.model.named_parameters() if p.requires_grad}
    made.model.zero_grad()
    assert [name for name, g in grads.items() if g is None or not g.isfinite().all()] == []
    # keys shift all scores of a query alike, so some biases have no gradient by construction
    assert sum(bool(g.any()) for g in grads.values()) > 0.8 * len(grads)


@every_connector
@torch.no_grad()
def test_it_answers_as_its_logits_say(made):
    picture = Image.effect_noise((90, 40), 60).convert("RGB")
    answer = VLM(made.model, made.chat).answer(picture, "How many?", max_new_tokens=1)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "How many?"}]
    prompt = made.chat.encode([{"role": "user", "content": content}])
    tiles, grid = collate_images([[preprocess(picture, made.config.image)]])
    assert grid.tolist() == [[[1, 2]]]
    logits = made.model(torch.tensor([prompt.tokens]), tiles, grid, torch.tensor([prompt.sees]))
    assert answer.completion_tokens == 1 and answer.prompt_tokens == len(prompt.tokens)
    assert answer.logprob == pytest.approx(float(logits[0, -1].log_softmax(-1).max()), abs=1e-3)


def test_a_folder_gives_the_same_model_without_a_network(built, composed, tmp_path, monkeypatch):
    """Each connector in its turn: every encoder with one of them, every connector with several encoders."""
    made = with_gates(composed[CONNECTORS[ENCODERS.index(built[0]) % len(CONNECTORS)]], 0.5)
    batch = pictures(made)

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder, torch.no_grad():  # gone at once: together they are 2 GB
        save_checkpoint(made, f"{folder}/model")
        again = vlm.load(f"{folder}/model", device="cpu", dtype=torch.float32)
        assert again.model.config == made.config and again.chat_format.image_id == made.chat.image_id
        ours, theirs = made.model.state_dict(), again.model.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        # equal weights elsewhere in memory: some convolutions take another path and round otherwise
        torch.testing.assert_close(again.model(TOKENS, **batch), made.model(TOKENS, **batch), atol=1e-5, rtol=1e-4)
