"""Batches of whole pictures: image k of a run depends on the seed and k alone.

Each epoch is another permutation, so every picture is seen once before any is seen again; an interrupted run, and a
run on two processes, see the same pictures in the same order.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from imagesmith.data.image_sets import ImageSet
from imagesmith.data.loader import EndlessBatches
from imagesmith.tensors import generator_for

_ORDER, _FLIP = 0, 1


class ImageBatches:
    """Endless (images uint8 (N, C, H, W), labels int64 (N,)) from image number `start` on; no classes give label 0.

    `batch` counts pictures over all `world` processes, of which this one takes every `world`-th. With `flip` half of
    the pictures, other ones each epoch, are mirrored left to right. `indices` are the pictures to use, all if None.
    """

    def __init__(
        self,
        image_set: ImageSet,
        *,
        batch: int,
        seed: int,
        start: int = 0,
        flip: bool = False,
        indices: Tensor | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.indices = torch.arange(len(image_set)) if indices is None else indices
        assert len(self.indices), "expected at least one picture to draw from"
        self.images, self.seed, self.flip = image_set.images, seed, flip
        self.labels = torch.zeros(len(image_set), dtype=torch.int64) if image_set.labels is None else image_set.labels
        self._numbers = EndlessBatches(start, batch, rank, world)
        self._epoch = self._drawn(start // len(self.indices))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for numbers in self._numbers:
            yield self.at(numbers)

    def at(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """The pictures and labels with these numbers in the run."""
        count = len(self.indices)
        drawn = [self._draw(number // count, number % count) for number in numbers]
        rows = torch.tensor([row for row, _ in drawn])
        images = self.images[rows]
        if self.flip:
            mirrored = torch.tensor([flipped for _, flipped in drawn])
            images[mirrored] = images[mirrored].flip(3)
        return images, self.labels[rows]

    def _draw(self, epoch: int, position: int) -> tuple[int, bool]:
        if epoch != self._epoch[0]:
            self._epoch = self._drawn(epoch)
        _, rows, flips = self._epoch
        return rows[position], flips[position]

    def _drawn(self, epoch: int) -> tuple[int, list[int], list[bool]]:
        """An epoch: its number, the order of the pictures, and which of them are mirrored."""
        order = torch.randperm(len(self.indices), generator=generator_for(self.seed, epoch, _ORDER))
        flips = torch.rand(len(self.indices), generator=generator_for(self.seed, epoch, _FLIP)) < 0.5
        return epoch, self.indices[order].tolist(), flips.tolist()
