"""Several processes that train one network: started by torchrun, joined here, averaged here."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # public, though not in __all__
from torch.distributed.rendezvous import rendezvous

from imagesmith.errors import ImagesmithError, TrainingError, UsageError

T = TypeVar("T")

_PORT = "port of the leader's store"


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

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one message of the first one's device and dtype."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).to(tensors[0], non_blocking=True) for tensor in tensors])
        with _loss_is_told():
            dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agree(self, value: float) -> float:
        """The leader's value, on every process."""
        if self.size == 1:
            return value
        message = torch.tensor([value], dtype=torch.float64)
        with _loss_is_told():
            dist.broadcast(message, src=0)
        return float(message)

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
        with _loss_is_told():
            dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], ImagesmithError):
            raise outcome[0]
        return outcome[0]

    def meet(self) -> None:
        """Wait for all processes: one that leaves while another still talks to it takes that one down."""
        if self.size > 1:
            with _loss_is_told():
                dist.barrier()


def join_world(device: str, timeout_minutes: float = 15) -> World:
    """Join the processes that torchrun started; alone where it did not. CUDA gradients go by NCCL, the rest by gloo.

    A process that was killed is noticed at once, one that is silent, as behind a broken line, after the timeout: then
    every call of the world is a TrainingError. UsageError where the environment tells only a part of the place.
    """
    size, rank = _place()
    if size == 1:
        return World()
    timeout = timedelta(minutes=timeout_minutes)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        with _loss_is_told():
            store = _fresh_store(rank, size, timeout)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    return World(rank, size, int(os.environ.get("LOCAL_RANK", "0")))


def processes_here() -> int:
    """How many processes torchrun started on this machine; 1 without it."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(told)) if told.isdecimal() else 1


def _place() -> tuple[int, int]:
    """How many processes there are and which this one is; UsageError where only a part of that is told."""
    size, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "")
    if size == "1":
        return 1, 0
    try:
        return int(size), int(rank)
    except ValueError:
        raise UsageError(
            f"expected numbers in WORLD_SIZE and RANK, as torchrun sets them, got '{size}' and '{rank}'; "
            "start with torchrun, or unset both"
        ) from None


def _fresh_store(rank: int, size: int, timeout: timedelta) -> Store:
    """Where the processes find each other's addresses: the leader's, as old as itself.

    torchrun keeps one store over all restarts (torch 2.13), in which a quick process finds the addresses of the dead.
    Of the leaders before, too, only a port is left there, at which nobody answers.
    """
    lasting, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return lasting  # it is the leader's own
    host = os.environ["MASTER_ADDR"]
    if rank == 0:
        store = TCPStore(host, 0, size, is_master=True, wait_for_workers=False, timeout=timeout)
        lasting.set(_PORT, str(store.port))
        return store
    deadline = time.monotonic() + timeout.total_seconds()
    while not _answers(host, port := int(lasting.get(_PORT))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return TCPStore(host, port, size, wait_for_workers=False, timeout=timeout)


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def _loss_is_told() -> Iterator[None]:
    """What a message to a process that is no longer there raises, as an error with a way out."""
    try:
        yield
    except RuntimeError as error:
        if is_killed_worker(error):
            raise
        raise TrainingError(
            "another process of this run is gone, or silent for run.timeout_minutes; the same command goes on from\n"
            "the newest checkpoint, and torchrun --max-restarts=3 gives it again by itself"
        ) from error


def is_killed_worker(error: BaseException) -> bool:
    """Whether torch tells here, wherever this process was just then, that one that prepares its batches was killed."""
    return "DataLoader worker (pid" in str(error)


def leave_world() -> None:
    """Take leave of the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
