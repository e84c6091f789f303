"""Frame-by-frame results steadied in time: each is mixed with the one before, moved along, where the films agree.

Whether the film itself stayed as it was is judged by its own frames, not by the results, which may flicker there: that
is what is to be taken away. Motions are whole pixels of the result, so that what is moved on and on is copied and never
interpolated, and cannot blur; what moves by a fraction of a pixel disagrees at its edges, and is left alone there.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import DEPTHS
from imagesmith.infer.network import Report
from imagesmith.infer.video.frames import FrameByFrame, Memory
from imagesmith.tensors import from_float, to_float, to_gray

SHARE = 0.6
"""How much of a result is that of the frame before where both agree: leaves a quarter of the variance of flicker."""
_WINDOW = 5  # pixels over which differences are averaged
_COARSEST_PX = 12  # shorter side of the smallest level of the search
_FARTHEST = 6  # halvings: motions of up to 64 pixels of the result
_CLEARLY = 0.8  # a motion must explain so much better than none that noise does not move what stands still
_LEVEL = 1 / 255  # differences below this are agreement whatever the noise
_NOISIEST = 12 / 255  # a larger difference over half of the frame is not noise: the motion was not found


class Smoothed:
    """`FrameByFrame` with results that are steady in time; remembers the last frame and its result."""

    looks_ahead = False

    def __init__(self, each: FrameByFrame) -> None:
        self.scale = each.scale
        self._each = each

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report) -> tuple[Tensor, Memory]:
        """The restored frame (H * scale, W * scale, 3) of the dtype of `pixels` (H, W, 3), and the memory after it."""
        restored, _ = self._each(pixels, ahead, (), report)
        result = _planar(restored)
        if memory:
            before, last = memory
            result = self._each.kept_outside(steadied(_planar(pixels), result, _planar(before), last), result)
            restored = from_float(result[0].permute(1, 2, 0), DEPTHS[pixels.dtype]).contiguous()
        return restored, (pixels, result)


def steadied(now: Tensor, result: Tensor, before: Tensor, last: Tensor) -> Tensor:
    """`result` of the frame `now`, mixed with `last`, the one of the frame `before`; all (1, 3, h, w) in [0, 1]."""
    size = (result.shape[2], result.shape[3])
    fine_now, fine_before = (
        F.interpolate(x, size, mode="bilinear") if x.shape[2:] != size else x for x in (now, before)
    )
    motion = find_motion(to_gray(fine_now), to_gray(fine_before))
    scale = size[0] // now.shape[2]
    difference = _averaged((moved(fine_before, motion) - fine_now).abs().mean(1, keepdim=True), 2 * scale + 1)
    usual = difference.median().clamp(_LEVEL, _NOISIEST)  # noise, as most of a film stays or is followed
    agreement = (2 - difference / usual).clamp(0, 1)
    return torch.lerp(result, moved(last, motion), SHARE * agreement)


def find_motion(now: Tensor, before: Tensor) -> Tensor:
    """Whole pixels down and right, int64 (2, H, W), at which `before` looks like `now`, both (1, 1, H, W).

    From coarse to fine, on each level a pixel in each direction more; 0 where nothing is clearly better.
    """
    levels = [(now, before)]
    while len(levels) <= _FARTHEST and min(levels[-1][0].shape[2:]) >= 2 * _COARSEST_PX:
        levels.append((F.avg_pool2d(levels[-1][0], 2), F.avg_pool2d(levels[-1][1], 2)))
    motion = torch.zeros(2, *levels[-1][0].shape[2:], dtype=torch.int64, device=now.device)
    for sharp, moving in reversed(levels):
        motion = _refined(_as_large(motion, sharp), sharp, moving)
    still = torch.zeros_like(motion)
    return torch.where(_error(now, before, motion) < _CLEARLY * _error(now, before, still) - _LEVEL, motion, still)


def moved(image: Tensor, motion: Tensor) -> Tensor:
    """`image` (N, C, H, W) read at each pixel's place plus `motion` (2, H, W); outside, the nearest edge repeats."""
    height, width = image.shape[2:]
    rows = torch.arange(height, device=image.device)[:, None] + motion[0]
    columns = torch.arange(width, device=image.device) + motion[1]
    return image[:, :, rows.clamp_(0, height - 1), columns.clamp_(0, width - 1)]


def _refined(motion: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """The best of the motions that differ from `motion` by at most one pixel; itself where none is better."""
    best, least = motion, _error(now, before, motion)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            tried = motion + motion.new_tensor([down, right]).view(2, 1, 1)
            error = _error(now, before, tried)
            best = torch.where(error < least, tried, best)
            least = torch.minimum(error, least)
    return best


def _as_large(motion: Tensor, image: Tensor) -> Tensor:
    """The motion of a level of half the size, for `image`; itself if it has that size."""
    height, width = image.shape[2:]
    if motion.shape[1:] == (height, width):
        return motion
    rows = torch.arange(height, device=motion.device).div_(2, rounding_mode="floor").clamp_(max=motion.shape[1] - 1)
    columns = torch.arange(width, device=motion.device).div_(2, rounding_mode="floor").clamp_(max=motion.shape[2] - 1)
    return 2 * motion[:, rows[:, None], columns]


def _error(now: Tensor, before: Tensor, motion: Tensor) -> Tensor:
    """(H, W): how much `before`, moved, differs from `now` around each pixel."""
    return _averaged((moved(before, motion) - now).abs(), _WINDOW)[0, 0]


def _averaged(x: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(x, window, stride=1, padding=window // 2, count_include_pad=False)


def _planar(pixels: Tensor) -> Tensor:
    """(H, W, 3) file values as (1, 3, H, W) in [0, 1]."""
    return to_float(pixels, DEPTHS[pixels.dtype]).permute(2, 0, 1).unsqueeze(0).contiguous()
