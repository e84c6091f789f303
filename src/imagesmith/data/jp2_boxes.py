"""Boxes of a JP2 file (ISO/IEC 15444-1, annex I) that Pillow does not read or write: profile, EXIF, XMP, density."""

import struct
from collections.abc import Iterator

from imagesmith.data.frame import ImageMeta

SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_EXIF_UUID = b"JpgTiffExif->JP2"
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_RESTRICTED_ICC = 2  # method of a colour box that holds a profile


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """(kind, start, start of content, end) of each box of a box sequence; stops where the lengths make no sense.

    `end` may lie beyond the data when a file was cut short.
    """
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:  # the last one, to the end
            size = len(data) - at
        if size < head:
            return
        yield kind, at, at + head, at + size
        at += size


def read_metadata(data: bytes) -> tuple[bytes | None, bytes | None, bytes | None]:
    """(icc, exif, xmp) of a JP2 file; all None for a bare codestream."""
    icc = exif = xmp = None
    if not data.startswith(SIGNATURE):
        return icc, exif, xmp
    for kind, _, start, end in boxes(data):
        if kind == b"jp2h":
            for inner, _, first, last in boxes(data[start:end]):
                if inner == b"colr" and data[start + first] in (_RESTRICTED_ICC, 3) and icc is None:
                    icc = data[start + first + 3 : start + last]
        elif kind == b"uuid" and data[start : start + 16] == _EXIF_UUID:
            exif = data[start + 16 : end]
        elif kind == b"uuid" and data[start : start + 16] == _XMP_UUID:
            xmp = data[start + 16 : end]
    return icc, exif, xmp


def with_metadata(data: bytes, meta: ImageMeta) -> bytes:
    """A JP2 file as Pillow writes it, with the profile, density, EXIF and XMP of `meta` put in."""
    parts = []
    for kind, at, start, end in boxes(data):
        parts.append(_header(data[start:end], meta) if kind == b"jp2h" else data[at:end])
    if meta.exif:
        parts.append(_box(b"uuid", _EXIF_UUID + meta.exif))
    if meta.xmp:
        parts.append(_box(b"uuid", _XMP_UUID + meta.xmp))
    return b"".join(parts)


def _header(content: bytes, meta: ImageMeta) -> bytes:
    """The header box with the colour box replaced by a profile and a density box appended."""
    inner = []
    for kind, at, _, end in boxes(content):
        if kind == b"colr" and meta.icc:
            inner.append(_box(kind, bytes((_RESTRICTED_ICC, 0, 0)) + meta.icc))
        else:
            inner.append(content[at:end])
    if meta.dpi:
        x, y = (round(value / 0.0254) for value in meta.dpi)  # per metre: numerators, denominators, exponents
        capture = struct.pack(">HHHHbb", *_mantissa(y), *_mantissa(x), _exponent(y), _exponent(x))
        inner.append(_box(b"res ", _box(b"resc", capture)))
    return _box(b"jp2h", b"".join(inner))


def _exponent(per_metre: int) -> int:
    """The least power of ten that brings a density below 65536: each one more costs a digit."""
    return next(exponent for exponent in range(10) if round(per_metre / 10**exponent) < 1 << 16)


def _mantissa(per_metre: int) -> tuple[int, int]:
    return round(per_metre / 10 ** _exponent(per_metre)), 1


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
