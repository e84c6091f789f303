"""The section of docs/numbers.md on whole commands: what bulk.py, startup.py, gigapixel.py and memory.py measured."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pages import by_machine, machine, precision, result_of, table

ASKED_BULK = {("small", "pool"): 2.5}
"""How many times as fast as the script, by kind of pictures and way."""
ASKED_STARTUP = {"imagesmith --help": 0.3, "imagesmith restore, 64x64": 4.0}
"""Seconds at most."""
ASKED_GIGAPIXEL = 1e9
"""Resident bytes at most."""


def commands_section(results: Path) -> list[str]:
    """What was measured of whole commands, as far as it was."""
    parts: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "bulk": _bulk,
        "startup": _startup,
        "gigapixel": _gigapixel,
        "memory": _memory,
    }
    found = ((describe, result_of(results / f"{name}.json")) for name, describe in parts.items())
    text = [line for describe, result in found if result for line in describe(result)]
    return ["", "## Whole commands", *text] if text else []


def _bulk(result: dict[str, Any]) -> list[str]:
    text = [
        "",
        "Many pictures, folder to folder, in fresh processes that take turns: a pool of processes, one process, Ray on "
        "this machine alone, and the plain float32 script with the same weights. Pictures a second are counted after "
        "the start, and apart is the largest difference from the script in grey levels.",
    ]
    headings = ("pictures", "way", "seconds", "times the script's rate", "asked", "pictures/s", "cores busy", "apart")
    for where, measured in by_machine(result["rows"]).items():
        arithmetic = ", ".join(dict.fromkeys(precision(found["stages"]["runtime"]) for found in measured))
        rows = [row for found in measured for row in _bulk_rows(found["model"], found)]
        text += ["", f"On {where}, {arithmetic}:", "", *table(rows, headings)]
    return text


def _bulk_rows(model: str, found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    whats = found["what"].partition(",")[0].split(" and ")
    for kind, what in zip(("small", "large"), whats, strict=True):
        for way, numbers in found[kind].items():
            busy, rate = numbers["cores_busy"], numbers["pictures_per_second_after_start"]
            asked = ASKED_BULK.get((kind, way))
            yield (
                f"{what}, {model}",
                way,
                _seconds(numbers["whole"]),
                f"**{numbers['speedup']:.2f}**",
                "" if asked is None else f"at least {asked:g}",
                "" if rate is None else f"{rate:.2f}",
                "" if busy is None else f"{busy:.0%}",
                f"{numbers['difference_from_script']['max']}" if "difference_from_script" in numbers else "",
            )


def _seconds(spread: dict[str, float]) -> str:
    """The median, and of how many runs."""
    rounds = f"{spread['rounds']} runs" if spread["rounds"] > 1 else "one run"
    return f"{spread['median']:.1f} ({rounds})"


def _startup(result: dict[str, Any]) -> list[str]:
    rows = [
        (f"`{name}`", f"**{1e3 * spread['median']:.0f}**", f"at most {1e3 * ASKED_STARTUP[name]:.0f}")
        if name in ASKED_STARTUP
        else (f"`{name}`", f"{1e3 * spread['median']:.0f}", "")
        for name, spread in result["results"].items()
    ]
    where = machine(result["environment"])
    return ["", f"Start-up, on {where}.", "", *table(rows, ("whole process", "median ms", "asked"))]


def _gigapixel(result: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"{name.split()[1]}, {'x'.join(map(str, found['input']))} to {'x'.join(map(str, found['output']))}",
            f"{found['seconds']:.0f}",
            f"**{found['peak_bytes'] / 1e9:.2f}**",
            f"under {ASKED_GIGAPIXEL / 1e9:g}",
            f"{found['sampled_peak_bytes'] / 1e9:.2f}",
            f"{found['second_half_growth_bytes'] / 1e9:.2f}",
            f"{found['largest_difference']}",
            f"{machine(found['environment'])}, load {found['environment']['load_before']:.0f}",
        )
        for name, found in result["results"].items()
    ]
    headings = ("picture", "seconds", "GB at most", "asked", "sampled", "grown in the second half", "apart", "where")
    return [
        "",
        "Pictures larger than memory, TIFF to TIFF: resident memory as the system tells it and as sampled ten times a "
        "second; apart is the largest difference in grey levels between a band of the result and the same band "
        "restored in memory. Seconds say little where other work ran beside it (load).",
        "",
        *table(rows, headings),
    ]


def _memory(result: dict[str, Any]) -> list[str]:
    formats = ", ".join(
        f"{name.upper()} **{found['peak_gb']:.2f} GB** in {found['seconds']:.0f} s"
        for name, found in result.items()
        if isinstance(found, dict) and "peak_gb" in found
    )
    return ["", f"Resident memory at most, {result['what']}, on {machine(result['environment'])}: {formats}."]
