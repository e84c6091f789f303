"""What the system lets this process have of the machine: its control groups, which containers are, and its cores."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

THE_ROOT = Path("/")
"""The folder that holds proc/ and sys/; another one where the reading of limits is tried out."""


def control_groups(controller: str, root: Path = THE_ROOT) -> Iterator[tuple[Path, bool]]:
    """The folders of this process's groups that may limit 'memory' or 'cpu', inner to outer; whether of version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        is_second = number == "0" and controllers == ""
        if not is_second and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("" if is_second else controller)
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):  # a container may show its own group as the root
            yield mount / group, is_second


def usable_cores(root: Path = THE_ROOT) -> int:
    """Cores that this process may use: of its affinity, and no more than the shares of its groups fill."""
    everywhere = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [_cores_of_group(*group) for group in control_groups("cpu", root)]
    return min([everywhere, *(share for share in shares if share is not None)])


def _cores_of_group(folder: Path, is_second: bool) -> int | None:
    """How many cores the processor time of a group can keep busy, the last one perhaps in part; None: all."""
    try:
        if is_second:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # 'max' is no number either
        return None
    return cores if cores > 0 else None  # version 1 says -1 where nothing is limited
