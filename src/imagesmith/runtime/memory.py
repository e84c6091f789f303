"""How much memory there is, how much a network takes for a pixel, and tiles that keep within a limit."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from imagesmith.containers import THE_ROOT, control_groups
from imagesmith.errors import ImageError, UsageError
from imagesmith.runtime.allocator import HOLES_BYTES, keep_nothing
from imagesmith.runtime.tiling import STRIP_BYTES, TilePlan

_WORKSPACE = 1.5
"""What a CPU convolution takes besides its tensors, as a factor: reordered copies that no tensor shows."""
_STRIPS_HELD = 4  # one is computed, one waits, one is written, one may be in both hands
_READ_COPIES = 2  # of the rows that a strip is computed from: as decoded, and put together
_RESERVE_BYTES = 48 << 20  # encoders, decoders, and what the allocator keeps
_SMALLEST_TILE_PX = 1 << 10


@dataclass(frozen=True)
class Limits:
    """Bytes that may be taken: `ram` by this process, `vram` on the accelerator; None is what the machine has."""

    ram: int | None = None
    vram: int | None = None


UNLIMITED = Limits()


def available_memory(root: Path = THE_ROOT) -> int | None:
    """Bytes this process can still take before swapping or being killed, container limits included; None if unknown."""
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


def check_above_held(limit: int) -> None:
    """UsageError for a limit that this process exceeds before it has read a picture."""
    held = resident_memory()
    if limit <= held:
        raise UsageError(
            f"expected {_named('ram', limit)} to be more than the {held / 1e9:.2f} GB that the program and its model "
            "hold\nallow some hundred MB more than that"
        )


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


@dataclass(frozen=True)
class Demand:
    """What restoring a picture takes, in bytes: `per_px` of a tile on `device`, the rest in the machine's memory.

    `held` is what it holds by then and not yet now. `strip_row` is what a row of the input takes in the result,
    `read_row` in a picture that is read row by row, and `decoding` what decoding so many rows takes as have to be
    decoded together, such as a row of a file's own tiles.
    """

    device: torch.device
    per_px: float
    strip_row: int
    read_row: int = 0
    decoding: int = 0
    held: int = 0

    def ram(self, plan: TilePlan) -> float:
        """For tiles of `plan`, strips on their way to the file, and rows on their way from it."""
        tile = self.per_px * plan.largest_px if self.device.type == "cpu" else 0
        read = self.read_row * (plan.tallest + 2 * plan.halo)
        read = _READ_COPIES * read + self.decoding
        return self.held + tile + _STRIPS_HELD * self.strip_row * plan.tallest + read

    def vram(self, plan: TilePlan) -> float:
        """For the tiles of `plan` on an accelerator."""
        return self.per_px * plan.largest_px


def plan_within(
    limits: Limits,
    cut: Callable[..., TilePlan],
    tile_px: int,
    demand: Demand,
    report: Callable[[str], None],
) -> TilePlan:
    """The largest tiles that keep `limits`, up to those of `tile_px`; `report` is told where a limit made them smaller.

    `cut(area_px=, strip_bytes=)` makes a plan. ImageError where even the smallest tiles do not keep a limit.
    """
    halvings = range(max(1, (tile_px // _SMALLEST_TILE_PX).bit_length()))
    plans = [cut(area_px=tile_px >> k, strip_bytes=STRIP_BYTES >> k) for k in halvings]
    usual = plans[0]
    if limits.ram is not None:
        room = limits.ram - resident_memory() - _RESERVE_BYTES
        if demand.device.type == "cpu" and demand.ram(usual) + HOLES_BYTES > room:
            keep_nothing()
            room = limits.ram - resident_memory() - _RESERVE_BYTES
        plans = _from_first_within(plans, demand.ram, room, _named("ram", limits.ram))
    if limits.vram is not None and demand.device.type == "cuda":
        room = limits.vram - torch.cuda.memory_allocated(demand.device)
        plans = _from_first_within(plans, demand.vram, room, _named("vram", limits.vram))
    if plans[0] != usual:
        kept = " and ".join(_named(kind, size) for kind, size in vars(limits).items() if size is not None)
        report(f"tiles of {plans[0].tile_size} instead of {usual.tile_size} keep within {kept}")
    return plans[0]


def _named(kind: str, size: int) -> str:
    return f"--max-{kind} {size / 1e9:g} GB"


def _from_first_within(
    plans: list[TilePlan], cost: Callable[[TilePlan], float], room: int, limit: str
) -> list[TilePlan]:
    """`plans`, ever smaller tiles, without those that cost more than `room`; ImageError if none is left."""
    fitting = [plan for plan in plans if cost(plan) <= room]
    if fitting:
        return plans[plans.index(fitting[0]) :]
    lacking = (min(map(cost, plans)) - room) / 1e9
    raise ImageError(
        f"{limit} cannot be kept: {lacking:.2f} GB more are needed, even in tiles of {plans[-1].tile_size}\n"
        "raise the limit, or choose a smaller --tile if you chose one"
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
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    free = (
        _free_of_group(folder, *(second if is_second else first))
        for folder, is_second in control_groups("memory", root)
    )
    return [limit for limit in free if limit is not None]


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
