"""Data parallelism, applied from outside the model: `torchrun --nproc-per-node N -m vlm train CONFIG`.

Each process draws its own micro-batches and averages gradients with the others once a step. On a CPU, N processes of
one thread each outrun one process of N threads when matrices are small: there is one meeting a step, not hundreds.
"""

import atexit
import os
import time
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

LETTING_GO = 0.5  # seconds, of which gloo's threads need microseconds once they run


@dataclass(frozen=True)
class Group:
    """The processes of a run; a single one needs no communication at all."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the logs and the checkpoints."""
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Make every process hold the mean gradient."""
        if self.size == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])  # one message, not one a tensor
        dist.all_reduce(flat)
        for grad, mean in zip(grads, (flat / self.size).split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def any(self, flag: bool) -> bool:
        """Whether any process says so: all must stop at the same step."""
        if self.size == 1:
            return flag
        votes = torch.tensor([float(flag)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(votes)
        return bool(votes.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join(device: torch.device) -> Group:
    """The group that torchrun's environment variables describe; one process without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
        atexit.register(_leave)
    return Group(dist.get_rank(), size)


def _leave() -> None:
    """Leave the group, and let gloo's threads drop the last message's tensors, while there is an interpreter.

    They outlive the group (torch 2.14), and one that drops a tensor of Python's once the interpreter ends is cut off in
    the middle of a destructor, which aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(LETTING_GO)
