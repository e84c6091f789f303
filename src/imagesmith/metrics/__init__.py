"""The metrics: pure functions, named in one table together with their direction, range and source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from imagesmith.metrics.pairs import psnr_b, psnr_gray, psnr_hole, psnr_rgb, psnr_y, ssim_y
from imagesmith.metrics.spectrum import spectrum_distance


@dataclass(frozen=True)
class MetricCard:
    """One metric: how to compute it and how to read it."""

    name: str
    function: Callable[..., Tensor]
    """(restored, target, crop) -> float64 (N,); one that needs a hole takes that, bool (N, 1, H, W), as well."""
    direction: Literal["higher", "lower"]
    """Which values are better."""
    range: tuple[float, float]
    unit: str
    needs: Literal["target", "hole"]
    """What a restored image is compared with: its target, or its target within a hole."""
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
