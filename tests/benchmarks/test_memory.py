"""What benchmarks publish as the memory of a command."""

import os
import sys
from importlib import import_module

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the peak of a child is asked of POSIX")
PROGRAM = "import time; held = bytearray(150_000_000); time.sleep(0.3)"


def test_the_peak_of_a_command_is_its_own():
    """The accident: 1.13 GB of the benchmark itself, once held for drawing, published as the peak of the command."""
    held = bytearray(300_000_000)
    found = import_module("gigapixel").watched(["true"])
    assert len(held) > 2 * found["peak_bytes"]
    assert found["peak_bytes"] < 100e6


def test_a_command_is_watched_while_it_runs():
    """The accident: samples of the launcher, or of a process that has ended, tell of a growth that was none."""
    found = import_module("gigapixel").watched([sys.executable, "-S", "-c", PROGRAM])
    assert 150e6 < found["peak_bytes"] < 300e6
    if sys.platform == "linux":
        assert found["sampled_peak_bytes"] > 150e6


def test_a_command_that_fails_ends_the_benchmark():
    """The accident: the seconds and the memory of an error message, published."""
    peak = import_module("memory").peak
    with pytest.raises(SystemExit, match=r"failed with 3(.|\n)*no such thing"):
        peak([sys.executable, "-S", "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(SystemExit, match="no-such-program"):
        peak(["no-such-program"])
