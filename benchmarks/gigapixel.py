"""Pictures far larger than memory through the whole command, and the memory that it took.

    python benchmarks/gigapixel.py [--fraction 1.0] [--folder DIR] [--yes]

Two pictures, of 20,000 x 20,000 for `denoise` and of 10,000 x 10,000 for `sr-x4`, both TIFF in and out, made of real
photographs that are never tiled alike; `--fraction` leaves so much of their height, since memory depends on the width.
Resident memory of the command is sampled ten times a second, and the operating system's own peak is told beside it.
A band of the result is compared with the same band restored in memory. Finished pictures in DIR are not made again.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from memory import COMMAND, peak
from PIL import Image
from timing import PHOTOS, RESULTS, environment, photo_folder, save

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.data.scanlines import read_scanlines
from imagesmith.infer.restore import Restorer

LIMIT_BYTES = 1_000_000_000
BAND_ROWS = 512
COMPARED_ROWS = 256
PX_PER_SECOND = {"denoise": 1.1e6, "sr-x4": 0.35e6}
"""Input pixels a second of two cores of the machine that the numbers in docs come from, for the estimate."""


@dataclass(frozen=True)
class Case:
    """A picture of `side` x `side` through `model`."""

    side: int
    model: str
    scale: int

    @property
    def name(self) -> str:
        return f"{self.side}x{self.side} {self.model}"


CASES = (Case(20_000, "denoise", 1), Case(10_000, "sr-x4", 4))


def photo_bands(side: int, height: int) -> Iterator[np.ndarray]:
    """Rows (BAND_ROWS or fewer, side, 3) of photographs put side by side, each band begun at another column."""
    rng = np.random.default_rng(7)
    for top in range(0, height, BAND_ROWS):
        band = np.empty((BAND_ROWS, 0, 3), np.uint8)
        while band.shape[1] < side:
            photo = Image.open(photo_folder() / PHOTOS[rng.integers(len(PHOTOS))]).convert("RGB")
            scale = BAND_ROWS / min(photo.height, photo.width) * rng.uniform(1, 1.5)
            photo = np.asarray(photo.resize((round(photo.width * scale), round(photo.height * scale))))
            band = np.concatenate((band, photo[:BAND_ROWS]), axis=1)
        noisy = band[: height - top, :side] + rng.normal(0, 6, (min(BAND_ROWS, height - top), side, 3))
        yield noisy.clip(0, 255).astype(np.uint8)


def draw(path: Path, side: int, height: int) -> None:
    """An uncompressed TIFF, band by band."""
    strips = (band.tobytes() for band in photo_bands(side, height))
    part = path.with_suffix(".part")
    tifffile.imwrite(
        part, strips, shape=(height, side, 3), dtype=np.uint8, rowsperstrip=BAND_ROWS, photometric="rgb",
        bigtiff=height * side * 3 > 4e9,
    )  # fmt: skip
    part.rename(path)


def resident(process: int) -> Iterator[int]:
    """Resident bytes of a process, ten times a second until it ends; none where the system has no /proc."""
    while True:
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            return
        if not pages:  # ended, and nobody has asked yet how
            return
        yield pages * os.sysconf("SC_PAGE_SIZE")
        time.sleep(0.1)


def watched(command: list[str]) -> dict[str, float]:
    """Seconds, and resident bytes sampled and as the system tells, of a command that has to succeed."""
    samples: list[int] = []
    peak_bytes, seconds = peak(command, lambda process: samples.extend(resident(process)))
    middle = samples[len(samples) // 2 :]
    return {
        "seconds": round(seconds, 1),
        "peak_bytes": peak_bytes,
        "sampled_peak_bytes": max(samples, default=0),
        "second_half_growth_bytes": max(middle, default=0) - (middle[0] if middle else 0),
    }


def largest_difference(case: Case, source: Path, output: Path, height: int) -> int:
    """Grey levels between a band in the middle of the result and the same band restored in memory."""
    restorer = Restorer.load(case.model)
    margin = -(-restorer.net.halo // restorer.net.multiple_of) * restorer.net.multiple_of
    top = height // 2 // restorer.net.multiple_of * restorer.net.multiple_of
    rows = min(COMPARED_ROWS, height - top)
    first, last = max(0, top - margin), min(height, top + rows + margin)
    most = 1 << 40
    scan = read_scanlines(source, max_pixels=most, least_bytes=0)
    result = read_scanlines(output, max_pixels=most, least_bytes=0)
    assert scan is not None
    assert result is not None
    band = restorer.frame(Frame(scan.rows(first, last), "uint8", ImageMeta("tif", "RGB"))).pixels
    expected = band[(top - first) * case.scale :][: rows * case.scale]
    found = result.rows(top * case.scale, (top + rows) * case.scale)
    return int((expected.to(torch.int16) - found).abs().max())


def run(case: Case, folder: Path, fraction: float, extra: list[str]) -> dict[str, object]:
    """Make, restore, measure and compare one picture."""
    height = round(case.side * fraction)
    source, output = folder / f"{case.side}x{height}.tif", folder / f"{case.side}x{height}.{case.model}.tif"
    if not source.exists():
        draw(source, case.side, height)
    command = [str(COMMAND), "restore", str(source), "-n", case.model, "-o", str(output), "-y", "--max-pixels", "1G"]
    started = environment()
    measured = watched([*command, *extra])
    return {
        "environment": started,
        **measured,
        "input": [case.side, height],
        "output": [case.side * case.scale, height * case.scale],
        "output_bytes": output.stat().st_size,
        "largest_difference": largest_difference(case, source, output, height),
        "within_limit": measured["peak_bytes"] < LIMIT_BYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the height of each picture")
    parser.add_argument("--folder", type=Path, default=Path("gigapixel"), help="where pictures and results lie")
    parser.add_argument("--yes", action="store_true", help="begin without asking")
    parser.add_argument("--max-ram", help="pass this limit to the command")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    pixels = {case: case.side**2 * options.fraction for case in CASES}
    seconds = sum(px / PX_PER_SECOND[case.model] for case, px in pixels.items())
    disk = sum(3 * px * (1 + case.scale**2) for case, px in pixels.items())
    print(f"about {seconds / 60:.0f} minutes of two free cores, and up to {disk / 1e9:.1f} GB in {options.folder}")
    if not options.yes and input("begin? [y/N] ").lower() != "y":
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    extra = ["--max-ram", options.max_ram] if options.max_ram else []
    results = {}
    for case in CASES:
        kept = options.folder / f"{case.model}-{options.fraction:g}.json"
        if not kept.exists():
            save(kept.stem, run(case, options.folder, options.fraction, extra), options.folder)
        results[case.name] = json.loads(kept.read_text())
        print(f"{case.name}: {results[case.name]}")
    what = f"pictures larger than memory, {options.fraction:g} of their height"
    save("gigapixel", {"what": what, "results": results}, options.results)


if __name__ == "__main__":
    main()
