"""What a picture file holds once it is read: pixels, their depth, and everything worth carrying into the result."""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagesmith.tensors import Depth


@dataclass(frozen=True)
class ImageMeta:
    """What travels with the pixels.

    `format` is a key of `formats.FORMATS`; `mode` names the pixel layout of the file ("P", "CMYK", "16-bit RGB", ...).
    `exif` is the bare TIFF structure (no "Exif" prefix), `xmp` an XML packet; in both the orientation is reset to 1.
    `dpi` is (x, y). `notes` are sentences for the user: all that was changed or could not be kept.
    """

    format: str
    mode: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    lossless: bool = True


@dataclass(frozen=True)
class Frame:
    """One picture: `pixels` (H, W, C) in the dtype of `depth`, C = 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA.

    Alpha is straight (not multiplied in); the orientation is already applied. Float pixels may lie outside [0, 1].
    """

    pixels: Tensor
    depth: Depth
    meta: ImageMeta


@dataclass(frozen=True)
class Header:
    """What a file declares about its picture; width and height as stored, before any orientation is applied."""

    format: str
    width: int
    height: int
    channels: int
    depth: Depth
    frames: int


def premultiply(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Colour weighted by opacity: what a filter may average without a halo from invisible pixels.

    `rgb` is (..., C, H, W) and `alpha` (..., 1, H, W), both float in [0, 1].
    """
    return rgb * alpha


def unpremultiply(rgb: Tensor, alpha: Tensor, *, least: float = 1 / 512) -> Tensor:
    """The straight colour of premultiplied `rgb` (..., C, H, W) under `alpha` (..., 1, H, W); finite everywhere.

    Where alpha is below `least` (half a grey level of 8 bits by default) the quotient would be noise; these pixels take
    the colour that bleeds in from the nearest visible ones, so that a later filter or a viewer that ignores alpha finds
    no black rim. Without any visible pixel the colour is 0.
    """
    visible = (alpha >= least).to(rgb.dtype)
    colour = (rgb / alpha.clamp(min=least)).clamp(0, 1) * visible
    return colour + _bleed(colour, visible) * (1 - visible)


def _bleed(colour: Tensor, visible: Tensor) -> Tensor:
    """Colour of the visible pixels spread over the rest by a pull-push pyramid (Gortler et al. 1996, section 3.4).

    `colour` is zero where `visible` is zero; each level averages only what is visible below it.
    """
    height, width = colour.shape[-2:]
    if max(height, width) == 1:
        return colour
    lead = colour.shape[:-3]
    both = torch.cat((colour, visible), dim=-3).reshape(-1, colour.shape[-3] + 1, height, width)
    pooled = torch.nn.functional.avg_pool2d(both, 2, ceil_mode=True, count_include_pad=False)
    weight = pooled[:, -1:]
    mean = pooled[:, :-1] / weight.clamp(min=1e-6)
    seen = (weight > 0).to(colour.dtype)
    coarse = mean * seen + _bleed(mean * seen, seen) * (1 - seen)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")[..., :height, :width]
    return fine.reshape(*lead, *fine.shape[1:])
