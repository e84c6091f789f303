"""Deblurring in two steps: deconvolution with the kernel of the whole picture, and a network that mends what it leaves.

The kernel is found on one piece of the picture, without a guess in each of its halves, and twice more with what the
network makes of it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from imagesmith.data.scanlines import Picture
from imagesmith.estimate.shake import EDGE_COSTS, blur_kernel, edge_softness, first_kernels
from imagesmith.runtime.tiling import Subpixels
from imagesmith.tensors import to_float, to_gray
from imagesmith.tensors.deconvolution import deconvolution_planes, gradients

PIECE_PX = 600
"""Side of the piece that a kernel is found on: more pixels make it surer, and take longer."""
_START_PX = 440
"""Side of its middle, on which the search begins."""
_LEAST_HALF_PX = 160
"""Halves of fewer pixels a side tell less than the whole."""
_JUDGED_PX = 192
"""Side of the middle by which the beginnings are compared."""
_STEP_PX = 32
Part = tuple[slice, slice]
"""Rows and columns of a piece."""
_WHOLE = slice(None), slice(None)


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


def kernel_of(blurred: Tensor, mended: Callable[[Part, Tensor], Tensor]) -> Tensor:
    """The kernel that blurred a piece (1, C, h, w), float of any range; `mended` is a part of it mended with a kernel.

    Of the first kernels of two halves the one that mends to the strongest slopes: a wrong one leaves blur, and the
    network takes away the ringing that it adds. What misleads the search in one half, a pattern or a sky, is seldom in
    the other.
    """
    white = blurred.nan_to_num().max().clamp(min=1)
    size = blurred.shape[-2:]

    def within(x: Tensor) -> Tensor:
        return (x[0].nan_to_num() / white).clamp(0, 1).cpu()

    def seen(part: Part) -> Tensor:
        return within(blurred[..., *part])

    def guess(part: Part, kernel: Tensor) -> Tensor:
        return within(mended(part, kernel))

    start, judged = _middle(size, _START_PX), _middle(size, _JUDGED_PX)
    firsts = [kernel for half in _halves(start) for kernel in first_kernels(seen(half))]
    kernel = max(firsts, key=lambda first: _slopes(guess(judged, first)))
    kernel = blur_kernel(seen(start), guess(start, kernel), EDGE_COSTS[0])
    best_guess = guess(_WHOLE, kernel)
    return blur_kernel(seen(_WHOLE), best_guess, EDGE_COSTS[1], edge_softness(best_guess, kernel))


def _middle(size: Sequence[int], side_px: int) -> Part:
    """At most so many rows and columns from the middle of as many as `size` tells."""
    rows, columns = (slice(first := max(0, length - side_px) // 2, first + min(length, side_px)) for length in size)
    return rows, columns


def _halves(part: Part) -> list[Part]:
    """The halves along the longer side, or the whole where they would be too small."""
    rows, columns = part
    lies = columns.stop - columns.start >= rows.stop - rows.start
    longer = columns if lies else rows
    if longer.stop - longer.start < 2 * _LEAST_HALF_PX:
        return [part]
    middle = (longer.start + longer.stop) // 2
    halves = slice(longer.start, middle), slice(middle, longer.stop)
    return [(rows, half) if lies else (half, columns) for half in halves]


def _slopes(picture: Tensor) -> float:
    return float(gradients(to_gray(picture))[:, :-1, :-1].square().mean())
