"""How long commands take that have next to nothing to do, in turns with an interpreter that does nothing.

python benchmarks/startup.py [--rounds 20]
"""

import argparse
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from command import COMMAND, draw_photos
from timing import RESULTS, environment, save, spread, take_turns

SIDE, MODEL = 64, ("-n", "sr-x4")


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Spreads by command; the probe of `restore` is remembered by the rounds that are not counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photos(folder, 1, SIDE)
        (photo,) = folder.iterdir()
        commands = {
            "imagesmith --help": [COMMAND, "--help"],
            "imagesmith models list": [COMMAND, "models", "list"],
            f"imagesmith restore, {SIDE}x{SIDE}": [COMMAND, "restore", photo, "-o", folder / "x4.png", "-y", *MODEL],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }  # fmt: skip
        run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        calls = {name: functools.partial(run, list(map(str, command))) for name, command in commands.items()}
        return {name: spread(values) for name, values in take_turns(calls, rounds=rounds, warm_up=2).items()}


def record(rounds: int, folder: Path) -> None:
    """Measure, say and write it."""
    before = environment()
    spreads = measure(rounds)
    for name, values in spreads.items():
        print(f"{name:28} {1000 * values['median']:6.0f} ms")
    save("startup", {"what": "wall time of a whole process", "environment": before, "results": spreads}, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    record(options.rounds, options.results)


if __name__ == "__main__":
    main()
