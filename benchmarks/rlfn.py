"""A stand-in for RLFN with its layer shapes and random weights: it costs what RLFN costs and restores nothing.

Shapes from Kong et al. 2022, "Residual local feature network for efficient super-resolution", the network of the NTIRE
2022 challenge with 317 thousand parameters: 46 features, 48 inside a block, 4 blocks, attention of 16 features.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES, INSIDE, BLOCKS, ATTENTION = 46, 48, 4, 16


class Rlfn(nn.Module):
    """(N, 3, H, W) -> (N, 3, 4 H, 4 W); H and W at least 16."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, FEATURES, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)))
        self.join = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
        self.tail = nn.Conv2d(FEATURES, 3 * 4**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        head = self.head(x)
        return F.pixel_shuffle(self.tail(self.join(self.blocks(head)) + head), 4)


class _Block(nn.Module):
    """Three convolutions with a skip, a 1x1 convolution, enhanced spatial attention."""

    def __init__(self) -> None:
        super().__init__()
        widths = [FEATURES, INSIDE, INSIDE, FEATURES]
        self.local = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.mix = nn.Conv2d(FEATURES, FEATURES, 1)
        self.squeeze = nn.Conv2d(FEATURES, ATTENTION, 1)
        self.skip = nn.Conv2d(ATTENTION, ATTENTION, 1)
        self.stride = nn.Conv2d(ATTENTION, ATTENTION, 3, stride=2)
        self.coarse = nn.Conv2d(ATTENTION, ATTENTION, 3, padding=1)
        self.expand = nn.Conv2d(ATTENTION, FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.local:
            y = F.leaky_relu(conv(y), 0.05, inplace=True)
        y = self.mix(y + x)
        squeezed = self.squeeze(y)
        coarse = self.coarse(F.max_pool2d(self.stride(squeezed), 7, 3))
        coarse = F.interpolate(coarse, y.shape[-2:], mode="bilinear", align_corners=False)
        return y * torch.sigmoid(self.expand(coarse + self.skip(squeezed)))
