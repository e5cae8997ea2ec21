"""A composed model is the Llama that it was made of, until it is trained."""

import json

import pytest
import torch
from PIL import Image

import vlm
from vlm.chat import IMAGE, ChatError
from vlm.chat_template import PLAIN, TemplateChat
from vlm.checkpoints import CheckpointError, save_checkpoint
from vlm.composition import compose, with_image_token
from vlm.config import BackboneConfig, ModelConfig, from_dict, to_dict
from vlm.model import VisionLanguageModel

ENCODERS = ("tiled", "timm:vit_tiny_patch16_224", "timm:resnet10t", "open_clip:ViT-B-32")
SIZES = {"tiled": 28, "open_clip:ViT-B-32": 224}  # pixels; 64 elsewhere
CONNECTORS = ("linear", "mlp", "perceiver:4", "qformer:4")


def make(encoder, connector, llama, **options):
    return compose(
        encoder=encoder, connector=connector, decoder=llama, cross_attention_every=2, max_tiles=2,
        tile_size=SIZES.get(encoder, 64), **options,
    )  # fmt: skip


PAIRS = [*((ENCODERS[1], c) for c in CONNECTORS), *((e, "linear") for e in ENCODERS[2:])]


@pytest.mark.parametrize(("encoder", "connector"), PAIRS)
def test_it_is_the_llama_and_survives_a_folder(encoder, connector, llama, tmp_path, monkeypatch):
    made = make(encoder, connector, llama)
    assert type(VisionLanguageModel.compose(encoder="tiled", decoder="debug")) is type(made.model)
    assert made.config.decoder.cross_attention_layers == (1, 3)
    alone, model = vlm.load(llama, device="cpu").model, made.model
    tokens = torch.randint(0, 200, (2, 7))
    size = made.config.image.tile_size
    picture = {
        "tiles": torch.randn(2, 1, 2, 3, size, size), "grid": torch.tensor([[[1, 2]], [[1, 1]]]),
        "sees": torch.tensor([0, 1]).expand(2, 7, 2),
    }  # fmt: skip
    with torch.no_grad():
        text = alone(tokens)
        assert torch.equal(model(tokens), text) and torch.equal(model(tokens, **picture), text)
        for block in model.decoder.cross_attention.values():
            block.attn_gate.fill_(0.5)
        seen = model(tokens, **picture)
        assert not torch.allclose(seen, text, atol=1e-4)
        first = model(tokens[:1], **{k: v[:1] for k, v in picture.items()})
        torch.testing.assert_close(first, seen[:1], atol=1e-5, rtol=1e-4)
        save_checkpoint(made, tmp_path / "made")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        again = vlm.load(tmp_path / "made", device="cpu", dtype=torch.float32)
        assert again.model.config == made.config and again.chat_format.image_id == made.chat.image_id
        torch.testing.assert_close(again.model(tokens, **picture), seen)
    assert again.answer(Image.new("RGB", (90, 40), "red"), "How many?", max_new_tokens=3).completion_tokens >= 1
    if encoder != "tiled":
        written = json.loads((tmp_path / "made/config.json").read_text())["model"]["encoder"]
        assert written["name"] == encoder and written["library"].split()[0] in encoder
        with pytest.raises(CheckpointError, match="no place for the encoder"):
            save_checkpoint(made, tmp_path / "hub", layout="hub")


def test_a_model_of_text_says_that_it_sees_nothing(llama):
    with pytest.raises(ChatError, match="reads text only"):
        vlm.load(llama, device="cpu").answer(Image.new("RGB", (9, 9)), "What is this?")


def test_only_new_parts_have_gradients_where_the_gates_are_shut(llama):
    model = make(ENCODERS[1], "linear", llama).model.train()
    tiles, grid = torch.randn(1, 1, 1, 3, 64, 64), torch.ones(1, 1, 2, dtype=torch.long)
    model(torch.arange(5)[None], tiles, grid, torch.tensor([0, 1]).expand(1, 5, 2)).square().sum().backward()
    gates = [p.grad for n, p in model.named_parameters() if n.endswith("attn_gate")]
    assert len(gates) == 2 and all(g.abs() > 0 for g in gates)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_image_token_joins_a_text_tokenizer(chat):
    rust = type(chat.tokenizer.rust).from_str(chat.tokenizer.rust.to_str().replace(IMAGE, "<|nothing|>"))
    text = TemplateChat(
        type(chat.tokenizer)(rust), "{% for m in messages %}{{ m['content'] }}{% endfor %}", special={},
        stop_ids=frozenset({1}), image_id=None,
    )  # fmt: skip
    assert text.tokenizer.id(IMAGE) is None
    seeing = with_image_token(text)
    content = [{"type": "text", "text": "see <|image|>"}, {"type": "image", "image": "x"}]
    prompt = seeing.encode([{"role": "user", "content": content}])
    assert prompt.tokens.count(seeing.image_id) == 1 and prompt.images == ["x"]  # the typed one stays text
    known = TemplateChat(chat.tokenizer, PLAIN, special={}, stop_ids=frozenset(), image_id=None)
    assert with_image_token(known).image_id == chat.image_id


def test_configs_of_both_kinds_of_encoders_are_read_back(llama):
    for encoder in ENCODERS[:2]:
        config = make(encoder, "mlp", llama).config
        assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder": "mni"}, "decoder: found 'mni' .did you mean 'mini'"),
        ({"encoder": "timm:vit_tiny_patch16_2244"}, "did you mean 'timm:vit_tiny_patch16_224'"),
        ({"encoder": "timmy:vit"}, "unknown encoder 'timmy:vit'"),
        ({"connector": "perciever:8"}, "did you mean|Did you mean 'perceiver:8'"),
        ({"cross_attention_every": 9}, "cross_attention_every: found 9, expected 1 to 4"),
        ({"cross_attention_layers": (1, 1)}, r"cross_attention_layers: found \[1, 1\]"),
        ({"cross_attention_layers": (4,)}, r"cross_attention_layers: found \[4\], expected distinct .* 0 to 3"),
        ({"encoder": "tiled", "taps": (1,)}, "found pretrained, taps or prefix_tokens"),
    ],
)
def test_impossible_compositions_are_refused(llama, changes, words):
    with pytest.raises(ValueError, match=words):
        compose(**{"encoder": "timm:resnet10t", "decoder": llama, "tile_size": None, **changes})


def test_a_backbone_needs_a_name():
    with pytest.raises(ValueError, match="expected 'tiled', 'timm:NAME' or 'open_clip:NAME'"):
        BackboneConfig(name="timm:")
