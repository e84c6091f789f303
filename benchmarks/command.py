"""The whole command: photographs of 500x500 in a folder, against the script that a user would write.

    python benchmarks/command.py [--model NAME|FILE] [--photos 24] [--rounds 5]

Both run in fresh processes, in turns. A second measurement with one photograph tells what starting costs, so that the
seconds of a photograph are given with and without it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from timing import (
    HERE,
    PHOTOS,
    RESULTS,
    environment,
    instruction_set,
    photo_folder,
    replaced,
    rows_of,
    save,
    spread,
    take_turns,
)

SIDE = 500
COMMAND = Path(sys.executable).with_name("imagesmith")


def draw_photos(folder: Path, count: int, side: int = SIDE) -> None:
    """`count` different PNG crops of `side` x `side` from real colour photographs, enlarged where they are smaller."""
    rng = np.random.default_rng(0)
    for k in range(count):
        photo = Image.open(photo_folder() / PHOTOS[k % len(PHOTOS)]).convert("RGB")
        enlarge = max(1.0, side / min(photo.size)) * rng.uniform(1, 1.2)
        photo = photo.resize([round(length * enlarge) for length in photo.size], Image.Resampling.LANCZOS)
        left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
        photo.crop((left, top, left + side, top + side)).save(folder / f"{k:02d}.png")


def runner(command: list[str], source: Path, destination: Path, threads: int) -> Callable[[], None]:
    """A call that runs `command` on an emptied `destination`, with `threads` for whatever computes in it."""

    def run() -> None:
        shutil.rmtree(destination, ignore_errors=True)
        destination.mkdir()
        filled = [str({"IN": source, "OUT": destination}.get(word, word)) for word in command]
        done = subprocess.run(
            filled, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")

    return run


def difference(first: Path, second: Path) -> dict[str, float]:
    """How far the two results are apart, in grey levels: both have to have done the same work."""
    largest, means = [], []
    for path in sorted(first.glob("*.png")):
        ours, theirs = (np.array(Image.open(folder / path.name), dtype=np.int16) for folder in (first, second))
        apart = np.abs(ours - theirs)
        largest.append(int(apart.max()))
        means.append(float(apart.mean()))
    return {"pictures": len(means), "max": max(largest), "mean": round(statistics.mean(means), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sr-x4", help="shipped name, weight file or run folder")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    if options.photos < 2:
        parser.error(f"expected --photos 2 or more, got {options.photos}; one alone is measured beside them anyway")
    commands = {
        "imagesmith restore": [str(COMMAND), "restore", "IN", "-o", "OUT", "-n", options.model],
        "imagesmith restore --dtype fp32": [
            str(COMMAND),
            "restore",
            "IN",
            "-o",
            "OUT",
            "-n",
            options.model,
            "--dtype",
            "fp32",
        ],
        "script": [sys.executable, str(HERE / "straightforward.py"), options.model, "IN", "OUT"],
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        candidates, outputs = {}, {}
        for count in (options.photos, 1):
            (source := work / f"in{count}").mkdir()
            draw_photos(source, count)
            for k, (title, command) in enumerate(commands.items()):
                outputs[title, count] = work / f"out{count}-{k}"
                candidates[title, count] = runner(command, source, outputs[title, count], options.threads)
        before = environment(options.threads)
        seconds = take_turns(candidates, rounds=options.rounds, warm_up=1)
        result = summary(options.photos, {key: spread(values) for key, values in seconds.items()}, list(commands))
        for title in list(commands)[:-1]:
            result[title]["difference_from_script"] = difference(
                outputs[title, options.photos], outputs["script", options.photos]
            )
        for title in commands:
            result[title]["megabytes_written"] = round(
                sum(path.stat().st_size for path in outputs[title, options.photos].glob("*.png")) / 1e6, 1
            )
    for title, numbers in result.items():
        print(f"{title:32} {numbers['whole']['median']:7.1f} s, {numbers['speedup']:.2f} times the script")
        print(f"{'  without start-up':32} {numbers['seconds_per_photo']:7.2f} s a photograph, "
              f"{numbers['speedup_without_start']:.2f} times the script")  # fmt: skip
    what = f"{options.photos} photographs of {SIDE}x{SIDE}, {Path(options.model).name}"
    row = {"what": what, "environment": before, "results": result}
    rows = replaced(rows_of("command", options.results), [row], lambda row: (row["what"], instruction_set(row)))
    save("command", {"rows": rows}, options.results)


def summary(photos: int, spreads: dict, titles: list[str]) -> dict[str, dict]:
    """By command: the spreads, seconds a photograph without start-up, and how many times faster than the script."""

    def per_photo(title: str) -> float:
        return (spreads[title, photos]["median"] - spreads[title, 1]["median"]) / (photos - 1)

    return {
        title: {
            "whole": spreads[title, photos],
            "one_photo": spreads[title, 1],
            "seconds_per_photo": round(per_photo(title), 4),
            "speedup": round(spreads["script", photos]["median"] / spreads[title, photos]["median"], 3),
            "speedup_without_start": round(per_photo("script") / per_photo(title), 3),
        }
        for title in titles
    }


if __name__ == "__main__":
    main()
