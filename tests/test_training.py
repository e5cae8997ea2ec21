"""A run is reproducible: stopped, killed or undisturbed, it ends with the same weights, bit for bit."""

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlm.chat import IGNORE
from vlm.config import PRESETS, EncoderConfig
from vlm.data.sample import Sample, Thing
from vlm.data.worlds import WHAT, sample
from vlm.image import preprocess
from vlm.initialise import initialise
from vlm.model import VisionLanguageModel
from vlm.training import loop, run, state
from vlm.training.config import Composition, LoRA, Stage, TrainConfig, read_config
from vlm.training.data import WorldBatches, loader
from vlm.training.labels import dense_labels, label_cells
from vlm.training.loop import Trainee, interruptible, learning_rate, make_optimizer, train

ROOT = Path(__file__).parent.parent
OVERRIDES = {"encoder.gate_init": 0.5, "decoder.gate_init": 0.5, "image.tile_size": 56, "encoder.tile_padding": "none"}


def config_for(output, caption_share=0.5, **changes) -> TrainConfig:
    stages = (Stage(until=6, mixture={"shapes": 1.0}, caption_share=caption_share),)
    defaults = {
        "output": str(output), "model": "debug", "stages": stages,
        "batch_pictures": 2, "questions": 2, "accumulate": 2, "lr": 3e-3, "warmup": 2, "dtype": "fp32",
        "device": "cpu", "threads": 1, "workers": 0, "log_every": 2, "sample_every": 100, "checkpoint_every": 2,
        "keep": 2, "overrides": OVERRIDES,
    }  # fmt: skip
    return TrainConfig(**{**defaults, **changes})


def new_model(config) -> VisionLanguageModel:
    torch.manual_seed(0)
    model = VisionLanguageModel(run.model_config(config))
    initialise(model)
    return model


def batches_of(config, chat):
    return WorldBatches(config, run.model_config(config), chat, n_tokens=17)


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def undisturbed(chat, tmp_path_factory):
    """A run that nothing stopped."""
    config = config_for(tmp_path_factory.mktemp("undisturbed"))
    model = new_model(config)
    return config, model, train(config, model, chat)


@pytest.fixture
def at_batch(monkeypatch):
    """Do something when micro-batch k is drawn."""

    def install(k, action):
        draw = WorldBatches.__getitem__

        def hooked(self, i):
            if i == k:
                action()
            return draw(self, i)

        monkeypatch.setattr(WorldBatches, "__getitem__", hooked)

    return install


# The config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "min"}, "model: found 'min'.*did you mean 'mini'"),
        ({"stages": ()}, "stages: found ends"),
        ({"stages": (Stage(until=5, mixture={}), Stage(until=5, mixture={}))}, r"stages: found ends \[5, 5\]"),
        ({"stages": (Stage(until=5, mixture={}), Stage(until=3, mixture={}))}, r"stages: found ends \[5, 3\]"),
        ({"dtype": "fp16"}, "dtype: found 'fp16', expected bf16 or fp32"),
        *(
            ({name: 0}, f"{name}: found 0, expected at least 1")
            for name in (
                "batch_pictures", "questions", "accumulate", "log_every", "sample_every", "checkpoint_every", "keep"
            )
        ),
    ],
)  # fmt: skip
def test_impossible_runs_are_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        config_for(tmp_path, **changes)


def test_stages_follow_each_other(tmp_path):
    stages = tuple(Stage(until=n, mixture={"shapes": 1.0}) for n in (2, 5))
    config = config_for(tmp_path, stages=stages)
    assert config.steps == 5
    assert [config.stage(s) for s in range(5)] == [stages[0]] * 2 + [stages[1]] * 3


YAML = "output: out\nlr: 0.5\nstages:\n- {until: 3, mixture: {shapes: 1}}\n- {until: 9, mixture: {text: 2}}\n"


