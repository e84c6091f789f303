"""Scratches and cracks of old photos: long thin lines that are brighter or darker than both their sides."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.estimate.patches import smoothed
from imagesmith.tensors import to_gray

_SIDE = 1024
"""Larger pictures are looked at as small as this; all lengths below are pixels of that size."""
_ANGLES = 12
_RUN = 13
"""Length over which a line has to go on to be seen at all."""
_SIDES = (2.0, 3.0, 4.5)
"""How far to either side of a line its surroundings are looked at: a half more than half the width of lines."""
_WIDE = 8
"""Mean width from which on a thing is no line."""
_COLOURFUL = 0.02
"""Deviation of colours from one tint over brightness, from which on a picture is no toned print."""
_TINT = 2 / 255
"""Mean distance of colours from gray, below which a picture has no tone."""


class _Evidence(NamedTuple):
    """Contrast against the nearer side that makes a scratch, that continues one, and the length it must reach."""

    strong: float
    weak: float
    length: int


_LITTLE, _MUCH = _Evidence(0.12, 0.05, 40), _Evidence(0.25, 0.10, 60)
"""Little is enough for bright lines where emulsion is lost; else there are wires, stems and lips."""


def find_scratches(image: Tensor, *, asked: bool) -> Tensor:
    """Where scratches are: bool (H, W), True inside one, of a picture (C, H, W) in [0, 1].

    For twelve directions: a line's contrast to the nearer one of its sides, averaged along it; what is strong, with all
    that is weak and connected, counts where it goes on for long and is thin. All False where there is none.
    `asked`: somebody wants scratches found, so little makes a bright line one, as it does in toned prints. Unasked it
    takes much in all other pictures: the window bars of every seventh gray photo look like scratches.
    """
    plane = to_gray(image.float())[0]
    height, width = plane.shape
    small = plane
    if max(height, width) > _SIDE:
        size = [max(1, round(side * _SIDE / max(height, width))) for side in (height, width)]
        small = F.interpolate(plane[None, None], size, mode="area")[0, 0]
    if min(small.shape) < 2 * _RUN:
        return torch.zeros((height, width), dtype=torch.bool)
    roughness = smoothed((small - smoothed(small, 2.0)).abs().clamp(max=0.1), 12.0)
    bright = _LITTLE if asked or _is_toned(image.float()) else _MUCH
    found = torch.zeros_like(small, dtype=torch.bool)
    doubt = 1 + roughness / 0.03  # in fur and foliage a line needs more to stand out
    for contrast, needed in zip(_contrasts(smoothed(small, 0.7)), (bright, _MUCH), strict=True):
        found |= _long_parts(contrast > needed.weak * doubt, contrast > needed.strong * doubt, needed.length)
    found = F.max_pool2d(found[None, None].float(), 3, 1, 1)  # up to their blurred edges
    return F.interpolate(found, (height, width), mode="nearest")[0, 0] > 0


def _is_toned(image: Tensor) -> bool:
    """Whether (C, H, W) has colours that vary with brightness alone, as those of a toned print do."""
    if image.shape[0] == 1:
        return False
    light = to_gray(image).flatten()
    colours = (image[[0, 2]] - to_gray(image)).flatten(1).T
    if colours.abs().mean() < _TINT:
        return False
    curve = torch.stack((torch.ones_like(light), light, light.square()), dim=1)
    tint = torch.linalg.lstsq((curve.T @ curve).double() + 1e-6 * torch.eye(3), (curve.T @ colours).double()).solution
    return (colours - curve @ tint.float()).std().item() <= _COLOURFUL


def _contrasts(plane: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the best line through each pixel is brighter, and darker, than the nearer one of its sides."""
    brighter, darker = torch.zeros_like(plane), torch.zeros_like(plane)
    for k in range(_ANGLES):
        dx, dy = math.cos(k * math.pi / _ANGLES), math.sin(k * math.pi / _ANGLES)
        steps = range(-(_RUN // 2), _RUN // 2 + 1, 2)
        line = torch.stack([_shifted(plane, dx * t, dy * t) for t in steps]).mean(dim=0)
        for d in _SIDES:
            one, other = _shifted(line, -dy * d, dx * d), _shifted(line, dy * d, -dx * d)
            unlike = (one - other).abs()
            for best, difference in (
                (brighter, line - torch.maximum(one, other)),
                (darker, torch.minimum(one, other) - line),
            ):
                # the edge of a thing has two unlike sides
                torch.maximum(best, difference * (1 - unlike / (difference.abs() + 0.02)).clamp(min=0), out=best)
    return brighter, darker


def _shifted(plane: Tensor, dx: float, dy: float) -> Tensor:
    """plane(y + dy, x + dx) to the nearest pixel, edges replicated."""
    x, y = round(dx), round(dy)
    padded = F.pad(plane[None, None], (max(-x, 0), max(x, 0), max(-y, 0), max(y, 0)), mode="replicate")[0, 0]
    top, left = max(y, 0), max(x, 0)
    return padded[top : top + plane.shape[0], left : left + plane.shape[1]]


def _long_parts(mask: Tensor, seeds: Tensor, least: int) -> Tensor:
    """The connected parts of `mask` that hold one of `seeds`, are `least` pixels long and thin for their length."""
    kept = torch.zeros_like(mask)
    ys, xs = torch.nonzero(mask, as_tuple=True)
    names, part = torch.unique(_parts(mask, ys, xs), return_inverse=True)
    if not len(names):
        return kept
    area = torch.bincount(part)
    seeded = torch.zeros(len(names)).index_add_(0, part, seeds[ys, xs].float()) > 0
    low, high = torch.full((2, len(names)), mask.numel()), torch.full((2, len(names)), -1)
    for axis, at in enumerate((ys, xs)):
        low[axis].scatter_reduce_(0, part, at, "amin")
        high[axis].scatter_reduce_(0, part, at, "amax")
    length = (high - low + 1).float().norm(dim=0)
    kept[ys, xs] = (seeded & (length >= least) & (area <= _WIDE * length))[part]
    return kept


def _parts(mask: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """For each pixel (`ys`, `xs`) of `mask` the largest index of a pixel that it is 8-connected with."""
    number = torch.full((mask.shape[0] + 1, mask.shape[1] + 2), -1)
    labels = torch.arange(len(ys))
    number[ys, xs + 1] = labels
    neighbours = [number[ys + dy, xs + 1 + dx] for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1))]
    one = torch.cat([labels[other >= 0] for other in neighbours])
    other = torch.cat([other[other >= 0] for other in neighbours])
    while True:
        spread = labels.scatter_reduce(0, other, labels[one], "amax").scatter_reduce(0, one, labels[other], "amax")
        spread = spread[spread]  # what the labelled pixel has learnt itself: distances double each time
        if torch.equal(spread, labels):
            return labels
        labels = spread
