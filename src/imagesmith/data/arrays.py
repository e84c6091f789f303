"""Data sets that are arrays already: an npz file with `images` and perhaps `labels`."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imagesmith.data.sources import DAMAGE
from imagesmith.errors import NothingUsableError, UsageError


def load_arrays(path: Path, *, memory_bytes: float) -> tuple[np.ndarray, np.ndarray | None]:
    """`images` uint8 (N, H, W, C) and `labels` int64 (N,) or None of an npz file. Nothing in it is ever executed.

    NothingUsableError if the file cannot be read or holds no picture, UsageError if its arrays are others.
    """
    if not path.exists():
        raise UsageError(f"expected an npz file, got '{path}', where there is nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
        if declared > memory_bytes:
            raise UsageError(
                f"expected at most {memory_bytes / 1e9:.1f} GB of arrays, {path} declares {declared / 1e9:.1f} GB\n"
                "raise the memory limit if you trust it, or write its pictures to files"
            )
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays.files:
                raise UsageError(f"expected an array 'images' in {path}, got {', '.join(arrays.files) or 'none'}")
            images = arrays["images"]
            labels = arrays["labels"] if "labels" in arrays.files else None
    except DAMAGE as error:
        why = "it holds Python objects" if "allow_pickle" in str(error) else error
        raise NothingUsableError(f"expected an npz file of plain arrays, {path} cannot be read: {why}") from None
    images = _as_pictures(images, path)
    return images, None if labels is None else _as_labels(labels, len(images), path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Every array of an npz file by its name, as weights are kept. Nothing in it is ever executed.

    NothingUsableError if the file cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (*DAMAGE, AttributeError, TypeError) as error:  # the last two for a single array and for texts
        raise NothingUsableError(f"expected an npz file of plain arrays, {path} cannot be read: {error}") from None


def _as_pictures(images: np.ndarray, path: Path) -> np.ndarray:
    found = f"got {images.dtype} {images.shape} in {path}"
    if images.dtype != np.uint8:
        raise UsageError(f"expected 'images' as uint8, {found}\nscale the values to 0..255 and save them as uint8")
    if images.ndim == 4 and images.shape[3] not in (1, 2, 3, 4) and images.shape[1] in (1, 2, 3, 4):
        raise UsageError(f"expected 'images' as (N, H, W, C), {found}\nsave images.transpose(0, 2, 3, 1)")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 2, 3, 4)):
        raise UsageError(f"expected 'images' as (N, H, W) or (N, H, W, C) of 1 to 4 channels, {found}")
    if not images.size:
        raise NothingUsableError(f"expected pictures in 'images', {found}")
    return images.reshape(*images.shape[:3], -1)


def _as_labels(labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"expected 'labels' as {count:,} integers, one a picture, got {labels.dtype} {labels.shape} in {path}"
        )
    return labels.astype(np.int64)
