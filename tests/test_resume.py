"""A run that was stopped or killed ends with the same weights as one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vlm.training.config import TrainConfig, read_config
from vlm.training.loop import learning_rate
from vlm.training.run import run_training
from vlm.training.state import checkpoints

ROOT = Path(__file__).parent.parent
CONFIG = """
output: {output}
model: debug
overrides: {{image.tile_size: 28, decoder.gate_init: 0.5, decoder.vocab_size: 420}}
batch_pictures: 2
questions: 2
warmup: 2
dtype: fp32
device: cpu
threads: 1
workers: 0
checkpoint_every: 2
log_every: 1
sample_every: 1000
keep: 9
stages:
  - {{until: 2, text: false, mixture: {{scenes: 1.0}}}}
  - {{until: 8, mixture: {{shapes: 1.0}}, families: [exist, attribute]}}
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from vlm.data.tokenizer import train_tokenizer
    from vlm.training.run import sentences

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    config = TrainConfig(output="x", stages=_stages())
    words = [s for _, s in zip(range(3000), sentences(config, 900), strict=False)]
    train_tokenizer(words, 420).save(str(path))
    return path


def _stages():
    from vlm.training.config import Stage

    return (Stage(until=1, mixture={"scenes": 1.0}),)


def config_file(folder: Path, tokenizer: Path) -> Path:
    path = folder / "run.yaml"
    path.write_text(CONFIG.format(output=folder / "out") + f"tokenizer: {tokenizer}\n")
    return path


def weights(folder: Path) -> dict:
    return load_file(checkpoints(folder / "out")[-1] / "state.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("undisturbed")
    run_training(read_config(config_file(folder, tokenizer)))
    return weights(folder)


def test_a_stopped_run_ends_with_the_same_weights(tmp_path, tokenizer, undisturbed):
    config = read_config(config_file(tmp_path, tokenizer))
    run_training(config, stop_after=3)
    assert checkpoints(tmp_path / "out")[-1].name == "step-0000003"
    run_training(config)
    assert same(weights(tmp_path), undisturbed)


def test_a_killed_run_ends_with_the_same_weights(tmp_path, tokenizer, undisturbed):
    path = config_file(tmp_path, tokenizer)
    command = [sys.executable, "-m", "vlm", "train", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not checkpoints(tmp_path / "out") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoints(tmp_path / "out")
    run_training(read_config(path))
    assert same(weights(tmp_path), undisturbed)


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    (tmp_path / ".partial-0000004").mkdir()
    (tmp_path / "step-0000006").mkdir()
    (tmp_path / "step-0000006" / "info.json").write_text("{}")
    assert checkpoints(tmp_path) == []


def test_the_schedule_warms_up_and_decays():
    config = TrainConfig(output="x", lr=1.0, min_lr=0.1, warmup=10, stages=_stages())
    assert learning_rate(0, config) == pytest.approx(0.1) and learning_rate(9, config) == 1.0
    cold = TrainConfig(output="x", lr=1.0, min_lr=0.1, warmup=0, stages=_stages())
    assert learning_rate(1, cold) == pytest.approx(0.1)


@pytest.mark.parametrize("override", ["lern_rate=1", "model=mni", "stages=[]", "batch_pictures=0", "dtype=int8", "lr"])
def test_a_wrong_setting_is_one_clear_error(tmp_path, tokenizer, override):
    with pytest.raises(ValueError) as error:
        read_config(config_file(tmp_path, tokenizer), [override])
    assert "\n" not in str(error.value) and override.split("=")[0].split("_")[-1] in str(error.value)
