"""The metrics: pure functions, named in one table together with their direction, range and source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from imagesmith.metrics.pairs import psnr_rgb, psnr_y, ssim_y


@dataclass(frozen=True)
class MetricCard:
    """One metric: how to compute it and how to read it."""

    name: str
    function: Callable[[Tensor, Tensor, int], Tensor]
    """(restored, target, crop) -> float64 (N,)"""
    direction: Literal["higher", "lower"]
    """Which values are better."""
    range: tuple[float, float]
    unit: str
    needs: Literal["target"]
    """What a restored image is compared with."""
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
)
METRICS: dict[str, MetricCard] = {card.name: card for card in _CARDS}
