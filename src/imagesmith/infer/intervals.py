"""What a JPEG file says about its picture: an interval for each 8x8 coefficient of luma and chroma (ITU-T T.81)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.frame import JpegTables
from imagesmith.tensors.blocks import BLOCK, dct, from_blocks, inverse_dct, to_blocks, to_rgb, to_ycc

_MIDDLE = 128  # what the codec takes from its samples first
_DEBLEND_ROUNDS = 24  # each halves what the slowest component still lacks
_UNCLIP_ROUNDS = 6


class Intervals:
    """The coefficient intervals of one decoded picture, (C, H, W) in [0, 1] as the file stores it, C = 1 or 3.

    The file's coefficients are those of the decoded picture, rounded to the steps of its tables. Blocks that reach over
    the picture's edge hold pixels that nobody sees, so they bind nothing. Chroma is bound at the size that the file has
    it: the mean over each `subsampling`. Where decoding was clipped at black or white, what was beyond is found by
    decoding again.
    """

    def __init__(self, decoded: Tensor, tables: JpegTables) -> None:
        self._tables = tables
        levels = decoded.double() * 255
        dark, light = levels <= 0, levels >= 255
        unclipped = levels
        for _ in range(_UNCLIP_ROUNDS if (dark | light).any() else 1):
            self._centres, again = self._quantised(unclipped)
            unclipped = torch.where(dark, again.clamp(max=0), torch.where(light, again.clamp(min=255), levels))

    def correction(self, seen: Tensor, margin: float) -> tuple[Tensor, float]:
        """What to add to `seen` (C, H, W), and how far its farthest coefficient lies outside, in grey levels.

        Coefficients outside their interval are moved in, `margin` grey levels deeper than its end where it is so wide.
        """
        planes = to_ycc(seen.double() * 255 - _MIDDLE)
        change, farthest = torch.zeros_like(planes), 0.0
        for index, plane in enumerate(planes):
            steps, factors, centres = self._steps(index), self._factors(index), self._centres[index]
            offsets = dct(to_blocks(_shrunk(plane, factors))) - centres
            outside = offsets.abs() - steps / 2
            if not outside.numel():
                continue
            farthest = max(farthest, outside.max().item())
            inner = (steps / 2 - margin).clamp(min=0).expand_as(offsets)
            moved = torch.where(outside > 0, offsets.clamp(-inner, inner) - offsets, 0.0)
            native = from_blocks(inverse_dct(moved))
            grown = native.repeat_interleave(factors[1], 0).repeat_interleave(factors[0], 1)
            grown = grown[: plane.shape[0], : plane.shape[1]]  # a block of chroma may end half a pixel beyond
            change[index, : grown.shape[0], : grown.shape[1]] = grown
        return (to_rgb(change) / 255).to(seen.dtype), farthest

    def _quantised(self, levels: Tensor) -> tuple[list[Tensor], Tensor]:
        """The coefficients of each plane in whole steps, and what they decode to, before it is clipped."""
        centres, decoded = [], []
        for index, plane in enumerate(to_ycc(levels - _MIDDLE)):
            steps, factors = self._steps(index), self._factors(index)
            samples = _without_triangle(_shrunk(plane, factors), factors)
            centres.append(torch.round(dct(to_blocks(samples)) / steps) * steps)
            known = from_blocks(inverse_dct(centres[-1]))
            samples[: known.shape[0], : known.shape[1]] = known
            decoded.append(_grown(samples, factors)[: plane.shape[0], : plane.shape[1]])
        return centres, to_rgb(torch.stack(decoded)) + _MIDDLE

    def _steps(self, plane: int) -> Tensor:
        steps = self._tables.luma if plane == 0 else self._tables.chroma
        return torch.tensor(steps, dtype=torch.float64).view(BLOCK, BLOCK)

    def _factors(self, plane: int) -> tuple[int, int]:
        return (1, 1) if plane == 0 else self._tables.subsampling


def _shrunk(plane: Tensor, factors: tuple[int, int]) -> Tensor:
    """The mean over each group of (across, down) pixels, a new plane, as libjpeg's encoder takes it.

    The last row and column are repeated where a group is not whole.
    """
    across, down = factors
    height, width = plane.shape
    padded = F.pad(plane[None, None], (0, -width % across, 0, -height % down), mode="replicate")
    return F.avg_pool2d(padded, (down, across))[0, 0]


def _grown(samples: Tensor, factors: tuple[int, int]) -> Tensor:
    """Chroma samples enlarged as libjpeg's decoder does it: blended 3 : 1 for a factor of 2, else repeated."""
    across, down = factors
    mode = "nearest" if across > 2 else "bilinear"
    return F.interpolate(samples[None, None], scale_factor=(down, across), mode=mode)[0, 0]


def _without_triangle(shrunk: Tensor, factors: tuple[int, int]) -> Tensor:
    """The chroma samples whose enlargement by libjpeg's decoder has the means `shrunk`.

    The mean of two that were blended 3 : 1 with their neighbours has an eighth of each neighbour.
    """
    samples = shrunk
    blurred_axes = [axis for axis, factor in ((0, factors[1]), (1, factors[0])) if factor == 2]
    if factors[0] > 2:
        return samples
    for _ in range(_DEBLEND_ROUNDS):
        blend = samples
        for axis in blurred_axes:
            ends = blend.narrow(axis, 0, 1), blend.narrow(axis, blend.shape[axis] - 1, 1)
            wide = torch.cat((ends[0], blend, ends[1]), dim=axis)
            count = blend.shape[axis]
            blend = 0.75 * blend + 0.125 * (wide.narrow(axis, 0, count) + wide.narrow(axis, 2, count))
        samples = samples + (shrunk - blend)
    return samples
