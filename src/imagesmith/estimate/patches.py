"""The parts of a picture that estimators look at."""

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors.blocks import BLOCK

_ONE_COLOUR = 2.5 / 255


def centre(image: Tensor, side: int) -> Tensor:
    """The middle of `image` (C, H, W), at most `side` x `side`, beginning at multiples of BLOCK.

    So block grids stay where they are.
    """
    height, width = image.shape[-2:]
    top = max(0, height - side) // 2 // BLOCK * BLOCK
    left = max(0, width - side) // 2 // BLOCK * BLOCK
    return image[..., top : top + side, left : left + side]


def without_border(image: Tensor) -> Tensor:
    """`image` (C, H, W) in [0, 1] without lines of one colour at its edges: mats, letterboxes, tinted frames.

    They were put around a picture and tell nothing of its damages. Cut at multiples of BLOCK, so that block grids stay
    where they are; the image itself where all of it is one colour.
    """
    varied = [(image.amax(axis) - image.amin(axis)).amax(0) > _ONE_COLOUR for axis in (2, 1)]  # of rows, of columns
    if not all(lines.any() for lines in varied):
        return image
    (top, bottom), (left, right) = ((int(lines.nonzero()[0]), int(lines.nonzero()[-1]) + 1) for lines in varied)
    top, left = (-(-start // BLOCK) * BLOCK for start in (top, left))
    kept = image[:, top:bottom, left:right]
    return kept if min(kept.shape[1:]) >= 2 * BLOCK else image


def gradients(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences across columns and rows, both (H - 2, W - 2), of (H, W)."""
    return (plane[1:-1, 2:] - plane[1:-1, :-2]) / 2, (plane[2:, 1:-1] - plane[:-2, 1:-1]) / 2


def smoothed(plane: Tensor, sigma: float) -> Tensor:
    """(H, W) blurred by a Gaussian of `sigma` pixels, edges replicated."""
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=plane.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(plane[None, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[0, 0]
