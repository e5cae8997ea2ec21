"""Two processes take the steps that one takes with twice the accumulation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import config_for, new_model

from vlm.training import state
from vlm.training.loop import train
from vlm.training.parallel import Group, join

ROOT = Path(__file__).parent.parent
CHILD = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from test_training import config_for, new_model, train
from vlm.chat import Chat, Tokenizer
config = config_for({output!r}, accumulate=1)
train(config, new_model(config), Chat(Tokenizer.from_file({tokenizer!r})), stop_after={stop})
"""


def run_two(tmp_path, chat, stop):
    """A run of two processes up to a step, as torchrun would start it; their output for the error message."""
    tokenizer = tmp_path / "tokenizer.json"
    chat.tokenizer.rust.save(str(tokenizer))
    script = tmp_path / "child.py"
    script.write_text(
        CHILD.format(
            tests=str(ROOT / "tests"), root=str(ROOT), output=str(tmp_path / "two"), tokenizer=str(tokenizer), stop=stop
        )
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_equal_one_with_twice_the_accumulation(chat, tmp_path):
    config = config_for(tmp_path / "one", accumulate=2)
    train(config, new_model(config), chat)
    run_two(tmp_path, chat, stop=3)  # stopped and gone on with
    run_two(tmp_path, chat, stop=None)
    one, two = (state.checkpoints(tmp_path / name)[-1] for name in ("one", "two"))
    assert one.name == two.name == "step-0000006"
    a, b = (load_file(p / "state.safetensors") for p in (one, two))
    for name in (n for n in a if n.startswith("model.")):
        torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=1e-3)
    counted = [json.loads((p / "info.json").read_text()) for p in (one, two)]
    assert counted[0]["pictures"] == counted[1]["pictures"] == 24
    assert counted[0]["questions"] == counted[1]["questions"] == 48
    rows = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [2, 3, 4, 6]  # written once, by the first process


def test_a_run_of_two_is_not_gone_on_with_alone(chat, tmp_path):
    config = config_for(tmp_path)
    last = train(config, new_model(config), chat, stop_after=1)
    info = json.loads((last / "info.json").read_text())
    (last / "info.json").write_text(json.dumps({**info, "processes": 2}))
    with pytest.raises(ValueError, match="found a run of 2 processes, expected 1"):
        train(config, new_model(config), chat)


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join(torch.device("cpu")) == Group(0, 1) and Group().first and Group().any(True) and not Group().any(False)
