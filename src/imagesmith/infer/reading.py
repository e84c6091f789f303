"""How a picture is read: as a whole, or row by row where it is large and all that is asked of it goes by rows."""

import contextlib
import dataclasses
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from imagesmith.data import metadata
from imagesmith.data.decoded import WholeOnly
from imagesmith.data.files import (
    Frame,
    Header,
    ImageMeta,
    content_of,
    most_bytes,
    named,
    read_header,
    read_image,
    read_upright_header,
)
from imagesmith.data.pillow_formats import damage_in_jpeg
from imagesmith.data.scanlines import Picture, Scanlines, read_scanlines
from imagesmith.data.sources import Item
from imagesmith.errors import ImageError, TooLargeError
from imagesmith.infer.auto import AUTO_TASK
from imagesmith.infer.outcome import FileOptions
from imagesmith.runtime.memory import room_within
from imagesmith.zoo import ModelCard

LARGE_BYTES = 128 << 20
"""Decoded size from which on a picture is read row by row."""
_WHOLE_COPIES = 2.4  # of a picture, while it is decoded as a whole: Pillow takes 4 bytes for a pixel of RGB
_FILE_COPIES = {"png": 3, "tif": 3}  # of the file at that time; of other formats one
_UNPACKED_COPIES = 2  # of a member of an archive, while zipfile puts its pieces together
_LEAST_LARGE_BYTES = 1 << 20
_LARGE_FILE_BYTES = 8 << 20


def read_item(item: Item, options: FileOptions) -> Path | bytes | BinaryIO:
    """What `item` holds, see `Item.read`; TooLargeError for a member of an archive that memory does not take."""
    if item.member is None:
        return item.read()
    room, most = room_within(options.max_ram), most_bytes(options.max_pixels)
    return item.read(int(most if room is None else min(most, max(0, room // _UNPACKED_COPIES))))


def read_picture(source: Path | bytes | BinaryIO, card: ModelCard, options: FileOptions) -> Picture:
    """The picture for the model of `card`; its notes tell where a large one had to be read as a whole, and why.

    Of a JPEG that is to be examined they also tell where changed bytes seem to have spoilt it. Raises as `read_image`
    does; TooLargeError where it does not fit memory, or `max_ram`, as a whole.
    """
    scan, why = _by_rows(source, card, options)
    if scan is not None:
        return scan
    source = _that_fits(source, why, options)
    frame = read_image(source, max_pixels=options.max_pixels, partial=options.partial)
    notes = list(frame.meta.notes)
    if frame.pixels.nbytes >= LARGE_BYTES:
        notes.append(f"held in memory as a whole, {frame.pixels.nbytes / 1e9:.2f} GB: {why}")
    if card.task == AUTO_TASK and frame.meta.format == "jpg" and not options.partial:
        notes += _doubts(frame, content_of(source, options.max_pixels)[1])
    return dataclasses.replace(frame, meta=dataclasses.replace(frame.meta, notes=tuple(notes)))


def _doubts(frame: Frame, data: bytes) -> list[str]:
    """What is to be said of a JPEG file `data` that reads as `frame` and looks damaged."""
    lost = None
    with contextlib.suppress(ImageError):  # what only decodes as it is tells no more
        lost = damage_in_jpeg(data)
    if lost is None:
        return []
    if frame.meta.jpeg is not None:
        lost = metadata.turn_upright(lost[..., None], frame.meta.jpeg.turn)[..., 0]
    rows = np.flatnonzero(lost.any(axis=1))
    where = f"{lost.mean():.1%} of the picture, between rows {rows[0]} and {rows[-1]} (of {frame.height}),"
    return [f"{where} looks damaged; --partial invents it anew"]


def picture_outline(source: Path | bytes | BinaryIO, card: ModelCard, options: FileOptions) -> tuple[Header, Picture]:
    """What a picture declares, its sizes upright, and the picture; raises as `read_picture` does for its size.

    Of a large one only a band is read; the pixels of any other are on the device 'meta', where nothing is held.
    """
    scan, why = _by_rows(source, card, options)
    if scan is not None:
        return scan.header, scan
    header = read_upright_header(_that_fits(source, why, options), max_pixels=options.max_pixels)
    size, dtype = (header.height, header.width, header.channels), getattr(torch, header.depth)
    return header, Frame(torch.empty(size, dtype=dtype, device="meta"), header.depth, ImageMeta(header.format, ""))


def _that_fits(source: Path | bytes | BinaryIO, why: str, options: FileOptions) -> Path | bytes:
    """`source`, read if it comes from a pipe; TooLargeError where its picture does not fit as a whole."""
    if not isinstance(source, Path | bytes):
        _, source = content_of(source, options.max_pixels)
    if isinstance(source, bytes) or source.is_file():
        _check_room(source, why, options)
    return source


def _by_rows(source: Path | bytes | BinaryIO, card: ModelCard, options: FileOptions) -> tuple[Scanlines | None, str]:
    """The picture if it is to be read row by row, else why it is not."""
    why = _what_needs_all(card, options)
    if why is not None:
        return None, why
    if not isinstance(source, Path):
        return None, "it comes from a pipe or an archive"
    least, room = LARGE_BYTES, None if options.max_ram is None else room_within(options.max_ram)
    if room is not None:
        least = min(least, max(room // 8, _LEAST_LARGE_BYTES))
    try:
        scan = read_scanlines(source, max_pixels=options.max_pixels, least_bytes=least, room=room)
        return scan, "it is not large"
    except WholeOnly as reason:
        return None, str(reason)


def _what_needs_all(card: ModelCard, options: FileOptions) -> str | None:
    """What is asked of a picture that needs all of it at once; None if nothing is."""
    needs = {
        "--task auto looks at all of it": card.task == AUTO_TASK,
        "--partial mends it as a whole": options.partial,
        "holes are filled from all around them": card.task == "inpaint" or options.mask is not None,
        "--consistency needs all of it": options.consistency,
        "--uncertainty needs all of it": options.uncertainty is not None,
    }
    return next((why for why, is_needed in needs.items() if is_needed), None)


def _check_room(source: Path | bytes, why: str, options: FileOptions) -> None:
    """TooLargeError for a file whose picture does not fit as a whole; small files are let through unread."""
    is_held = isinstance(source, bytes)
    size = len(source) if is_held else source.stat().st_size
    if options.max_ram is None and size < _LARGE_FILE_BYTES:
        return
    room = room_within(options.max_ram)
    if room is None:
        return
    needed = 0 if is_held else size
    if needed <= room:  # or not even its header is looked for
        header = read_header(source, max_pixels=options.max_pixels)
        needed += round(header.pixel_bytes * _WHOLE_COPIES) + size * (_FILE_COPIES.get(header.format, 1) - 1)
    if needed > room:
        limit = "memory" if options.max_ram is None else f"--max-ram {options.max_ram / 1e9:g} GB"
        with named(source):
            raise TooLargeError(
                f"expected a picture that fits into {limit} ({max(0, room) / 1e9:.2f} GB are free), "
                f"this one takes {needed / 1e9:.2f} GB\nit is read as a whole: {why}"
            )
