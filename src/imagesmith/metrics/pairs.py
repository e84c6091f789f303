"""Metrics of a restored image against its target, by the protocols of the papers on restoration.

All take (N, C, H, W) in [0, 1], round both images to 8 bits as the published numbers do, cut `crop` pixels off every
edge (the scale, for super-resolution) and return float64 (N,): images are scored one by one and never pooled.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.errors import ImageError
from imagesmith.tensors import from_float, luma, to_gray
from imagesmith.tensors.blocks import BLOCK

_SSIM_WINDOW = 11


def psnr_y(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Peak signal-to-noise ratio in dB of the BT.601 studio-range luma, peak 255; infinite for equal images."""
    restored, target = prepared(restored, target, crop)
    return _psnr(luma_levels(restored), luma_levels(target))


def psnr_rgb(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Peak signal-to-noise ratio in dB over all channels, peak 255; infinite for equal images."""
    restored, target = prepared(restored, target, crop)
    return _psnr(restored, target)


def psnr_gray(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Peak signal-to-noise ratio in dB of gray images as they are, peak 255; infinite for equal images.

    The JPEG papers score the luma of their test images, stored as gray files. Colours are weighed to full-range luma.
    """
    restored, target = prepared(restored, target, crop)
    return _psnr(to_gray(restored), to_gray(target))


def psnr_b(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """`psnr_gray` that also counts, as error, how much steeper the restored image is across the edges of JPEG's blocks.

    Yim and Bovik 2011 for blocks of 8x8 that begin at the corner of the uncropped image. Needs more than 8x8 pixels.
    """
    restored, target = prepared(restored, target, crop)
    if min(restored.shape[-2:]) <= BLOCK:
        raise ImageError(
            f"psnr_b needs more than {BLOCK}x{BLOCK} pixels after cropping {crop} at each edge, "
            f"got {restored.shape[-1]}x{restored.shape[-2]}; leave psnr_b out for this image"
        )
    restored, target = to_gray(restored), to_gray(target)
    error = (restored - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / (error + _blocking(restored, crop)))


def psnr_hole(restored: Tensor, target: Tensor, crop: int, hole: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over the pixels of `hole`, bool (N, 1, H, W), all channels, peak 255."""
    restored, target = prepared(restored, target, crop)
    inside = _cropped(hole, crop)
    pixels = inside.sum(dim=(1, 2, 3)) * restored.shape[1]
    if not pixels.all():
        raise ImageError("psnr_hole needs a hole in every image, got one without; leave psnr_hole out for this image")
    error = ((restored - target).square() * inside).sum(dim=(1, 2, 3)) / pixels
    return 10 * torch.log10(255**2 / error)


def ssim_y(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Structural similarity of the BT.601 studio-range luma.

    11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, biased moments, mean over the positions where the
    window lies inside the image: the ssim.m of Wang et al. 2004, without its downsampling.
    """
    restored, target = prepared(restored, target, crop)
    if min(restored.shape[-2:]) < _SSIM_WINDOW:
        raise ImageError(
            f"ssim_y needs at least {_SSIM_WINDOW}x{_SSIM_WINDOW} pixels after cropping {crop} at each edge, "
            f"got {restored.shape[-1]}x{restored.shape[-2]}; leave ssim_y out for this image"
        )
    x, y = luma_levels(restored), luma_levels(target)
    moments = _window_mean(torch.cat([x, y, x * x, y * y, x * y], dim=1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.unbind(dim=1)
    var_x, var_y, cov = mean_xx - mean_x**2, mean_yy - mean_y**2, mean_xy - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * structure).mean(dim=(1, 2))


def prepared(restored: Tensor, target: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Both images in grey levels of 8 bits, cropped; ImageError where the restored one is not finite."""
    assert restored.shape == target.shape, f"expected equal shapes, got {restored.shape} and {target.shape}"
    if not restored.isfinite().all():
        raise ImageError("expected finite pixels to measure, got NaN or infinity; look at what the network makes of it")
    if min(target.shape[-2:]) <= 2 * crop:
        raise ImageError(
            f"expected an image larger than the {crop} pixels that the protocol crops at each edge, "
            f"got {target.shape[-1]}x{target.shape[-2]}"
        )
    restored, target = (from_float(_cropped(image, crop), "uint8").double() for image in (restored, target))
    return restored, target


def _cropped(image: Tensor, crop: int) -> Tensor:
    return image[..., crop : image.shape[-2] - crop, crop : image.shape[-1] - crop]


def _blocking(gray: Tensor, crop: int) -> Tensor:
    """By how much the mean squared step across edges of blocks exceeds that elsewhere, weighed as Yim and Bovik do."""
    edges, others = [], []
    for axis in (-2, -1):
        steps = gray.diff(dim=axis).square().movedim(axis, 0)
        is_edge = (torch.arange(len(steps), device=gray.device) + crop + 1) % BLOCK == 0
        edges.append(steps[is_edge].movedim(1, 0).flatten(1))
        others.append(steps[~is_edge].movedim(1, 0).flatten(1))
    excess = torch.cat(edges, dim=1).mean(dim=1) - torch.cat(others, dim=1).mean(dim=1)
    return excess.clamp(min=0) * math.log(BLOCK, min(gray.shape[-2:]))


def luma_levels(grey_levels: Tensor) -> Tensor:
    """The BT.601 studio-range luma of `prepared` images, (N, 1, H, W) in grey levels."""
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
