"""Reading and writing picture files: a path, bytes or a stream on one side, a `Frame` on the other.

The declared size is checked before a pixel is decoded, the depth comes from the header, the orientation is applied.
Results are written under a temporary name and renamed, so no half-written file is ever seen.
"""

import contextlib
import dataclasses
import numbers
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from PIL import Image

from imagesmith.atomic import replacing
from imagesmith.data import metadata
from imagesmith.data.decoded import Decoded, WholeOnly, failure
from imagesmith.data.encode import encode
from imagesmith.data.formats import ACCEPTED, ENOUGH_TO_TELL, FORMATS, format_named, format_of, output_format
from imagesmith.data.frame import DEPTH_WORDS, Frame, Header, ImageMeta
from imagesmith.data.pillow_formats import to_gray_or_rgb
from imagesmith.errors import ImageError, ImagesmithError, TooLargeError, UsageError
from imagesmith.tensors import Depth

if TYPE_CHECKING:
    from imagesmith.data.video import VideoInfo

DEPTHS: dict[torch.dtype, Depth] = {torch.uint8: "uint8", torch.uint16: "uint16", torch.float32: "float32"}
MAX_PIXELS = 200_000_000
_MOST_BYTES_PER_PIXEL = 32  # four samples of 64 bits: a file larger than that per allowed pixel is not read at all
LEVEL_NOT_KEPT = "a PIL image of 16 bits has no alpha: its transparent level is not kept"
_PIECE = 1 << 22
_FAINT_NOTE = (
    "its {} values use less than an eighth of their range, which networks see as nearly black; "
    "scale them first if they are meant to be brighter"
)

__all__ = [
    "ACCEPTED",
    "DEPTHS",
    "FORMATS",
    "MAX_PIXELS",
    "Frame",
    "Header",
    "ImageMeta",
    "frame_of",
    "output_format",
    "read_header",
    "read_image",
    "write_image",
]

Source = Path | str | bytes | BinaryIO


def read_header(source: Source, *, max_pixels: int = MAX_PIXELS) -> Header:
    """What a picture file declares, without decoding a pixel."""
    with named(source):
        name, data = content_of(source, max_pixels)
        with decoding(name):
            return FORMATS[name].open(data).header


def read_upright_header(source: Source, *, max_pixels: int = MAX_PIXELS) -> Header:
    """`read_header` with width and height as `read_image` gives them; TooLargeError beyond `max_pixels`."""
    with named(source):
        name, data = content_of(source, max_pixels)
        with decoding(name):
            opened = FORMATS[name].open(data)
            header = opened.header
            check_pixels(header, max_pixels)
            if opened.turn < 5:
                return header
    return dataclasses.replace(header, width=header.height, height=header.width)


def read_image(source: Source, *, max_pixels: int = MAX_PIXELS, partial: bool = False) -> Frame:
    """The (first) picture of a file, upright, at the depth of its header.

    A file that declares more than `max_pixels` raises TooLargeError before it is decoded; one cut short raises
    TruncatedError, or with `partial` gives what is there and tells in `lost` (JPEG, PNG) and its notes what is missing.
    JPEG and PNG files whose bytes were changed are then read alike. Anything outside `FORMATS` raises FormatError, a
    damaged file ImageError. Messages begin with the file's name where it has one.
    """
    with named(source):
        name, data = content_of(source, max_pixels)
        with decoding(name):
            opened = FORMATS[name].open(data)
            header = opened.header
            check_pixels(header, max_pixels)
            decoded = opened.decode(partial)
    meta, turn = meta_of(decoded, decoded.pixels.shape[2], header.frames)
    pixels = torch.from_numpy(metadata.turn_upright(decoded.pixels, turn))
    lost = None
    if decoded.lost is not None:
        lost = torch.from_numpy(metadata.turn_upright(decoded.lost[..., None], turn)[..., 0])
    frame = Frame(pixels, DEPTHS[pixels.dtype], meta, lost, decoded.was_damaged)
    if frame.faint_peak is None:
        return frame
    note = _FAINT_NOTE.format(DEPTH_WORDS[frame.depth])
    return dataclasses.replace(frame, meta=dataclasses.replace(meta, notes=(*meta.notes, note)))


