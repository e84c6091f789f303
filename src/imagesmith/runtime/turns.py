"""The time that ways to do the same take, found in a moment, on a machine that may be busy."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch

Way = TypeVar("Way")

_HOPELESS = 8.0  # a way this much slower than the best so far is not run again


def least_seconds(
    ways: Mapping[Way, Callable[[], object]], device: torch.device, *, rounds: int, enough: float
) -> dict[Way, float]:
    """The least seconds of each way, which take turns for `rounds`; none begins after `enough` seconds.

    On a CPU these are seconds of one thread's processor time, where other programs do not count. The whole process
    computes on one thread meanwhile, so only one thread of it may measure at a time, as `found_once` sees to.
    """
    with torch.inference_mode(), _one_thread():
        deadline = time.perf_counter() + enough
        seconds: dict[Way, float] = {}
        for _ in range(rounds):
            for way, run in ways.items():
                if seconds.get(way, 0) <= _HOPELESS * min(seconds.values(), default=0):
                    seconds[way] = min(seconds.get(way, float("inf")), _seconds(run, device))
            if time.perf_counter() > deadline:
                break
    return seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other a hundred times longer than they compute; one alone does not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start
