"""100 million pictures on many machines, computed from what was measured on one: stages, limits, failures, cost.

    python benchmarks/scale_plan.py [--model denoise] [--write docs/scale.md]

Nothing here ran at that size. Rates of a core are measured by `bulk.py` (results/bulk.json), those of a GPU by
`gpu_speed.py` where there is a result of the model; rates of storage, network and services,
prices and failures are the constants below, each with its source or marked as an assumption to be replaced by yours.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import machine, precision, result_of, table
from timing import RESULTS, rows_of

MODEL = "denoise"
PICTURES = 100_000_000
FLEETS = (64, 512, 4096)
"""Cores for which the time is told."""

SERVER_BYTES = 10e9 / 8
"""Bytes a second of one file server: the line rate of 10 Gbit/s Ethernet (IEEE 802.3ae)."""
METADATA_RATE = 10_000
"""Opens, creations and renames a second of one metadata server. Assumption: measure yours, for example with mdtest."""
METADATA_PER_PICTURE = 6
"""Opening the input twice (digest, picture), creating, renaming, reading back for its digest, and the manifest."""
LOCK_TRIPS, TRIP_SECONDS = 4, 0.5e-3
"""A line of a manifest on a network file system: lock, look, write, unlock. Assumption: half a millisecond each."""
LEDGER_RATE = 5_000
"""Calls a second that one Ray actor answers. Assumption, by the order of Ray's own microbenchmarks."""
LEDGER_CALLS = 2
"""Calls for a picture: begin and end."""
COMMAND_RATE = 2_700
"""Pictures a second that the commanding process lists, plans and collects in its one thread, in a resumed run of
100,000 pictures that others restored; measured on a core of an AVX2 processor."""
DRIVER_BYTES = 3_700
"""Memory of the commanding process for one picture at the end of a resumed run, by tracemalloc with 100,000 entries of
a manifest: what was found, its job, where its result goes, Ray's row, its result; a test measures it."""
ACTOR_BYTES = 2_150
"""Memory of each process that restores, for one picture of the run: all places and manifest entries; likewise."""
DRIVER_MEMORY = 16e9
"""Bytes that this process may take. Assumption."""

MACHINE_CORES = 32
FAILURES_PER_MACHINE_HOUR = 8 * 419 / (54 * 24 * 16_384)
"""419 unexpected interruptions in 54 days on 16,384 GPUs, eight in a machine (Dubey et al. 2024, arXiv 2407.21783)."""
REDONE = 8
"""Pictures that a lost process had in hand: a task of `infer/bulk/ray_engine.py`."""
BROKEN_SHARE = 1e-4
"""Input files that no program opens. Assumption."""
DOLLARS_PER_CORE_HOUR, DOLLARS_PER_GPU_HOUR = 0.045, 2.5
"""Assumption: the order of list prices on demand; reserved or interruptible machines cost a third of it."""
DOLLARS_PER_GIGABYTE_MONTH = 0.08
"""Of a network file system on solid state. Assumption."""

BEGIN, END = "<!-- scale_plan.py begins -->", "<!-- scale_plan.py ends -->"


@dataclass(frozen=True)
class Limit:
    """Something that all cores share: the pictures a second that it bears, and what helps when it is reached."""

    name: str
    rate: float
    helps: str


def limits(stages: dict[str, Any]) -> list[Limit]:
    """What breaks, in the order in which it does as cores are added."""
    shards = "split the pictures into folders, one command each: every folder has a manifest, every command a ledger"
    every = [
        Limit("file server, reading", SERVER_BYTES / stages["bytes_in"], "more servers, or a striped file system"),
        Limit("file server, writing", SERVER_BYTES / stages["bytes_out"], "more servers, or `-f webp`, `-f jpg`"),
        Limit("metadata server", METADATA_RATE / METADATA_PER_PICTURE, "several, or archives (zip) as inputs"),
        Limit("one manifest", 1 / (LOCK_TRIPS * TRIP_SECONDS), shards),
        Limit("ledger of one command", LEDGER_RATE / LEDGER_CALLS, shards),
        Limit("commanding process, one thread", COMMAND_RATE, shards),
    ]
    return sorted(every, key=lambda limit: limit.rate)


def core_rate(measured: dict[str, Any]) -> float:
    """Pictures a second of one core, all stages together, in the pool."""
    rate = measured["small"]["pool"]["pictures_per_second_after_start"]
    return rate / measured["environment"]["threads"] if rate else 1 / sum(measured["stages"]["seconds"].values())


