"""FillingUNet: a U-Net for holes, which starts from what surrounds them and leaves everything else alone.

Sources: pull-push interpolation (Gortler et al. 1996, The Lumigraph, sec. 3.4.2) as the first guess, `nets/unet.py`
for what is better than smooth. Licence: Apache-2.0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.nets.unet import UNet

_LEVELS = 5


class FillingUNet(UNet):
    """(N, C + 1, H, W) in [0, 1] -> (N, C, H, W); the last channel is the mask, 1 where a hole is.

    What the picture holds inside of holes is not looked at, and what lies outside is returned as it came.
    """

    def __init__(
        self, widths: Sequence[int] = (48, 80, 96), blocks: Sequence[int] = (2, 2, 4), channels: int = 3
    ) -> None:
        super().__init__(widths, blocks, channels, planes=1)
        cell = max(self.multiple_of, 2**_LEVELS)  # the guess for one pixel takes in all of its coarsest cell
        self.halo = math.ceil(self.halo / cell) * cell
        self.multiple_of = cell

    def forward(self, x: Tensor) -> Tensor:
        picture, hole = x.split([self.channels, 1], dim=1)
        guess = _pull_push(picture, 1 - hole, _LEVELS)
        return picture + hole * (super().forward(torch.cat([guess, hole], dim=1)) - picture)


def _pull_push(picture: Tensor, known: Tensor, levels: int) -> Tensor:
    """`picture` (N, C, H, W) where `known` (N, 1, H, W) is 1, elsewhere the mean of the smallest cell that knows any.

    Cells double from level to level; where the coarsest knows nothing the guess is mid-gray.
    """
    if levels == 0:
        return known * picture + (1 - known) * 0.5
    weight = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(known * picture, 2) / weight.clamp(min=1e-6)
    coarse = _pull_push(mean, F.max_pool2d(known, 2), levels - 1)
    return known * picture + (1 - known) * F.interpolate(coarse, scale_factor=2.0, mode="nearest")