def meta_of(decoded: Decoded, channels: int, frames: int) -> tuple[ImageMeta, int]:
    """What travels with the pixels of the first of so many frames, and the EXIF orientation that makes it upright."""
    exif, xmp, notes = metadata.bare_exif(decoded.exif), decoded.xmp, list(decoded.notes)
    turn = metadata.orientation(exif, xmp) if decoded.turn is None else decoded.turn
    if turn != 1:
        notes.append(f"turned upright (orientation {turn})")
    icc, dropped = metadata.usable_icc(decoded.icc, channels)
    if dropped:
        notes.append(dropped)
    dpi = metadata.sensible_dpi(decoded.dpi)
    meta = ImageMeta(
        format=decoded.format,
        mode=decoded.mode,
        icc=icc,
        exif=metadata.upright_exif(exif),
        xmp=metadata.upright_xmp(xmp),
        captions=decoded.captions,
        dpi=(dpi[1], dpi[0]) if dpi and turn >= 5 else dpi,
        notes=tuple(notes),
        lossless=decoded.lossless,
        jpeg=decoded.jpeg and dataclasses.replace(decoded.jpeg, turn=turn),
        dicom=decoded.dicom,
        frames=frames,
    )
    return meta, turn


def frame_of(image: Image.Image) -> Frame:
    """A PIL image as the picture of a PNG with its profile, EXIF, XMP and resolution, not turned.

    UsageError for one without pixels, and of mode I, whose depth nobody knows.
    """
    if image.mode == "I":
        raise UsageError(
            "expected 8-bit, 16-bit (I;16) or float pixels, got PIL mode I; convert it to the one it means"
        )
    if 0 in image.size:
        raise UsageError(f"expected a picture with pixels, got a PIL image of {image.width}x{image.height}")
    image.load()
    notes: list[str] = []
    if image.mode.startswith("I;16") and "transparency" in image.info:
        notes.append(LEVEL_NOT_KEPT)
    array, icc = to_gray_or_rgb(image, "png", image.info.get("icc_profile"), notes)
    exif, xmp = (_carried(image, key, notes) for key in ("exif", "xmp"))
    meta = ImageMeta(
        format="png",
        mode=image.mode,
        icc=icc,
        exif=metadata.bare_exif(exif),
        xmp=xmp,
        dpi=metadata.sensible_dpi(image.info.get("dpi")),
        notes=tuple(notes),
    )
    pixels = torch.from_numpy(array)
    return Frame(pixels, DEPTHS[pixels.dtype], meta)


def _carried(image: Image.Image, key: str, notes: list[str]) -> bytes | None:
    """The bytes that a PIL image carries under `key`, text as UTF-8; says what else is there."""
    found = image.info.get(key)
    if isinstance(found, str):
        return found.encode()
    if found is None or isinstance(found, bytes):
        return found
    notes.append(f"its {key.upper()} is not kept: it is no bytes but {type(found).__name__}")
    return None


def check_pixels(header: "Header | VideoInfo", max_pixels: int) -> None:
    """TooLargeError for a file that declares more."""
    if header.width * header.height > max_pixels:
        raise TooLargeError(
            f"expected at most {max_pixels / 1e6:g} megapixels, the file declares "
            f"{header.width}x{header.height}\nraise --max-pixels if you trust it"
        )


