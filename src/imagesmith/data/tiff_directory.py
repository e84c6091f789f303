"""Directories of classic TIFF files, put together by hand."""

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import tifffile

SAMPLE_TAGS = (258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 332, 338, 339, 347, 529, 530, 531, 532)
"""Tags that tell how pixels are stored, apart from their number and their places."""
LONG = 4
_LONG8 = 16
Entry = tuple[int, int, bytes]
"""Type, count and value of a tag (TIFF 6.0, section 2), the value in the byte order of the file."""


def longs(order: str, numbers: Sequence[int]) -> Entry:
    """A tag of 32-bit integers; `order` is '<' or '>'."""
    return LONG, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)


def stored(tag: tifffile.TiffTag, file: BinaryIO, order: str) -> Entry:
    """A tag as it stands in the file, in a form that classic TIFF knows."""
    if tag.dtype >= _LONG8:
        return longs(order, tag.value if isinstance(tag.value, tuple) else (tag.value,))
    file.seek(tag.valueoffset)
    return int(tag.dtype), tag.count, file.read(tag.valuebytecount)


def head(order: str, directory_at: int) -> bytes:
    """The 8 bytes that a file begins with."""
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, directory_at)


def directory(order: str, at: int, entries: Mapping[int, Entry]) -> bytes:
    """The only directory of a file, to stand at the place `at`, with the values that it has no room for behind it."""
    values_at = at + 2 + 12 * len(entries) + 4
    packed, values = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, count, value) in sorted(entries.items()):
        is_inside = len(value) <= 4
        here = value.ljust(4, b"\0") if is_inside else struct.pack(order + "I", values_at + len(values))
        packed += struct.pack(order + "HHI", tag, kind, count) + here
        values += b"" if is_inside else value + b"\0" * (len(value) % 2)
    return packed + b"\0\0\0\0" + values
