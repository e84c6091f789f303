"""A walk of the camera from one eye of a stereo pair towards the other, with the parallax of the real scene."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors import from_float, to_float
from imagesmith.tensors.warping import warp

_SPECK_PX = 3
"""Radius of the median that removes them."""


def read_disparity(path: Path) -> Tensor:
    """The disparity (H, W) in pixels of the left picture of a pair, an .npz with one array, without its specks.

    What is unknown - infinite or not a number, as the Middlebury sets have it - lies where the farthest of what is
    known around it does, because it is unknown where one eye sees nothing.
    """
    with np.load(path) as arrays:
        disparity = torch.from_numpy(arrays[arrays.files[0]].astype(np.float32))
    depth = torch.where(disparity.isfinite(), disparity, math.inf)[None, None]
    while not depth.isfinite().all():
        grown = -F.max_pool2d(-depth, 3, stride=1, padding=1)
        depth = torch.where(depth.isfinite(), depth, grown)
    neighbours = F.unfold(F.pad(depth, (_SPECK_PX,) * 4, "replicate"), 2 * _SPECK_PX + 1)
    return neighbours.median(dim=1).values.view(disparity.shape)


def walk(left: Tensor, disparity: Tensor, frames: int, share: float) -> Tensor:
    """(T, 3, H, W) uint8: `left` (3, H, W) uint8 seen from `frames` places between the eyes, up to `share` of the way.

    Each place is where two steps of a fixed point find it, so what hides behind something is stretched a little.
    """
    picture = to_float(left, "uint8").unsqueeze(0)
    depth = disparity.view(1, 1, *disparity.shape)
    views = []
    for t in range(frames):
        part = share * t / max(1, frames - 1)
        shift = depth
        for _ in range(2):
            shift = warp(depth, _sideways(part * shift))
        views.append(from_float(warp(picture, _sideways(part * shift))[0], "uint8"))
    return torch.stack(views)


def _sideways(shift: Tensor) -> Tensor:
    """(1, 1, H, W) pixels to the right as a flow."""
    return torch.cat([shift, torch.zeros_like(shift)], dim=1)
