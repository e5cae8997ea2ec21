"""Tiny random models that all tests share; fp32, one thread of work each."""

import dataclasses
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from vlm.chat import Chat, Tokenizer
from vlm.checkpoints import Checkpoint, save_checkpoint
from vlm.config import PRESETS, ModelConfig
from vlm.data.tokenizer import train_tokenizer
from vlm.guard.policy import Verdict
from vlm.guard.small import SmallGuard
from vlm.model import VisionLanguageModel

WORDS = ["How many red circles are there?", "Is there a blue square?", "Describe the picture.", "a large green star"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chat() -> Chat:
    return Chat(Tokenizer(train_tokenizer(WORDS * 4, 300)))


@pytest.fixture(autouse=True)
def _calm_guard(request, monkeypatch):
    """The package's own guard lets everything pass, whatever random models say, but in the tests of it."""
    if not request.module.__name__.rpartition(".")[2].startswith("test_guard"):
        verdict = Verdict(True, score=0.0, source="calm")
        monkeypatch.setattr(SmallGuard, "check", lambda self, messages, response=None: verdict)


def tiny_config(tile_padding: str = "reference", **decoder):
    """The debug preset, its gates open so that pictures matter."""
    debug = PRESETS["debug"]
    return dataclasses.replace(
        debug,
        encoder=dataclasses.replace(debug.encoder, tile_padding=tile_padding, gate_init=0.5),
        decoder=dataclasses.replace(debug.decoder, **{"gate_init": 0.7, **decoder}),
    )


def tiny_model(config=None) -> VisionLanguageModel:
    """A random model with every parameter different from its start, norms and tile embeddings included."""
    generator = torch.Generator().manual_seed(1)
    model = VisionLanguageModel(config or tiny_config()).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "gate" in name and p.numel() == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
            else:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.5 if p.ndim < 2 else p.shape[-1] ** -0.5))
    return model


@pytest.fixture(scope="session")
def model() -> VisionLanguageModel:
    return tiny_model()


@pytest.fixture(scope="session")
def llama(tmp_path_factory, chat):
    """A folder with a tiny Llama of text."""
    text = dataclasses.replace(tiny_config().decoder, cross_attention_layers=(), n_extra_tokens=8)
    model = VisionLanguageModel(ModelConfig(encoder=None, decoder=text)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.2)
    return save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path_factory.mktemp("l") / "m")


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Small towers, known to open_clip while the tests run."""
    from tests.registry import register_towers  # imports both libraries, which takes seconds

    register_towers(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture
def run(monkeypatch, capsys):
    """The `vlm` command with these arguments -> (exit code, standard output, standard error)."""
    from vlm.cli import main

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["vlm", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call
