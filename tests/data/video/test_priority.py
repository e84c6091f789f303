"""An encoder's real-time threads, which only root sees."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.data.video import Encoding
from imagesmith.data.video.priority import ordinary_threads


def policies() -> set[int]:
    return {os.sched_getscheduler(int(name)) for name in os.listdir("/proc/self/task")}


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="needs Linux's scheduler")
def test_a_thread_that_was_made_real_time_is_ordinary_again():
    try:
        with ordinary_threads():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            assert os.SCHED_FIFO in policies()
    except PermissionError:
        pytest.skip("only root may ask for a real-time priority")
    assert policies() == {os.SCHED_OTHER}


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="needs Linux's scheduler")
def test_after_av1_no_thread_runs_ahead_of_the_machine(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: one WebM as root, and the next threads of the process stop the machine for minutes."""
    make_film(tmp_path / "in.mp4", range(3))
    redo(tmp_path / "in.mp4", tmp_path / "out.webm", Encoding(codec="libsvtav1"))
    assert policies() == {os.SCHED_OTHER}
    found = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    assert found == [os.SCHED_OTHER]
