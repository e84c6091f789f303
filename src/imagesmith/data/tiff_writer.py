"""Writing TIFF of every depth with tifffile, from rows as they come, and the EXIF directories behind it."""

import contextlib
import io
import math
import re
import shutil
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, cast

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin
from torch import Tensor

from imagesmith.containers import usable_cores
from imagesmith.data.decoded import quiet
from imagesmith.data.frame import SAMPLE_BYTES, ImageMeta
from imagesmith.tensors import Depth

TEXT_TAGS = (270, 271, 272, 305, 306, 315, 316, 33432)  # description, camera, software, date, artist, host, copyright
_DESCRIPTION = 270
_OF_STACKS = {
    "OME": re.compile(r"OME>\s*\Z"),
    "ImageJ": re.compile(r"\AImageJ="),
    "tifffile": re.compile(r'\A(\{.*"shape":|shape=)', re.DOTALL),
}
"""Descriptions that tell readers how many planes a file has, and of which size."""
_SHAPE_ALONE = re.compile(r'\{"shape": \[[\d, ]*\]\}\s*')
DIRECTORIES = (0x8769, 0x8825)  # camera settings, place
_XMP = 700
_STRIP_BYTES = 1 << 18
_COPIED_BYTES = 1 << 20
_CLASSIC_HEAD = b"II*\0" + bytes(4)
_BIG_HEAD = b"II+\0\x08" + bytes(11)
_CLASSIC_BYTES = (1 << 32) - (1 << 26)  # what a classic TIFF can point to, less some room for metadata and bad deflate


def write_tiff(
    rows: Iterable[Tensor],
    stream: BinaryIO,
    notes: list[str],
    *,
    size: tuple[int, int, int],
    depth: Depth,
    meta: ImageMeta,
) -> None:
    """Write the picture of `size` (H, W, C) that `rows` (h, W, C) of `depth` make from top to bottom.

    Deflate, integers with the horizontal predictor; BigTIFF where the pixels alone might be over 4 GB. A stream that
    cannot go back, such as a pipe, gets the file once it is complete.
    """
    is_big = math.prod(size) * SAMPLE_BYTES[depth] > _CLASSIC_BYTES
    texts, directories = _exif_parts(meta.exif, _BIG_HEAD if is_big else _CLASSIC_HEAD, notes)
    extra = [(tag, "s", 0, text, True) for tag, text in texts.items()]
    if meta.xmp:
        extra.append((_XMP, "B", len(meta.xmp), meta.xmp, True))
    with contextlib.ExitStack() as stack:
        is_file = stream.seekable() and stream.readable() and stream.tell() == 0
        # tifffile asks for a name
        file = stream if is_file else cast(BinaryIO, stack.enter_context(tempfile.NamedTemporaryFile()))
        _write(rows, file, size=size, depth=depth, meta=meta, extra=extra, is_big=is_big)
        if directories:
            _append_directories(file, directories)
        if file is not stream:
            file.seek(0)
            shutil.copyfileobj(file, stream, _COPIED_BYTES)


