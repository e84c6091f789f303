"""The arithmetic of every JPEG codec: the cosine transform of blocks of 8x8 (ITU-T T.81) and JFIF's colours (T.871)."""

import functools
import math

import torch
from torch import Tensor

from imagesmith.tensors import GRAY_WEIGHTS

BLOCK = 8
"""Side of a block in samples."""
_BLUE, _RED = 2 - 2 * GRAY_WEIGHTS[2], 2 - 2 * GRAY_WEIGHTS[0]
_YCC = torch.tensor(
    [
        GRAY_WEIGHTS,
        (-GRAY_WEIGHTS[0] / _BLUE, -GRAY_WEIGHTS[1] / _BLUE, 0.5),
        (0.5, -GRAY_WEIGHTS[1] / _RED, -GRAY_WEIGHTS[2] / _RED),
    ],
    dtype=torch.float64,
)
_RGB = torch.linalg.inv(_YCC)


def to_ycc(rgb: Tensor) -> Tensor:
    """Luma, and Cb and Cr around zero, of (..., 3, H, W) in any unit; one channel is luma already."""
    return _mixed(rgb, _YCC)


def to_rgb(ycc: Tensor) -> Tensor:
    """The inverse of `to_ycc`."""
    return _mixed(ycc, _RGB)


def to_blocks(planes: Tensor) -> Tensor:
    """The blocks (..., rows, columns, 8, 8) of (..., H, W), without what of an edge fills no whole block."""
    rows, columns = (side // BLOCK for side in planes.shape[-2:])
    whole = planes[..., : rows * BLOCK, : columns * BLOCK]
    return whole.unflatten(-1, (columns, BLOCK)).unflatten(-3, (rows, BLOCK)).transpose(-3, -2)


def from_blocks(blocks: Tensor) -> Tensor:
    """The planes (..., H, W) that have these blocks (..., rows, columns, 8, 8)."""
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def dct(blocks: Tensor) -> Tensor:
    """The coefficients of blocks (..., 8, 8): orthonormal DCT-II, one vertical frequency a row."""
    basis = _basis().to(blocks)
    return basis @ blocks @ basis.T


def inverse_dct(coefficients: Tensor) -> Tensor:
    """The inverse of `dct`."""
    basis = _basis().to(coefficients)
    return basis.T @ coefficients @ basis


def _mixed(image: Tensor, matrix: Tensor) -> Tensor:
    return image if image.shape[-3] == 1 else torch.einsum("...chw,dc->...dhw", image, matrix.to(image))


@functools.cache
def _basis() -> Tensor:
    frequency, place = torch.meshgrid(*[torch.arange(BLOCK, dtype=torch.float64)] * 2, indexing="ij")
    basis = torch.cos((2 * place + 1) * frequency * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis
