"""What a checkpoint costs, by its config alone; figures of the 11B as published."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vlm.checkpoints import CheckpointError, save_checkpoint
from vlm.checkpoints.info import describe, image_tokens, to_text
from vlm.checkpoints.keys import empty_model
from vlm.config import PRESETS, ConnectorConfig

GOLDEN = Path(__file__).parent / "golden"
ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip


@pytest.fixture(scope="module")
def config_only(tmp_path_factory) -> Path:
    """The 11B without a single weight."""
    path = tmp_path_factory.mktemp("11b")
    data = {"model_type": "mllama", "text_config": {"rope_scaling": ROPE}, "vision_config": {"image_size": 560}}
    (path / "config.json").write_text(json.dumps(data | {"torch_dtype": "bfloat16"}))
    return path


def test_the_11b(config_only):
    found = describe(config_only, tiles=4, context=1024, batch=2)
    assert found["parameters"] == 10_670_220_835 and found["layout"] == "hub" and found["dtype"] == "bfloat16"
    assert found["parts"] == {"encoder": 863_567_379, "connector": 31_461_376, "decoder": 9_775_192_080}
    bf16, int8, int4 = found["memory"].values()
    assert bf16["weights"] == 2 * 10_670_220_835
    assert bf16["text_cache"] == 2 * 1024 * 128 * 1024  # 128 KiB per token
    assert bf16["image_cache"] == 2 * 209_846_272  # of four tiles
    layers = 32 * 218_103_808 + 8 * 218_103_808
    head = 128256 * 4096
    rest = 2 * (10_670_220_835 - layers - head)
    assert int4["weights"] == layers // 2 + layers // 64 + head + 2 * 128256 + rest
    assert rest + layers + head < int8["weights"] < 1.01 * (rest + layers + head)
    assert int8["text_cache"] == bf16["text_cache"] // 2 + 2 * 1024 * 32 * 2 * 8 * 2
    one = describe(config_only, tiles=1, context=1, batch=1)["memory"]["bf16"]
    assert 4 * one["image_cache"] == 209_846_272 and one["total"] == sum(v for k, v in one.items() if k != "total")


@pytest.mark.parametrize("layout", ["hf", "meta"])
def test_both_layouts_say_the_same(layout):
    found = describe(GOLDEN / layout)
    assert found["parameters"] == 396_843 and found["dtype"] == "float32" and found["file_bytes"] > 1_500_000
    text = to_text(found)
    assert f"{found['layout']} layout, float32" in text and "396,843 parameters" in text and "image cache" in text


@pytest.mark.parametrize(("connector", "tokens"), [("linear", 4 * 5), ("perceiver:3", 3), ("qformer:2", 2)])
def test_image_tokens_of_connectors(connector, tokens):
    config = replace(PRESETS["debug"], connector=ConnectorConfig(name=connector))
    assert [image_tokens(empty_model(config), n) for n in (0, 4, 8)] == [0, tokens, 2 * tokens]


def test_the_model_says_how_much_where_nobody_does(tmp_path):
    found = describe(save_checkpoint(empty_model(PRESETS["debug"]).to_empty(device="cpu"), tmp_path / "a"))
    assert (found["tiles"], found["context"], found["batch"]) == (4, 256, 1)  # the context of the debug preset


@pytest.mark.parametrize(("option", "value"), [("tiles", -1), ("context", 0), ("batch", 0)])
def test_impossible_sizes_are_named(config_only, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}, expected at least"):
        describe(config_only, **{option: value})


def test_only_configs_are_fetched_from_the_hub(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def snapshot_download(name, **options):
        asked.update(options)
        return str(shutil.copy(GOLDEN / "hf/config.json", tmp_path) and tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert describe("some/model")["parameters"] == 396_843 and asked["allow_patterns"] == ["*.json"]


def test_what_is_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="the folder is empty"):
        describe(tmp_path)
