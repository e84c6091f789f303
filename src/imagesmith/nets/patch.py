"""Discriminators of restored images: a logit for each place, so that pictures of any size are judged by their texture.

Sources: PatchGAN (Isola et al. 2017, sec. 3.2), without its normalisation; the U-Net with spectral norm of Real-ESRGAN
(Wang et al. 2021, sec. 3.2). Licence: Apache-2.0.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
"""Of the leaky rectifiers."""


class PatchDiscriminator(nn.Module):
    """image (N, channels, H, W) -> float32 logits (N, 1, H / f, W / f) with f = `multiple_of`, one for each patch.

    Each of `widths` is a 4x4 convolution that halves the size; two 3x3 convolutions follow. With three widths a logit
    sees 54 x 54 pixels.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = (32, 64, 96), spectral: bool = False) -> None:
        super().__init__()
        self.channels, self.multiple_of = channels, 2 ** len(widths)
        pairs = zip((channels, *widths[:-1]), widths, strict=True)
        self.shrink = nn.ModuleList(_convolution(a, b, 4, stride=2, spectral=spectral) for a, b in pairs)
        self.body = _convolution(widths[-1], widths[-1], 3, spectral=spectral)
        self.tail = _convolution(widths[-1], 1, 3, spectral=False)

    def forward(self, image: Tensor) -> Tensor:
        x = 2 * image - 1
        for shrink in (*self.shrink, self.body):
            x = F.leaky_relu(shrink(x), SLOPE)
        return _logits(self.tail, x)


class UNetDiscriminator(nn.Module):
    """image (N, channels, H, W) -> float32 logits (N, 1, H, W), one for each pixel and its surroundings.

    A 3x3 convolution to `widths[0]`; each further width halves the size, and the way back adds what was there before.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = (16, 32, 64, 64), spectral: bool = True) -> None:
        super().__init__()
        self.channels, self.multiple_of = channels, 2 ** (len(widths) - 1)
        steps = list(itertools.pairwise(widths))
        self.head = _convolution(channels, widths[0], 3, spectral=False)
        self.shrink = nn.ModuleList(_convolution(a, b, 4, stride=2, spectral=spectral) for a, b in steps)
        self.grow = nn.ModuleList(_convolution(b, a, 3, spectral=spectral) for a, b in steps)
        self.body = _convolution(widths[0], widths[0], 3, spectral=spectral)
        self.tail = _convolution(widths[0], 1, 3, spectral=False)

    def forward(self, image: Tensor) -> Tensor:
        x = F.leaky_relu(self.head(2 * image - 1), SLOPE)
        skips: list[Tensor] = []
        for shrink in self.shrink:
            skips.append(x)
            x = F.leaky_relu(shrink(x), SLOPE)
        for grow in reversed(self.grow):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = skips.pop() + F.leaky_relu(grow(x), SLOPE)
        return _logits(self.tail, F.leaky_relu(self.body(x), SLOPE))


def _convolution(incoming: int, outgoing: int, size: int, *, stride: int = 1, spectral: bool) -> nn.Module:
    """A convolution that keeps the size, or divides it by `stride`; `spectral` holds the norm of its kernel at 1."""
    layer = nn.Conv2d(incoming, outgoing, size, stride, padding=(size - 1) // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    assert layer.bias is not None, "convolutions have biases here"
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def _logits(tail: nn.Module, x: Tensor) -> Tensor:
    """The last layer in at least float32: differences of logits need all their digits."""
    with torch.autocast(x.device.type, enabled=False):
        return tail(x.to(torch.promote_types(x.dtype, torch.float32)))
