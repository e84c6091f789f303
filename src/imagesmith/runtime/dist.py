"""Several processes that train one network: started by torchrun, joined here, averaged here."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imagesmith.errors import ImagesmithError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_leader(self) -> bool:
        """The one process that writes files and prints."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: float) -> float:
        """The leader's value, on every process."""
        if self.size == 1:
            return value
        message = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(message, src=0)
        return float(message)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is up on any process: all of them stop, save and plan after the same step."""
        if self.size == 1:
            return list(flags)
        message = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(message, dist.ReduceOp.MAX)
        return [bool(flag) for flag in message]

    def lead(self, action: Callable[[], T]) -> T:
        """What `action` returns on the leader, which alone runs it, or its ImagesmithError: on every process.

        A leader that fails while the others wait for it would hang them for ever.
        """
        if self.size == 1:
            return action()
        outcome: list[Any] = [None]
        if self.is_leader:
            try:
                outcome = [action()]
            except ImagesmithError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], ImagesmithError):
            raise outcome[0]
        return outcome[0]

    def meet(self) -> None:
        """Wait for all processes: one that leaves while another still talks to it takes that one down."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over all processes."""
        if self.size == 1:
            return value
        total = value.double().cpu().clone()
        dist.all_reduce(total)
        return total / self.size


def join_world(device: str) -> World:
    """Join the processes that torchrun started; alone where it did not. CUDA gradients go by NCCL, the rest by gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    return World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))


def leave_world() -> None:
    """Take leave of the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
