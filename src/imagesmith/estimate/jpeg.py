"""What JPEG has done to a picture, told from its pixels: where the block grid lies and how coarse the steps were."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imagesmith.estimate.patches import centre
from imagesmith.tensors import to_gray
from imagesmith.tensors.blocks import BLOCK, dct, to_blocks

STANDARD_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""The luma table of JPEG's standard (ITU-T T.81, table K.1), row by row, which libjpeg scales by the quality."""

_SIDE = 384
_QUALITIES = range(5, 96)
_BAND = [(u, v) for u in range(BLOCK) for v in range(BLOCK) if 1 <= u + v <= 5]
"""Coefficients that are not all zero even at low quality."""
_LEAST_STEP = 2.5
"""Smaller steps drown in the rounding of the pixels."""
_FEW = 30
_LEAST_STRENGTH = 0.3


@dataclass(frozen=True)
class Grid:
    """A block grid that begins at (`top`, `left`), of libjpeg's `quality`; `strength` from 0 to 1 is how sure it is."""

    top: int
    left: int
    quality: int
    strength: float


def luma_table(quality: int) -> Tensor:
    """The 64 steps of libjpeg's luma table of a quality from 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(STANDARD_LUMA, dtype=torch.float32) * percent + 50) / 100).floor().clamp(1, 255)


def quality_of_tables(luma: Sequence[int]) -> int:
    """The quality from 1 to 100 whose luma table is most like these 64 steps, which may come from another encoder."""
    tables = torch.stack([luma_table(quality) for quality in range(1, 101)])
    own = torch.tensor(luma, dtype=torch.float32).clamp(min=1)
    return 1 + int((tables.log() - own.log()).abs().mean(dim=1).argmin())


def find_grid(image: Tensor) -> Grid | None:
    """The grid of the last JPEG compression that a picture (C, H, W) in [0, 1] went through; None if none shows.

    Inside the blocks of the right grid the coefficients lie near multiples of their steps. Whatever changed the pixels
    afterwards - noise, scaling - wipes that out; what is found is therefore the last thing that happened.
    """
    plane = 255 * to_gray(centre(image, _SIDE).float())[0]
    if min(plane.shape) < 4 * BLOCK:
        return None
    found = [_judged(plane, top, left) for top, left in _likely_offsets(plane)]
    best = max(found, key=lambda grid: grid.strength)
    return best if best.strength >= _LEAST_STRENGTH else None


def noise_before(image: Tensor, grid: Grid) -> float:
    """Sigma in grey levels of white noise that a picture had before it was compressed at `grid`.

    Of the calmest blocks: noise gives all coefficients the same variance, of which steps leave what is far from zero.
    0 where the steps are so coarse that nothing of it shows, and in pictures smaller than a block.
    """
    blocks = _coefficients(255 * to_gray(centre(image, _SIDE).float())[0], grid.top, grid.left)
    if not len(blocks):
        return 0.0
    steps = luma_table(grid.quality)
    use = torch.tensor([u * BLOCK + v for u in range(BLOCK) for v in range(BLOCK) if 3 <= u + v <= 6])
    energy = blocks[:, use].square().mean(dim=1)
    calm = blocks[energy <= energy.kthvalue(max(1, len(energy) // 4)).values][:, use]
    nonzero = (calm.abs() > steps[use] / 2).float().mean(dim=0)
    # |N(0, sigma)| > step / 2 with the frequency found
    usable = nonzero > 0.01
    if usable.float().mean() < 0.3:
        return 0.0
    quantile = math.sqrt(2) * torch.erfinv((1 - nonzero[usable]).clamp(0.02, 0.99))
    return float((steps[use][usable] / 2 / quantile).median())


def _likely_offsets(plane: Tensor) -> list[tuple[int, int]]:
    """The corner and the offsets at which the corners of blocks stand out most (Chen and Hsu 2008)."""
    corners = (plane[:-1, :-1] + plane[1:, 1:] - plane[:-1, 1:] - plane[1:, :-1]).abs().clamp(max=20)
    height, width = (side // BLOCK * BLOCK for side in corners.shape)
    phases = corners[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(dim=(0, 2))
    # the difference at row i is the one between rows i and i + 1
    top, left = (((phases.mean(dim=axis).argsort(descending=True) + 1) % BLOCK).tolist()[:2] for axis in (1, 0))
    offsets = [(0, 0), *itertools.product(top, left)]
    return list(dict.fromkeys(offsets))


def _judged(plane: Tensor, top: int, left: int) -> Grid:
    """How near multiples of the steps of each quality the coefficients of this grid lie; the best quality."""
    blocks = _coefficients(plane, top, left)
    index = torch.tensor([u * BLOCK + v for u, v in _BAND])
    values = blocks[:, index]
    tables = torch.stack([luma_table(quality)[index] for quality in _QUALITIES])
    scores = []
    for steps in tables:
        clear = (values.abs() > 0.6 * steps) & (steps >= _LEAST_STEP)  # around zero all steps look alike
        count = int(clear.sum())
        nearness = torch.cos(2 * math.pi * values / steps)[clear].sum().item() / max(count, _FEW)
        scores.append(nearness)
    best = max(scores)
    # a step's divisors fit its multiples as well: the coarsest of those that fit is meant
    k = next(k for k, score in enumerate(scores) if score >= best - 0.1 * abs(best))
    return Grid(top, left, _QUALITIES[k], max(0.0, scores[k]))


def _coefficients(plane: Tensor, top: int, left: int) -> Tensor:
    """(N, 64) orthonormal DCT coefficients of the whole blocks of a grid."""
    return dct(to_blocks(plane[top:, left:] - 128)).reshape(-1, BLOCK * BLOCK)
