"""What every decoder hands back, and how Pillow is made to decode without side effects.

Pillow's plug-ins are called by class, never through `Image.open`: no decoder outside the list can run, and neither
`Image.MAX_IMAGE_PIXELS` nor `ImageFile.LOAD_TRUNCATED_IMAGES`, which are global to the process, needs to be touched.
"""

import contextlib
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
from PIL import Image, ImageFile

from imagesmith.data.frame import Captions, DicomHeader, Header, JpegTables
from imagesmith.errors import FormatError, ImageError, TooLargeError, TruncatedError

# These libraries report broken files to their loggers, which without any handler would print on stderr.
for _name in ("PIL", "tifffile", "pydicom"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

TITLES = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "tif": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "avif": "AVIF",
    "jp2": "JPEG 2000",
    "dcm": "DICOM",
}
_STRIP_PIXELS = 1 << 22


@dataclass
class Decoded:
    """Pixels (H, W, C) as stored in the file, not yet turned upright, and the metadata as found.

    `turn` is the orientation that still has to be applied, or None to take it from `exif` and `xmp`. `lost` (H, W) is
    True where the file's data did not survive, None where all did or nothing is known. `was_damaged`: see `Frame`.
    """

    pixels: np.ndarray
    format: str
    mode: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    captions: Captions = ()
    dpi: object = None
    notes: list[str] = field(default_factory=list)
    lossless: bool = True
    turn: int | None = None
    jpeg: JpegTables | None = None
    lost: np.ndarray | None = None
    was_damaged: bool = False
    dicom: DicomHeader | None = None


class WholeOnly(Exception):
    """A picture that can only be decoded as a whole, and why."""


class ImageFormat(Protocol):
    """A file of one format whose header has been read; making one decodes no pixel."""

    header: Header

    @property
    def turn(self) -> int:
        """The orientation (1 to 8 as EXIF numbers them) that `decode` leaves to be applied."""
        ...

    def decode(self, partial: bool) -> Decoded:
        """The pixels; a file cut short raises TruncatedError unless `partial`."""
        ...


def damaged(name: str, why: object) -> ImageError:
    """The error of a file that is of a known format and whole, but wrong inside or of a kind nobody reads."""
    if any(word in str(why).lower() for word in ("unsupported", "not supported", "unknown")):
        return FormatError(f"this kind of {TITLES[name]} cannot be read: {why}\nexport it again in the usual form")
    return ImageError(f"the {TITLES[name]} file is damaged: {why}\nexport it again from the program that made it")


def truncated(name: str, *, can_keep: bool = False) -> TruncatedError:
    """The error of a file that ends before its picture; `can_keep` says that decoding it with `partial` gives one."""
    advice = "copy or download it again" + (", or keep the rest with --partial" if can_keep else "")
    return TruncatedError(f"the {TITLES[name]} file ends before its picture does\n{advice}")


def too_large(name: str, why: object) -> TooLargeError:
    """The error of a picture that its decoder refuses for its size."""
    return TooLargeError(f"the {TITLES[name]} file is larger than its decoder takes: {why}")


def failure(name: str, error: Exception, *, can_keep: bool = False) -> ImageError:
    """What an exception of a decoder means; they raise whatever their parsing meets. `can_keep`: see `truncated`."""
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return too_large(name, error or "there is not enough memory")
    ended = any(words in str(error).lower() for words in ("truncat", "no more images"))
    cause = error.__cause__ or error  # Pillow wraps what it meets while it reads a header
    if ended or isinstance(cause, EOFError | IndexError | struct.error):
        return truncated(name, can_keep=can_keep)
    return damaged(name, error)


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filter: list[tuple] = []


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of these libraries and of no one else, in all threads that decode at this moment.

    `warnings.catch_warnings` swaps the whole filter list and is not safe with threads; here one entry is put in front
    by the first thread that enters and taken out by the last that leaves.
    """
    global _quiet_depth  # noqa: PLW0603 - the filter list it counts for is global to the process
    with _quiet_lock:
        if _quiet_depth == 0:
            warnings.filterwarnings("ignore", module=r"(PIL|tifffile|pydicom|imagesmith\.data)\b")
            _quiet_filter.append(warnings.filters[0])
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                entry, filters = _quiet_filter.pop(), cast(list, warnings.filters)
                if entry in filters:  # not so when someone else's catch_warnings began or ended in between
                    filters.remove(entry)


def load(image: ImageFile.ImageFile, name: str, partial: bool) -> Image.Image:
    """Run the decoder of an opened `image`; with `partial`, a failing one leaves what it had done, the rest is zero."""
    try:
        image.load()
    except Exception as error:
        has_begun = image._im is not None
        if partial and has_begun:
            return image._new(image.im)
        raise failure(name, error, can_keep=has_begun) from None
    return image


def to_array(image: Image.Image, name: str, partial: bool) -> np.ndarray:
    """Pixels (H, W, C) of an image of mode 1, L, P, LA, RGB, RGBA, I;16*, I or F; a writable copy, made in strips."""
    if isinstance(image, ImageFile.ImageFile):
        image = load(image, name, partial)
    first = np.asarray(image.crop((0, 0, 1, 1)))
    dtype = {"?": np.uint8, "b": np.uint8}.get(first.dtype.char, first.dtype.newbyteorder("="))
    channels = first.shape[2] if first.ndim == 3 else 1
    pixels = np.empty((image.height, image.width, channels), dtype)
    rows = max(1, _STRIP_PIXELS // image.width)
    for y in range(0, image.height, rows):
        strip = np.asarray(image.crop((0, y, image.width, min(y + rows, image.height))))
        pixels[y : y + rows] = strip.reshape(strip.shape[0], image.width, channels)
    if image.mode == "1":
        pixels *= 255
    return pixels
