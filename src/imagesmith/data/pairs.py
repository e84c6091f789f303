"""Pairs of files in two folders: degraded pictures, and by the same names what they should become."""

import math
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.alignment import displacement
from imagesmith.data.datasets import Pair, largest_side, middle_pair, photo_frame, photo_of, size_of
from imagesmith.data.formats import SUFFIXES
from imagesmith.data.held_out import divide
from imagesmith.data.results import results_among
from imagesmith.data.sources import Item, outside_runs
from imagesmith.errors import NothingUsableError, UsageError
from imagesmith.tensors import imresize, to_float

MOST_DISPLACED_PX = 0.5
"""How far, in pixels of the degraded picture, a pair may be displaced."""
SURE, UNLIKE = 0.85, 0.25
"""Sureness of `displacement` from which it is no blur, and below which the pictures have nothing in common."""
LEAST_CONTRAST = 4 / 255
"""Standard deviation of a target's coarse shapes from which its place can be told."""
MOST_BLURRED_PX = 8.0
"""How far blur alone may move what looks like a displacement."""
LEAST_IN_COMMON = 4
"""Pairs from which on a displacement that they have in common is no chance."""
MOST_SCATTER_PX = 0.3
"""Median deviation of such displacements: noise scatters them less, even at 75 grey levels, and blur more."""

Size = tuple[int, int]
Place = tuple[float, float, float]
"""(rows, columns, sureness) of `displacement`."""


