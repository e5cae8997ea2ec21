"""Configs are strict: every mistake is one line that names the key, what was found and what was expected."""

import dataclasses
import json

import pytest
import torch

from vlm.config import (
    PRESETS,
    ConnectorConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    RopeScaling,
    from_dict,
    near_match,
    to_dict,
)
from vlm.image import ImageConfig
from vlm.model import VisionLanguageModel
from vlm.training.config import Stage, TrainConfig


@pytest.mark.parametrize(("name", "count"), [("11b", 10_670_220_835), ("90b", 88_593_355_323)])
def test_the_big_presets_have_the_parameters_of_the_hub(name, count):
    with torch.device("meta"):
        model = VisionLanguageModel(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == count
    assert len(model.decoder.cross_attention) == len(PRESETS[name].decoder.cross_attention_layers)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_a_round_trip_through_json(name):
    preset = PRESETS[name]
    again = from_dict(ModelConfig, json.loads(json.dumps(to_dict(preset))))
    assert again == preset
    assert hash(again) == hash(preset)


def test_a_config_without_encoder_survives_and_builds_a_plain_decoder():
    debug = PRESETS["debug"].decoder
    config = ModelConfig(encoder=None, decoder=dataclasses.replace(debug, cross_attention_layers=()))
    assert from_dict(ModelConfig, to_dict(config)) == config
    model = VisionLanguageModel(config)
    assert not hasattr(model, "encoder")
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 300)


def test_missing_keys_take_the_defaults():
    assert from_dict(ModelConfig, {}) == ModelConfig()
    assert from_dict(ModelConfig, {"decoder": {"dim": 64}}).decoder == DecoderConfig(dim=64)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"decodr": {}}, ["config", "'decodr'", "did you mean 'decoder'?", "known keys: encoder"]),
        ({"decoder": {"n_layer": 2}}, ["config.decoder", "'n_layer'", "did you mean 'n_layers'?"]),
        ({"encoder": {"zzzz": 2}}, ["config.encoder", "'zzzz'", "known keys"]),
        ({1: 2}, ["unknown key 1"]),
        ({"decoder": {"rope_scaling": {"factr": 2.0}}}, ["config.decoder.rope_scaling", "did you mean 'factor'?"]),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(data, words):
    with pytest.raises(ValueError) as error:
        from_dict(ModelConfig, data)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_no_near_match_gives_no_hint():
    assert near_match("zzzz", ["dim"]) == ""
    assert "did you mean" not in str(pytest.raises(ValueError, from_dict, ModelConfig, {"zzzz": 1}).value)


@pytest.mark.parametrize(
    ("data", "where", "expected"),
    [
        ({"decoder": {"dim": "64"}}, "config.decoder.dim", "expected int"),
        ({"decoder": {"dim": True}}, "config.decoder.dim", "expected int"),
        ({"decoder": {"dim": 64.0}}, "config.decoder.dim", "expected int"),
        ({"decoder": {"dim": None}}, "config.decoder.dim", "expected int"),
        ({"decoder": {"norm_eps": "small"}}, "config.decoder.norm_eps", "expected float"),
        ({"decoder": {"norm_eps": True}}, "config.decoder.norm_eps", "expected float"),
        ({"decoder": {"tie_embeddings": 1}}, "config.decoder.tie_embeddings", "expected bool"),
        ({"decoder": {"cross_attention_layers": 3}}, "config.decoder.cross_attention_layers", "expected tuple"),
        ({"decoder": {"cross_attention_layers": ["3"]}}, "config.decoder.cross_attention_layers", "expected int"),
        ({"decoder": {"rope_scaling": 8}}, "config.decoder.rope_scaling", "expected a mapping"),
        ({"decoder": {"rope_scaling": {"attention_factor": "x"}}}, "attention_factor", "expected float or null"),
        ({"encoder": {"name": 3}}, "config.encoder.name", "expected str"),
        ({"encoder": []}, "config.encoder", "expected a mapping with the keys of EncoderConfig"),
        ([], "config", "expected a mapping with the keys of ModelConfig"),
    ],
)
def test_a_wrong_type_names_its_place(data, where, expected):
    with pytest.raises(ValueError) as error:
        from_dict(ModelConfig, data)
    assert where in str(error.value) and expected in str(error.value), str(error.value)


def test_a_required_key_that_is_missing_is_named():
    with pytest.raises(ValueError, match="the key 'output' is missing"):
        from_dict(TrainConfig, {})
    with pytest.raises(ValueError, match="the key 'mixture' is missing"):
        from_dict(Stage, {"until": 3})


def test_whole_numbers_and_lists_are_taken_where_json_has_nothing_else():
    decoder = from_dict(DecoderConfig, {"rope_theta": 10000, "cross_attention_layers": [3, 7]})
    assert type(decoder.rope_theta) is float
    assert decoder.cross_attention_layers == (3, 7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EncoderConfig(n_heads=7), ["encoder.n_heads: found 7", "divisor of encoder.dim (1280)"]),
        (lambda: EncoderConfig(n_heads=0), ["encoder.n_heads: found 0"]),
        (lambda: EncoderConfig(stem="convs"), ["encoder.stem", "linear, conv", "did you mean 'conv'?"]),
        (lambda: EncoderConfig(stem_blocks=2), ["encoder.stem_blocks", "found 2 of a linear stem"]),
        (lambda: EncoderConfig(tile_padding="non"), ["encoder.tile_padding", "did you mean 'none'?"]),
        (lambda: EncoderConfig(taps=(3, 32)), ["encoder.taps: found [32]", "from 0 to 31"]),
        (lambda: EncoderConfig(taps=(-1,)), ["encoder.taps: found [-1]"]),
        (lambda: DecoderConfig(n_kv_heads=5), ["decoder.n_kv_heads: found 5", "decoder.n_heads (32)"]),
        (lambda: DecoderConfig(n_kv_heads=64), ["decoder.n_kv_heads: found 64"]),
        (lambda: DecoderConfig(head_dim=7), ["decoder.head_dim: found 7", "even"]),
        (lambda: DecoderConfig(cross_attention_layers=(3, 3)), ["decoder.cross_attention_layers", "distinct"]),
        (lambda: DecoderConfig(cross_attention_layers=(32,)), ["decoder.cross_attention_layers", "0 to 31"]),
        (lambda: RopeScaling(kind="yarm"), ["rope_scaling.kind", "did you mean 'yarn'?"]),
        (lambda: ModelConfig(image=ImageConfig(tile_size=8)), ["encoder.patch_size: found 14", "image.tile_size (8)"]),
    ],
)
def test_impossible_sizes_are_refused_when_the_config_is_made(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("config", [RopeScaling(), EncoderConfig(), ConnectorConfig(), DecoderConfig(), ModelConfig()])
def test_configs_are_frozen_and_take_names_only(config):
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, getattr(config, name))
    with pytest.raises(TypeError):
        type(config)(getattr(config, name))


@pytest.mark.parametrize("name", ["dim", "n_layers", "hidden_dim", "vocab_size", "max_seq_len"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"decoder.{name}: found 0"):
        DecoderConfig(**{name: 0})


def test_an_unknown_connector_names_the_known_ones():
    with pytest.raises(ValueError, match="linear"):
        ConnectorConfig(name="liner")
