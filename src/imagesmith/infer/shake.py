"""Deblurring in two steps: deconvolution with the kernel of the whole picture, and a network that mends what it leaves.

The kernel is found on one piece of the picture, without a guess in each of its halves, and twice more with what the
network makes of it.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.scanlines import Picture
from imagesmith.estimate.shake import EDGE_COSTS, blur_kernel, edge_softness, first_kernels
from imagesmith.infer.modes import opacity_of
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
_ORDINARY, _LEAST = 0.75, 1 / 6
"""Contrasts that pictures have: what edges cost suits this one on, and below the other more is noise than edges."""
_FEW, _SAMPLED = 1e-3, 4
"""What share of the values is not counted as darkest or brightest, and one row and column of so many are looked at."""
Part = tuple[slice, slice]
"""Rows and columns of a piece."""
WHOLE = slice(None), slice(None)


def deconvolving(run: Subpixels, kernel: Tensor) -> Subpixels:
    """`run`, which takes pictures with their `deconvolution_planes`, for pictures alone; it sees so much farther."""

    def subpixels(x: Tensor) -> Tensor:
        return run(torch.cat([x, torch.stack([deconvolution_planes(each.float(), kernel) for each in x])], dim=1))

    return subpixels


def busiest_piece(picture: Picture) -> Tensor:
    """File values (1, C, h, w) of the middle rows, and of the columns where most changes from pixel to pixel.

    Of the rows nearest to the middle where at least half as much changes as in any: there may be sky or a wall.
    """
    height, width = min(PIECE_PX, picture.height), min(PIECE_PX, picture.width)
    middle = (picture.height - height) // 2
    lefts = torch.arange(0, picture.width - width + 1, _STEP_PX)
    tops = range(middle % _STEP_PX, picture.height - height + 1, _STEP_PX)
    edges = [*range(tops.start, picture.height, _STEP_PX), picture.height]
    bands = torch.stack([_changes(picture, *band, lefts, width) for band in itertools.pairwise(edges)])
    bands = bands.nan_to_num(0, 0, 0)  # floats of 1e38 are finite, their sums are not
    changes = bands.unfold(0, math.ceil(height / _STEP_PX), 1).sum(-1)[: len(tops)]
    enough = (changes.amax(1) >= changes.max() / 2).nonzero().flatten().tolist()
    nearest = min(enough, key=lambda place: abs(tops[place] - middle))
    top, left = tops[nearest], int(lefts[changes[nearest].argmax()])
    return picture.rows(top, top + height)[None, :, left : left + width].permute(0, 3, 1, 2)


def _changes(picture: Picture, top: int, bottom: int, lefts: Tensor, width: int) -> Tensor:
    """How much the brightness of what is seen changes in so many columns from each of `lefts` on, in some rows."""
    rows = to_float(picture.rows(top, bottom), picture.depth).nan_to_num(0, 0, 0).permute(2, 0, 1)
    seen = to_gray(rows[: picture.colours]) * opacity_of(rows, picture.colours)
    sums = F.pad(seen[0].diff(dim=1).abs().sum(0).cumsum(0), (1, 0))
    return sums[lefts + width - 1] - sums[lefts]


def kernel_of(blurred: Tensor, mended: Callable[[Part, Tensor], Tensor]) -> Tensor:
    """The kernel that blurred a piece (1, C, h, w) in [0, 1]; `mended` is a part of it mended with a kernel.

    Of the first kernels of two halves the one that mends to the strongest slopes: a wrong one leaves blur, and the
    network takes away the ringing that it adds. What misleads the search in one half, a pattern or a sky, is seldom in
    the other. Of a dark picture all values are raised: else its edges would not be worth what edges cost.
    """
    size, blurred = blurred.shape[-2:], blurred.cpu()
    gain = _ORDINARY / min(max(_contrast(blurred), _LEAST), _ORDINARY)

    def seen(part: Part) -> Tensor:
        return gain * blurred[0, :, *part]

    def guess(part: Part, kernel: Tensor) -> Tensor:
        return gain * mended(part, kernel)[0].cpu().clamp(0, 1)

    start, judged = _middle(size, _START_PX), _middle(size, _JUDGED_PX)
    firsts = [kernel for half in _halves(start) for kernel in first_kernels(seen(half))]
    kernel = max(firsts, key=lambda first: _slopes(guess(judged, first)))
    kernel = blur_kernel(seen(start), guess(start, kernel), EDGE_COSTS[0])
    best_guess = guess(WHOLE, kernel)
    return blur_kernel(seen(WHOLE), best_guess, EDGE_COSTS[1], edge_softness(best_guess, kernel))


def _contrast(picture: Tensor) -> float:
    """Between its darkest and its brightest values, but for a few of either."""
    values = picture[..., ::_SAMPLED, ::_SAMPLED].flatten()
    low, high = values.quantile(torch.tensor([_FEW, 1 - _FEW])).tolist()
    return high - low


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
