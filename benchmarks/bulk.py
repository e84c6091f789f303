"""A folder of many small pictures, and one of a few large ones: ours against the script that a user would write.

    python benchmarks/bulk.py [--models NAME ...] [--count 1000] [--large-count 20] [--large-side 1500] [--rounds 3]

Whole commands in fresh processes, in turns, from folder to folder: a pool of processes (`--workers N`), one process
(`--workers 1`), Ray (`--engine ray`, where it is installed) and `straightforward.py`. Runs with a few pictures tell
what starting costs. The stages of one picture on one core, for `scale_plan.py`, are timed in this process.
"""

import argparse
import importlib.util
import io
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from command import COMMAND, difference, draw_photos, runner
from timing import HERE, RESULTS, environment, instruction_set, replaced, rows_of, save, spread, take_turns

from imagesmith import Restorer
from imagesmith.atomic import write_whole
from imagesmith.data.files import read_image, write_image

MODELS = ("denoise", "sr-x2")
"""Those of which docs/numbers.md and docs/scale.md tell."""
SIDE = 256
FEW = 8
"""Pictures of the run that tells what starting costs."""
SCRIPT = "script"
POOL, ALONE, RAY = "pool", "one process", "ray"
STAGES = ("read", "decode", "network", "encode", "write")
Folders = tuple[Path, Path]
"""Pictures that take part, and only a few of them."""


