"""Which pictures of a set are kept apart for measuring: the same ones in every run."""

import itertools

import torch
from torch import Tensor

from imagesmith.tensors import generator_for


def drawn_apart(count: int, apart: int) -> list[int]:
    """`apart` positions below `count`, ascending: one by chance of each of as many stretches of equal length.

    So each class of a set in the order of its classes gives its share, and of one whose classes take turns none gives
    all, as every tenth picture would.
    """
    rng = generator_for(0)
    ends = [k * count // max(apart, 1) for k in range(apart + 1)]
    return [low + int(torch.randint(high - low, (), generator=rng)) for low, high in itertools.pairwise(ends)]


def split(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Positions (int64) of the pictures to train on and of those kept apart for measuring, both ascending.

    At most a tenth is kept apart, so below ten pictures none.
    """
    is_apart = torch.zeros(count, dtype=torch.bool)
    is_apart[torch.tensor(drawn_apart(count, min(held_out, count // 10)), dtype=torch.int64)] = True
    return (~is_apart).nonzero().flatten(), is_apart.nonzero().flatten()
