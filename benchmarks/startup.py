"""How long `imagesmith --help` takes, in turns with an interpreter that does nothing.

python benchmarks/startup.py [--rounds 20]
"""

import argparse
import functools
import subprocess
import sys
from pathlib import Path

from timing import RESULTS, environment, save, spread, take_turns

COMMANDS = {
    "imagesmith --help": [str(Path(sys.executable).with_name("imagesmith")), "--help"],
    "imagesmith models list": [str(Path(sys.executable).with_name("imagesmith")), "models", "list"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = environment()
    seconds = take_turns(
        {name: functools.partial(run, command) for name, command in COMMANDS.items()}, rounds=options.rounds, warm_up=2
    )
    spreads = {name: spread(values) for name, values in seconds.items()}
    for name, values in spreads.items():
        print(f"{name:24} {1000 * values['median']:6.0f} ms")
    save(
        "startup", {"what": "wall time of a whole process", "environment": before, "results": spreads}, options.results
    )


if __name__ == "__main__":
    main()
