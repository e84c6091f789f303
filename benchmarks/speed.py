"""Measure what is claimed about speed, and what the machine would allow.

    python benchmarks/speed.py [--only pictures training startup] [--models sr-x4 ...] [--sides 256 ...] [--threads 2]

pictures: every network and size from file to file and from pixels to pixels, in turns with the plain float32 script,
the tile loop of the Real-ESRGAN kind, torch.compile, ONNX Runtime and OpenVINO (where installed), and with its own bare
convolutions. training: a step of DCGAN beside PyTorch's example, of sr-x4 and of rpgan, and how long they wait for
data. startup: what startup.py does. Every part is written to results/speed.json as soon as it is there, with its own
environment; the others are kept, and those of another instruction set as well. Writes docs/numbers.md.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import startup
from contender import WAYS
from numbers_page import DOCS, write_numbers
from speed_pictures import Setting, measure, report
from speed_training import TRAININGS
from timing import HERE, RESULTS, environment, instruction_set, replaced, save

from imagesmith.zoo import load_model

PARTS = ("pictures", "training", "startup")
MODELS = ("sr-x4", "sr-x2", "denoise", "jpeg")
SIDES = (256, 512, 1024)

UNEQUAL = {
    "deblur": "ours finds the kernel of the blur in the picture, the script would be given none",
    "inpaint": "it needs a mask, and the script has none",
}
"""Tasks whose networks do other work in the plain script, and why."""


class Results:
    """results/speed.json, written anew after everything that is added."""

    def __init__(self, folder: Path) -> None:
        path = folder / "speed.json"
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._folder = folder

    def add(self, part: str, row: dict[str, Any], started: dict[str, Any]) -> None:
        """Replace the row of `part` in the same place; the others keep the environment that they began in."""
        place = PLACES[part]
        rows = replaced(self.values.get(part, {}).get("rows", []), [{"environment": started, **row}], place)
        self.values[part] = {"rows": sorted(rows, key=place)}
        save("speed", self.values, self._folder)


PLACES: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
    "pictures": lambda row: (row["device"], row["model"], row["side"], instruction_set(row)),
    "training": lambda row: (row["dcgan"]["device"], instruction_set(row)),
}
"""By part, what no two rows have in common."""


def measured_by(command: list[str], threads: int) -> dict[str, Any]:
    """The JSON that a script of this folder prints."""
    done = subprocess.run(
        [sys.executable, str(HERE / command[0]), *command[1:], "--threads", str(threads)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}")
    return json.loads(done.stdout[done.stdout.index("{") :])


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """DCGAN's step beside the example's, then the other trainings."""
    rounds = str(options.rounds)
    dcgan = ["dcgan_step.py", "--json", "--curve-steps", "0", "--device", options.device, "--rounds", rounds]
    changes = ["--set", f"run.device={options.device}", *(word for change in options.set for word in ("--set", change))]
    return {"dcgan": measured_by(dcgan, options.threads)} | {
        name: measured_by(["speed_training.py", name, "--steps", str(options.steps), *changes], options.threads)
        for name in TRAININGS
    }


def report_training(result: dict[str, Any]) -> None:
    """A line for each training."""
    dcgan = result["dcgan"]
    print(
        f"dcgan: {1e3 * dcgan['seconds']['ours']['median']:.0f} ms a step, {dcgan['speedup']} times the example's rate"
    )
    for name in TRAININGS:
        found = result[name]
        print(
            f"{name}: {1e3 * found['step_seconds']['median']:.0f} ms a step of {found['batch']}, "
            f"{found['percent_waiting_for_data']} % of it waiting for data"
        )


def check_comparable(models: Iterable[str]) -> None:
    """End the program where the plain script would not do the same work with a model."""
    for model in models:
        if reason := UNEQUAL.get(load_model(model).card.task):
            sys.exit(
                f"expected models that the plain script can use, got '{model}': {reason}; leave it out of --models"
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    parser.add_argument(
        "--models",
        nargs="+",
        default=MODELS,
        help="shipped names or weight files, for pictures; none that the plain script cannot use",
    )
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES, help="of square pictures in pixels")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS), help="of restoring")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of our restoring")
    parser.add_argument("--tile", type=int, default=256, help="of the tile loop")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30, help="of the trainings but DCGAN's")
    parser.add_argument("--set", action="append", default=[], help="change the trainings, as in `imagesmith train`")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of numbers.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if "pictures" in options.only:
        check_comparable(options.models)
    results = Results(options.results)
    for model, side in itertools.product(options.models, options.sides) if "pictures" in options.only else ():
        started = environment(options.threads)
        row = measure(
            Setting(
                model,
                side,
                ways=options.ways,
                device=options.device,
                dtype=options.dtype,
                threads=options.threads,
                tile=options.tile,
                rounds=options.rounds,
            )
        )
        report(row)
        results.add("pictures", row, started)
    if "training" in options.only:
        started = environment(options.threads)
        found = measure_training(options)
        report_training(found)
        results.add("training", found, started)
    if "startup" in options.only:
        startup.record(options.rounds, options.results)
    write_numbers(options.docs, options.results)


if __name__ == "__main__":
    main()
