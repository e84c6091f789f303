"""How blurred a picture is, and in which direction: the width of its sharpest edges that face each way."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from imagesmith.estimate.patches import centre, gradients, smoothed
from imagesmith.tensors import to_gray

BLURRED_PX = 1.25
"""Standard deviation across the sharpest edges from which on nothing in the picture is sharp."""
_SIDE = 768
_DIRECTIONS = 8
_FINE, _COARSE = 1.0, 2.0
_EDGES = 0.08
"""Share of the pixels that count as edges."""
_SHARPEST = 0.2
"""Share of the edges that have to be sharp for the picture to be; the rest may lie out of focus."""
_LEAST_CONTRAST = 4 / 255
"""Weaker slopes a pixel are noise."""
_LEAST_EDGES = 150
_WIDEST = 8.0


@dataclass(frozen=True)
class Blur:
    """Standard deviation in pixels of the blur across the widest of the sharpest edges, and across the narrowest.

    `angle` is the direction of the widest in degrees, 0 to the right, 90 upwards: that of a straight motion.
    """

    widest: float
    narrowest: float
    angle: float


def edge_blur(image: Tensor) -> Blur | None:
    """The blur of a picture (C, H, W) in [0, 1]; None if it has too few edges to tell.

    Blurring an edge once more lowers its slope the less the wider it is already (Zhuo and Sim 2011).
    """
    plane = to_gray(centre(image, _SIDE).float())[0]
    if min(plane.shape) < 32:
        return None
    dx, dy = gradients(smoothed(plane, _FINE))
    fine = torch.hypot(dx, dy)
    coarse = torch.hypot(*gradients(smoothed(plane, _COARSE)))
    least = max(_LEAST_CONTRAST, float(coarse.flatten().kthvalue(round((1 - _EDGES) * coarse.numel())).values))
    edges = coarse >= least
    ratio = (fine[edges] / coarse[edges]).square().clamp(1.001, _COARSE**2 / _FINE**2)
    sigma = ((_COARSE**2 - ratio * _FINE**2) / (ratio - 1)).sqrt().clamp(max=_WIDEST)
    angle = torch.atan2(-dy[edges], dx[edges])
    facing = torch.round(angle * _DIRECTIONS / math.pi).long() % _DIRECTIONS
    widths: dict[int, float] = {}
    for k in range(_DIRECTIONS):
        across = sigma[facing == k]
        if len(across) >= _LEAST_EDGES:
            widths[k] = float(across.quantile(_SHARPEST))
    if not widths:
        return None
    widest = max(widths, key=widths.__getitem__)
    return Blur(widths[widest], min(widths.values()), 180 * widest / _DIRECTIONS)
