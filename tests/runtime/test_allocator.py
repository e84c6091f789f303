"""Memory that tensors leave: kept for the next ones, unless the user said otherwise."""

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

TOLD = "from imagesmith.runtime.allocator import keep_freed_memory; print(keep_freed_memory())"

FOUND = """
import json, os, resource, torch
from imagesmith.runtime.allocator import keep_freed_memory, keep_nothing
from imagesmith.runtime.memory import resident_memory
told = keep_freed_memory()
if os.fork():
    os.wait()
    def once():
        layers = [torch.ones(6 << 20) for _ in range(3)]  # 24 MiB each
    for _ in range(5):
        once()  # until the heap is as large as it gets
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        once()
    print(json.dumps({"told": told, "faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}))
else:
    first = resident_memory()
    def grown(mib, count):
        layers = [torch.ones(mib << 18) for _ in range(count)]
        del layers
        return resident_memory() - first >> 20
    kept = grown(16, 1)
    keep_nothing()
    print(json.dumps({"kept": kept, "later": [grown(20, 3), grown(20, 3)]}), flush=True)  # they fit in no hole
"""


def run(program: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=kept | environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a process saw of its own memory, in MiB and page faults; two, of which only one imports torch, for seconds."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is told")
    later, first = map(json.loads, run(FOUND).splitlines())
    return first | later


def test_the_next_tensors_take_the_memory_of_the_last_ones(found: dict[str, Any]) -> None:
    """Pages that are handed back and cleared again cost an eighth of a network's time."""
    assert found["told"]
    assert found["faults"] < 20_000, "10 rounds of 72 MiB are 184,320 pages of 4 KiB"


def test_where_memory_is_short_nothing_is_kept(found: dict[str, Any]) -> None:
    """What is kept between tiles is several times what a tile takes, and counts towards the user's limit."""
    assert found["kept"] >= 14
    assert max(found["later"]) < 8


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_told_malloc_stays(name: str) -> None:
    """Who tunes malloc for a whole machine does not expect a library to undo it."""
    value = "glibc.malloc.arena_max=2" if name == "GLIBC_TUNABLES" else "2"
    assert run(TOLD, **{name: value}) == "False\n"
