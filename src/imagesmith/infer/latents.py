"""Where a generator's images come from: latents drawn from seeds, and the ways between and around them."""

import itertools
import math
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from imagesmith.errors import UsageError
from imagesmith.tensors import generator_for

SEED_LIMIT = 2**53
"""Above every seed: as far as whole numbers survive JSON and spreadsheets."""
_LABELS = 1  # second key of the stream that draws labels, so that a latent does not depend on there being any


class Seeds(Sequence[int]):
    """Whole numbers in the order in which a user wrote them; a range takes no room, however long it is."""

    def __init__(self, *ranges: range) -> None:
        self._ranges = ranges

    @classmethod
    def parse(cls, text: str) -> "Seeds":
        """The seeds that '0-63', '1,5,9' or '0-7,42' means; UsageError for anything else."""
        ranges = []
        for part in text.split(","):
            match = re.fullmatch(r"\s*(\d{1,16})\s*(?:-\s*(\d{1,16})\s*)?", part, re.ASCII)
            if not match:
                raise UsageError(f"expected seeds such as 0-63 or 1,5,9, got '{part.strip()}' in '{text}'")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"expected a range of seeds that goes up, got '{part.strip()}'; write {last}-{first}")
            ranges.append(range(first, check_seed(last) + 1))
        return cls(*ranges)

    def __len__(self) -> int:
        return sum(map(len, self._ranges))

    def __iter__(self) -> itertools.chain[int]:
        return itertools.chain(*self._ranges)

    def __getitem__(self, index: int) -> int:  # type: ignore[override] - a slice has no use here
        if index < 0:
            index += len(self)
        for each in self._ranges:
            if 0 <= index < len(each):
                return each[index]
            index -= len(each)
        raise IndexError(index)

    @property
    def highest(self) -> int:
        return max(each[-1] for each in self._ranges)

    def check_distinct(self) -> None:
        """UsageError where a seed is named twice."""
        ordered = sorted(self._ranges, key=lambda each: each.start)
        for before, after in itertools.pairwise(ordered):
            if after.start < before.stop:
                raise UsageError(f"expected every seed once, got {after.start} twice")


def check_seed(seed: SupportsIndex) -> int:
    """`seed` as an int, also of NumPy or torch: a whole number from 0 to SEED_LIMIT - 1; UsageError otherwise."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise UsageError(f"expected whole numbers as seeds, got {seed!r}") from None
    if not 0 <= number < SEED_LIMIT:
        raise UsageError(f"expected a seed from 0 to {SEED_LIMIT - 1}, got {number}")
    return number


def checked_seeds(seeds: Iterable[SupportsIndex]) -> Iterator[int]:
    """Every seed by `check_seed`, as it is asked for; UsageError at once where `seeds` is a single one."""
    try:
        return map(check_seed, iter(seeds))
    except TypeError:
        raise UsageError(f"expected several seeds, such as [5] or range(9), got {seeds!r}") from None


def latents(seeds: Iterable[int], latent_size: int) -> Tensor:
    """Standard normal latents (N, latent_size), float32, on the CPU; each depends on its seed alone."""
    rows = [torch.randn(latent_size, generator=generator_for(seed)) for seed in checked_seeds(seeds)]
    return torch.stack(rows) if rows else torch.empty(0, latent_size)


def drawn_label(seed: int, classes: int) -> int:
    """The label that belongs to a seed where the user names none."""
    return int(torch.randint(classes, (), generator=generator_for(check_seed(seed), _LABELS)))


def slerp(start: Tensor, end: Tensor, progress: Tensor) -> Tensor:
    """Latents (N, D) on the arc from `start` (D,) to `end` (D,) at `progress` (N,) in [0, 1]; Shoemake 1985.

    On the straight line between two normal latents the middle is too short, and its image too plain.
    """
    cosine = torch.dot(start, end) / (start.norm() * end.norm()).clamp(min=1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1))
    t = progress[:, None]
    if torch.sin(angle) < 1e-4:  # the same direction, or opposite ones, between which no arc is the shortest
        return torch.lerp(start, end, t)
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def around(latent: Tensor, seeds: Iterable[int], strength: float) -> Tensor:
    """Latents (N, D), one for each seed, near `latent` (D,): at `strength` 0 itself, at 1 independent of it.

    A quarter turn towards a normal latent, so that at any strength a normal latent stays one.
    """
    turn = strength * math.pi / 2
    return math.cos(turn) * latent + math.sin(turn) * latents(seeds, latent.numel())