def images_by_name(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """The pictures of a folder by their names below it without ending, sorted.

    Run folders inside are passed over, and what an earlier restore made of the files listed, with `recursive` of all
    that lies or lay below the folder.
    UsageError where it is no folder or two pictures share a name, NothingUsableError where there is none to read.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"expected a folder of images, got '{folder}'")
    try:
        paths = outside_runs(folder) if recursive else _photographs_of(folder)
    except OSError as error:
        raise NothingUsableError(f"the folder '{folder}' cannot be read: {error.strerror}; check its rights") from None
    images: dict[str, Path] = {}
    for path in paths:
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue  # macOS leaves '._photo.png' beside photo.png
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = inside.with_suffix("").as_posix()
            if name in images:
                raise UsageError(
                    f"expected one image for each name, got {images[name].name} and {path.name}; rename or remove one"
                )
            images[name] = path
    if not images:
        found = _instead_of_images(folder, folder.rglob("*") if recursive else folder.iterdir())
        raise NothingUsableError(f"expected images ({', '.join(sorted(SUFFIXES))}) in '{folder}', found {found}")
    return images


def _photographs_of(folder: Path) -> list[Path]:
    """The files of a folder itself, sorted, without `results_among` them; one made of what lies deeper is no double."""
    found = sorted(path for path in folder.iterdir() if not path.is_dir())
    made = results_among(found, [])
    return [path for path in found if path not in made]


def _instead_of_images(folder: Path, paths: Iterable[Path]) -> str:
    """What there is where none of `paths` is an image to be had."""
    if any(path.suffix.lower() in SUFFIXES for path in results_among([*paths], [folder])):
        return "only results of an earlier restore; move them to a folder of their own"
    return "none"


def pair_files(targets: Path, degraded: Path, *, recursive: bool = False) -> dict[str, tuple[Path, Path]]:
    """(target, degraded) by name; UsageError naming the first image without its counterpart."""
    wanted, given = (images_by_name(folder, recursive=recursive) for folder in (targets, degraded))
    for missing, folder in ((sorted(wanted.keys() - given), degraded), (sorted(given.keys() - wanted), targets)):
        if missing:
            raise UsageError(
                f"expected a pair for every image, got {len(wanted)} targets and {len(given)} degraded images\n"
                f"'{missing[0]}' is missing in {folder}; add it or remove its counterpart"
            )
    return {name: (wanted[name], given[name]) for name in wanted}


# --- training ---


@dataclass(frozen=True)
class PairFolder:
    """The usable pairs of two folders, uint8 (3, h, w) and (3, h * scale, w * scale), split once and for all."""

    training: list[Pair]
    validation: list[Pair]
    skipped: list[str]
    """One sentence for each pair that is not used."""
    most_px: int | None
    """Side of the squares that stand for larger degraded pictures, because all would not fit; None if they do."""
    scale: int
    unit: ClassVar[str] = "pairs"


def load_pairs(
    degraded: Path, targets: Path, validation_images: int, *, least_px: int, memory_bytes: float = math.inf
) -> PairFolder:
    """Decode and check every pair below two folders whose degraded picture has sides of `least_px` and more.

    Left out, with the reason, are pairs that cannot be read, have the wrong size, are displaced against each other,
    show different things or one and the same picture, and training pairs that look like one kept apart for validation.
    UsageError where pictures lack their counterpart, most are left out, displaced alike, or all are equal;
    NothingUsableError below two.
    """
    files = pair_files(targets, degraded, recursive=True)
    items = {
        name: (Item(PurePosixPath("the degraded picture"), given), Item(PurePosixPath("the target"), wanted))
        for name, (wanted, given) in files.items()
    }
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda pair: (size_of(pair[0]), size_of(pair[1])), items.values()))
        scale = _common_scale(sizes)
        known = [given for given, _ in sizes if given is not None]
        most_px = largest_side(known, least_px, memory_bytes / 3 / (1 + scale**2))
        load = partial(_load, scale=scale, least_px=least_px, most_px=most_px)
        checked = list(pool.map(lambda pair: load(*pair), items.values()))
    loaded = [result for result, _ in checked]
    pairs = {name: pair for name, pair in zip(items, loaded, strict=True) if not isinstance(pair, str)}
    skipped = [f"{name}: {reason}" for name, reason in zip(items, loaded, strict=True) if isinstance(reason, str)]
    if 2 * len(skipped) > len(loaded):
        raise UsageError(
            f"expected pairs that fit each other in {degraded} and {targets}, got {len(skipped)} of {len(loaded)} that "
            f"do not\nthe first is {skipped[0]}"
        )
    if shift := _shift_in_common([place for _, place in checked if place is not None]):
        raise UsageError(
            f"expected pairs that lie on each other in {degraded} and {targets}, got degraded pictures that most lie "
            f"{shift[0]:+.1f} rows and {shift[1]:+.1f} columns beside their targets, seen through noise or blur\n"
            "move all of one side back by that"
        )
    if len(pairs) < 2:
        raise NothingUsableError(f"expected at least 2 pairs in {degraded} and {targets}, got {len(pairs)}")
    usable = list(pairs.values())
    training, validation, alike = divide([target for _, target in usable], list(pairs), validation_images)
    return PairFolder(
        training=[usable[k] for k in training],
        validation=[usable[k] for k in validation],
        skipped=skipped + alike,
        most_px=most_px,
        scale=scale,
    )


def _common_scale(sizes: list[tuple[Size | None, Size | None]]) -> int:
    """By how much most targets are larger, by the longer sides: a camera may have stored either picture turned."""
    sides = [(max(given), max(wanted)) for given, wanted in sizes if given and wanted]
    ratios = Counter(wanted // given for given, wanted in sides if given <= wanted)
    return ratios.most_common(1)[0][0] if ratios else 1


def _load(
    given: Item, wanted: Item, *, scale: int, least_px: int, most_px: int | None
) -> tuple[Pair | str, Place | None]:
    """A checked pair, or why it cannot be used; and where it was found to lie, if anything tells."""
    frame, wanted_frame = photo_frame(given, least_px), photo_frame(wanted, least_px)
    if isinstance(frame, str):
        return frame, None
    if isinstance(wanted_frame, str):
        return wanted_frame, None
    degraded = photo_of(frame.on_scale_of(wanted_frame), max(frame.height, frame.width))
    target = photo_of(wanted_frame.on_scale_of(frame), max(wanted_frame.height, wanted_frame.width))
    height, width = degraded.shape[1:]
    if (target.shape[1] // scale, target.shape[2] // scale) != (height, width):
        problem = (
            f"expected a target {scale} times its degraded picture of {width}x{height}, "
            f"got {target.shape[2]}x{target.shape[1]}"
        )
        return problem, None
    target = target[:, : height * scale, : width * scale]
    if scale == 1 and torch.equal(degraded, target):
        return "the degraded picture is its target", None
    place = _place(degraded, target, scale)
    if place is not None and (problem := _mismatch(place)):
        return problem, place
    degraded, target = middle_pair((degraded, target), most_px or max(height, width))
    return (degraded.contiguous(), target.contiguous()), place


def _place(degraded: Tensor, target: Tensor, scale: int) -> Place | None:
    """How the degraded picture lies against its target; None where a clear sky under noise lies anywhere."""
    gray = [to_float(image, "uint8").mean(dim=0) for image in (degraded, target)]
    given, wanted = gray[0], imresize(gray[1], 1 / scale)
    if F.avg_pool2d(wanted[None], 8).std() < LEAST_CONTRAST:
        return None
    return displacement(given, wanted)


def _mismatch(place: Place) -> str | None:
    """Why two pictures of fitting sizes that lie so are no pair, or None."""
    down, right, sureness = place
    if sureness < UNLIKE:
        return "the two pictures do not show the same"
    if math.hypot(down, right) > (MOST_DISPLACED_PX if sureness >= SURE else MOST_BLURRED_PX):
        return f"displaced by {down:+.1f} rows and {right:+.1f} columns against its target"
    return None


def _shift_in_common(places: list[Place]) -> tuple[float, float] | None:
    """(rows, columns) by which most pairs are displaced alike, where for half of them or more none is sure by itself.

    What blur seems to move goes anywhere; what noise hides goes with the others. None where nothing is in common.
    """
    found = torch.tensor([place for place in places if place[2] >= UNLIKE], dtype=torch.float64).reshape(-1, 3)
    if len(found) < LEAST_IN_COMMON or (found[:, 2] < SURE).double().mean() < 0.5:
        return None
    middle = found[:, :2].quantile(0.5, dim=0)
    scatter = (found[:, :2] - middle).abs().quantile(0.5, dim=0).max()
    if middle.norm() <= MOST_DISPLACED_PX or scatter > MOST_SCATTER_PX:
        return None
    down, right = middle.tolist()
    return down, right
