from fractions import Fraction
from pathlib import Path

import pytest

from imagesmith.data.video import VideoInfo
from imagesmith.data.video.span import Span


@pytest.mark.parametrize(
    ("time_base", "seconds", "ticks"),
    [
        (Fraction(1, 25), 0.04, 1),
        (Fraction(1, 25), 0.041, 2),
        (Fraction(1, 30000), 0.1, 3000),
        (Fraction(1, 1000), 1.0, 1000),
    ],
)
def test_seconds_are_the_fractions_that_were_meant(time_base: Fraction, seconds: float, ticks: int) -> None:
    """The accident: 0.04 s is a little more than one twenty-fifth in binary, and the cut is one frame late."""
    info = VideoInfo(Path("in.mp4"), "film", 8, 8, None, 9.0, time_base, None, start=500)
    assert Span(seconds, None).first(info) == 500 + ticks
    assert Span(None, seconds).stop(info) == 500 + ticks
    assert Span().first(info) == 500
    assert Span().stop(info) == float("inf")


def test_without_a_start_what_comes_before_belongs_to_it() -> None:
    """The accident: the first packet of sound, which starts a little before the pictures, is cut off."""
    info = VideoInfo(Path("in.mp4"), "film", 8, 8, None, 9.0, Fraction(1, 25), None)
    assert Span(None, 2.0).holds(Fraction(-1, 50), info)
    assert not Span(1.0, 2.0).holds(Fraction(99, 100), info)
    assert Span(1.0, 2.0).holds(Fraction(1), info)
    assert not Span(1.0, 2.0).holds(Fraction(2), info)