def write_image(
    frame: Frame | Image.Image,
    destination: Path | str | BinaryIO,
    *,
    format: str | None = None,
    overwrite: bool = False,
    quality: int | None = None,
) -> tuple[str, ...]:
    """Write a frame, or a PIL image with all that it carries; returns sentences about what the format could not hold.

    `format` is a name or suffix ("png", "jpeg", ".tif"); None takes the destination's suffix, or for a stream the
    format that keeps the frame. `quality` (1 to 100) is for JPEG, WebP and AVIF. A path is written under a temporary
    name, flushed to disk and renamed; every failure removes the temporary file and raises OutputError.
    """
    told: tuple[str, ...] = ()
    if isinstance(frame, Image.Image):
        frame = frame_of(frame)
        icc, dropped = metadata.usable_icc(frame.meta.icc, frame.channels)
        frame = dataclasses.replace(frame, meta=dataclasses.replace(frame.meta, icc=icc))
        told = (*frame.meta.notes, *filter(None, [dropped]))
    if not isinstance(frame, Frame):
        raise UsageError(
            f"expected a Frame, such as read_image gives, or a PIL image, got {type(frame).__name__}\n"
            "let Pillow save others, such as PIL.Image.fromarray(array).save(path)"
        )
    if quality is not None and (not isinstance(quality, numbers.Integral) or not 1 <= quality <= 100):
        raise UsageError(f"expected a quality from 1 to 100, got {quality!r}; leave it out for 95")
    if isinstance(destination, str):
        destination = Path(destination)
    if format is None and isinstance(destination, Path):
        format = destination.suffix
    height, width, channels = frame.pixels.shape
    kept = output_format(frame.meta.format, frame.depth, channels, max(height, width))
    name = format_named(format) if format else kept
    if not isinstance(destination, Path):
        return told + encode(frame, destination, name, quality)
    with replacing(destination, overwrite=overwrite) as stream:
        return told + encode(frame, stream, name, quality)


def format_of_file(path: Path) -> str:
    """The format of a file that holds a picture; FormatError names those that are read."""
    with _opened(path) as stream:
        return format_of(stream.read(ENOUGH_TO_TELL))


def most_bytes(max_pixels: int) -> int:
    """What the file of an allowed picture has at most, whatever its format."""
    return max_pixels * _MOST_BYTES_PER_PIXEL + (64 << 20)


def content_of(source: Source, max_pixels: int) -> tuple[str, bytes]:
    """The format and all bytes of a source; no picture, or too large for an allowed one, it is refused unread."""
    if isinstance(source, bytes):
        return format_of(source), source
    most = most_bytes(max_pixels)
    if not isinstance(source, str | Path):
        return _from_stream(source, most)
    with _opened(source) as stream:
        name, size = format_of(stream.read(ENOUGH_TO_TELL)), os.fstat(stream.fileno()).st_size
        if size > most:
            raise TooLargeError(f"the file has {size >> 20} MiB; raise --max-pixels if you trust it")
        stream.seek(0)
        return name, stream.read()


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[BinaryIO]:
    """A regular file to be read; ImageError for anything else."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ImageError("expected a picture file, got something that is not a regular file")
            yield stream
    except IsADirectoryError:
        raise ImageError("expected a picture file, got a folder") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}; check that it exists and is readable") from None


def _from_stream(stream: BinaryIO, most: int) -> tuple[str, bytes]:
    """Format and bytes of a stream, in pieces: Python sets aside all that a single `read` asks for."""
    parts = [stream.read(ENOUGH_TO_TELL)]
    name, size = format_of(parts[0]), len(parts[0])
    while size <= most and (part := stream.read(_PIECE)):
        parts.append(part)
        size += len(part)
    if size > most:
        raise TooLargeError(f"the stream has more than {most >> 20} MiB; raise --max-pixels if you trust it")
    return name, b"".join(parts)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a path for reading; a pipe that nobody writes to answers at once instead of never."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever a parser of format `name` raises on hostile bytes into the error of that file.

    Pillow and tifffile fail with nearly every class of exception there is, so this seam catches all but our own.
    """
    try:
        yield
    except (ImagesmithError, AssertionError, WholeOnly):
        raise
    except Exception as error:
        raise failure(name, error) from error


@contextlib.contextmanager
def named(source: Source) -> Iterator[None]:
    """Put the file's name in front of the message of any error."""
    try:
        yield
    except ImagesmithError as error:
        if isinstance(source, str | Path):
            raise type(error)(f"{source}: {error}") from error
        raise
