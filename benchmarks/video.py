"""Measure what is claimed about films: quality, speed, memory, timestamps, and that a kill costs nothing.

    python benchmarks/video.py --data FOLDER [--only quality speed memory timestamps kill] [--frames 60]

FOLDER holds the clips calendar (of Vid4), driving_lane.mp4 and bikes.mp4, somewhere. Every part, and every row of the
quality, is written to results/video.json as soon as it is there, with its own environment; a second call goes on with
the rows that are missing or whose weights have changed. Writes docs/numbers.md. Models that are not shipped are left
out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from numbers_page import DOCS, write_numbers
from timing import RESULTS, environment, save
from video_quality import CLIPS, FRAMES, GROUPS, Row, measure_quality
from video_runs import RUNS, THREADS, run

QUALITY = "quality"


class Results:
    """results/video.json, written anew after everything that is added."""

    def __init__(self, folder: Path) -> None:
        path = folder / "video.json"
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._folder = folder

    @property
    def rows(self) -> list[Row]:
        """The rows of the quality."""
        return self.values.get(QUALITY, {}).get("rows", [])

    def add_row(self, row: Row) -> None:
        """Replace the row of the same clip, degradation and subject."""
        own = [row[key] for key in ("clip", "degrade", "subject")]
        others = [other for other in self.rows if [other[key] for key in ("clip", "degrade", "subject")] != own]
        self.add(QUALITY, {"rows": sorted([*others, row], key=_place)})
        print(f"{' '.join(own)}: " + ", ".join(f"{name} {value:.4g}" for name, value in row["scores"].items()))

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Replace what was measured of one part."""
        self.values[name] = {"environment": environment(THREADS), **result}
        save("video", self.values, self._folder)


def _place(row: Row) -> tuple[int, ...]:
    degradations, subjects = GROUPS[row["task"]]
    names = [subject.name for subject in subjects]
    order = ([*GROUPS], row["task"]), (degradations, row["degrade"]), (CLIPS, row["clip"]), (names, row["subject"])
    return tuple(known.index(value) for known, value in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the clips, for the quality")
    parser.add_argument("--only", nargs="+", choices=[QUALITY, *RUNS], default=[QUALITY, *RUNS], help="these parts")
    parser.add_argument("--model", default="vsr-x4", help="of all but the quality: shipped name or weight file")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each clip, for the quality")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of numbers.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    if QUALITY in options.only and options.data is None:
        parser.error("expected --data FOLDER for the quality; or name other parts with --only")
    results = Results(options.results)
    for name in options.only:
        if name == QUALITY:
            print(
                "quality: 22 rows for each of 3 clips; about 40 minutes on 2 quiet cores, --frames 15 a quarter",
                flush=True,
            )
            measure_quality(options.data, results.rows, results.add_row, options.frames)
            continue
        print(f"{name}: {RUNS[name][1]}", flush=True)
        results.add(name, run(name, options.model))
    write_numbers(options.docs, options.results)


if __name__ == "__main__":
    main()
