"""Peak resident memory of the whole command on one large photograph.

    python benchmarks/memory.py [--model NAME|FILE] [--megapixels 16]

The operating system keeps the peak of a finished process (VmHWM), so nothing is sampled and nothing missed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from timing import RESULTS, environment, photo_folder, save

COMMAND = Path(sys.executable).with_name("imagesmith")
_LAUNCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
print(process.pid, flush=True)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Started from a process of its own: a new one begins with the peak of the process that it was forked from."""


def draw_photo(path: Path, side: int) -> None:
    """A photograph of `side` x `side`, tiled from a real one: PNG, which has to be decoded whole."""
    tile = Image.open(photo_folder() / "astronaut.png").convert("RGB")
    photo = Image.new("RGB", (side, side))
    for top in range(0, side, tile.height):
        for left in range(0, side, tile.width):
            photo.paste(tile, (left, top))
    photo.save(path, compress_level=1)


def peak(command: list[str], watch: Callable[[int], object] = lambda _: None) -> tuple[int, float]:
    """(peak resident bytes, seconds) of a command that has to succeed; `watch` gets its process id and may stay."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        launch = [sys.executable, "-S", "-c", _LAUNCH, *command]
        with subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=errors, text=True) as launched:
            assert launched.stdout is not None
            if process := launched.stdout.readline():
                watch(int(process))
            answer = launched.stdout.read()
        if launched.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} failed with {launched.returncode}:\n{errors.read()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(answer) * unit, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sr-x4", help="shipped name, weight file or run folder")
    parser.add_argument("--megapixels", type=float, default=16)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    side = round((options.megapixels * 1e6) ** 0.5)
    result: dict[str, object] = {
        "what": f"{side}x{side}, {Path(options.model).name}, 8 bits",
        "environment": environment(),
    }
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "photo.png"
        draw_photo(source, side)
        for suffix in ("png", "tif", "jpg"):
            target = source.with_name(f"large.{suffix}")
            resident, seconds = peak([str(COMMAND), "restore", str(source), "-o", str(target), "-n", options.model])
            size = target.stat().st_size
            target.unlink()
            result[suffix] = {"peak_gb": round(resident / 1e9, 3), "seconds": round(seconds, 1), "output_bytes": size}
            print(f"{suffix}: peak {resident / 1e9:.2f} GB resident, {seconds:.0f} s")
    save("memory", result, options.results)


if __name__ == "__main__":
    main()
