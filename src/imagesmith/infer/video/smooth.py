"""Frame-by-frame results steadied in time: each is mixed with the one before, moved along, where the two agree.

They are compared at the size of the film's frames: noise is gone there if it was to be removed, and detail that a
network invents anew in each frame, which is to be steadied, is finer than that. Motions are whole pixels of the result,
so that what is moved on and on is copied and never interpolated, and cannot blur; what moves by a fraction of a pixel
disagrees at its edges, and is left alone there.
"""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import DEPTHS
from imagesmith.data.video import VideoInfo
from imagesmith.estimate.noise import noise_sigma
from imagesmith.infer.network import Report
from imagesmith.infer.video.frames import FrameByFrame, Memory
from imagesmith.metrics.optical_flow import optical_flow
from imagesmith.tensors import from_float, to_float

SHARE = 0.6
"""How much of a result is that of the frame before where both agree: leaves a quarter of the variance of flicker."""
_WINDOW = 3  # pixels of the frame over which differences are averaged
_ALONE = 0.4  # a difference counts so much without its neighbours: a thin line is soon lost in an average
_CLEARLY = 0.8  # a motion must explain so much better than none that noise does not move what stands still
_LEVEL = 2 / 255  # differences up to this are agreement whatever the noise
_SIGMAS = 1.3  # two frames of nothing but noise differ by 1.13 of its standard deviations in the mean


class Smoothed:
    """`FrameByFrame` with results that are steady in time; remembers the last result."""

    looks_ahead = False

    def __init__(self, each: FrameByFrame) -> None:
        self.scale = each.scale
        self._each = each

    def of_film(self, info: VideoInfo) -> Self:
        """See `FrameByFrame.of_film`."""
        return type(self)(self._each.of_film(info))

    def said(self) -> Iterator[str]:
        """See `FrameByFrame.said`."""
        return self._each.said()

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report) -> tuple[Tensor, Memory]:
        """The restored frame (H * scale, W * scale, 3) of the dtype of `pixels` (H, W, 3), and the memory after it."""
        restored, _ = self._each(pixels, ahead, (), report)
        result = _planar(restored)
        if memory:
            result = self._each.kept_outside(steadied(result, memory[0], self.scale), result)
            restored = from_float(result[0].permute(1, 2, 0), DEPTHS[pixels.dtype]).contiguous()
        return restored, (result,)


def steadied(result: Tensor, last: Tensor, scale: int) -> Tensor:
    """`result` mixed with `last`, the steadied one before; both (1, 3, H, W) in [0, 1], `scale` times the frame."""
    now = F.avg_pool2d(result, scale)
    flow = _enlarged(optical_flow(now, F.avg_pool2d(last, scale)), scale)
    followed = moved(last, (scale * flow[0]).round().long())
    change, missed = (_differences(now, F.avg_pool2d(before, scale)) for before in (last, followed))
    follows = missed < _CLEARLY * change
    tolerance = _LEVEL + _SIGMAS * noise_sigma(now[0]) / 255
    agreement = (3 - 2 * torch.where(follows, missed, change) / tolerance).clamp(0, 1)
    before = torch.where(_enlarged(follows.float(), scale) > 0.5, followed, last)
    return torch.lerp(result, before, SHARE * _enlarged(agreement, scale))


def moved(image: Tensor, motion: Tensor) -> Tensor:
    """`image` (N, C, H, W) read at each pixel's place plus `motion` (2, H, W), right and down; edges repeat outside."""
    height, width = image.shape[2:]
    columns = torch.arange(width, device=image.device) + motion[0]
    rows = torch.arange(height, device=image.device)[:, None] + motion[1]
    return image[:, :, rows.clamp_(0, height - 1), columns.clamp_(0, width - 1)]


def _differences(one: Tensor, other: Tensor) -> Tensor:
    """(1, 1, H, W): how much two frames differ around each pixel."""
    difference = (one - other).abs().mean(1, keepdim=True)
    around = F.avg_pool2d(difference, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
    return torch.maximum(around, _ALONE * difference)


def _enlarged(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(scale), mode="bilinear") if scale > 1 else x


def _planar(pixels: Tensor) -> Tensor:
    """(H, W, 3) file values as (1, 3, H, W) in [0, 1]."""
    return to_float(pixels, DEPTHS[pixels.dtype]).permute(2, 0, 1).unsqueeze(0).contiguous()
