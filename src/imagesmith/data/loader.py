"""The endless loader: batches from image number `start` on, prepared by worker processes while the networks compute."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class EndlessBatches(Sampler[list[int]]):
    """Image numbers start, start + 1, ... in batches of `batch`, of which this process takes every `world`-th."""

    def __init__(self, start: int, batch: int, rank: int = 0, world: int = 1) -> None:
        assert batch % world == 0, f"batch {batch} must be a multiple of {world} processes"
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start
        while True:
            yield list(range(first + self.rank, first + self.batch, self.world))
            first += self.batch


def endless_batches(
    dataset: Dataset[Any], start: int, batch: int, *, workers: int, rank: int = 0, world: int = 1, pin: bool = False
) -> Iterator[tuple[Tensor, ...]]:
    """Batches of the items of `dataset` for ever; without `workers` this process prepares them; `pin` is for GPUs."""
    loader = DataLoader(
        dataset,
        batch_sampler=EndlessBatches(start, batch, rank, world),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_serve if workers else None,
    )
    return iter(loader)


def _serve(worker: int) -> None:
    """Prepare a worker: the training process decides when to stop, and asks for more till then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)  # the cores belong to the networks


def _end_for(trainer: int) -> None:
    """End this process by SIGTERM from that one alone: timeout, torchrun and clusters send it to all that there are."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
