"""The endless loader: batches from image number `start` on, prepared by worker processes while the networks compute."""

import signal
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
        worker_init_fn=_quiet_worker if workers else None,
    )
    return iter(loader)


def _quiet_worker(worker: int) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the training process decides when to stop, and asks for more till then
    torch.set_num_threads(1)  # the cores belong to the networks
