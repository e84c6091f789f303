"""How far a network sees, which decides how far tiles have to overlap: measured, for networks that do not tell."""

import copy
import math

import torch

from imagesmith.runtime.device import Net


def measure_halo(net: Net, largest: int = 1024, seeds: int = 3, rows: int | None = None) -> int | None:
    """How far `net` sees, in input pixels beyond a cell of `multiple_of`, measured; None if over half of `largest`.

    The output of one such cell is followed back to the inputs on which it depends, in float64 and with random weights,
    where a contribution cannot cancel and the faintest is not zero; several times, for a ReLU may be off for all of one
    draw. `largest` is the widest picture tried, which holds the cell as well. Pictures of only so many `rows` are a
    small part of the work, enough for a net that sees as far up as sideways.
    """
    net, cell = copy.deepcopy(net).double().eval(), net.multiple_of
    side, largest = 32 // math.gcd(32, cell) * cell, math.ceil(largest / cell) * cell
    while True:
        radius, seed = 0, 0
        while radius < side // 2 - cell:
            if seed == seeds:
                return radius
            radius = max(radius, _reach(net, rows or side, side, seed))
            seed += 1
        if side >= largest:
            return None
        side = 2 * side if 3 * side <= largest else largest


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
