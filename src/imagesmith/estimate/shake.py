"""The path that a shaking camera drew: the kernel of a picture's blur, found together with its edges."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors import imresize, to_gray
from imagesmith.tensors.deconvolution import (
    KERNEL_REACH_PX,
    differences,
    fading,
    gradients,
    kernel_between,
    kernel_spectrum,
    power,
    slope_power,
)
from imagesmith.tensors.edges import mirrored
from imagesmith.tensors.fourier import fast_size

_BORDER = 2 * KERNEL_REACH_PX + 2
_SCALES = {0.3536: 5, 0.5: 5, 0.7071: 5, 1.0: 3}
"""How many rounds a search makes at which scale."""
_ROUNDS = 10
_FIRST_COSTS = (2.5e-3, 1e-2)
"""What each pixel on an edge costs at first, in squares of [0, 1], where nothing is guessed."""
EDGE_COSTS = (7e-4, 5e-4)
"""The same with a guess, and with a second one that is better."""
_STIFFEST = 4.0
_SOFTNESS, _SOFTENING, _SOFTEST = -0.1, 1.6, 1.0
_A_LENS, _A_PATH = 0.15, 0.25
"""See `edge_softness`; the latter two as `_unlike_a_gaussian` tells."""
_PIXEL = 0.05
"""Variance of a Gaussian that fits a single pixel."""


def first_kernels(blurred: Tensor) -> list[Tensor]:
    """Kernels that may have blurred a picture (C, H, W) in [0, 1], of which nothing else is known.

    On small copies of the picture first, where shakes are short (Fergus et al. 2006), each copy as `blur_kernel` does.
    One for textures and one for strong edges: either ends at times in no blur at all, or in another shake.
    """
    seen = to_gray(blurred)
    copies = [imresize(seen, scale) if scale < 1 else seen for scale in _SCALES]
    return [_coarse_to_fine(copies, cost) for cost in _FIRST_COSTS]


def blur_kernel(blurred: Tensor, guess: Tensor, edge_cost: float = EDGE_COSTS[0], softness_px: float = 0.0) -> Tensor:
    """The kernel that blurred a picture (C, H, W) in [0, 1], told a `guess` (C, H, W) at it without blur.

    In turns: the picture of few edges that the kernel takes to the blurred one (the L0 norm of slopes, Xu et al. 2013,
    Pan et al. 2014), then the kernel between the two. Those edges are steps; how soft the photograph's are, see
    `edge_softness`, would else be taken for a part of its blur.
    """
    seen = to_gray(blurred)
    known, weight = _bordered(seen)
    slopes = gradients(_bordered(to_gray(guess))[0])
    return _in_turns(seen, kernel_between(known, slopes, weight), _ROUNDS, edge_cost, softness_px)


def edge_softness(guess: Tensor, kernel: Tensor) -> float:
    """How soft the edges of a photograph are: the standard deviation, in pixels, of the Gaussian that steps lack.

    The photograph is known by a `guess` (C, H, W) at it without blur and by the `kernel` found so far. Photographs
    look alike on all scales: slopes from pixel to pixel are as much weaker than those of the picture at half its size
    as these are than those at a quarter, and weaker yet where edges are soft by themselves, as of enlarged photographs.
    Fitted to photographs that were enlarged by 1 to 2 and shaken. A blur like a Gaussian is taken for a lens, which
    softens edges just so: then all of it is blur.
    """
    full = to_gray(guess)
    half = F.avg_pool2d(full, 2, ceil_mode=True)
    quarter = F.avg_pool2d(half, 2, ceil_mode=True)
    if min(quarter.shape[-2:]) < 2:
        return 0.0
    full, half, quarter = (gradients(x)[:, :-1, :-1].square().mean().log() for x in (full, half, quarter))
    softness = _SOFTNESS - _SOFTENING * float(full - 1.5 * half + 0.5 * quarter)
    drawn = min(max((_unlike_a_gaussian(kernel) - _A_LENS) / (_A_PATH - _A_LENS), 0.0), 1.0)
    return drawn * min(max(softness, 0.0), _SOFTEST) if math.isfinite(softness) else 0.0


def _unlike_a_gaussian(kernel: Tensor) -> float:
    """Which part of `kernel` (K, K) lies elsewhere than in the Gaussian of its own mean and covariance."""
    steps = torch.arange(len(kernel), dtype=kernel.dtype)
    rows, columns = steps[:, None] - kernel.sum(1) @ steps, steps - kernel.sum(0) @ steps
    down, across, both = ((kernel * x).sum() for x in (rows * rows, columns * columns, rows * columns))
    down, across = down + _PIXEL, across + _PIXEL
    form = (across * rows * rows - 2 * both * rows * columns + down * columns * columns) / (down * across - both * both)
    gaussian = torch.exp(-form / 2)
    return float((kernel - gaussian / gaussian.sum()).abs().sum()) / 2


def _coarse_to_fine(copies: list[Tensor], cost: float) -> Tensor:
    kernel = torch.tensor([[0.0, 0, 0], [0, 0.5, 0.5], [0, 0, 0]])
    for (scale, rounds), copy in zip(_SCALES.items(), copies, strict=True):
        side = 2 * math.ceil(scale * KERNEL_REACH_PX) + 1
        kernel = F.interpolate(kernel[None, None], (side, side), mode="bicubic")[0, 0].clamp(min=0)
        kernel = _in_turns(copy, kernel / kernel.sum(), rounds, cost)
    return kernel


def _in_turns(seen: Tensor, kernel: Tensor, rounds: int, cost: float, softness_px: float = 0.0) -> Tensor:
    """`kernel` made better for a gray picture (1, H, W), round by round, in which edges cost ever less.

    In the last round they are as soft as the photograph's.
    """
    seen, weight = _bordered(seen)
    size = seen.shape[-2:]
    transformed, slopes = torch.fft.rfft2(seen), _by_parts(slope_power(*size))
    for left in reversed(range(rounds)):
        spectrum = kernel_spectrum(kernel, *size)
        again = torch.fft.irfft2(transformed * spectrum, s=size)
        periodic = torch.lerp(again, seen, weight)  # Reeves 2005: no seam to be taken for an edge
        edges = _of_few_edges(periodic, spectrum, slopes, cost)
        kernel = kernel_between(periodic, gradients(edges), weight, len(kernel) // 2, 0.0 if left else softness_px)
        cost /= 1.1
    return kernel


def _bordered(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrored beyond its edges, up to a size of fast transforms, and the weight that fades what was added."""
    (height, width), (rows, columns) = x.shape[-2:], fast_size([length + 2 * _BORDER for length in x.shape[-2:]])
    top, left = (rows - height) // 2, (columns - width) // 2
    x = mirrored(x, left, columns - width - left, top, rows - height - top)
    return x, fading(x.shape[-2:], _BORDER)


