"""Metrics of a restored image against its target, by the protocols of the super-resolution papers.

All take (N, C, H, W) in [0, 1], round both images to 8 bits as the published numbers do, cut `crop` pixels off every
edge (the scale, for super-resolution) and return float64 (N,): images are scored one by one and never pooled.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.errors import ImageError
from imagesmith.tensors import from_float, luma

_SSIM_WINDOW = 11


def psnr_y(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Peak signal-to-noise ratio in dB of the BT.601 studio-range luma, peak 255; infinite for equal images."""
    restored, target = _prepared(restored, target, crop)
    return _psnr(_luma(restored), _luma(target))


def psnr_rgb(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Peak signal-to-noise ratio in dB over all channels, peak 255; infinite for equal images."""
    restored, target = _prepared(restored, target, crop)
    return _psnr(restored, target)


def ssim_y(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Structural similarity of the BT.601 studio-range luma.

    11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, biased moments, mean over the positions where the
    window lies inside the image: the ssim.m of Wang et al. 2004, without its downsampling.
    """
    restored, target = _prepared(restored, target, crop)
    if min(restored.shape[-2:]) < _SSIM_WINDOW:
        raise ImageError(
            f"ssim_y needs at least {_SSIM_WINDOW}x{_SSIM_WINDOW} pixels after cropping {crop} at each edge, "
            f"got {restored.shape[-1]}x{restored.shape[-2]}; leave ssim_y out for this image"
        )
    x, y = _luma(restored), _luma(target)
    moments = _window_mean(torch.cat([x, y, x * x, y * y, x * y], dim=1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.unbind(dim=1)
    var_x, var_y, cov = mean_xx - mean_x**2, mean_yy - mean_y**2, mean_xy - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * structure).mean(dim=(1, 2))


def _prepared(restored: Tensor, target: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Both images in grey levels of 8 bits, cropped."""
    assert restored.shape == target.shape, f"expected equal shapes, got {restored.shape} and {target.shape}"
    if min(target.shape[-2:]) <= 2 * crop:
        raise ImageError(
            f"expected an image larger than the {crop} pixels that the protocol crops at each edge, "
            f"got {target.shape[-1]}x{target.shape[-2]}"
        )
    inside = (..., slice(crop, target.shape[-2] - crop), slice(crop, target.shape[-1] - crop))
    return from_float(restored[inside], "uint8").double(), from_float(target[inside], "uint8").double()


def _luma(grey_levels: Tensor) -> Tensor:
    return luma(grey_levels / 255) * 255


def _psnr(x: Tensor, y: Tensor) -> Tensor:
    return 10 * torch.log10(255**2 / (x - y).square().mean(dim=(1, 2, 3)))


def _window_mean(x: Tensor) -> Tensor:
    """Means of every channel under the Gaussian window at each position inside the image."""
    offsets = torch.arange(_SSIM_WINDOW, dtype=x.dtype, device=x.device) - _SSIM_WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * 1.5**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    rows = F.conv2d(x, weights.unsqueeze(-1), groups=x.shape[1])
    return F.conv2d(rows, weights.unsqueeze(-2), groups=x.shape[1])
