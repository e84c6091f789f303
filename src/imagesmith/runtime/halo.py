"""How far a network sees, which decides how far tiles have to overlap: measured, for networks that do not tell."""

import copy
import math

import torch

from imagesmith.runtime.device import Net


def measure_halo(net: Net, largest: int = 1024, seeds: int = 3, rows: int | None = None) -> int | None:
    """How far `net` sees, in input pixels beyond a cell of `multiple_of`, measured; None if over more than `largest`.

    The output of one such cell is followed back to the inputs on which it depends, in float64 and with random weights,
    where a contribution cannot cancel and the faintest is not zero. Pictures of only so many `rows` are a small part of
    the work, enough for a net that sees as far up as sideways.
    """
    net = copy.deepcopy(net).double().eval()
    side = 32 // math.gcd(32, net.multiple_of) * net.multiple_of
    while side <= largest:
        radius = max(_reach(net, rows or side, side, seed) for seed in range(seeds))
        if radius < side // 2 - net.multiple_of:
            return radius
        side *= 2
    return None


def _reach(net: Net, rows: int, columns: int, seed: int) -> int:
    """The largest distance from the cell in the middle of an input pixel that changes its output pixels."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            spread = 1 / math.sqrt(max(1, parameter[0].numel())) if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) * spread)
    x = torch.rand(1, net.channels + net.planes, rows, columns, generator=random, dtype=torch.float64).requires_grad_()
    first = [size // 2 // net.multiple_of * net.multiple_of for size in (rows, columns)]
    down, across = (slice(start * net.scale, (start + net.multiple_of) * net.scale) for start in first)
    y = net(x)[:, :, down, across]
    weights = torch.rand(y.shape, generator=random, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    reached = gradient.abs().amax(dim=(0, 1)).nonzero()
    before = torch.tensor(first) - reached
    return int(torch.maximum(before, 1 - net.multiple_of - before).max())
