"""A whole data set as one tensor: folders, archives and arrays of pictures, decoded once, with their labels."""

import contextlib
import math
import posixpath
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from imagesmith.atomic import replacing
from imagesmith.data.archives import Collection, Entry, look_at, open_collection
from imagesmith.data.arrays import load_arrays
from imagesmith.data.labels import (
    TABLE,
    Labels,
    check_classes,
    class_order,
    labels_from_folders,
    labels_from_table,
    part_of,
    told_classes,
)
from imagesmith.data.pixels import read_size, read_with_depth
from imagesmith.data.shapes import as_channels, choose_size, fit
from imagesmith.errors import ImageError, NothingUsableError, OutputError, UsageError

Size = tuple[int, int] | Literal["own"] | None
"""Height and width in pixels that pictures are brought to; 'own' keeps theirs, None chooses."""
DIFFERENT_SIZES = "the pictures differ in size"


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size: uint8 (N, C, H, W), in memory or mapped from a file; 1 to 4 channels."""

    images: Tensor
    labels: Tensor | None
    """int64 (N,), positions in `class_names`; None where there are no classes."""
    class_names: tuple[str, ...]
    names: list[str]
    """Where each picture lies in its source."""
    skipped: list[str]
    """One sentence for each picture that could not be used, and each label without a picture."""
    notes: tuple[str, ...] = ()
    """What was decided for the user and why: size, channels, labels."""

    def __len__(self) -> int:
        return len(self.images)


def load_image_set(
    source: str | Path,
    *,
    size: Size = None,
    channels: int | None = None,
    labels: Literal["auto", "none"] | Path = "auto",
    most_px: int = 128,
    memory_bytes: float = 4e9,
    pack_to: Path | None = None,
) -> ImageSet:
    """Decode every picture of a folder, zip, tar or npz to `size` (height, width) and `channels`.

    `source` may name a part: `cifar10.tar.gz::train` is what lies below `train`; or the CSV table of labels in the
    folder of the pictures. Without `size`, and for 'own' where pictures differ, `choose_size` takes one of at most
    `most_px` a side; without `channels`, pictures that are all gray get one, others three. Labels come from a table:
    `labels`, or labels.csv beside the pictures; or else from class folders. What would take more than `memory_bytes` is
    written to the file `pack_to` and mapped from there. UsageError, NothingUsableError.
    """
    assert channels in (None, 1, 2, 3, 4), f"channels must be 1 to 4, got {channels}"
    path, part, table = locate(source)
    if table is not None and labels == "auto":
        labels = table
    if path.suffix.lower() == ".npz":
        return _from_arrays(
            path,
            size=size,
            channels=channels,
            labels=labels,
            most_px=most_px,
            memory_bytes=memory_bytes,
            pack_to=pack_to,
        )
    with open_collection(path) as collection:
        places = part_of([entry.name for entry in collection.entries], part, str(path))
        found = find_labels(collection, places, labels)
        known = places if found.classes is None else found.classes
        entries = [entry for entry in collection.entries if entry.name in known]
        notes = [found.reason]
        if size is None or size == "own":
            size, why = _chosen(_sizes(entries, str(source)), most_px, is_own=size == "own")
            notes.append(why)
        with _rows(len(entries), channels or 3, size, memory_bytes, pack_to) as images:
            names, skipped, seen = _decode(entries, images)
            if not names:
                raise NothingUsableError(
                    f"expected pictures in {source}, none can be used; first problem: {skipped[0]}"
                )
    images = _without_unused_colour(images[: len(names)], channels, seen.translucent > 0, memory_bytes, notes)
    if seen.deep:
        notes.append(brought_to_8_bits(seen.deep))
    classes = None if found.classes is None else [found.classes[name] for name in names]
    indices, class_names = _numbered(classes)
    return ImageSet(images, indices, class_names, names, [*collection.refused, *found.problems, *skipped], tuple(notes))


def locate(source: str | Path) -> tuple[Path, str | None, Path | None]:
    """Path, part and table of labels that a source names: `archive.zip::train`, or a CSV file beside the pictures.

    A path that exists is never divided. UsageError for a part of an npz, which has none.
    """
    path, part = Path(source), None
    if "::" in str(source) and not path.exists():
        whole, _, part = str(source).rpartition("::")
        path = Path(whole)
    if path.suffix.lower() == ".npz" and part is not None:
        raise UsageError(f"expected no part of an npz, got '{source}'; write {path}")
    if path.suffix.lower() == ".csv":
        return path.parent, part, path
    return path, part, None


def find_labels(collection: Collection, places: dict[str, str], labels: Literal["auto", "none"] | Path) -> Labels:
    """The labels that `load_image_set` gives to the pictures at these places of a collection."""
    if labels == "none":
        return Labels(None, "no labels, as data.labels=none has it; auto takes those of class folders or of a table")
    if isinstance(labels, Path):
        return labels_from_table(labels, places)
    inner = PurePosixPath(posixpath.commonpath({name.removesuffix(place) for name, place in places.items()}))
    for folder in (inner, *inner.parents):
        if table := collection.find(str(folder / TABLE)):
            return labels_from_table(
                Path(collection.where) / table.name, places, table.read(), table.name.removesuffix(TABLE)
            )
    return labels_from_folders(places)


def _chosen(sizes: list[tuple[int, int]], most_px: int, *, is_own: bool) -> tuple[tuple[int, int], str]:
    """The size for pictures of these sizes, their own if that is wished and they agree, and the reason."""
    chosen = choose_size(sizes, most_px=most_px)
    if is_own and len(set(sizes)) == 1:
        height, width = sizes[0]
        return (height, width), f"all pictures are {width}x{height}"
    differ = f"{DIFFERENT_SIZES}: " if is_own else ""
    return (chosen.height, chosen.width), differ + chosen.reason


def _sizes(entries: list[Entry], where: str) -> list[tuple[int, int]]:
    """(height, width) of each readable picture, upright: most phones store a portrait lying down."""
    found = [size for _, size in look_at(entries, lambda _, content: read_size(content))]
    sizes = [size for size in found if not isinstance(size, ImageError)]
    if not sizes:
        raise NothingUsableError(f"expected pictures in {where}, none can be used; first problem: {found[0]}")
    return sizes


@contextlib.contextmanager
def _rows(
    count: int, channels: int, size: tuple[int, int], memory_bytes: float, pack_to: Path | None
) -> Iterator[Tensor]:
    """Room for `count` pictures, to be filled in the block: in memory, or where that is too small in a mapped file."""
    shape = (count, channels, *size)
    needed = math.prod(shape)
    if needed <= memory_bytes:
        yield torch.empty(shape, dtype=torch.uint8)
        return
    if pack_to is None:
        raise UsageError(
            f"expected at most {memory_bytes / 1e9:.1f} GB of decoded pictures, {count:,} at {size[1]}x{size[0]} take "
            f"{needed / 1e9:.1f} GB\nchoose a smaller size, raise the memory limit, or name a file to pack them into"
        )
    with replacing(pack_to, overwrite=True) as stream:
        free = shutil.disk_usage(pack_to.parent).free
        if free < needed:  # a full disk would end a mapped write with a signal, not with an error
            raise OutputError(
                f"{pack_to} cannot be written: it needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            )
        stream.truncate(needed)
        yield torch.from_file(str(stream.name), shared=True, size=needed, dtype=torch.uint8).view(shape)


@dataclass
class _Seen:
    """How many pictures had what `images` does not hold."""

    translucent: int = 0
    deep: int = 0
    """Stored in more than 8 bits."""


def _decode(entries: list[Entry], images: Tensor) -> tuple[list[str], list[str], _Seen]:
    """Fill `images` in the order of the names, without gaps.

    Returns the names of its rows, why others are missing, and what was lost.
    """
    names = sorted(entry.name for entry in entries)
    row_of = {name: row for row, name in enumerate(names)}
    pixels, channels, size = images.numpy(), images.shape[1], (images.shape[2], images.shape[3])

    def decode(name: str, content: Path | bytes) -> tuple[bool, bool]:
        found, depth = read_with_depth(content)
        pixels[row_of[name]] = fit(as_channels(found, channels), size).transpose(2, 0, 1)
        return _has_transparency(found), depth != "uint8"

    failures, seen = dict[str, str](), _Seen()
    for name, found in look_at(entries, decode):
        if isinstance(found, ImageError):
            failures[name] = str(found)
        else:
            seen.translucent += found[0]
            seen.deep += found[1]
    kept = [row for row, name in enumerate(names) if name not in failures]
    for to, row in enumerate(kept):
        if to != row:
            pixels[to] = pixels[row]
    return [names[row] for row in kept], [failures[name] for name in sorted(failures)], seen


def _from_arrays(
    path: Path,
    *,
    size: Size,
    channels: int | None,
    labels: Literal["auto", "none"] | Path,
    most_px: int,
    memory_bytes: float,
    pack_to: Path | None,
) -> ImageSet:
    if isinstance(labels, Path):
        raise UsageError(f"expected the labels of {path} inside it, as the array 'labels', got {labels}")
    arrays, numbers = load_arrays(path, memory_bytes=memory_bytes)
    notes = []
    if size is None or size == "own":
        size, why = _chosen([arrays.shape[1:3]], most_px, is_own=size == "own")
        notes.append(why)
    count, stored = len(arrays), arrays.shape[3]
    with _rows(count, channels or min(3, stored | 1), size, memory_bytes, pack_to) as images:
        for row, pixels in enumerate(arrays):
            images.numpy()[row] = fit(as_channels(pixels, images.shape[1]), size).transpose(2, 0, 1)
    has_alpha = any(_has_transparency(pixels) for pixels in arrays)
    images = _without_unused_colour(images, channels, has_alpha, memory_bytes, notes)
    classes = None if numbers is None or labels == "none" else [str(number) for number in numbers.tolist()]
    indices, class_names = _numbered(classes)
    check_classes(len(class_names), count, path)
    notes.insert(0, f"labels from the array 'labels': {told_classes(len(class_names))}" if classes else "no labels")
    return ImageSet(images, indices, class_names, [str(row) for row in range(count)], [], tuple(notes))


def _has_transparency(pixels: np.ndarray) -> bool:
    """Whether a picture uint8 (H, W, 1-4) has an alpha channel that is not opaque everywhere."""
    return pixels.shape[2] in (2, 4) and bool((pixels[..., -1] < 255).any())


def _without_unused_colour(
    images: Tensor, asked: int | None, has_alpha: bool, memory_bytes: float, notes: list[str]
) -> Tensor:
    """The pictures with one channel, if their number was not `asked` for and all of them turn out to be gray.

    That channel is copied into memory if it fits, and else stays between the others in the mapped file.
    """
    if asked is not None:
        return images
    is_gray = images.shape[1] == 1 or all(bool((image[0] == image[1:]).all()) for image in images)
    notes.append(
        "every picture is gray, so they have one channel" if is_gray else "three channels, red, green and blue"
    )
    if has_alpha:
        notes.append(laid_on_white(is_gray))
    if not is_gray:
        return images
    gray = images[:, :1]
    return gray.contiguous() if gray.numel() <= memory_bytes else gray


def brought_to_8_bits(count: int) -> str:
    """What becomes of so many pictures of more than 8 bits."""
    return f"{count:,} picture{'s' * (count > 1)} of more than 8 bits: brought to 8, as networks here train on no more"


def laid_on_white(is_gray: bool) -> str:
    """What becomes of alpha where nobody asked for it, and how to keep it."""
    return f"transparent parts are laid on white; --set data.channels={2 if is_gray else 4} makes images with alpha"


def _numbered(classes: list[str] | None) -> tuple[Tensor | None, tuple[str, ...]]:
    """int64 positions of `classes` in the ordered names, and those names."""
    if not classes:
        return None, ()
    names = class_order(set(classes))
    position = {name: number for number, name in enumerate(names)}
    return torch.tensor([position[name] for name in classes]), names
