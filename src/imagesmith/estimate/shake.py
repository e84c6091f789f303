"""The path that a shaking camera drew: the kernel of a picture's blur, found together with its edges."""

import torch
from torch import Tensor

from imagesmith.tensors import to_gray
from imagesmith.tensors.deconvolution import (
    KERNEL_REACH_PX,
    fading,
    gradients,
    kernel_between,
    kernel_spectrum,
    slope_power,
)
from imagesmith.tensors.edges import mirrored

_BORDER = 2 * KERNEL_REACH_PX + 2
_ROUNDS = 15
_EDGE_COST = 1e-3
"""What each pixel on an edge costs at first, in squares of [0, 1]; a tenth less in each round."""
_STIFFEST = 1.0


def blur_kernel(blurred: Tensor, guess: Tensor) -> Tensor:
    """The kernel that blurred a picture (C, H, W) in [0, 1], told a `guess` (C, H, W) at it without blur.

    In turns: the picture of few edges that the kernel takes to the blurred one (the L0 norm of slopes, Xu et al. 2013,
    Pan et al. 2014), then the kernel between the two. One scale is enough because a network has guessed first.
    """
    seen = mirrored(to_gray(blurred), _BORDER, _BORDER, _BORDER, _BORDER)
    weight = fading(seen.shape[-2:], _BORDER)
    known = torch.lerp(seen.mean(), seen, weight)
    kernel = kernel_between(known, gradients(mirrored(to_gray(guess), _BORDER, _BORDER, _BORDER, _BORDER)), weight)
    cost = _EDGE_COST
    for _ in range(_ROUNDS):
        spectrum = kernel_spectrum(kernel, *seen.shape[-2:])
        periodic = torch.lerp(_convolved(seen, spectrum), seen, weight)  # Reeves 2005: no seam to be taken for an edge
        kernel = kernel_between(periodic, gradients(_of_few_edges(periodic, spectrum, cost)), weight)
        cost /= 1.1
    return kernel


def _convolved(x: Tensor, spectrum: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=x.shape[-2:])


def _of_few_edges(blurred: Tensor, spectrum: Tensor, cost: float) -> Tensor:
    """The picture with the fewest sloped pixels that `spectrum` takes near `blurred` (1, H, W), a slope costing `cost`.

    By half-quadratic splitting: slopes that are not worth their cost are set to 0, the picture follows more and more.
    """
    size = blurred.shape[-2:]
    data, power = spectrum.conj() * torch.fft.rfft2(blurred), spectrum.abs().square()
    sloped = slope_power(*size)
    sharp, stiffness = blurred, 2 * cost
    while stiffness < _STIFFEST:
        slopes = gradients(sharp)
        slopes = torch.where(slopes.square().sum(0) < cost / stiffness, 0.0, slopes)
        right, down = slopes
        back = right.roll(1, -1) - right + down.roll(1, -2) - down
        sharp = torch.fft.irfft2((data + stiffness * torch.fft.rfft2(back)) / (power + stiffness * sloped), s=size)
        stiffness *= 2
    return sharp
