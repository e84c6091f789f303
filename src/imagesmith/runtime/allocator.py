"""What the C library does with memory that tensors have left."""

import contextlib
import ctypes
import functools
import os
import sys

KEPT_BYTES = 128 << 20
LARGEST_KEPT_BYTES = 24 << 20
"""Tensors up to this size take memory that is kept; larger ones are mapped and given back each by itself."""
HOLES_BYTES = 384 << 20
"""What is kept between tensors of many sizes, at most; measured over the shipped networks and uneven tiles."""
_LEAST_MAPPED_BYTES = 1 << 20
_OVERHEAD = 1 << 20  # what an allocation takes besides its tensor, generously
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT_BYTES` that its tensors have left for the next ones; whether it does now.

    As it is, glibc hands memory of this size back at once and the kernel clears each page of it again for the next
    tensor: up to an eighth of a network's time on two cores. One arena for all threads keeps it, instead of one each.
    Only glibc is told, and only where the user told it nothing (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.getenv("GLIBC_TUNABLES", "")
    if told or not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        settings = {_TRIM_THRESHOLD: KEPT_BYTES, _MMAP_THRESHOLD: LARGEST_KEPT_BYTES + _OVERHEAD, _ARENA_MAX: 1}
        return all(mallopt(name, value) for name, value in settings.items())
    return False


def keep_nothing() -> None:
    """From now on hand back what tensors leave, and what is kept so far: a limit on memory leaves no room for it."""
    if keep_freed_memory():
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LEAST_MAPPED_BYTES)
        give_back()


def give_back() -> None:
    """Hand what is kept to the kernel, between the strips of a large picture, for a twentieth of their time.

    Strips have tiles of a few sizes, and tensors of one size fit badly where those of another were: a process grows by
    holes to some 200 MB more than any tile takes.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)