def _write(
    rows: Iterable[Tensor],
    file: BinaryIO,
    *,
    size: tuple[int, int, int],
    depth: Depth,
    meta: ImageMeta,
    extra: list[tuple],
    is_big: bool,
) -> None:
    _, width, channels = size
    dtype = np.dtype(depth).newbyteorder("<")
    strip_rows = max(1, _STRIP_BYTES // (width * channels * dtype.itemsize))
    tifffile.imwrite(
        file,
        _deflated(_regrouped(rows, strip_rows), dtype),
        shape=size if channels > 1 else size[:2],
        dtype=dtype,
        bigtiff=is_big,
        byteorder="<",
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        rowsperstrip=strip_rows,
        compression="adobe_deflate",
        predictor=depth != "float32",
        resolution=meta.dpi,
        resolutionunit="inch" if meta.dpi else None,
        iccprofile=meta.icc,
        extratags=extra,
        metadata=None,
        software=False,
    )


def _regrouped(rows: Iterable[Tensor], count: int) -> Iterator[np.ndarray]:
    """The same rows, `count` at a time; the last ones may be fewer."""
    held: list[np.ndarray] = []
    for strip in rows:
        rest = strip.numpy()
        while len(rest):
            take = rest[: count - sum(map(len, held))]
            held.append(take)
            rest = rest[len(take) :]
            if sum(map(len, held)) == count:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def _deflated(strips: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[bytes]:
    """The strips as they lie in the file, in their order, deflated by threads."""
    threads = min(8, usable_cores())
    with ThreadPoolExecutor(threads, "tiff") as pool:
        pending: deque[Future[bytes]] = deque()
        for strip in strips:
            pending.append(pool.submit(_deflate, strip, dtype))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _deflate(strip: np.ndarray, dtype: np.dtype) -> bytes:
    """Deflate, of integers the differences between neighbours (TIFF 6.0, section 14)."""
    if dtype.kind == "u":
        strip = np.diff(strip, axis=1, prepend=strip.dtype.type(0))
    return zlib.compress(strip.astype(dtype, order="C", copy=False).data)


def _exif_parts(
    exif: bytes | None, head: bytes, notes: list[str]
) -> tuple[dict[int, bytes], dict[int, TiffImagePlugin.ImageFileDirectory_v2]]:
    """The text tags of bare EXIF, and its directories ready to be written into a file that begins with `head`."""
    if not exif:
        return {}, {}
    texts: dict[int, bytes] = {}
    directories: dict[int, TiffImagePlugin.ImageFileDirectory_v2] = {}
    try:
        with quiet():
            source = Image.Exif()
            source.load(exif)
            for tag in TEXT_TAGS:
                value = source.get(tag)
                if isinstance(value, str) and (tag != _DESCRIPTION or _is_of_one_picture(value, notes)):
                    texts[tag] = value.encode()
            for tag in DIRECTORIES:
                if entries := source.get_ifd(tag):
                    directory = TiffImagePlugin.ImageFileDirectory_v2(head)
                    directory.update(entries)
                    directory.tobytes(0)  # fails here, not half-way through the file
                    directories[tag] = directory
    except Exception:  # a camera's broken directory must not cost the picture
        notes.append("EXIF was not kept: it is damaged")
        return {}, {}
    return texts, directories


def _is_of_one_picture(description: str, notes: list[str]) -> bool:
    """Whether a description may stand in a file of one picture; says what is left out, if it held more than sizes."""
    program = next((name for name, pattern in _OF_STACKS.items() if pattern.search(description)), None)
    if program and not _SHAPE_ALONE.fullmatch(description):
        notes.append(f"dropped the {program} description: it tells of planes and sizes that the result has not")
    return program is None


def _append_directories(file: BinaryIO, directories: dict[int, TiffImagePlugin.ImageFileDirectory_v2]) -> None:
    """Put `directories` behind a finished little-endian TIFF, and behind them its main directory with tags for them.

    tifffile writes no tags that point to directories. A main directory moved to the end is plain TIFF 6.0.
    """
    is_big = _read_at(file, 2, "<H") == 43
    number, pointer, entry, pointer_at = ("<Q", "<Q", "<HHQQ", 8) if is_big else ("<H", "<I", "<HHII", 4)
    kind = 16 if is_big else 4  # LONG8, or LONG
    start = _read_at(file, pointer_at, pointer)
    count, size = _read_at(file, start, number), struct.calcsize(entry)
    entries = [file.read(size) for _ in range(count)]
    for tag, directory in directories.items():
        offset = _aligned_end(file)
        entries.append(struct.pack(entry, tag, kind, 1, offset))
        file.write(directory.tobytes(offset))
    start = _aligned_end(file)
    entries.sort(key=lambda raw: raw[:2][::-1])
    file.write(struct.pack(number, len(entries)) + b"".join(entries) + struct.pack(pointer, 0))
    file.seek(pointer_at)
    file.write(struct.pack(pointer, start))


def _read_at(file: BinaryIO, place: int, layout: str) -> int:
    """The number that stands at `place`; the file is left right behind it."""
    file.seek(place)
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return value


def _aligned_end(file: BinaryIO) -> int:
    """The next even position at the end of the file."""
    file.write(b"\0" * (file.seek(0, io.SEEK_END) % 2))
    return file.tell()