def test_a_file_is_read_and_overridden(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    assert read_config(path).lr == 0.5
    config = read_config(path, ["lr=0.25", "stages.1.until=7", "overrides.decoder.dim=64", "stages.0.mixture.text=3"])
    assert (config.lr, config.steps, config.overrides) == (0.25, 7, {"decoder": {"dim": 64}})
    assert config.stages[0].mixture == {"shapes": 1, "text": 3}


@pytest.mark.parametrize(
    ("content", "overrides", "words"),
    [
        (YAML, ["lr"], "override 'lr': expected key=value"),
        (YAML, ["lrr=1"], "unknown key 'lrr'.*did you mean 'lr'"),
        (YAML, ["lr=fast"], "lr: found 'fast'.*expected float"),
        (YAML, ["stages.5.until=7"], "override 'stages.5.until=7'"),
        (YAML, ["stages.first.until=7"], "override 'stages.first.until=7'"),
        (YAML, ["lr.x=7"], "override 'lr.x=7'"),
        (YAML, ["lr=[1"], "override 'lr=\\[1'"),
        ("- a\n", ["lr=1"], "expected a mapping"),
        ("- a\n", [], "expected a mapping"),
        ("a: [1", [], "not valid YAML"),
        ("", [], "the key 'output' is missing"),
    ],
)
def test_bad_files_and_overrides_are_named(tmp_path, content, overrides, words):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        read_config(path, overrides)
    assert "\n" not in str(error.value)


def test_numbers_may_be_written_with_an_exponent(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(YAML + "min_lr: 5E-2\nweight_decay: 1.5e-1\ninit: 1e3x\n")
    config = read_config(path, ["lr=1e-3"])
    assert (config.lr, config.min_lr, config.weight_decay, config.init) == (1e-3, 5e-2, 0.15, "1e3x")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such config file"):
        read_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_the_configs_of_the_repository_are_valid(path):
    config = read_config(path)
    assert run.model_config(config).encoder is not None and config.steps > 0


def test_the_learning_rate_warms_up_and_falls(tmp_path):
    stages = (Stage(until=110, mixture={"shapes": 1.0}),)
    config = config_for(tmp_path, stages=stages, warmup=10, lr=2.0, min_lr=0.1)
    assert [learning_rate(s, config) for s in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert learning_rate(60, config) == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert learning_rate(110, config) == learning_rate(10_000, config) == pytest.approx(0.2)
    falling = [learning_rate(s, config) for s in range(10, 111)]
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(0, dataclasses.replace(config, warmup=0)) == 2.0


# The data


def flat(batch):
    return [batch.tiles, batch.grid, *vars(batch.text).values(), *batch.dense.values()]


def test_a_batch_is_a_function_of_its_number(tmp_path, chat):
    batches, again = (batches_of(config_for(tmp_path, caption_share=1.0), chat) for _ in range(2))
    later = [batches[k] for k in (3, 1, 0)]
    for k, batch in zip((0, 1, 3), reversed(later), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(flat(batch), flat(again[k]), strict=True))
    assert not torch.equal(later[0].tiles, later[1].tiles)
    other = batches_of(config_for(tmp_path, seed=1), chat)[0]
    assert not torch.equal(other.tiles, later[2].tiles)


def test_the_loader_starts_anywhere(tmp_path, chat):
    batches = batches_of(config_for(tmp_path), chat)
    drawn = list(loader(batches, range(10, 12), workers=0))
    assert len(batches) == 12 and len(drawn) == 2
    assert torch.equal(drawn[0].tiles, batches[10].tiles)


def test_rows_belong_to_pictures_in_order(tmp_path, chat):
    batch = batches_of(config_for(tmp_path, batch_pictures=3, questions=4, caption_share=1.0), chat)[0]
    assert len(batch.tiles) == len(batch.text.tokens) == 3 and batch.n_questions == 12
    assert all(row.max() == 5 for row in batch.text.segments)  # four questions and a caption
    assert set(batch.text.segments[batch.text.captions].tolist()) == {5}
    patches = (56 // 14) ** 2
    assert all(v.shape[:2] == (3, patches) for v in batch.dense.values())
    assert (batch.dense["what"] > 0).any()


def test_a_stage_without_text_asks_nothing(tmp_path, chat):
    stages = (Stage(until=2, mixture={"shapes": 1.0}, text=False),)
    batch = batches_of(config_for(tmp_path, stages=stages), chat)[0]
    assert batch.text is None and batch.n_questions == 0
    trainee = Trainee(new_model(config_for(tmp_path)))
    loss, parts = trainee(batch, config_for(tmp_path))
    assert set(parts) == {"dense"} and loss.item() == pytest.approx(0.5 * parts["dense"].item())


def test_a_stage_may_begin_with_few_objects(tmp_path, chat):
    stages = [(Stage(until=2, mixture={"scenes": 1.0}, max_objects=n),) for n in (1, 8)]
    few, many = (batches_of(config_for(tmp_path, batch_pictures=16, stages=s), chat)[0] for s in stages)
    counted = [((b.dense["center"] > 0) & (b.dense["size"] > 0)).sum(1) for b in (few, many)]  # letters have no size
    assert counted[0].max() == 1 < counted[1].max()


def test_wide_worlds_have_fewer_pictures_of_more_tiles(tmp_path, chat):
    stages = (Stage(until=2, mixture={"nlvr": 1.0}),)
    batch = batches_of(config_for(tmp_path, stages=stages, batch_pictures=8), chat)[0]
    assert batch.tiles.shape[:2] == (4, 1)
    assert batch.dense["what"].shape == (4, batch.tiles.shape[2] * 16, 4)
    assert batch.dense["color"].shape == (4, batch.tiles.shape[2] * 16)


def test_a_share_of_the_batches_is_drawn_large(tmp_path, chat):
    stages = (Stage(until=40, mixture={"shapes": 1.0}, text=False, large={"shapes": 0.5}),)
    batches = batches_of(config_for(tmp_path, stages=stages, batch_pictures=2), chat)
    shapes = [batches[i].tiles.shape[:3] for i in range(80)]
    assert set(shapes) == {(2, 1, 1), (1, 1, 4)} and 20 < shapes.count((1, 1, 4)) < 60


@pytest.mark.parametrize("large", [{"scenes": 0.5}, {"shapes": 1.5}])
def test_what_is_large_is_a_share_of_a_world_of_the_mixture(tmp_path, large):
    with pytest.raises(ValueError, match="stages: found large"):
        config_for(tmp_path, stages=(Stage(until=2, mixture={"shapes": 1.0}, large=large),))


def test_what_is_printed_is_learnt_letter_by_letter(tmp_path, chat):
    assert chat.tokenizer.decode(chat.tokenizer.spell("Hi there, 12 of\nus")) == "Hi there, 12 of\nus"
    stages = (
        Stage(until=2, mixture={"text": 1.0}, families=("read",), questions=1, batch_pictures=4, caption_share=0),
    )
    batch = batches_of(config_for(tmp_path, stages=stages, batch_pictures=8, questions=4), chat)[0]
    assert batch.tiles.shape[0] == batch.n_questions == 4
    for labels in batch.text.labels:
        answer = [t for t in labels.tolist() if t not in (IGNORE, *chat.stop_ids)]
        assert answer == chat.tokenizer.spell(chat.tokenizer.decode(answer))


def test_dense_labels_are_laid_out_tile_by_tile():
    drawn = sample(0, seed=0, mixture={"nlvr": 1.0}, size=56, n_questions=0)
    config = dataclasses.replace(PRESETS["debug"].image, tile_size=56)
    _, grid = preprocess(drawn.image, config)
    labels = dense_labels(drawn, grid, 4, 56)
    rows, cols = grid
    assert rows * cols > 1
    thing = max(drawn.things, key=lambda t: t.box[0] + t.box[1])
    width, height = drawn.image.size
    y = int((thing.box[1] + thing.box[3]) / 2 / height * rows * 4)
    x = int((thing.box[0] + thing.box[2]) / 2 / width * cols * 4)
    place = ((y // 4) * cols + x // 4) * 16 + (y % 4) * 4 + x % 4
    assert labels["what"][place].any() and labels["center"][place] >= 1
    assert int(labels["center"].sum()) <= len(drawn.things)


@torch.no_grad()
def test_dense_labels_lie_where_the_picture_does():
    """A picture of one and a half tiles is not drawn out over its canvas of two."""
    thing = Thing(box=(72, 0, 84, 12), what="circle", color="red", size="small")
    drawn = Sample(image=Image.new("RGB", (84, 84)), world="scenes", captions=[], questions=[], things=[thing])
    labels = dense_labels(drawn, (2, 2), 4, 56)  # patches of 14 px: the sixth of eight columns, first row
    row = labels["what"].reshape(2, 2, 4, 4, 4)[0, 1, 0]
    assert row[1].any() and not row[0].any() and not row[2:].any()
    assert labels["color"].reshape(2, 2, 4, 4)[0, 1, 0, 1] > 0


def test_letters_are_labelled_with_their_places():
    """Two lines on four columns of patches, "ab c" and "d" with "e", which is written by itself in the same line."""
    letters = [("a", 0, 0, 0), ("b", 14, 0, 1), ("c", 42, 0, 3), ("d", 0, 28, 0), ("e", 28, 28, 0)]
    things = [Thing(box=(x, y, x + 14, y + 14), what=f"char:{c}", point=14, place=place) for c, x, y, place in letters]
    drawn = Sample(image=Image.new("RGB", (56, 56)), world="text", captions=[], questions=[], things=things)
    labels = dense_labels(
        drawn, (1, 1), 4, 56, cells=label_cells(EncoderConfig(patch_size=14, stem="conv", stem_blocks=1))
    )
    found = {n: labels[n].reshape(16, -1).max(1).tolist() for n in ("place", "word", "line", "what")}
    shown = (0, 1, 3, 8, 10)  # patches
    assert [found["place"][i] for i in shown] == [1, 2, 1, 1, 1]
    assert [found["word"][i] for i in shown] == [1, 1, 2, 1, 2]
    assert [found["line"][i] for i in shown] == [1, 1, 1, 2, 2]
    assert [WHAT[found["what"][i]] for i in shown] == [t.what for t in things]
    assert not any(sum(found[n]) - sum(found[n][i] for i in shown) for n in found)
    assert labels["stem"].shape == (16, 7 * 7) and set(labels["stem"][0]) == {WHAT.index("char:a")}


# The loss


def test_a_stem_learns_from_its_own_map(tmp_path, chat):
    config = config_for(tmp_path, overrides=OVERRIDES | {"encoder.stem": "conv", "encoder.stem_blocks": 1})
    trainee, batch = Trainee(new_model(config)), batches_of(config, chat)[0]
    features = trainee.model.encoder(batch.tiles, batch.grid)
    trainee.dense(features, batch.tiles.shape[2], batch.dense).backward()
    assert trainee.dense.stem.weight.grad.any()
    side, f = 4, 7  # patches of a tile, places of the map to a patch
    tile = torch.zeros(1, trainee.dense.stem.in_features, side * f, side * f)
    tile[..., 1 * f + 2, 3 * f + 4] = 1.0  # patch 7, place 2 * 7 + 4
    seen, trainee.dense._map = [], tile
    trainee.dense.stem.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    trainee.dense(features[:1, :1, :1].detach(), 1, {n: t[:1, : side * side] for n, t in batch.dense.items()})
    assert seen[0].reshape(side * side, f * f, -1).sum(-1).nonzero().tolist() == [[7, 18]]


def test_the_loss_counts_answers_only(tmp_path, chat):
    config = config_for(tmp_path)
    trainee = Trainee(new_model(config)).eval()
    batch = batches_of(config, chat)[1]
    rows, total, count = batch.text, 0.0, 0
    for i, segments in enumerate(rows.segments):
        for number in range(1, int(segments.max()) + 1):  # each conversation alone, without packing
            chosen = (segments == 0) | (segments == number)
            tokens, labels, sees = (x[i][chosen] for x in (rows.tokens, rows.labels, rows.sees))
            logits = trainee.model(tokens[None], batch.tiles[i : i + 1], batch.grid[i : i + 1], sees[None])[0]
            for t in (labels != IGNORE).nonzero().flatten().tolist():
                assert labels[t] == tokens[t + 1] if t + 1 < len(tokens) else False
                if not rows.captions[i][chosen][t]:
                    total, count = total - float(logits[t].log_softmax(-1)[labels[t]]), count + 1
    _, parts = trainee(batch, config)
    assert float(parts["answer"]) == pytest.approx(total / count, rel=1e-4)
    assert 0 < count < rows.tokens.numel() / 2


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path, chat):
    config = config_for(tmp_path, caption_share=1.0, caption_weight=0.3, dense_weight=0.7)
    loss, parts = Trainee(new_model(config))(batches_of(config, chat)[0], config)
    wanted = parts["answer"] + 0.3 * parts["caption"] + 0.7 * parts["dense"]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_one_batch_can_be_learnt_by_heart(tmp_path, chat):
    config = config_for(tmp_path, caption_share=1.0, weight_decay=0.0)
    trainee = Trainee(new_model(config)).train()
    batch, optimizer, losses = batches_of(config, chat)[0], make_optimizer(trainee, config), []
    for _ in range(80):
        loss, parts = trainee(batch, config)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(parts["answer"].detach()))
    assert losses[0] == pytest.approx(math.log(300), rel=0.3)
    assert losses[-1] < 0.2 * losses[0]


def test_only_matrices_decay(tmp_path):
    trainee = Trainee(new_model(config_for(tmp_path)))
    decay, rest = make_optimizer(trainee, config_for(tmp_path)).param_groups
    names = {id(p): n for n, p in trainee.named_parameters()}
    assert decay["weight_decay"] > 0 and rest["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in decay["params"])
    assert not any("embed" in names[id(p)] or "gate." in names[id(p)][-5:] for p in decay["params"])
    assert len(decay["params"]) + len(rest["params"]) == len(names)


# Stopping and going on


def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(undisturbed, chat, tmp_path):
    _, wanted, _ = undisturbed
    config = config_for(tmp_path)
    first = new_model(config)
    assert train(config, first, chat, stop_after=3).name == "step-0000003"
    assert not same(first, wanted)
    torch.manual_seed(123)  # the state of this process does not matter
    second = VisionLanguageModel(run.model_config(config))
    assert train(config, second, chat).name == "step-0000006"
    assert same(second, wanted)
    assert train(config, new_model(config), chat).name == "step-0000006"  # nothing left to do


def test_optimizer_moments_are_resumed_bit_for_bit(undisturbed, chat, tmp_path):
    _, _, last = undisturbed
    config = config_for(tmp_path)
    train(config, new_model(config), chat, stop_after=1)
    resumed = train(config, new_model(config), chat)
    read = [state.load_file(p / "state.safetensors") for p in (last, resumed)]
    assert read[0].keys() == read[1].keys()
    assert [k for k in read[0] if not k.startswith("rng.") and not torch.equal(read[0][k], read[1][k])] == []
    infos = [json.loads((p / "info.json").read_text()) for p in (last, resumed)]
    assert [{k: i[k] for k in ("step", "pictures", "questions")} for i in infos] == [
        {"step": 6, "pictures": 24, "questions": 48}
    ] * 2


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from test_training import config_for, new_model, train, WorldBatches
from vlm.chat import Chat, Tokenizer
draw = WorldBatches.__getitem__
def hang(self, k):
    if k == 7:  # in the middle of step 4, after the checkpoint of step 2
        print("here", flush=True)
        time.sleep(600)
    return draw(self, k)
WorldBatches.__getitem__ = hang
config = config_for({output!r})
train(config, new_model(config), Chat(Tokenizer.from_file({tokenizer!r})))
"""


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(undisturbed, chat, tmp_path):
    _, wanted, _ = undisturbed
    chat.tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    output = tmp_path / "run"
    script = KILLED.format(
        tests=str(ROOT / "tests"), root=str(ROOT), output=str(output), tokenizer=str(tmp_path / "tokenizer.json")
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            assert child.stdout.readline().strip() == "here"
        finally:
            child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert [p.name for p in state.checkpoints(output)] == ["step-0000002"]
    config = config_for(output)
    model = VisionLanguageModel(run.model_config(config))
    train(config, model, chat)
    assert same(model, wanted)


def test_sigterm_saves_the_step_and_returns(undisturbed, chat, tmp_path, at_batch):
    _, wanted, _ = undisturbed
    config = config_for(tmp_path, checkpoint_every=100)
    before = signal.getsignal(signal.SIGTERM)
    at_batch(4, lambda: os.kill(os.getpid(), signal.SIGTERM))  # the first micro-batch of step 3
    assert train(config, new_model(config), chat).name == "step-0000003"
    assert signal.getsignal(signal.SIGTERM) is before
    at_batch(4, lambda: pytest.fail("a resumed run draws no batch twice"))
    model = VisionLanguageModel(run.model_config(config))
    train(config, model, chat)
    assert same(model, wanted)


GROUP = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from test_training import Stage, config_for, loop, new_model, train
from vlm.chat import Chat, Tokenizer
if __name__ == "__main__":
    stages = (Stage(until=10_000, mixture={{"shapes": 1.0}}),)
    config = config_for({output!r}, workers=1, checkpoint_every=10_000, stages=stages)
    rate = loop.learning_rate
    loop.learning_rate = lambda step, config: print(step, flush=True) or rate(step, config)
    print(train(config, new_model(config), Chat(Tokenizer.from_file({tokenizer!r}))).name)
"""


def test_a_signal_to_the_whole_group_saves_the_step(chat, tmp_path):
    """As Ctrl-C and torchrun send it: data workers must outlive it, or the step is lost with them."""
    tokenizer, script = tmp_path / "tokenizer.json", tmp_path / "group.py"
    chat.tokenizer.rust.save(str(tokenizer))
    names = {"tests": str(ROOT / "tests"), "root": str(ROOT), "output": str(tmp_path / "run")}
    script.write_text(GROUP.format(tokenizer=str(tokenizer), **names))
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            steps = iter(child.stdout.readline, "")
            assert "3\n" in steps, child.stderr.read()
            os.killpg(child.pid, signal.SIGTERM)
            said, errors = child.communicate(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 0, errors
    assert said.split()[-1] == state.checkpoints(tmp_path / "run")[-1].name


def test_a_signal_while_samples_are_written_loses_no_step(chat, tmp_path, monkeypatch):
    config = config_for(tmp_path, checkpoint_every=100, sample_every=2)
    monkeypatch.setattr(loop, "write_samples", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    last = train(config, new_model(config), chat)
    assert int(last.name.removeprefix("step-")) >= 2
    assert state.checkpoints(tmp_path) == [last]


def test_the_time_limit_saves_and_stops(chat, tmp_path):
    config = config_for(tmp_path, stop_minutes=1e-9)
    assert train(config, new_model(config), chat).name == "step-0000001"


def test_both_signals_are_caught_and_given_back():
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        with interruptible() as interrupted:
            assert not interrupted()
            os.kill(os.getpid(), number)
            assert interrupted()
        assert signal.getsignal(number) is before


def small():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("where", ["weights", "info", "sync", "rename"])
def test_an_interrupted_write_is_no_checkpoint(tmp_path, monkeypatch, where):
    model, optimizer = small()
    kept = state.save_state(tmp_path, 1, model, optimizer, {"pictures": 3}, keep=2)

    def broken(*_, **__):
        raise OSError("no space left on device")

    def half(tensors, path):
        path.write_bytes(b"half a file")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        if where == "weights":
            patch.setattr(state, "save_file", half)
        elif where == "info":
            patch.setattr(Path, "write_text", broken)
        elif where == "sync":
            patch.setattr(os, "fsync", broken)
        else:
            patch.setattr(Path, "rename", broken)
        with pytest.raises(OSError, match="no space"):
            state.save_state(tmp_path, 2, model, optimizer, {}, keep=2)
    assert state.checkpoints(tmp_path) == [kept]
    assert state.load_state(kept, *small()) == {"step": 1, "pictures": 3}
    assert state.save_state(tmp_path, 2, model, optimizer, {}, keep=2) == state.checkpoints(tmp_path)[-1]


def test_old_checkpoints_go(undisturbed, tmp_path):
    config, _, last = undisturbed
    assert [p.name for p in state.checkpoints(Path(config.output))] == ["step-0000004", "step-0000006"]
    assert last.name == "step-0000006"
    assert not list(Path(config.output).glob(".partial*"))


def test_the_log_has_a_row_per_interval(undisturbed):
    config, _, _ = undisturbed
    rows = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [2, 4, 6]
    assert all({"loss", "answer", "dense", "grad_norm", "lr", "gates", "pictures"} <= r.keys() for r in rows)
    assert all(math.isfinite(r["loss"]) for r in rows)


def test_random_numbers_go_on_where_they_were(tmp_path):
    model, optimizer = small()
    path = state.save_state(tmp_path, 1, model, optimizer, {}, keep=1)
    wanted = torch.rand(3)
    torch.manual_seed(99)
    state.load_state(path, model, optimizer)
    assert torch.equal(torch.rand(3), wanted)


# Going on with another config


@pytest.fixture(scope="module")
def adapted(chat, tmp_path_factory):
    """A run that trains an adapter and the connector, stopped after a step."""
    config = config_for(
        tmp_path_factory.mktemp("adapted"), lora=LoRA(rank=2), trainable=("connector", "lora"), accumulate=1
    )
    model = new_model(config)
    run.choose_parameters(model, config)
    return config, train(config, model, chat, stop_after=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": LoRA(rank=4)}, "found lora.rank=4 in the config, expected lora.rank=2 as in this checkpoint; put it"),
        ({"lora": LoRA(rank=2, groups=("text", "encoder"))}, r"found lora.groups=.*'encoder'.*expected .*\['text'\]"),
        ({"trainable": ("lora",)}, r"found trainable=\['lora'\] in the config, expected .*=\['connector', 'lora'\]"),
        ({"lora": None, "trainable": ("connector",)}, "found .*lora.rank=None.*, expected .*lora.rank=2"),
    ],
)
def test_other_adapters_or_groups_are_refused_before_anything_happens(adapted, monkeypatch, changes, words):
    config, folder = adapted
    files = sorted(folder.parent.rglob("*"))
    monkeypatch.setattr(run, "new_model", None)  # nothing is built
    with pytest.raises(ValueError, match=words):
        run.run_training(dataclasses.replace(config, **changes))
    assert sorted(folder.parent.rglob("*")) == files
    state.check_parts(folder.parent, config)


def test_a_checkpoint_of_another_model_changes_nothing(adapted):
    config, folder = adapted
    trainee = Trainee(new_model(config))
    before = {name: t.clone() for name, t in trainee.state_dict().items()}
    with pytest.raises(ValueError, match="of another model, .* tensors differ: found model.decoder.*lora_A.*none"):
        state.load_state(folder, trainee, make_optimizer(trainee, config))
    assert all(torch.equal(t, before[name]) for name, t in trainee.state_dict().items())


# From a config to a model folder


def test_a_run_writes_a_model_folder_that_answers(chat, tmp_path):
    chat.tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    config = config_for(
        tmp_path / "run", tokenizer=str(tmp_path / "tokenizer.json"), stages=(Stage(until=1, mixture={"shapes": 1.0}),),
        accumulate=1, sample_every=1,
    )  # fmt: skip
    folder = run.run_training(config)
    import vlm

    loaded = vlm.load(folder, device="cpu", dtype=torch.float32)
    picture = sample(0, seed=0, mixture={"shapes": 1.0}, size=56).image
    assert loaded.answer(picture, "How many?", max_new_tokens=3).completion_tokens >= 1
    written = json.loads((tmp_path / "run" / "samples" / "step-0000001.json").read_text())
    assert len(written) == 8 and all(r["answers"] for r in written)
    again = VisionLanguageModel(run.model_config(config))
    run.load_weights(again, folder)
    assert same(again, loaded.model)


def test_a_composed_model_is_trained_like_any_other(chat, tmp_path):
    chat.tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    parts = Composition(
        encoder="timm:resnet10t", connector="perceiver:4", decoder="debug", cross_attention_every=2, gate_init=0.5,
        tile_size=64, max_tiles=1,
    )  # fmt: skip
    stages = (Stage(until=2, mixture={"scenes": 1.0}, caption_share=1.0),)
    config = config_for(
        tmp_path / "run", tokenizer=str(tmp_path / "tokenizer.json"), compose=parts, stages=stages, accumulate=1,
        trainable=("connector", "cross_attention"),
    )  # fmt: skip
    torch.manual_seed(config.seed)
    before = run.new_model(config, tmp_path / "tokenizer.json")[0].state_dict()
    import vlm

    trained = vlm.load(run.run_training(config), device="cpu", dtype=torch.float32)
    after = trained.model.state_dict()
    assert before.keys() == after.keys()
    moved = {n for n, t in after.items() if t.is_floating_point() and not torch.equal(t, before[n].bfloat16().float())}
    assert {name.split(".")[0] for name in moved} == {"connector", "decoder"}  # frozen batch norms too
    assert any(name.startswith("connector.") for name in moved)
    assert all("cross_attention" in name for name in moved if name.startswith("decoder."))
    picture = sample(0, seed=0, mixture={"scenes": 1.0}, size=64).image
    assert trained.answer(picture, "How many?", max_new_tokens=3).completion_tokens >= 1


def test_a_tokenizer_of_another_size_is_refused(chat, tmp_path):
    chat.tokenizer.rust.save(str(tmp_path / "tokenizer.json"))
    config = config_for(tmp_path, tokenizer=str(tmp_path / "tokenizer.json"), overrides={"decoder.vocab_size": 400})
    with pytest.raises(ValueError, match="its image token is 300, the model expects 400"):
        run.run_training(config)


def test_overrides_of_the_model_are_dotted_or_nested(tmp_path):
    dotted, nested = {"decoder.rope_scaling.factor": 4.0, "decoder.dim": 48}, {"decoder": {"dim": 48}}
    for model in ("debug", "mini"):  # mini has no rope scaling of its own
        config = run.model_config(config_for(tmp_path, model=model, overrides=dotted))
        assert (config.decoder.rope_scaling.factor, config.decoder.dim) == (4.0, 48)
    assert run.model_config(config_for(tmp_path, overrides=nested)).decoder.dim == 48
    assert PRESETS["mini"].decoder.rope_scaling is None


BAD_OVERRIDES = [{"decoder.dims": 3}, {"decodr.dim": 3}, {"decoder.dim.x": 3}, {"decoder": {"dim": {"x": 3}}}]


@pytest.mark.parametrize("overrides", BAD_OVERRIDES)
def test_overrides_of_the_model_are_strict(tmp_path, overrides):
    with pytest.raises(ValueError, match="overrides"):
        run.model_config(config_for(tmp_path, overrides=overrides))


def test_a_stem_may_get_blocks_later(tmp_path, chat):
    plain = config_for(tmp_path, overrides=OVERRIDES | {"encoder.stem": "conv"})
    small = new_model(plain)
    run.export(small, chat, tmp_path / "model")
    large = new_model(config_for(tmp_path, overrides=plain.overrides | {"encoder.stem_blocks": 2}))
    run.load_weights(large, tmp_path / "model")
    batch = batches_of(plain, chat)[0]
    assert torch.equal(large.encoder(batch.tiles, batch.grid), small.float().encoder(batch.tiles, batch.grid))


def test_weights_of_another_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="init: .* does not exist"):
        run.load_weights(new_model(config_for(tmp_path)), tmp_path)


def test_weights_of_one_tile_begin_on_several(chat, tmp_path):
    one = config_for(tmp_path / "one", overrides=OVERRIDES | {"image.max_tiles": 1})
    small = new_model(one)
    with torch.no_grad():
        for name, p in small.encoder.named_parameters():
            if "tile" in name or "position" in name:
                p.normal_()
    run.export(small, chat, tmp_path / "model")
    large = new_model(config_for(tmp_path / "four", overrides=OVERRIDES | {"image.max_tiles": 4}))
    run.load_weights(large, tmp_path / "model")
    tiles, grid = torch.randn(1, 1, 1, 3, 56, 56), torch.ones(1, 1, 2, dtype=torch.long)
    torch.testing.assert_close(large.encoder(tiles, grid), small.float().encoder(tiles, grid), rtol=1e-4, atol=1e-4)
    places = large.encoder.tile_position_embedding(torch.tensor([large.encoder.grids.index((2, 2)) + 1]), 4)
    assert not torch.equal(places[0, 0], places[0, 1])
    other = new_model(config_for(tmp_path / "dim", overrides=OVERRIDES | {"decoder.dim": 48}))
    with pytest.raises(ValueError, match="init: .* is of another model"):
        run.load_weights(other, tmp_path / "model")


def test_places_begin_as_large_as_patches(tmp_path):
    model = new_model(config_for(tmp_path))
    places = model.encoder.position_embedding.detach()
    assert not places[0].any() and places[1:].square().mean() == pytest.approx(1.0, rel=1e-4)
    similar = places[1:] @ places[1:].T  # a patch is most like itself, and more like its neighbour than like the next
    assert (similar.argmax(1) == torch.arange(len(similar))).all() and similar[0, 1] > similar[0, 2] > similar[0, 3]


def test_initial_weights_are_small_and_deterministic(tmp_path):
    a, b = (new_model(config_for(tmp_path)) for _ in range(2))
    assert same(a, b)
    logits = a(torch.arange(12).view(2, 6))
    assert float(logits.detach().abs().max()) < 10
