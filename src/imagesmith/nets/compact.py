"""Compact: a plain stack of 3x3 convolutions that runs close to the machine's convolution limit.

Sources: the stack of SRVGGNet (Wang et al., Real-ESRGAN, 2021) with sub-pixel convolution (Shi et al. 2016); every body
convolution carries an identity branch while it trains (RepVGG, Ding et al. 2021) that `fused` merges into its kernel,
so inference is convolution, activation, convolution, ... and nothing else. Licence of code and weights: Apache-2.0.
Receptive radius: one pixel per convolution. Size multiple: 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Compact(nn.Module):
    """(N, C, H, W) in [0, 1] -> (N, C, H * scale, W * scale), unclamped; `width` channels, `depth` body convolutions."""

    multiple_of = 1

    def __init__(self, scale: int = 4, width: int = 48, depth: int = 14, channels: int = 3) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.halo = depth + 2
        self.identity = True
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.tail = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        for conv in self.body:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            conv.weight.data.mul_(0.5)
        self.tail.weight.data.mul_(0.1)
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.subpixels(x), self.scale)

    def subpixels(self, x: Tensor) -> Tensor:
        """The result before its pixel shuffle, (N, C * scale**2, H, W) in the dtype of `x`, unclamped."""
        dtype = self.head.weight.dtype
        y = self.head((x - 0.5).to(dtype))
        for conv in self.body:
            y = F.relu(conv(y) + y if self.identity else conv(y))
        residual = self.tail(y).to(x.dtype)
        # every output pixel starts from its nearest input pixel; added before the shuffle, where it is a broadcast
        n, c, h, w = x.shape
        return (residual.view(n, c, -1, h, w) + x.unsqueeze(2)).flatten(1, 2)

    def fused(self) -> "Compact":
        """A copy whose identity branches are merged into the kernels; the same function to rounding."""
        body = next(iter(self.body))
        fused = Compact(self.scale, body.in_channels, len(self.body), self.channels)
        fused.load_state_dict(self.state_dict())
        fused.identity = False
        if self.identity:
            with torch.no_grad():
                for conv in fused.body:
                    nn.init.dirac_(kernel := torch.empty_like(conv.weight))
                    conv.weight.add_(kernel)
        return fused.to(self.head.weight.device, self.head.weight.dtype).train(self.training)
