"""EXIF, XMP and ICC as bytes: the orientation is read and reset in place, nothing else is touched.

Re-serialising EXIF would move the makers' private notes and break their offsets, so one value is patched instead.
"""

import re
import struct

import numpy as np

_ORIENTATION = 0x0112
_EXIF_PREFIX = b"Exif\x00\x00"
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>\s*))(\d)""")


def bare_exif(exif: bytes | None) -> bytes | None:
    """EXIF without the prefix that JPEG puts in front of its TIFF structure; None when it is not EXIF at all."""
    if not exif:
        return None
    exif = exif.removeprefix(_EXIF_PREFIX)
    return exif if exif[:4] in (b"II*\x00", b"MM\x00*") else None


def _orientation_offset(exif: bytes) -> tuple[int, str] | None:
    """Where the two bytes of the orientation stand in bare EXIF, and the struct format that reads them."""
    order = "<" if exif[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION and kind == 3:
                struct.unpack_from(order + "H", exif, entry + 8)
                return entry + 8, order + "H"
    except struct.error:  # a directory that points outside itself has no orientation we could trust
        return None
    return None


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 to 8 as EXIF numbers them (1 = upright): from EXIF, else from XMP, else 1."""
    place = _orientation_offset(exif) if exif else None
    if exif and place:
        (value,) = struct.unpack_from(place[1], exif, place[0])
        return value if 1 <= value <= 8 else 1
    found = _XMP_ORIENTATION.search(xmp) if xmp else None
    value = int(found[2]) if found else 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes | None) -> bytes | None:
    """The same EXIF saying "upright"."""
    place = _orientation_offset(exif) if exif else None
    if not exif or not place:
        return exif
    patched = bytearray(exif)
    struct.pack_into(place[1], patched, place[0], 1)
    return bytes(patched)


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The same XMP saying "upright"."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else xmp


def turn_upright(pixels: np.ndarray, value: int) -> np.ndarray:
    """`pixels` (H, W, C) turned and mirrored as EXIF orientation `value` asks; contiguous."""
    if value in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def usable_icc(icc: bytes | None, channels: int) -> tuple[bytes | None, str | None]:
    """The profile if it describes pixels of this kind, else None and a sentence why it was dropped."""
    if not icc:
        return None, None
    space = icc[16:20]
    if icc[36:40] != b"acsp" or len(icc) < 128:
        return None, "dropped a colour profile that is damaged"
    if space != (b"GRAY" if channels < 3 else b"RGB "):
        return None, f"dropped a colour profile made for {space.decode('latin1').strip()} pixels"
    return icc, None


def sensible_dpi(dpi: object) -> tuple[float, float] | None:
    """The resolution as two floats, or None where a file gives a placeholder or nonsense."""
    try:
        x, y = (float(value) for value in dpi)  # type: ignore[union-attr]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e6 and 1 < y < 1e6 else None
