"""Measure every restorer but the plain super-resolvers, beside what is asked and what others reach.

    python benchmarks/restoration.py --data FOLDER [--only NAME ...] [--no-speed]

FOLDER holds the test sets cbsd68, kodak24, live1 and set14, or folders with them. Writes results/restoration.json and
docs/numbers.md. Models that are not shipped are left out. --only measures some again and keeps the others' rows,
each with the environment it was measured in; --no-speed leaves the seconds as they are, for a machine that has other
work.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import skimage.data
import torch
from classical import rivals
from numbers_page import DOCS, write_numbers
from protocols import measure, protocols_for, test_set
from timing import RESULTS, environment, instruction_set, replaced, rows_of, save, spread, take_turns

from imagesmith import Restorer
from imagesmith.data.files import Frame, ImageMeta, read_image
from imagesmith.evaluate import evaluate_restorer
from imagesmith.nets import RESTORERS
from imagesmith.tensors import imresize, to_float
from imagesmith.zoo.cards import CARDS, ModelCard

THREADS = 2
GAIN = {"deblur": 4.0, "inpaint": 1.5}
"""What is asked of a network over the blurred picture, and over biharmonic inpainting, in dB."""


@dataclass(frozen=True)
class Row:
    """One figure. `asked` is the least value, or, where `most` says so, the largest."""

    what: str
    network: str
    metric: str
    measured: float
    asked: float | None = None
    most: bool = False
    beside: str = ""
    """What else was measured on the same pictures."""
    published: str = ""


def mended(name: str, card: ModelCard, data: Path) -> Iterator[Row]:
    """A network by the protocols of its task, beside what it was given and what classical methods make of that."""
    baseline = "none" if card.scale == 1 else "bicubic"
    for protocol in protocols_for(card.task, card.scale):
        scores, untouched = measure(name, protocol, data), measure(baseline, protocol, data)
        metric, *more = protocol.metrics
        others = {"unrestored" if card.scale == 1 else "bicubic": untouched[metric]} | rivals(protocol, data)
        asked = protocol.asked
        if card.task in GAIN:
            asked = GAIN[card.task] + others["biharmonic" if card.task == "inpaint" else "unrestored"]
        others |= {f"its {other}": scores[other] for other in more}
        beside = ", ".join(f"{other} {value:.4g}" for other, value in others.items())
        yield Row(protocol.name, name, metric, scores[metric], asked, beside=beside, published=protocol.published)


def sharp(name: str, card: ModelCard, data: Path) -> Iterator[Row]:
    """A network that invents detail beside the faithful one: spectrum, fidelity, and agreement after projection."""
    faithful = card.faithful or f"sr-x{card.scale}"
    targets, inputs = (test_set(data, "set14") / f"{kind}_x{card.scale}" for kind in ("HR", "LR"))
    own, other = (
        evaluate_restorer(model, targets, inputs, ("psnr_y", "spectrum"), device="cpu").summary
        for model in (name, faithful)
    )
    beside = f"spectrum {own['spectrum']:.3f}, of {faithful} {other['spectrum']:.3f}"
    ratio, drop = own["spectrum"] / other["spectrum"], other["psnr_y"] - own["psnr_y"]
    yield Row("set14, spectral distance as a share", name, "spectrum", ratio, 0.5, most=True, beside=beside)
    beside = f"psnr_y {own['psnr_y']:.2f}, of {faithful} {other['psnr_y']:.2f}"
    yield Row("set14, dB lost", name, "psnr_y", drop, 1.5, most=True, beside=beside)
    restorer = Restorer.load(name, device="cpu", dtype="fp32")
    worst = max(_disagreement(restorer, read_image(path)) for path in sorted(inputs.iterdir()))
    yield Row("set14 with consistency, largest difference", name, "grey levels", worst, 0.5, most=True)


def _disagreement(restorer: Restorer, given: Frame) -> float:
    """By how many grey levels the consistent result, down-scaled, differs from what was given, at most."""
    result = restorer.frame(given, consistency=True)
    small = imresize(to_float(result.pixels, result.depth).permute(2, 0, 1), 1 / restorer.scale)
    return float((small - to_float(given.pixels, given.depth).permute(2, 0, 1)).abs().max() * 255)


def timed(cards: Mapping[str, ModelCard]) -> Iterator[Row]:
    """Seconds for a result of one megapixel, by the path of users, every network in turn."""
    torch.set_num_threads(THREADS)
    photo = torch.from_numpy(skimage.data.astronaut()).repeat(2, 2, 1)

    restorers = {name: Restorer.load(name, device="cpu") for name in cards}

    def call(restorer: Restorer, card: ModelCard) -> Any:
        side = 1024 // card.scale
        frame = Frame(photo[:side, :side].contiguous(), "uint8", ImageMeta("png", "RGB"))
        if card.task != "inpaint":
            return lambda: restorer.frame(frame)
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[: side // 2, : side // 2] = True
        return lambda: restorer.frame(frame, mask=mask)

    seconds = take_turns({name: call(restorers[name], card) for name, card in cards.items()}, rounds=5, warm_up=1)
    for name, times in seconds.items():
        how = restorers[name].runtime.arithmetic
        yield Row("1 megapixel of result", name, "seconds", spread(times)["median"], 3.0, most=True, beside=how)


def measure_all(names: list[str], data: Path, *, quality: bool, speed: bool) -> Iterator[Row]:
    """Every row of the named models."""
    cards = {name: CARDS[name] for name in names}
    for name, card in cards.items() if quality else ():
        if card.task != "sr":
            yield from mended(name, card, data)
        elif card.faithful:
            yield from sharp(name, card, data)
    if speed:
        yield from timed(cards)


def place(row: dict[str, Any]) -> tuple[str, bool, str]:
    """What is measured at one time: the quality of a network, or its seconds on one kind of processor."""
    is_timed = row["metric"] == "seconds"
    return row["network"], is_timed, instruction_set(row) if is_timed else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the test sets")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these models alone")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of numbers.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    parser.add_argument("--no-speed", action="store_true", help="do not time the networks")
    parser.add_argument("--no-quality", action="store_true", help="only time the networks")
    options = parser.parse_args()
    shipped = [name for name, card in CARDS.items() if card.net in RESTORERS]
    names = [name for name in shipped if not options.only or name in options.only]
    started, rows = environment(THREADS), []
    for row in measure_all(names, options.data, quality=not options.no_quality, speed=not options.no_speed):
        rows.append(asdict(row) | {"environment": started})
        print(f"{row.what}: {row.network} {row.metric} {row.measured:.3f} ({row.beside})", flush=True)
    rows = [row for row in replaced(rows_of("restoration", options.results), rows, place) if row["network"] in shipped]
    rows.sort(key=lambda row: (row["metric"] == "seconds", shipped.index(row["network"])))
    save("restoration", {"rows": rows}, options.results)
    write_numbers(options.docs, options.results)


if __name__ == "__main__":
    main()
