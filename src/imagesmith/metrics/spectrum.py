"""How far a restored image has the detail of its target, whether or not it lies in the same place."""

import torch
from torch import Tensor

from imagesmith.errors import ImageError
from imagesmith.metrics.pairs import luma_levels, prepared

LEAST_PX = 16
ROUNDING = 1 / 12
"""Power of rounding to whole grey levels: detail below it is not in the file."""


def spectrum_distance(restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """Mean absolute difference of the log10 radial power spectra of luma: 1 is ten times the power, or a tenth of it.

    The BT.601 luma in grey levels of 8 bits, minus its mean, under a Hann window; its power per pixel and frequency,
    averaged in rings as narrow as the shorter side resolves, from one cycle over that side to half a cycle a pixel;
    `ROUNDING` is added before the logarithm. Every ring weighs the same. After Durall et al. 2020, sec. 3.
    """
    restored, target = prepared(restored, target, crop)
    if min(target.shape[-2:]) < LEAST_PX:
        raise ImageError(
            f"spectrum needs at least {LEAST_PX}x{LEAST_PX} pixels after cropping {crop} at each edge, "
            f"got {target.shape[-1]}x{target.shape[-2]}; leave spectrum out for this image"
        )
    return (_log_spectrum(luma_levels(restored)) - _log_spectrum(luma_levels(target))).abs().mean(dim=1)


def _log_spectrum(levels: Tensor) -> Tensor:
    """(N, 1, H, W) in grey levels -> (N, rings)."""
    height, width = levels.shape[-2:]
    window = torch.outer(
        *(torch.hann_window(size, dtype=levels.dtype, device=levels.device) for size in (height, width))
    )
    mean = (levels * window).sum(dim=(-2, -1), keepdim=True) / window.sum()
    power = torch.fft.rfft2((levels - mean) * window).abs().square()[:, 0] / window.square().sum()
    rows = torch.fft.fftfreq(height, dtype=levels.dtype, device=levels.device)
    columns = torch.fft.rfftfreq(width, dtype=levels.dtype, device=levels.device)
    rings = min(height, width) // 2
    ring = (torch.hypot(rows[:, None], columns) * 2 * rings).round().long().flatten()
    # half of the plane is there: each column but those at the ends stands for its mirror image too
    weight = torch.where((columns > 0) & (columns < 0.5), 2.0, 1.0).to(levels).expand(height, -1).flatten()
    within = (ring >= 1) & (ring <= rings)
    count = levels.new_zeros(rings + 1).index_add_(0, ring[within], weight[within])
    total = levels.new_zeros(len(levels), rings + 1).index_add_(1, ring[within], (power.flatten(1) * weight)[:, within])
    return (total[:, 1:] / count[1:] + ROUNDING).log10()
