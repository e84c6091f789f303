"""Deblurring in two steps: deconvolution with the kernel of the whole picture, and a network that mends what it leaves.

The kernel is found on one piece of the picture, and twice more with what the network makes of that piece.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from imagesmith.data.scanlines import Picture
from imagesmith.estimate.shake import EDGE_COSTS, blur_kernel, first_kernels
from imagesmith.runtime.tiling import Subpixels
from imagesmith.tensors import to_float, to_gray
from imagesmith.tensors.deconvolution import deconvolution_planes, gradients

PIECE_PX = 440
"""Side of the piece that a kernel is found on: more pixels make it surer, and take longer."""
_STEP_PX = 32


def deconvolving(run: Subpixels, kernel: Tensor) -> Subpixels:
    """`run`, which takes pictures with their `deconvolution_planes`, for pictures alone; it sees so much farther."""

    def subpixels(x: Tensor) -> Tensor:
        return run(torch.cat([x, torch.stack([deconvolution_planes(each.float(), kernel) for each in x])], dim=1))

    return subpixels


def busiest_piece(picture: Picture) -> Tensor:
    """File values (1, C, h, w) of the middle rows, where most changes from pixel to pixel."""
    top = max(0, (picture.height - PIECE_PX) // 2)
    rows = picture.rows(top, min(picture.height, top + PIECE_PX)).permute(2, 0, 1)
    slopes = to_gray(to_float(rows[: picture.colours], picture.depth)).nan_to_num()[0].diff(dim=1).abs().mean(0)
    width = min(PIECE_PX, picture.width)
    sums = torch.cat([slopes.new_zeros(1), slopes.cumsum(0)])
    starts = range(0, picture.width - width + 1, _STEP_PX)
    left = max(starts, key=lambda start: float(sums[start + width - 1] - sums[start]))
    return rows[None, :, :, left : left + width]


def kernel_of(blurred: Tensor, mended: Callable[[Tensor], Tensor]) -> Tensor:
    """The kernel that blurred a piece (1, C, h, w), float of any range; `mended` is the piece mended with a kernel.

    Of the first kernels the one that mends to the strongest slopes: a wrong one leaves blur, and the network takes away
    the ringing that it adds.
    """
    white = blurred.nan_to_num().max().clamp(min=1)

    def within(x: Tensor) -> Tensor:
        return (x[0].nan_to_num() / white).clamp(0, 1).cpu()

    seen = within(blurred)
    guess = max((within(mended(kernel)) for kernel in first_kernels(seen)), key=_slopes)
    first_cost, cost = EDGE_COSTS
    guess = within(mended(blur_kernel(seen, guess, first_cost)))
    return blur_kernel(seen, guess, cost)


def _slopes(picture: Tensor) -> float:
    return float(gradients(to_gray(picture))[:, :-1, :-1].square().mean())
