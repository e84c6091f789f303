"""How every benchmark here measures: candidates take turns in one run, and a result carries its environment."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import skimage

import imagesmith

Candidate = TypeVar("Candidate")

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg")
"""Colour photographs inside the scikit-image package."""


def take_turns(
    candidates: Mapping[Candidate, Callable[[], object]], *, rounds: int, warm_up: int
) -> dict[Candidate, list[float]]:
    """Seconds of every round by candidate.

    In each round every candidate runs once, beginning with another one each time, so that a busy moment of the machine
    or a warm cache falls on all of them alike. The rounds of `warm_up` are not counted.
    """
    names = list(candidates)
    seconds: dict[Candidate, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            candidates[name]()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes, in seconds."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    values = {"median": median, "quartile_1": low, "quartile_3": high, "min": min(seconds), "max": max(seconds)}
    return {name: round(value, 6) for name, value in values.items()} | {"rounds": len(seconds)}


def environment(threads: int | None = None) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    import torch  # here, as it takes a second and most of these programs only start others

    facts = {
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "imagesmith": imagesmith.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return facts | {name: version(name) for name in ("torch", "pillow", "numpy")}


def save(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write strict JSON and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    print(f"written: {path}")
    return path


def rows_of(name: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """What `save` wrote as rows, none where it wrote nothing."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def replaced(
    rows: Iterable[dict[str, Any]], new: Sequence[dict[str, Any]], place: Callable[[dict[str, Any]], object]
) -> list[dict[str, Any]]:
    """`rows` without those in whose place the new ones stand, and these."""
    taken = {place(row) for row in new}
    return [*(row for row in rows if place(row) not in taken), *new]


def instruction_set(row: dict[str, Any]) -> str:
    """That of the processor on which a row was measured; '' where it was not kept, which then had bf16."""
    return row["environment"].get("capability", "")


def photo_folder() -> Path:
    """Where scikit-image keeps the photographs of PHOTOS."""
    return Path(skimage.__file__).parent / "data"


def own_peak_mib() -> float:
    """Of this program alone: what `getrusage` says begins with the memory of the parent."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource  # does not exist on every system

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The short hash of the checked-out commit, with a + where the source tree differs from it.

    'installed ' and the version where the package that is measured is not that of this checkout.
    """
    if HERE.parent not in Path(imagesmith.__file__).parents:
        return f"installed {imagesmith.__version__}"
    head = _git("rev-parse", "--short", "HEAD")
    differs = _git("status", "--porcelain", "--", "../src", "*.py")
    return head + "+" * bool(differs) if head else "unknown"


def _git(*arguments: str) -> str:
    """What git says of this checkout, nothing where it cannot be asked."""
    try:
        return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
