"""The shape that a GAN works in: which height and width suit a data set, and how each picture is brought to them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from imagesmith.data.frame import Frame
from imagesmith.data.pixels import as_uint8
from imagesmith.tensors import Depth, from_float, to_float

BASES = range(3, 9)
_LEAST_KEPT = 0.9  # of a typical picture, by the centre crop to the chosen aspect


@dataclass(frozen=True)
class ChosenSize:
    """Height and width in pixels, each one of `BASES` times the same power of two, and the reason in words."""

    height: int
    width: int
    reason: str


def choose_size(sizes: Sequence[tuple[int, int]], *, most_px: int = 128) -> ChosenSize:
    """The size for a GAN on pictures of `sizes` (height, width), no side over `most_px`.

    A network starts at (base, base) pixels and doubles both sides k times. Of the sizes within reach that enlarge no
    typical (median) picture and keep nine tenths of it, the one with most pixels.
    """
    height, width = (math.floor(statistics.median(side)) for side in zip(*sizes, strict=True))
    candidates = [
        (h << k, w << k) for k in range(1, 12) for h in BASES for w in BASES if max(h << k, w << k) <= most_px
    ]
    assert candidates, f"most_px must be at least {2 * BASES[0]}, got {most_px}"
    seen = f"typical pictures are {width}x{height}"
    fitting = [size for size in candidates if size[0] <= height and size[1] <= width]
    if not fitting:
        h, w = min(candidates, key=lambda size: (-_kept(size, height, width), size))
        return ChosenSize(h, w, f"{seen}, smaller than any network here makes, so they are enlarged to {w}x{h}")
    good = [size for size in fitting if _kept(size, height, width) >= _LEAST_KEPT]
    by_area = max(good, key=lambda size: (size[0] * size[1], _kept(size, height, width)), default=None)
    h, w = by_area or max(fitting, key=lambda size: (round(_kept(size, height, width), 6), size))
    lost = 1 - _kept((h, w), height, width)
    crop = f"; the centre crop to this shape costs {lost:.0%} of each" if lost >= 0.005 else ""
    return ChosenSize(h, w, f"{seen}, and {w}x{h} is the largest fitting size of at most {most_px} pixels a side{crop}")


def _kept(size: tuple[int, int], height: int, width: int) -> float:
    """Share of a picture that its largest centre crop in the aspect of `size` holds."""
    ratio = size[1] * height / (size[0] * width)
    return min(ratio, 1 / ratio)


def fit_frame(frame: Frame, size: tuple[int, int], channels: int) -> np.ndarray:
    """The picture as uint8 (H, W, C) of `size` (height, width) and 1 to 4 `channels`: colour, centre crop, resize.

    Raises as `as_uint8` does.
    """
    return fit(as_channels(as_uint8(frame), channels), size)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, C) cropped around the centre to the aspect of `size` (height, width), then resized to it.

    By Pillow's antialiased Lanczos filter, the field's usual one for training sets: it takes the crop's box in
    fractions of a pixel and each side's own factor, which MATLAB's imresize does not, and weighs colour by alpha.
    """
    height, width, channels = pixels.shape
    if (height, width) == size:
        return pixels
    factor = min(height / size[0], width / size[1])
    crop_h, crop_w = size[0] * factor, size[1] * factor
    top, left = (height - crop_h) / 2, (width - crop_w) / 2
    box = (max(0.0, left), max(0.0, top), min(float(width), left + crop_w), min(float(height), top + crop_h))
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    resized = np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))
    return resized.reshape(*size, channels)


def as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (H, W, 1-4) as `channels`: 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA.

    Colour becomes gray by BT.601 luma; where alpha is not kept the picture is laid on white, and where it is missing
    the picture is opaque.
    """
    has = pixels.shape[2]
    if has == channels:
        return pixels
    alpha = pixels[..., -1:] if has in (2, 4) else None
    colour = pixels if alpha is None else pixels[..., :-1]
    if alpha is not None and channels in (1, 3):
        weight = alpha.astype(np.float32) / 255
        colour = (255 + (colour - np.float32(255)) * weight + 0.5).astype(np.uint8)
    if colour.shape[2] == 3 and channels <= 2:
        colour = np.asarray(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))[..., None]
    elif colour.shape[2] == 1 and channels >= 3:
        colour = np.repeat(colour, 3, axis=2)
    if channels in (1, 3):
        return colour
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate((colour, opaque if alpha is None else alpha), axis=2)


def rgb_on_white(frame: Frame, depth: Depth) -> Tensor:
    """(H, W, 3) in the dtype of `depth`: gray as three channels, alpha laid on white."""
    pixels, colours = frame.pixels, frame.colours
    if frame.depth == depth and pixels.shape[2] == 3:
        return pixels
    values = to_float(pixels, frame.depth)
    colour = values[..., :colours].expand(-1, -1, 3)
    if pixels.shape[2] > colours:
        colour = _on_white(colour, values[..., colours:])
    return from_float(colour, depth)


def without_alpha(images: Tensor) -> Tensor:
    """Floats (N, C, H, W) in [0, 1] as they look on white: 2 channels become 1, 4 become 3, others stay as they are."""
    return _on_white(images[:, :-1], images[:, -1:]) if images.shape[1] in (2, 4) else images


def _on_white(colour: Tensor, alpha: Tensor) -> Tensor:
    return 1 + (colour - 1) * alpha
