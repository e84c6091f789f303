"""The metrics: pure functions, named in one table for pictures and one for clips, with direction, range and source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from imagesmith.metrics.pairs import psnr_b, psnr_gray, psnr_hole, psnr_rgb, psnr_y, ssim_y
from imagesmith.metrics.spectrum import spectrum_distance
from imagesmith.metrics.temporal import flicker, tof, warping_error


@dataclass(frozen=True)
class MetricCard:
    """One metric: how to compute it and how to read it."""

    name: str
    function: Callable[..., Tensor]
    """(restored, target, crop) -> float64 (N,); one that needs a hole takes that, bool (N, 1, H, W), as well.

    One that needs clips, (T, C, H, W) each, -> float64 (T - 1,); one that needs their motion takes the `target_flow`
    as well, or computes it.
    """
    direction: Literal["higher", "lower"]
    """Which values are better."""
    range: tuple[float, float]
    unit: str
    needs: Literal["target", "hole", "clip", "motion"]
    """What is compared: a restored image with its target, or within a hole; a restored clip, or how it moves."""
    paper: str

    @property
    def best(self) -> float:
        """The value of a perfect result."""
        return self.range[1] if self.direction == "higher" else self.range[0]


_CARDS = (
    MetricCard(
        "psnr_y", psnr_y, "higher", (0, float("inf")), "dB", "target", "Timofte et al. 2014 (A+), evaluation protocol"
    ),
    MetricCard("ssim_y", ssim_y, "higher", (-1, 1), "", "target", "Wang et al. 2004, Image quality assessment"),
    MetricCard("psnr_rgb", psnr_rgb, "higher", (0, float("inf")), "dB", "target", "NTIRE challenge protocol, 2017"),
    MetricCard("psnr_gray", psnr_gray, "higher", (0, float("inf")), "dB", "target", "Dong et al. 2015 (AR-CNN)"),
    MetricCard("psnr_b", psnr_b, "higher", (0, float("inf")), "dB", "target", "Yim and Bovik 2011, PSNR-B"),
    MetricCard("psnr_hole", psnr_hole, "higher", (0, float("inf")), "dB", "hole", "psnr_rgb inside the hole alone"),
    MetricCard(
        "spectrum", spectrum_distance, "lower", (0, float("inf")), "", "target", "after Durall et al. 2020, sec. 3"
    ),
)
METRICS: dict[str, MetricCard] = {card.name: card for card in _CARDS}

_FLOW = "by an in-house Lucas-Kanade flow: not comparable with published values"
_CLIP_CARDS = (
    MetricCard(
        "warping_error", warping_error, "lower", (0, float("inf")), "1e-3", "motion", f"after Lai et al. 2018, {_FLOW}"
    ),
    MetricCard("tof", tof, "lower", (0, float("inf")), "px", "motion", f"after Chu et al. 2020 (TecoGAN), {_FLOW}"),
    MetricCard(
        "flicker",
        flicker,
        "lower",
        (0, 255),
        "grey levels",
        "clip",
        "in-house: changes that a still target does not have",
    ),
)
CLIP_METRICS: dict[str, MetricCard] = {card.name: card for card in _CLIP_CARDS}
"""Those that look at how frames follow each other; a single frame has none of them."""
