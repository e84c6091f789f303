"""Compact: residual pairs of 3x3 convolutions and nothing else, to run close to the machine's convolution limit.

Sources: residual blocks without normalisation and sub-pixel output of EDSR (Lim et al. 2017, sec. 3; Shi et al. 2016),
at the size of the efficient networks (RLFN, Kong et al. 2022); nearest-neighbour base of SRVGGNet (Wang et al. 2021).
No attention, no concatenation, no 1x1: experiments/LOG.md tells what was tried. Licence: Apache-2.0.
Receptive radius: one pixel per convolution. Size multiple: 1.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Compact(nn.Module):
    """(N, C, H, W) in [0, 1] -> (N, C, H * scale, W * scale), unclamped.

    `width` feature maps, `blocks` residual pairs of convolutions.
    """

    multiple_of = 1
    planes = 0

    def __init__(self, scale: int = 4, width: int = 48, blocks: int = 7, channels: int = 3) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.halo = 2 * blocks + 2
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(Pair(width) for _ in range(blocks))
        self.tail = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.tail.weight.data.mul_(0.1)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.subpixels(x), self.scale)

    def subpixels(self, x: Tensor) -> Tensor:
        """The result before its pixel shuffle, (N, C * scale**2, H, W) in the dtype of `x`, unclamped."""
        y = self.head((x - 0.5).to(self.head.weight.dtype))
        for pair in self.body:
            y = pair(y)
        residual = self.tail(y).to(x.dtype)
        # every output pixel starts from its nearest input pixel; added before the shuffle, where it is a broadcast,
        # and in place: a sum of five dimensions has another layout, whose way back costs a twentieth of the network
        n, c, h, w = x.shape
        residual.view(n, c, -1, h, w).add_(x.unsqueeze(2))
        return residual

    def fused(self) -> Self:
        """Itself: there is no branch to merge."""
        return self


class Pair(nn.Module):
    """x + conv(relu(conv(x))); without gradients the sum may take the memory of x, which is given up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for conv, gain in ((self.first, 1.0), (self.second, 0.3)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            conv.weight.data.mul_(gain)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x), inplace=True))
        # without gradients nothing keeps the second's output, so the sum may take its memory
        return x + y if torch.is_grad_enabled() else y.add_(x)
