"""Memory that tensors leave: kept for the next ones, unless the user said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from imagesmith.runtime.allocator import keep_freed_memory
told = keep_freed_memory()
def once():
    layers = [torch.ones(6 << 20) for _ in range(3)]  # 24 MiB each
for _ in range(5):
    once()  # until the heap is as large as it gets
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

HELD = """
import torch
from imagesmith.runtime.allocator import keep_freed_memory, keep_nothing
from imagesmith.runtime.memory import resident_memory
keep_freed_memory()
def grown():
    before = resident_memory()
    layers = [torch.ones(4 << 20) for _ in range(3)]  # 16 MiB each
    del layers
    return resident_memory() - before >> 20
print(grown())
keep_nothing()
print(grown(), grown())
"""


def run(**environment: str) -> tuple[bool, int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=kept | environment, check=True, capture_output=True, text=True
    )
    told, faults = done.stdout.split()
    return told == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_the_next_tensors_take_the_memory_of_the_last_ones() -> None:
    """Pages that are handed back and cleared again cost an eighth of a network's time."""
    told, faults = run()
    assert told
    assert faults < 20_000, "10 rounds of 72 MiB are 184,320 pages of 4 KiB"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_where_memory_is_short_nothing_is_kept() -> None:
    """What is kept between tiles is several times what a tile takes, and counts towards the user's limit."""
    done = subprocess.run([sys.executable, "-c", HELD], check=True, capture_output=True, text=True)
    kept, *later = map(int, done.stdout.split())
    assert kept >= 40
    assert max(later) < 8


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_told_malloc_stays(name: str) -> None:
    """Who tunes malloc for a whole machine does not expect a library to undo it."""
    told, _ = run(**{name: "glibc.malloc.arena_max=2" if name == "GLIBC_TUNABLES" else "2"})
    assert not told
