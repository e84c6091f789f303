"""UNet: residual pairs of convolutions at several resolutions, for damages that leave the size as it is.

Sources: U-Net (Ronneberger et al. 2015) with additive skips and without normalisation, as in DRUNet (Zhang et al.
2021); computing at half the resolution and below by pixel shuffling, as in FFDNet (Zhang et al. 2018). Licence:
Apache-2.0.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.nets.compact import Pair


class UNet(nn.Module):
    """(N, C + planes, H, W) in [0, 1] -> (N, C, H, W), unclamped; H and W multiples of `multiple_of`.

    Level k has `widths[k]` feature maps at 1 / 2**(k + 1) of the size and `blocks[k]` residual pairs on the way down
    and on the way up; the last level has its pairs once. The first `channels` channels of the input are what is mended,
    the `planes` after them tell the network more: how strongly a file was compressed, for example.
    """

    scale = 1

    def __init__(
        self,
        widths: Sequence[int] = (48, 80, 96),
        blocks: Sequence[int] = (2, 2, 2),
        channels: int = 3,
        planes: int = 0,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths:
            raise ValueError(f"expected as many widths as blocks, got {len(widths)} and {len(blocks)}")
        self.channels, self.planes = channels, planes
        self.multiple_of = 2 ** len(widths)
        self.halo = _halo(blocks)
        self.features_per_px = max(width / 4 ** (level + 1) for level, width in enumerate(widths))
        self.head = nn.Conv2d(4 * (channels + planes), widths[0], 3, padding=1)
        self.down = nn.ModuleList(_pairs(width, count) for width, count in zip(widths, blocks, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_pairs(width, count) for width, count in zip(widths[:-1], blocks[:-1], strict=True))
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        self.tail.weight.data.mul_(0.1)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self._is_fused = False

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels] + self.residual(x)

    def residual(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in the dtype of `x`: what is added to the picture."""
        y = F.pixel_unshuffle((x - 0.5).to(self.head.weight.dtype), 2)
        y = self.head(y)
        skips: list[Tensor] = []
        for pairs, shrink in zip(self.down, [*self.shrink, None], strict=True):
            y = pairs(y)
            if shrink is not None:
                skips.append(y)
                y = shrink(y)
        for pairs, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            y = pairs(self._enlarged_onto(skips.pop(), grow(y)))
        return F.pixel_shuffle(self.tail(y), 2).to(x.dtype)

    def subpixels(self, x: Tensor) -> Tensor:
        """The result itself: the size stays."""
        return self(x)

    def _enlarged_onto(self, skip: Tensor, y: Tensor) -> Tensor:
        """The sum of `skip` (N, A, 2h, 2w) and of `y` (N, 4A, h, w) at that size, in the memory of `skip` if fused."""
        if not self._is_fused:
            return skip + F.pixel_shuffle(y, 2)
        skip = skip.clone() if torch.is_grad_enabled() else skip
        apart = skip.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, A, h, 2, w, 2)
        apart.add_(y.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2))
        return skip

    @torch.inference_mode(mode=False)  # or no gradients could pass through it
    def fused(self) -> Self:
        """One whose enlarging convolutions give all features of a pixel together: they are added without a shuffle."""
        if self._is_fused:
            return self
        fused = copy.deepcopy(self)
        fused._is_fused = True
        for conv in fused.grow:
            for parameter in conv.parameters():
                parameter.data = parameter.data.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)
        return fused


def _pairs(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Pair(width) for _ in range(count)))


def _halo(blocks: Sequence[int]) -> int:
    """How far a cell of `multiple_of` pixels sees beyond itself, followed back from level to level.

    Each convolution sees one cell of its level farther, and a coarser level sees whole cells of its own.
    """
    pairs = [(level, 2 * count) for level, count in enumerate(blocks)]
    far = 0
    for level, convolutions in [(0, 1), *pairs, *reversed(pairs[:-1]), (0, 1)]:  # from the tail to the head
        cell = 2 ** (level + 1)
        far = (math.ceil(far / cell) + convolutions) * cell
    return far
