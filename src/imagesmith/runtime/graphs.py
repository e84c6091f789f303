"""CUDA graphs: kernels that are asked for once and replayed as often as wanted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def captured(act: Callable[[], T], pool: Any = None) -> tuple[T, torch.cuda.CUDAGraph]:
    """What `act` returns, and the kernels that it asks for as a graph; none of them runs before it is replayed.

    To be called inside `own_stream`. Graphs of one `pool` (`torch.cuda.graph_pool_handle()`) share memory and must be
    replayed in the order in which they were captured. RuntimeError where `act` waits for the device.
    """
    graph = torch.cuda.CUDAGraph()
    # 'thread_local': the loader's thread pins memory meanwhile
    with torch.cuda.graph(graph, pool, torch.cuda.current_stream(), capture_error_mode="thread_local"):
        result = act()
    return result, graph


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """A GPU computes in a stream of its own meanwhile, as capturing needs; nothing happens on other devices."""
    if not device.startswith("cuda"):
        yield
        return
    usual, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(usual)
    with torch.cuda.stream(own):
        yield
    usual.wait_stream(own)
