"""Threads stay ordinary, whatever an encoder makes of them."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def ordinary_threads() -> Iterator[None]:
    """Whatever the body makes of this process' threads, none runs ahead of everything else on the machine afterwards.

    SVT-AV1 gives itself and the thread that calls it a real-time priority where the user is root, as in most
    containers; that thread's children inherit it, and two of them that wait for each other stop the whole machine.
    Threads that had such a priority before keep it.
    """
    before = _real_time()
    try:
        yield
    finally:
        for thread in _real_time() - before:
            with contextlib.suppress(OSError):  # it may have ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time() -> set[int]:
    """The threads of this process with a real-time priority; none where the system does not tell."""
    found = set[int]()
    if not hasattr(os, "sched_getscheduler"):
        return found
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                if os.sched_getscheduler(int(name)) in (os.SCHED_FIFO, os.SCHED_RR):
                    found.add(int(name))
    return found
