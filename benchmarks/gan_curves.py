"""The curves of docs/gan.md: how far runs of the same minutes are from their pictures, over these minutes.

    python benchmarks/gan_curves.py docs/images/gan-hour.png --minutes 60 dcgan=RUN rpgan=RUN

Draws every validation of the run folders, or of what `experiments` keeps of them; NAME=RUN gives each its name.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from imagesmith.data.grid import Panel, draw_curves

VALUES = {
    "fd_cifarcnn": ("fd", "Frechet distance, cifarcnn (log)"),
    "coverage": ("cov", "share of reals with a fake nearby"),
}
"""Short name and title of what is drawn of each validation."""


def validations(name: str, folder: Path, minutes: float) -> list[dict[str, float | None]]:
    """What a run found at each validation, as 'NAME fd' and 'NAME cov', and the minute of it."""
    lines = (folder / "history.jsonl").read_text().splitlines()
    found = [row for row in map(json.loads, lines) if "validation/fd_cifarcnn" in row]
    last = found[-1]["images_seen"]
    return [
        {"minutes": minutes * row["images_seen"] / last}
        | {f"{name} {short}": row.get(f"validation/{value}") for value, (short, _) in VALUES.items()}
        for row in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--minutes", type=float, required=True, help="how long each run took")
    options = parser.parse_args()
    runs = dict(run.split("=", 1) for run in options.runs)
    rows = [row for name, folder in runs.items() for row in validations(name, Path(folder), options.minutes)]
    panels = [
        Panel(title, tuple(f"{name} {short}" for name in runs), logarithmic=short == "fd")
        for short, title in VALUES.values()
    ]
    picture = draw_curves(rows, panels, x="minutes")
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(options.out)


if __name__ == "__main__":
    main()