def plan(measured: dict[str, Any], on_gpu: dict[str, Any] | None) -> list[str]:
    """The page's part in Markdown, from a row of bulk.py and, where there is one, gpu_speed.py's of the same model."""
    stages, rate = measured["stages"], core_rate(measured)
    hours = PICTURES / rate / 3600
    text = [
        f"{PICTURES / 1e6:.0f} million pictures of {stages['pixels_in'] / 1e6:.3f} megapixels with "
        f"`{measured['model']}` on {machine(measured['environment'])}, {precision(stages['runtime'])}: {rate:.2f} "
        f"pictures a second and core, **{hours:,.0f} core hours**.",
        "",
        *table(_stage_rows(stages, rate), ("stage", "one core, pictures/s", "core hours", "share")),
        "",
        *table(_limit_rows(limits(stages), rate), ("shared by all", "bears, pictures/s", "full at", "then")),
        "",
        _first(limits(stages), rate),
        "",
        *table(_fleet_rows(hours, limits(stages), rate), ("cores", "days", "machines lost", "redone", "cost")),
        "",
        f"Kept for a month, {PICTURES * stages['bytes_out'] / 1e12:.1f} TB of results cost "
        f"${PICTURES * stages['bytes_out'] / 1e9 * DOLLARS_PER_GIGABYTE_MONTH:,.0f}. About "
        f"{PICTURES * BROKEN_SHARE:,.0f} files will not open; each is a line with its reason, and stops no run. "
        f"The commanding process takes {DRIVER_BYTES / 1e3:.1f} kB for a picture: at most "
        f"{DRIVER_MEMORY / DRIVER_BYTES / 1e6:.1f} million pictures for one command in {DRIVER_MEMORY / 1e9:.0f} GB, "
        f"{math.ceil(PICTURES * DRIVER_BYTES / DRIVER_MEMORY)} commands for all. Each core's process holds a copy of "
        f"the places, {ACTOR_BYTES / 1e3:.2f} kB for a picture: "
        f"{DRIVER_MEMORY / DRIVER_BYTES * ACTOR_BYTES / 1e9:.1f} GB a core at that number, so more and smaller folders "
        "are cheaper.",
    ]
    if on_gpu:
        first = limits(stages)[0]
        rate = on_gpu["pixels"] / on_gpu["seconds"]["ours"]["median"] / stages["pixels_in"]
        gpu_hours = PICTURES / rate / 3600
        text += [
            "",
            f"One {on_gpu['device']} makes {rate * stages['pixels_in'] / 1e6:,.0f} megapixels a second of larger "
            "pictures, from memory to memory. At that rate, which pictures as small as these do not reach by "
            f"themselves, it would make {rate:,.0f} of them: {gpu_hours:,.0f} GPU hours, "
            f"${gpu_hours * DOLLARS_PER_GPU_HOUR:,.0f}, and **{rate / _feeding(stages):.0f} cores that decode and "
            f"encode for it**. First to break: {first.name}, {rate / first.rate:.0f} times over.",
        ]
    return text


def _feeding(stages: dict[str, Any]) -> float:
    """Pictures a second of a core that does all but the network."""
    return 1 / sum(seconds for stage, seconds in stages["seconds"].items() if stage != "network")


def _stage_rows(stages: dict[str, Any], rate: float) -> list[tuple[str, ...]]:
    whole = sum(stages["seconds"].values())
    return [
        (stage, f"{1 / seconds:,.1f}", f"{PICTURES / rate / 3600 * seconds / whole:,.0f}", f"{seconds / whole:.1%}")
        for stage, seconds in stages["seconds"].items()
    ]


def _limit_rows(limits: list[Limit], rate: float) -> list[tuple[str, ...]]:
    return [(one.name, f"{one.rate:,.0f}", f"{one.rate / rate:,.0f} cores", one.helps) for one in limits]


def _first(limits: list[Limit], rate: float) -> str:
    first, second = limits[:2]
    return (
        f"**First to break: {first.name}**, at {first.rate / rate:,.0f} cores; after that {second.name}, at "
        f"{second.rate / rate:,.0f}."
    )


def _fleet_rows(hours: float, limits: list[Limit], rate: float) -> list[tuple[str, ...]]:
    """Fleets with as many manifests, servers and commands as they need."""
    rows = []
    for cores in FLEETS:
        wall = hours / cores
        lost = wall * cores / MACHINE_CORES * FAILURES_PER_MACHINE_HOUR
        parts = max(1, -(-cores * rate // limits[0].rate))
        rows.append(
            (
                f"{cores:,}" + (f" ({parts:.0f} times the first to break)" if parts > 1 else ""),
                f"{wall / 24:,.1f}",
                f"{lost:.2g}",
                f"{lost * MACHINE_CORES * REDONE:,.0f} pictures",
                f"${hours * DOLLARS_PER_CORE_HOUR:,.0f}",
            )
        )
    return rows


def page(results: Path, model: str = MODEL) -> str:
    """The page's part from the results in this folder, on the fastest processor of those measured."""
    measured = max((row for row in rows_of("bulk", results) if row["model"] == model), key=core_rate)
    return "\n".join(plan(measured, result_of(results / f"gpu_speed_{model}.json")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="one that bulk.py measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what was measured")
    parser.add_argument("--write", type=Path, help=f"put it into this page, between {BEGIN} and {END}")
    options = parser.parse_args()
    text = page(options.results, options.model)
    if options.write is None:
        print(text)
        return
    before, rest = options.write.read_text().split(BEGIN)
    options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
