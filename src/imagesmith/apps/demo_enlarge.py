"""The demo's photographs: real ones, made small by a stated recipe, enlarged again, measured and shown."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from imagesmith.apps.demo_pictures import packaged_data, write_picture
from imagesmith.apps.report import Chapter
from imagesmith.apps.report_photos import Comparison, Enlargement, Photo, mean_gains
from imagesmith.data.files import Frame, read_image
from imagesmith.infer.restore import Restorer
from imagesmith.metrics import METRICS
from imagesmith.tensors import imresize, to_float

SCALES = (4, 2)
LEAD = (
    "Each photograph was made small by a stated recipe and enlarged again, once by bicubic interpolation and once by "
    "imagesmith. Neither saw the original; you can, with the switch above the pictures."
)
RECIPE = (
    "Cropped to a multiple of 4 pixels, made small by MATLAB-convention antialiased bicubic, rounded to 8 bits, then "
    "enlarged. The bicubic result is the same interpolation the other way."
)


@dataclass(frozen=True)
class Source:
    """A photograph inside the scikit-image package."""

    file: str
    title: str
    credit: str


SOURCES = (
    Source("astronaut.png", "Astronaut", "NASA, public domain"),
    Source("chelsea.png", "Cat", "Stéfan van der Walt, CC0"),
    Source("coffee.png", "Coffee", "Rachel Michetti, CC0"),
    Source("motorcycle_left.png", "Motorcycle", "Middlebury Stereo 2014, Scharstein et al."),
    Source("rocket.jpg", "Rocket", "SpaceX, public domain"),
)


def enlarge_photographs(
    out: Path, *, device: str = "auto", dtype: str = "auto", models: Sequence[str | Path] = ("sr-x4", "sr-x2")
) -> Chapter:
    """Enlarge the photographs of scikit-image, write the pictures into `out` and print a table of what was gained."""
    folder = packaged_data(*(source.file for source in SOURCES))
    restorers = [Restorer.load(model, device=device, dtype=dtype) for model in models]
    photos = [_restore_photo(source, folder, out, restorers) for source in SOURCES]
    gains = mean_gains(photos)
    Console().print(_table(photos, gains))
    won = ", ".join(f"{gain:+.2f} dB at x{scale}" for scale, gain in gains.items())
    return Chapter(
        title="Enlarging photographs",
        summary=f"{len(photos)} real photographs enlarged; against bicubic {won} (psnr_y)",
        paragraphs=(LEAD,),
        comparison=Comparison(photos, _facts(restorers)),
    )


def _restore_photo(source: Source, folder: Path, out: Path, restorers: list[Restorer]) -> Photo:
    pixels = read_image(folder / source.file).pixels[..., :3]
    height, width = (size - size % max(SCALES) for size in pixels.shape[:2])
    target = pixels[:height, :width].permute(2, 0, 1)
    stem = Path(source.file).stem
    return Photo(
        title=source.title,
        credit=source.credit,
        original=write_picture(target, out / f"{stem}.original.png"),
        size=(width, height),
        enlargements=tuple(_enlarge(target, restorer, out / stem) for restorer in restorers),
    )


def _enlarge(target: Tensor, restorer: Restorer, stem: Path) -> Enlargement:
    """`target` (3, H, W) uint8 made small and enlarged again; the pictures are written beside `stem`."""
    scale = restorer.scale
    small = imresize(target, 1 / scale)
    bicubic = imresize(small, scale)
    frame = Frame.of(small)
    start = time.perf_counter()
    restored = restorer.frame(frame).pixels.permute(2, 0, 1)
    seconds = time.perf_counter() - start
    return Enlargement(
        scale=scale,
        input=write_picture(small, stem.with_name(f"{stem.name}.x{scale}.input.png")),
        bicubic=write_picture(bicubic, stem.with_name(f"{stem.name}.x{scale}.bicubic.png")),
        restored=write_picture(restored, stem.with_name(f"{stem.name}.x{scale}.imagesmith.png")),
        input_size=(small.shape[-1], small.shape[-2]),
        psnr_y_bicubic=psnr_y(bicubic[None], target[None], scale),
        psnr_y_restored=psnr_y(restored[None], target[None], scale),
        seconds=seconds,
    )


def psnr_y(restored: Tensor, target: Tensor, crop: int) -> float:
    """Of uint8 pictures (N, 3, H, W), on average, without `crop` pixels at each edge."""
    pair = (to_float(images, "uint8") for images in (restored, target))
    return METRICS["psnr_y"].function(*pair, crop).mean().item()


def _facts(restorers: list[Restorer]) -> dict[str, str]:
    """What the report says about how its pictures were made."""
    facts = {"Recipe": RECIPE}
    for restorer in restorers:
        card = restorer.card
        known = (
            f"{card.name}, {card.params:,} parameters",
            card.train_data and f"trained on {card.train_data}",
            card.licence,
        )
        facts[f"Network for ×{card.scale}"] = "; ".join(filter(None, known))
        facts[f"Computed for ×{card.scale}"] = str(restorer.runtime)
    facts["Time"] = "Seconds for one picture in memory, without reading and writing files."
    facts["Machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    return facts


def _table(photos: Sequence[Photo], gains: dict[int, float]) -> Table:
    table = Table("photo", box=None, pad_edge=False, header_style="dim")
    for heading in ("scale", "pixels", "bicubic", "imagesmith", "gain", "time"):
        table.add_column(heading, justify="right")
    for scale, gain in gains.items():
        chosen = [(photo, each) for photo in photos for each in photo.enlargements if each.scale == scale]
        for photo, each in chosen:
            table.add_row(photo.title, f"x{scale}", f"{photo.size[0]} x {photo.size[1]}", f"{each.psnr_y_bicubic:.2f}",
                          f"{each.psnr_y_restored:.2f}", f"{each.gain:+.2f}", f"{each.seconds:.2f} s")  # fmt: skip
        table.add_row("mean", f"x{scale}", "", "", "", f"{gain:+.2f}", "", style="bold", end_section=True)
    return table
