"""What the C library does with memory that tensors have left."""

import contextlib
import ctypes
import functools
import os
import sys

KEPT_BYTES = 256 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT_BYTES` that its tensors have left for the next ones; whether it does now.

    As it is, glibc hands memory of this size back at once and the kernel clears each page of it again for the next
    tensor: up to an eighth of a network's time on two cores. Only glibc is told, and only where the user told it
    nothing (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.getenv("GLIBC_TUNABLES", "")
    if told or not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
    return False
