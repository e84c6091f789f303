"""The part of a film that is asked for, in seconds, as the times of frames and packets."""

import math
from dataclasses import dataclass
from fractions import Fraction

from imagesmith.data.video.info import VideoInfo
from imagesmith.errors import UsageError


@dataclass(frozen=True)
class Span:
    """From the frame at `start_s` on up to the one at `end_s`, which is left out.

    Seconds count from the first frame; None is the beginning or the end.
    """

    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        start, end = self.start_s or 0.0, math.inf if self.end_s is None else self.end_s
        if not 0 <= start < end:
            raise UsageError(f"expected 0 <= start < end in seconds, got start {start:g} and end {end:g}")

    def first(self, info: VideoInfo) -> int:
        """The least PTS inside."""
        return info.start + _ticks(self.start_s or 0.0, info)

    def stop(self, info: VideoInfo) -> float:
        """The least PTS beyond the end, infinite where there is none."""
        return math.inf if self.end_s is None else info.start + _ticks(self.end_s, info)

    def holds(self, seconds: Fraction, info: VideoInfo) -> bool:
        """Whether a packet of sound or text at that time belongs to it; without a start, what comes before does too."""
        return (not self.start_s or seconds >= self.first(info) * info.time_base) and seconds < (
            self.stop(info) * info.time_base
        )

    def check(self, info: VideoInfo) -> None:
        """UsageError where the film ends before the part begins."""
        if self.start_s and info.duration_s and self.start_s >= info.duration_s:
            raise UsageError(f"expected a start before the end at {info.duration_s:.6g} s, got {self.start_s:g} s")


def _ticks(seconds: float, info: VideoInfo) -> int:
    """Rounded up, of the fraction that was meant: 0.04 is one twenty-fifth."""
    return math.ceil(Fraction(seconds).limit_denominator(1_000_000) / info.time_base)
