"""Optical flow by a small pyramid.

Sources: coarse to fine with residuals, SPyNet (Ranjan and Black 2017), here with one set of weights for all levels, as
every level has the same task: the rest of a motion of about two pixels. Licence: Apache-2.0.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.tensors.warping import warp


class FlowNet(nn.Module):
    """(now, before), each (N, 3, H, W) in [0, 1] -> (N, 2, H, W) float32, pixels right and down.

    `before` sampled at p + flow(p) is `now` at p, see `warp`. `levels` halvings of the size find motions of up to about
    2 ** (levels + 1) pixels. Any size.
    """

    channels = 3

    def __init__(self, width: int = 32, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels
        self.first = nn.Conv2d(8, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2, 3, padding=1)
        self.last.weight.data.mul_(0.1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        height, width = now.shape[-2:]
        unit = 2 ** (self.levels - 1)
        padding = (0, -width % unit, 0, -height % unit)
        pyramid = [(F.pad(now.float(), padding, "replicate"), F.pad(before.float(), padding, "replicate"))]
        for _ in range(self.levels - 1):
            finer_now, finer_before = pyramid[-1]
            pyramid.append((F.avg_pool2d(finer_now, 2), F.avg_pool2d(finer_before, 2)))
        flow = torch.zeros_like(pyramid[-1][0][:, :2])
        for level, (sharp, moved) in enumerate(reversed(pyramid)):
            if level:
                flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False)
            flow = flow + self._rest(sharp, warp(moved, flow), flow)
        return flow[..., :height, :width]

    def _rest(self, now: Tensor, warped: Tensor, flow: Tensor) -> Tensor:
        """What is still missing of the flow; added in float32, because bf16 knows no fractions of long motions."""
        y = torch.cat([now - 0.5, warped - 0.5, flow / 8], dim=1).to(self.first.weight.dtype)
        for conv in (self.first, self.second, self.third):
            y = F.relu(conv(y), inplace=True)
        return self.last(y).float()
