"""How much noise a picture has: the smallest variances of its least textured patches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.estimate.patches import centre

_PATCH = 6
_STRIDE = 2
NOISE_SIDE = 768
"""Of a picture at most so many pixels a side are looked at, in its middle."""
_CALM = 0.2
_CLIPPED = 0.06
_LEAST_PATCHES = 4 * _PATCH**2
_LEVELS = 16
_LEAST_A_LEVEL = 200
_COLOURED = 2 / 255


@dataclass(frozen=True)
class NoiseCurve:
    """Variance of the noise as a line over brightness: `gain` * brightness + `floor`², all of [0, 1] pictures.

    Photons give the gain, the reading of the sensor the floor (Foi et al. 2008).
    """

    gain: float
    floor: float


def noise_sigma(image: Tensor) -> float:
    """Standard deviation of white noise in grey levels (1 / 255) of a picture (C, H, W) in [0, 1]; 0 if too small.

    In colour it is the geometric mean of what the channels have and what their differences have: texture is much the
    same in all three, so that differences show noise alone, but files with halved colour have lost noise there. Of gray
    pictures strong texture everywhere counts as noise of up to eight levels.
    """
    image = centre(image, NOISE_SIDE).float()
    sigma = _weakest(_calm_patches(image, image))
    if image.shape[0] == 1 or sigma == 0:
        return sigma
    red, green, blue = image
    differences = torch.stack(((red - green) / math.sqrt(2), (red + green - 2 * blue) / math.sqrt(6)))
    if differences.std() < _COLOURED:
        return sigma
    return math.sqrt(sigma * _weakest(_calm_patches(differences, image)))


def noise_curve(image: Tensor) -> NoiseCurve:
    """The line through the noise variances of the brightnesses that a picture (C, H, W) in [0, 1] has.

    Measured on diagonal details, in which photos have the least, of the calm patches of each brightness.
    """
    image = centre(image, NOISE_SIDE).float()
    patches = _calm_patches(image, image)
    level = (patches.mean(dim=1) * _LEVELS).long().clamp_(0, _LEVELS - 1)
    square = patches.view(-1, _PATCH, _PATCH)
    corners = square[:, ::2, ::2] - square[:, 1::2, ::2] - square[:, ::2, 1::2] + square[:, 1::2, 1::2]
    brightness, variance, weight = [], [], []
    for k in range(_LEVELS):
        inside = level == k
        count = int(inside.sum())
        if count >= _LEAST_A_LEVEL:
            brightness.append(patches[inside].mean().item())
            deviation = corners[inside].abs().median().item() / 0.6745 / 2  # four pixels: twice the sigma of one
            variance.append(deviation**2)
            weight.append(math.sqrt(count))
    return _line(brightness, variance, weight)


def _weakest(patches: Tensor) -> float:
    """Sigma in grey levels of what only noise explains in patches (N, PATCH²).

    The largest eigenvalues of their covariance are dropped until the mean of the rest is their median (Chen et al.
    2015), which needs no photo to have a perfectly flat place.
    """
    if len(patches) < _LEAST_PATCHES:
        return 0.0
    patches = patches - patches.mean(dim=0)
    variances = torch.linalg.eigvalsh((patches.T @ patches / len(patches)).double()).clamp_(min=0)
    kept = next((k for k in range(len(variances), 1, -1) if variances[:k].mean() <= variances[:k].median()), 1)
    return 255 * math.sqrt(variances[:kept].mean())


def _line(x: list[float], y: list[float], weight: list[float]) -> NoiseCurve:
    """Weighted least squares with neither coefficient below zero."""
    if not x:
        return NoiseCurve(0.0, 0.0)
    total = sum(weight)
    mean_x = sum(w * a for w, a in zip(weight, x, strict=True)) / total
    mean_y = sum(w * b for w, b in zip(weight, y, strict=True)) / total
    spread = sum(w * (a - mean_x) ** 2 for w, a in zip(weight, x, strict=True))
    joint = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weight, x, y, strict=True))
    gain = max(0.0, joint / spread) if spread > 0 else 0.0
    if mean_y < gain * mean_x:  # the line that fits best without a floor
        square = sum(w * a * a for w, a in zip(weight, x, strict=True))
        return NoiseCurve(sum(w * a * b for w, a, b in zip(weight, x, y, strict=True)) / square, 0.0)
    return NoiseCurve(gain, math.sqrt(mean_y - gain * mean_x))


def _calm_patches(planes: Tensor, image: Tensor) -> Tensor:
    """(N, PATCH²): of `planes` (C, H, W), the patches with the weakest texture where `image` is not clipped."""
    if min(image.shape[-2:]) < 2 * _PATCH:
        return planes.new_empty((0, _PATCH**2))
    x = planes.unsqueeze(1)
    patches = F.unfold(x, _PATCH, stride=_STRIDE).transpose(1, 2).flatten(0, 1)
    # texture is told by differences of averages, in which noise weighs little, or calm would mean little noise
    rough = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    across = F.pad((rough[..., :, 2:] - rough[..., :, :-2]).square(), (1, 1))
    down = F.pad((rough[..., 2:, :] - rough[..., :-2, :]).square(), (0, 0, 1, 1))
    texture = F.avg_pool2d(across + down, _PATCH, _STRIDE).flatten()
    clipped = ((image < 0.5 / 255) | (image > 254.5 / 255)).any(dim=0).float()[None, None]
    clipped = F.avg_pool2d(clipped, _PATCH, _STRIDE).flatten()
    limit = max(_CLIPPED, clipped.kthvalue(max(1, len(clipped) // 3)).values)  # strong noise clips nearly everywhere
    inside = (clipped <= limit).repeat(len(planes))
    patches, texture = patches[inside], texture[inside]
    return patches[texture <= texture.kthvalue(max(1, round(_CALM * len(texture)))).values] if len(texture) else patches
