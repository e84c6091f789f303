"""How much memory there is, how much a network takes for a pixel, and tiles that keep within a limit."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from imagesmith.errors import ImageError
from imagesmith.runtime.tiling import TilePlan

_WORKSPACE = 1.5
"""What a CPU convolution takes besides its tensors, as a factor: reordered copies that no tensor shows."""


@dataclass(frozen=True)
class Limits:
    """Bytes that may be taken: `ram` by this process, `vram` on the accelerator; None is what the machine has."""

    ram: int | None = None
    vram: int | None = None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes this process can still take before swapping or being killed, container limits included; None if unknown.

    `root` is the folder that holds proc/ and sys/, so that the reading of container limits can be tried out.
    """
    limits = [_free_of_machine(root), *_free_of_containers(root)]
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else None


def resident_memory() -> int:
    """Bytes of physical memory that this process holds; outside Linux the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # does not exist on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def room_within(limit: int | None) -> int | None:
    """Bytes that may still be taken: up to `limit` resident bytes, or as far as the machine goes; None if unknown."""
    return available_memory() if limit is None else limit - resident_memory()


@torch.inference_mode()
def held_per_px(run: Callable[[Tensor], object], x: Tensor, device: torch.device) -> float:
    """Bytes that `run(x)` holds on `device` at its worst moment, for each pixel of `x` (1, C, H, W).

    CUDA counts them itself. Elsewhere the storages of all tensors that live at the same time are added up.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(x)
        peak = float(torch.cuda.max_memory_allocated(device) - before)
    else:
        with _LiveTensors() as live:
            run(x)
        peak = live.peak * (_WORKSPACE if device.type == "cpu" else 1)
    return peak / (x.shape[-2] * x.shape[-1])


def first_within(plans: Iterable[TilePlan], cost: Callable[[TilePlan], float], room: int, limit: str) -> TilePlan:
    """The first of `plans` whose `cost` in bytes is at most `room`; ImageError if even the last one takes more.

    `limit` names the option that leaves no more room, with its value.
    """
    plan = None
    for plan in plans:
        if cost(plan) <= room:
            return plan
    assert plan is not None, "there is at least one plan"
    lacking = (cost(plan) - room) / 1e9
    raise ImageError(
        f"expected a picture that keeps within {limit}, this one needs {lacking:.2f} GB more, even in tiles of "
        f"{plan.tile_size}\nraise the limit, or choose a smaller --tile if you chose one"
    )


class _LiveTensors(TorchDispatchMode):
    """Watches every operation; `peak` is the largest number of bytes that its results held together."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._alive[StorageWeakRef(storage)] = storage.nbytes()
        self._alive = {reference: size for reference, size in self._alive.items() if not reference.expired()}
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


# --- what the system says ---


def _free_of_machine(root: Path) -> int | None:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # not Linux: all of the memory is the best that the standard library knows
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_containers(root: Path) -> list[int]:
    """What the memory limits of this process's control groups (version 2 and 1), inner to outer, leave."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    free = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):  # a container may show its own group as the root
            limit = _free_of_group(mount / group, *names)
            if limit is not None:
                free.append(limit)
    return free


def _free_of_group(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text().strip()
        if limit == "max":
            return None
        used = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(limit) - used + int(stat.get(cache_name, 0))  # file cache not in use is given back on demand
