"""Pairs of files in two folders: degraded pictures, and by the same names what they should become."""

import os
from pathlib import Path

from imagesmith.data.formats import SUFFIXES
from imagesmith.errors import NothingUsableError, UsageError


def images_by_name(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """The pictures of a folder by their names below it without ending, sorted.

    UsageError where it is no folder or two pictures share a name, NothingUsableError where there is none to read.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"expected a folder of images, got '{folder}'")
    try:
        paths = sorted(folder.rglob("*") if recursive else folder.iterdir())
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
                raise UsageError(f"expected one image for each name, got {images[name].name} and {path.name}")
            images[name] = path
    if not images:
        raise NothingUsableError(f"expected images ({', '.join(sorted(SUFFIXES))}) in '{folder}', found none")
    return images


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