class Metered:
    """A call that keeps the processor seconds of the processes that it started and waited for."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.seconds: list[float] = []

    def __call__(self) -> None:
        before = _seconds_of_children()
        self._call()
        self.seconds.append(_seconds_of_children() - before)


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commands(model: str, ways: list[str], workers: int) -> dict[str, list[str]]:
    """The command of each way; IN and OUT stand for the folders."""
    ours = [str(COMMAND), "restore", "IN", "-o", "OUT", "-n", model, "--device", "cpu", "-q"]
    every = {
        POOL: [*ours, "--workers", str(workers)],
        ALONE: [*ours, "--workers", "1"],
        RAY: [*ours, "--engine", "ray"],
        SCRIPT: [sys.executable, str(HERE / "straightforward.py"), model, "IN", "OUT"],
    }
    return {way: every[way] for way in ways}


def compare(model: str, ways: list[str], folders: Folders, *, work: Path, threads: int, rounds: int) -> dict[str, Any]:
    """By way: seconds of the whole and of a few, pictures a second after the start, and how busy the cores were."""
    many, few = folders
    calls: dict[str, Metered] = {}
    for way, command in commands(model, ways, threads).items():
        for folder in folders:
            out = work / f"{folder.name}-{way}".replace(" ", "-")
            calls[f"{folder.name}/{way}"] = Metered(runner(command, folder, out, threads))
    seconds = take_turns(calls, rounds=rounds, warm_up=0)
    result: dict[str, Any] = {}
    for way in ways:
        whole, start = seconds[f"{many.name}/{way}"], seconds[f"{few.name}/{way}"]
        result[way] = {
            "whole": spread(whole),
            "few": spread(start),
            "pictures_per_second_after_start": _after_start(whole, start, *map(_count, folders)),
            "cores_busy": None if way == RAY else _busy(calls[f"{many.name}/{way}"].seconds, whole, threads),
        }
    for way in ways:
        result[way]["speedup"] = round(result[SCRIPT]["whole"]["median"] / result[way]["whole"]["median"], 3)
        if way != SCRIPT:
            outs = [work / f"{many.name}-{one}".replace(" ", "-") for one in (way, SCRIPT)]
            result[way]["difference_from_script"] = difference(*outs)
    return result


def _after_start(whole: list[float], start: list[float], many: int, few: int) -> float | None:
    """None where the machine was too unquiet to tell the two apart."""
    took = statistics.median(whole) - statistics.median(start)
    return round((many - few) / took, 4) if took > 0 else None


def _busy(processor: list[float], wall: list[float], cores: int) -> float:
    return round(statistics.median(used / (took * cores) for used, took in zip(processor, wall, strict=True)), 4)


def _count(folder: Path) -> int:
    return len(list(folder.iterdir()))


@torch.inference_mode()
def stages(model: str, folder: Path, work: Path) -> dict[str, Any]:
    """Median seconds of each stage of one picture on one core, with bytes and pixels that go in and come out."""
    torch.set_num_threads(1)
    restorer = Restorer.load(model, device="cpu")
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    sizes: list[tuple[int, int]] = []
    for number, path in enumerate(sorted(folder.iterdir())):
        content = _timed(times["read"], path.read_bytes)
        frame = _timed(times["decode"], partial(read_image, content))
        restored = _timed(times["network"], partial(restorer.frame, frame))
        encoded = io.BytesIO()
        _timed(times["encode"], partial(write_image, restored, encoded, format="png"))
        _timed(times["write"], partial(write_whole, work / f"{number}.png", encoded.getvalue()))
        sizes.append((len(content), len(encoded.getvalue())))
    return {
        "seconds": {stage: round(statistics.median(values[1:] or values), 6) for stage, values in times.items()},
        "bytes_in": round(statistics.mean(before for before, _ in sizes)),
        "bytes_out": round(statistics.mean(after for _, after in sizes)),
        "pixels_in": frame.pixels.shape[0] * frame.pixels.shape[1],
        "runtime": str(restorer.runtime),
    }


def _timed(seconds: list[float], call: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = call()
    seconds.append(time.perf_counter() - start)
    return result


def _folders(work: Path, name: str, count: int, side: int) -> Folders:
    """`count` pictures, and the first few of them, in folders of their own."""
    many, few = work / name, work / f"{name}-few"
    for folder in (many, few):
        folder.mkdir()
    draw_photos(many, count, side)
    for path in sorted(many.iterdir())[: min(FEW, max(1, count // 4))]:
        (few / path.name).hardlink_to(path)
    return many, few


def place(row: dict[str, Any]) -> tuple[str, str]:
    """What no two rows of bulk.json have in common."""
    return row["model"], instruction_set(row)


def show(what: str, ways: Mapping[str, Mapping[str, Any]]) -> None:
    for way, numbers in ways.items():
        busy = numbers["cores_busy"]
        print(
            f"{what:22} {way:12} {numbers['whole']['median']:8.1f} s, {numbers['speedup']:.2f} times the script, "
            f"{numbers['pictures_per_second_after_start']} pictures/s after the start"
            + (f", cores busy {busy:.0%}" if busy is not None else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="shipped names or weight files")
    parser.add_argument("--count", type=int, default=1000, help=f"small pictures, {SIDE}x{SIDE}")
    parser.add_argument("--large-count", type=int, default=20, help="0 leaves them out")
    parser.add_argument("--large-side", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores that may be used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    with_ray = importlib.util.find_spec("ray") is not None and not options.without_ray
    ways = [POOL, ALONE, *([RAY] if with_ray else []), SCRIPT]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        small = _folders(work, "small", options.count, SIDE)
        large = _folders(work, "large", options.large_count, options.large_side)
        for model in options.models:
            label = Path(model).name
            run = partial(compare, model, work=work, threads=options.threads, rounds=options.rounds)
            row = {
                "model": label,
                "what": f"{options.count} photographs of {SIDE}x{SIDE} and {options.large_count} of "
                f"{options.large_side}x{options.large_side}, folder to folder",
                "environment": environment(options.threads),
                "small": run(ways, small),
                "large": run([way for way in ways if way != RAY], large) if options.large_count else {},
                "stages": stages(model, small[1], work),
            }
            show(f"{options.count} small, {label}", row["small"])
            show(f"{options.large_count} large, {label}", row["large"])
            save("bulk", {"rows": replaced(rows_of("bulk", options.results), [row], place)}, options.results)


if __name__ == "__main__":
    main()
