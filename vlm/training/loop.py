"""The training loop: read top to bottom, it is all there is."""

import contextlib
import itertools
import json
import math
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from adapters.projector import MLP, Linear
from encoders.tiled_vit import ConvStem, TiledViT
from vlm.chat import IGNORE, Chat
from vlm.chat_template import TemplateChat
from vlm.model import VisionLanguageModel, pick_device, token_intervals
from vlm.training import state
from vlm.training.config import TrainConfig
from vlm.training.data import Batch, WorldBatches, loader
from vlm.training.dense import DenseHeads
from vlm.training.labels import label_cells
from vlm.training.packing import Rows
from vlm.training.parallel import join
from vlm.training.pointing import Pointing


class Trainee(nn.Module):
    """The model and the scaffolding that is trained beside it."""

    def __init__(self, model: VisionLanguageModel):
        super().__init__()
        self.model = model
        self.dense = DenseHeads(model.encoder.dim, label_cells(model.config.encoder))
        if (
            isinstance(model.encoder, TiledViT)
            and isinstance(stem := model.encoder.patch_embedding, ConvStem)
            and stem.blocks
        ):
            self.dense.watch(stem)
        blocks = {int(i): block for i, block in model.decoder.cross_attention.items()}
        in_place = isinstance(model.connector, Linear | MLP)  # other connectors mix what stands at different places
        self.pointing = Pointing(blocks) if in_place else None

    def forward(self, batch: Batch, config: TrainConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One weighted loss and its parts."""
        n_tiles = batch.tiles.shape[2]
        features = self.model.encoder(batch.tiles, batch.grid)
        parts = {"dense": self.dense(features, n_tiles, batch.dense)}
        loss = config.dense_weight * parts["dense"]
        if batch.text is not None:
            states, lengths = self.model.connector(features, batch.grid)
            image = self.model.decoder.image_keys_values(states)
            parts |= self._text_losses(batch.text, image, lengths)
            loss = loss + parts["answer"] + config.caption_weight * parts.get("caption", 0.0)
            if self.pointing and (pointed := self.pointing.loss(image, batch.text.points)):
                parts["point"], parts["point_right"] = pointed
                loss = loss + config.point_weight * parts["point"]
        return loss, parts

    def _text_losses(self, rows: Rows, image: dict, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of answers and of captions; only rows with a label are multiplied with the vocabulary."""
        decoder = self.model.decoder
        hidden = decoder.hidden_states(
            rows.tokens, image=image, intervals=token_intervals(rows.sees, lengths), positions=rows.positions,
            mask=rows.mask(),
        )  # fmt: skip
        chosen = rows.labels != IGNORE
        logits, labels, described = decoder.logits(hidden[chosen]).float(), rows.labels[chosen], rows.captions[chosen]
        losses, right = F.cross_entropy(logits, labels, reduction="none"), (logits.argmax(-1) == labels).float()
        parts = {}
        for name, these in (("answer", ~described), ("caption", described)):
            if these.any():
                parts[name], parts[f"{name}_right"] = losses[these].mean(), right[these].mean()
        return parts


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to `min_lr` of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (config.min_lr + (1 - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors, gates and embeddings of places do not."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decay = [p for n, p in named if p.ndim >= 2 and "embed" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "embed" in n]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def train_mode(model: nn.Module) -> nn.Module:
    """As `train()`, but what is frozen stays as it is in use: its batch norms keep their statistics."""
    for module in model.train().modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
    return model


def compile_layers(model: VisionLanguageModel) -> None:
    """Compile layer by layer: equal layers share their code, and the names of the weights stay."""
    stacks: list[Iterable[nn.Module]] = [model.decoder.layers, model.decoder.cross_attention.values()]
    if isinstance(model.encoder, TiledViT):
        stacks += [model.encoder.layers, model.encoder.global_layers]
    else:
        model.encoder.compile()
    for layer in (layer for stack in stacks for layer in stack):
        layer.compile()


@contextlib.contextmanager
def precision(device: torch.device, config: TrainConfig):
    """Matrices in bf16 where the config says so."""
    written_out = config.compile and device.type == "cpu"  # the fused backward is slow there, the compiler's is not
    with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bf16"):
        with sdpa_kernel(SDPBackend.MATH) if written_out else contextlib.nullcontext():
            yield


def train(
    config: TrainConfig, model: VisionLanguageModel, chat: Chat | TemplateChat, *, stop_after: int | None = None
) -> Path:
    """Run to the last step, resuming from the newest checkpoint in `config.output`; under torchrun with all processes.

    A SIGTERM or Ctrl-C finishes the step, writes a checkpoint and returns. `stop_after` ends the call early for tests.

    Returns:
        The folder of the last checkpoint.
    """
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = Path(config.output)
    state.check_parts(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    group = join(device)
    trainee = train_mode(Trainee(model).to(device))
    optimizer = make_optimizer(trainee, config)
    done = state.checkpoints(folder)
    info: dict[str, Any] = (
        state.load_state(done[-1], trainee, optimizer)
        if done
        else {"step": 0, "pictures": 0, "questions": 0, "seconds": 0.0, "processes": group.size}
    )
    if info["processes"] != group.size:
        raise ValueError(
            f"{done[-1]}: found a run of {info['processes']} processes, expected {group.size} as now; go on with as "
            "many as it began with, or choose another output"
        )
    info["parts"] = state.trained_parts(config)
    group.wait()  # nobody writes before all have read
    if config.compile:
        compile_layers(model)
    data = WorldBatches(config, model.config, chat, n_tokens=model.encoder.n_tokens, processes=group.size)
    start_batch = info["step"] * config.accumulate * group.size + group.rank
    batches = iter(loader(data, range(start_batch, len(data), group.size), config.workers))
    end = min(config.steps, stop_after or config.steps)
    log, bar = (
        (folder / "log.jsonl").open("a"),
        tqdm(total=config.steps, initial=info["step"], unit="step", smoothing=0.05, disable=not group.first),
    )
    window: dict[str, list[torch.Tensor]] = {}
    start, last = time.monotonic(), done[-1] if done else folder
    with interruptible(config.stop_minutes) as interrupted, contextlib.closing(log), bar:
        for step in range(info["step"], end):
            rate = learning_rate(step, config)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            for batch in itertools.islice(batches, config.accumulate):
                batch = batch.to(device)
                with precision(device, config):
                    loss, parts = trainee(batch, config)
                (loss / config.accumulate).backward()
                info["pictures"] += math.prod(batch.tiles.shape[:2]) * group.size
                info["questions"] += batch.n_questions * group.size
                for name, value in {"loss": loss, **parts}.items():
                    window.setdefault(name, []).append(value.detach())
            group.average_gradients(trainee)
            window.setdefault("grad_norm", []).append(nn.utils.clip_grad_norm_(trainee.parameters(), config.clip))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update()
            finished = step + 1
            if finished % config.log_every == 0 or finished == end:
                row: dict[str, Any] = {k: round(float(torch.stack(v).mean()), 4) for k, v in window.items()}
                now = time.monotonic()
                info["seconds"] += now - start
                row |= {k: info[k] for k in ("pictures", "questions")} | {"seconds": round(info["seconds"], 1)}
                row |= {"lr": round(rate, 7), "gates": gates(model)}
                if group.first:
                    log.write(json.dumps({"step": finished, **row}) + "\n")
                    log.flush()
                bar.set_postfix(
                    {k: v for k, v in row.items() if k in ("loss", "answer", "answer_right", "dense")}, refresh=False
                )
                window, start = {}, now
            stopping = group.any(interrupted())  # asked once: a stop is always a saved one
            if group.first and (finished % config.checkpoint_every == 0 or finished == end or stopping):
                last = state.save_state(
                    folder, finished, trainee, optimizer, {k: v for k, v in info.items() if k != "step"}, config.keep
                )
            if group.first and finished % config.sample_every == 0:
                write_samples(folder / "samples", finished, model, chat, config)
            if stopping:
                break
    return last


def gates(model: VisionLanguageModel) -> list[float]:
    """How far each cross-attention gate is open: tanh of attention, then of FFN, layer by layer."""
    blocks = model.decoder.cross_attention.values()
    names = ("attn_gate", "ffn_gate")
    return [round(float(b.get_parameter(name).detach().tanh()), 3) for b in blocks for name in names]


@contextlib.contextmanager
def interruptible(minutes: float = 0.0):
    """Turn SIGTERM, Ctrl-C and the end of the time given into a flag that the loop reads between steps."""
    hit, old = [], {}
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):  # not in the main thread
            old[number] = signal.signal(number, lambda *_: hit.append(True))
    try:
        yield lambda: bool(hit) or time.monotonic() > deadline
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def write_samples(
    folder: Path, step: int, model: VisionLanguageModel, chat: Chat | TemplateChat, config: TrainConfig
) -> None:
    """What the model says about eight fixed pictures, kept on disk so that learning can be looked at."""
    from vlm.api import VLM
    from vlm.data.worlds import sample

    folder.mkdir(exist_ok=True)
    model.eval()
    vlm, rows = VLM(model, chat, fuse=False), []
    for i in range(8):
        drawn = sample(
            i, seed=config.seed, mixture=config.stage(step - 1).mixture, size=model.config.image.tile_size, split="val",
            n_questions=4, emoji_path=config.emoji or None,
        )  # fmt: skip
        for k, image in enumerate(drawn.pictures):
            image.save(folder / f"picture-{i}{f'-{k}' if k else ''}.png")
        said = vlm.answer([drawn.pictures] * len(drawn.questions), [q.text for q in drawn.questions])
        pairs = zip(drawn.questions, said, strict=True)
        answers = [{"question": q.text, "expected": q.answer, "said": str(a)} for q, a in pairs]
        rows.append({"picture": i, "caption": str(vlm.caption(drawn.pictures)), "answers": answers})
    (folder / f"step-{step:07d}.json").write_text(json.dumps(rows, indent=1))
    train_mode(model)