def _by_parts(real: Tensor) -> Tensor:
    """What is real beside the two parts of complex numbers: one of these divided by it is divided as if both were."""
    return torch.stack([real, real], dim=-1)


def _of_few_edges(blurred: Tensor, spectrum: Tensor, slopes: Tensor, cost: float) -> Tensor:
    """The picture with the fewest sloped pixels that `spectrum` takes near `blurred` (1, H, W), a slope costing `cost`.

    `slopes` is the `slope_power` of this size, by parts.
    By half-quadratic splitting: slopes that are not worth their cost are set to 0, the picture follows more and more.
    At first none is. Most of a search is spent here, hence the operations in place.
    """
    size, stiffness = blurred.shape[-2:], 2 * cost
    data, blurs = torch.view_as_real(spectrum.conj() * torch.fft.rfft2(blurred[0])), _by_parts(power(spectrum))
    wanted = data / torch.add(blurs, slopes, alpha=stiffness)
    sharp, is_edge = torch.fft.irfft2(torch.view_as_complex(wanted), s=size), torch.empty(size)
    stiffness *= 2
    while stiffness < _STIFFEST:
        right, down = differences(sharp, 1), differences(sharp, 0)
        torch.mul(right, right, out=is_edge).addcmul_(down, down)
        torch.ge(is_edge, cost / stiffness, out=is_edge)
        right.mul_(is_edge)
        down.mul_(is_edge)
        back = differences(right, 1, at_next=True).add_(differences(down, 0, at_next=True))
        wanted = torch.view_as_real(torch.fft.rfft2(back)).mul_(-stiffness).add_(data)
        wanted.div_(torch.add(blurs, slopes, alpha=stiffness))
        sharp = torch.fft.irfft2(torch.view_as_complex(wanted), s=size)
        stiffness *= 2
    return sharp[None]
