"""Metrics of a restored clip against its target: does it move as the target does, and does it flicker?

All take (T, C, H, W) in [0, 1], frames in order, and return float64 (T - 1,): a value for each pair of frames, so that
a clip can be scored pair by pair. `crop` pixels are cut off every edge; `flow` is the `target_flow` with that crop, for
those who have computed it. Both clips are rounded to 8 bits first, as files are.
"""

from torch import Tensor
from torch.nn import functional as F

from imagesmith.metrics.optical_flow import optical_flow
from imagesmith.metrics.pairs import luma_levels, prepared
from imagesmith.tensors.warping import stays_inside, warp

OCCLUDED_LEVELS = 8.0
"""Where the target itself, moved along its own flow, misses by more, something was uncovered or the flow is wrong."""
LEAST_SEEN = 0.5
"""Share of the picture that must be seen in both frames; with less, as at a scene cut, matches are chance."""
STILL_LEVELS = 2.0
"""What changes less than this from one frame of the target to the next, at a pixel and all around it, stands still."""


def target_flow(target: Tensor, crop: int) -> Tensor:
    """(T - 1, 2, H, W): where each pixel of the frames from the second on was in the frame before."""
    levels, _ = prepared(target, target, crop)
    return optical_flow(levels[1:] / 255, levels[:-1] / 255)


def warping_error(restored: Tensor, target: Tensor, crop: int, flow: Tensor | None = None) -> Tensor:
    """Mean squared difference x 1000, for values in [0, 1], of a frame and the one before moved to where it is now.

    Over all channels and the pixels that the target shows in both frames, moved by the flow of the target; NaN where
    these are less than `LEAST_SEEN`. Lai et al. 2018 (E_warp) with the flow of `optical_flow`. The target itself does
    not score 0, and a blurred clip scores well: read it beside psnr_y, and compare restorers of the same clip.
    """
    flow = target_flow(target, crop) if flow is None else flow
    restored, target = prepared(restored, target, crop)
    seen = stays_inside(flow) & (_missed(luma_levels(target), flow) <= OCCLUDED_LEVELS)
    seen &= seen.double().mean(dim=(1, 2, 3), keepdim=True) >= LEAST_SEEN
    return 1000 * _mean((_missed(restored, flow) / 255).square(), seen)


def tof(restored: Tensor, target: Tensor, crop: int, flow: Tensor | None = None) -> Tensor:
    """Mean distance in pixels between the motion in the restored and in the target frames.

    tOF of Chu et al. 2020 (TecoGAN), but with the flow of `optical_flow`, so never to be put beside published figures.
    """
    flow = target_flow(target, crop) if flow is None else flow
    return (target_flow(restored, crop) - flow).double().norm(dim=1).mean(dim=(1, 2))


def flicker(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """By how many grey levels of luma more than the target's the restored pixels change where the target stands still.

    Of each pixel whose 3x3 neighbourhood in the target changes by `STILL_LEVELS` at most, the excess of the restored
    change over the target's, 0 where it changes less; the mean of them. NaN for frames in which nothing stands still.
    """
    restored, target = (luma_levels(x) for x in prepared(restored, target, crop))
    change, natural = (x.diff(dim=0).abs() for x in (restored, target))
    still = F.max_pool2d(natural, 3, stride=1, padding=1) <= STILL_LEVELS
    return _mean((change - natural).clamp(min=0), still)


def _missed(levels: Tensor, flow: Tensor) -> Tensor:
    """By how much each frame from the second on differs from the one before, moved along `flow`."""
    return (levels[1:] - warp(levels[:-1], flow, "bicubic")).abs()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Of (N, C, H, W) over the pixels that bool (N, 1, H, W) names, for each of N; NaN where there is none."""
    return (values * where).sum(dim=(1, 2, 3)) / (where.sum(dim=(1, 2, 3)) * values.shape[1])
