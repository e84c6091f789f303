"""Where every pixel went from one picture to the next: a classical dense flow, without weights and without training.

Lucas-Kanade under a Gaussian window, pyramidal and iterated, with the smoothness of Horn and Schunck where the window
sees nothing that could tell: the "combined local-global" method of Bruhn, Weickert and Schnoerr 2005. It is a yardstick
for metrics: the same arithmetic for every restorer. It is not the Farneback flow of OpenCV with which tOF was first
published, so its numbers are comparable among themselves alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors import to_gray
from imagesmith.tensors.warping import stays_inside, warp

COARSEST_PX = 8
"""The shorter side of the smallest picture of the pyramid is at least this, where the picture itself is."""
ITERATIONS = 4
"""Warps at every level of the pyramid."""
WINDOW_SIGMA = 4.0
"""Standard deviation in pixels of the window whose pixels are taken to move alike."""
SMOOTHNESS = 20.0
"""How strongly a place is held to its neighbours' motion, in squared grey levels: below this gradient they decide."""
NEIGHBOURS_SIGMA = 3.0
"""Standard deviation in pixels of the neighbourhood to whose mean motion a place is held."""
DENOISE_SIGMA = 0.8
"""Standard deviation in pixels of the blur that both pictures get first, against noise."""
LARGEST_STEP_PX = 1.0
"""Of one iteration, in pixels of its level, along either axis."""


def optical_flow(first: Tensor, second: Tensor) -> Tensor:
    """(N, 2, H, W) float32 in pixels, to the right and down: `first` at x shows what `second` shows at x + flow.

    Both (N, C, H, W) in [0, 1]; colours are weighed to luma.
    """
    assert first.shape == second.shape, f"expected equal shapes, got {first.shape} and {second.shape}"
    levels = [tuple(_smooth(to_gray(image).float() * 255, DENOISE_SIGMA) for image in (first, second))]
    while min(levels[-1][0].shape[-2:]) >= 2 * COARSEST_PX:
        levels.append(tuple(_halved(image) for image in levels[-1]))
    flow = first.new_zeros(first.shape[0], 2, *levels[-1][0].shape[-2:], dtype=torch.float32)
    for earlier, later in reversed(levels):
        flow = _refined(_resized(flow, earlier.shape[-2:]), earlier, later)
    return flow


def _refined(flow: Tensor, earlier: Tensor, later: Tensor) -> Tensor:
    """`flow` after some steps at one level; the gradients are those of `earlier`, taken once."""
    right, down = _gradients(earlier)
    structure = _smooth(torch.cat([right * right, right * down, down * down], dim=1), WINDOW_SIGMA)
    xx, xy, yy = (structure[:, k : k + 1] for k in range(3))
    xx, yy = xx + SMOOTHNESS, yy + SMOOTHNESS
    determinant = xx * yy - xy * xy
    for _ in range(ITERATIONS):
        error = (warp(later, flow) - earlier) * stays_inside(flow)
        pulls = _smooth(torch.cat([right * error, down * error], dim=1), WINDOW_SIGMA)
        x, y = (pulls + SMOOTHNESS * (flow - _smooth(flow, NEIGHBOURS_SIGMA))).split(1, dim=1)
        step = torch.cat([xy * y - yy * x, xy * x - xx * y], dim=1) / determinant
        flow = flow + step.clamp(-LARGEST_STEP_PX, LARGEST_STEP_PX)
    return flow


def _gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences to the right and down."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _halved(image: Tensor) -> Tensor:
    height, width = ((side + 1) // 2 for side in image.shape[-2:])
    return F.interpolate(image, (height, width), mode="bilinear", antialias=True)


def _resized(flow: Tensor, size: torch.Size) -> Tensor:
    """A flow at another size, its vectors lengthened alike."""
    factors = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(1, 2, 1, 1)
    return F.interpolate(flow, tuple(size), mode="bilinear") * factors


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """Every channel under a Gaussian, the edge pixels repeated beyond the edges.

    Sums of shifted pictures: a third of the time of a convolution with one channel for each group.
    """
    reach = math.ceil(2.5 * sigma)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (-2, -1):
        size = image.shape[axis]
        padded = F.pad(image, (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0), mode="replicate")
        image = image * (weights[0] / total)
        for offset, weight in enumerate(weights[1:], start=1):
            pair = padded.narrow(axis, reach - offset, size) + padded.narrow(axis, reach + offset, size)
            image.add_(pair, alpha=weight / total)
    return image
