"""What is in a data set: every picture looked at once, copies found, and advice for training a GAN on it."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps

from imagesmith.data.archives import look_at, open_collection
from imagesmith.data.arrays import load_arrays
from imagesmith.data.duplicates import SMALL_PX, near_duplicates
from imagesmith.data.files import read_header
from imagesmith.data.image_sets import find_labels, locate
from imagesmith.data.labels import check_classes, class_order, part_of, parts_of, without_wrapping
from imagesmith.data.pixels import read_pixels
from imagesmith.data.shapes import as_channels
from imagesmith.errors import ImageError, NothingUsableError

MODES = {1: "gray", 2: "gray+alpha", 3: "RGB", 4: "RGBA"}
SHOWN_PX = 96
"""Longest side of the pictures kept for a contact sheet."""
SHOWN_EACH = 10
"""Pictures of one class on a contact sheet."""
_MOST_SHOWN = 96
_MOST_ARRAY_BYTES = 64e9


@dataclass(frozen=True)
class Seen:
    """What is remembered of one picture. `small` is its RGB version of 16x16 pixels, `shown` the one for the sheet."""

    name: str
    format: str
    mode: str
    depth: str
    height: int
    width: int
    digest: bytes
    small: np.ndarray
    shown: Image.Image | None


@dataclass(frozen=True)
class Inspection:
    """The findings on one data set."""

    source: str
    pictures: list[Seen]
    """Those that training uses, in the order of their names."""
    broken: list[str]
    """One sentence for each picture that cannot be used."""
    unlabelled: list[str]
    """One sentence for each picture that a table of labels leaves out, and each row of it without its picture."""
    others: int
    """Files that are no pictures."""
    parts: dict[str, int]
    """Files in train, test and the like, where the data set is divided so."""
    classes: dict[str, str] | None
    """Class of each picture by its name."""
    labels: str
    """Where the classes come from, or why there are none."""
    copies: list[tuple[str, str]]
    """(picture, an earlier one with the same pixels)."""
    near_copies: list[tuple[str, str]]
    """(picture, an earlier one that looks the same), without `copies`."""

    def part_of(self, name: str) -> str | None:
        """The one of `parts` in which a picture lies."""
        return next((folder for folder in PurePosixPath(name).parts if folder in self.parts), None)

    def class_counts(self) -> dict[str, int]:
        """Usable pictures of each class, in the order of the class numbers."""
        if self.classes is None:
            return {}
        counts = Counter(self.classes[picture.name] for picture in self.pictures if picture.name in self.classes)
        return {name: counts[name] for name in class_order(set(counts))}


def inspect(source: str | Path) -> Inspection:
    """Look at every picture of a source that `load_image_set` takes, all of its parts included.

    UsageError if there is no such source or its labels cannot be classes, NothingUsableError if no picture of it can be
    read.
    """
    path, part, table = locate(source)
    if path.suffix.lower() == ".npz":
        return _inspect_arrays(path)
    with open_collection(path) as collection:
        names = [entry.name for entry in collection.entries]
        inner = without_wrapping({name: name for name in names})
        parts = {} if part else parts_of(inner)
        if parts:
            places = {name: place.partition("/")[2] for name, place in inner.items()}
        else:
            places = part_of(names, part, str(path))
        labels = find_labels(collection, places, table or "auto")
        known = places if labels.classes is None else labels.classes
        shown = _spread(known, labels.classes)

        def look(name: str, content: Path | bytes) -> Seen:
            header = read_header(content)
            return _seen(name, read_pixels(content), header.format, header.depth, name in shown)

        found = sorted(look_at((entry for entry in collection.entries if entry.name in known), look), key=itemgetter(0))
    pictures = [picture for _, picture in found if isinstance(picture, Seen)]
    broken = [*collection.refused, *(str(error) for _, error in found if isinstance(error, ImageError))]
    if not pictures:
        raise NothingUsableError(f"expected pictures in {source}, none can be used; first problem: {broken[0]}")
    classes = None if labels.classes is None else dict(labels.classes)
    return _compared(
        source=str(source),
        pictures=pictures,
        broken=broken,
        unlabelled=labels.problems,
        others=collection.others,
        parts=parts,
        classes=classes,
        labels=labels.reason,
    )


def _inspect_arrays(path: Path) -> Inspection:
    images, numbers = load_arrays(path, memory_bytes=_MOST_ARRAY_BYTES)
    names = [str(row) for row in range(len(images))]
    classes = None if numbers is None else dict(zip(names, map(str, numbers.tolist()), strict=True))
    check_classes(0 if classes is None else len(set(classes.values())), len(images), path)
    shown = _spread(names, classes)
    pictures = [_seen(name, pixels, "npz", "uint8", name in shown) for name, pixels in zip(names, images, strict=True)]
    reason = "no labels" if classes is None else "labels from the array 'labels'"
    return _compared(
        source=str(path),
        pictures=pictures,
        broken=[],
        unlabelled=[],
        others=0,
        parts={},
        classes=classes,
        labels=reason,
    )


def _seen(name: str, pixels: np.ndarray, format: str, depth: str, is_shown: bool) -> Seen:
    height, width, channels = pixels.shape
    image = Image.fromarray(as_channels(pixels, 3))
    return Seen(
        name=name,
        format=format,
        mode=MODES[channels],
        depth=depth,
        height=height,
        width=width,
        digest=hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest(),
        small=np.asarray(image.resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX)),
        shown=_shown(image) if is_shown else None,
    )


def _shown(image: Image.Image) -> Image.Image:
    """The whole picture within SHOWN_PX; a small one enlarged by a whole number, so that its pixels can be seen."""
    factor = SHOWN_PX // max(image.size)
    if factor > 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return ImageOps.contain(image, (SHOWN_PX, SHOWN_PX))


def _spread(names: Iterable[str], classes: Mapping[str, str] | None) -> set[str]:
    """Names of the pictures for the contact sheet: spread evenly over each class, the same number of each."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups["" if classes is None else classes[name]].append(name)
    each = max(1, min(_MOST_SHOWN // max(len(groups), 1), SHOWN_EACH if classes else _MOST_SHOWN))
    return {
        group[k * len(group) // min(each, len(group))]
        for group in itertools.islice(groups.values(), _MOST_SHOWN)
        for k in range(min(each, len(group)))
    }


def _compared(
    *,
    source: str,
    pictures: list[Seen],
    broken: list[str],
    unlabelled: list[str],
    others: int,
    parts: dict[str, int],
    classes: dict[str, str] | None,
    labels: str,
) -> Inspection:
    """The inspection of these pictures, once copies are found among them."""
    first: dict[bytes, Seen] = {}
    copies, originals = [], []
    for picture in pictures:
        original = first.setdefault(picture.digest, picture)
        if original is picture:
            originals.append(picture)
        else:
            copies.append((picture.name, original.name))
    alike = near_duplicates(torch.from_numpy(np.stack([picture.small for picture in originals])))
    near = [(originals[later].name, originals[earlier].name) for later, earlier in alike]
    return Inspection(source, pictures, broken, unlabelled, others, parts, classes, labels, copies, near)
