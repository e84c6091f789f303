"""EXIF, XMP and ICC as bytes: what a turned or enlarged picture makes wrong is patched in place, the rest is kept.

Re-serialising EXIF would move the makers' private notes and break their offsets, so single values are patched instead.
"""

import re
import struct

import numpy as np

from imagesmith.data.frame import Captions

_ORIENTATION, _CAMERA = 0x0112, 0x8769
_WIDTH, _HEIGHT = (0x0100, 0xA002), (0x0101, 0xA003)  # in the main directory, and in the camera's
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_SHORT, _LONG = 3, 4
_EXIF_PREFIX = b"Exif\x00\x00"
_XMP_SIZE = re.compile(
    rb"""((?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension"""
    rb"""|GPano:(?:FullPano|CroppedArea|LargestValidInteriorRect)(?:Image)?(?:Width|Height|Left|Top)(?:Pixels)?)"""
    rb"""(?:\s*=\s*["']|\s*>\s*))(\d{1,9})(?![\d.])"""
)
_XMP_THUMBNAIL, _XMP_THUMBNAIL_END = b"<xmp:Thumbnails", b"</xmp:Thumbnails>"
_BESIDE = rb"(?:(?:hdrgm|HDRGainMap):\w+|GCamera:(?:MotionPhoto|MicroVideo)\w*|G?Container:Directory)"
_XMP_BESIDE = re.compile(
    rb"""\s%b\s*=\s*(?:"[^"]*"|'[^']*')|<(%b)(?:\s[^>]*)?(?:/>|(?<!/)>.*?</\1\s*>)""" % (_BESIDE, _BESIDE), re.S
)
_GAIN_MAP = re.compile(rb"hdrgm:|GainMap")
_MOTION = re.compile(rb"GCamera:(?:MotionPhoto|MicroVideo)")
_RESOURCES, _RESOURCE = b"Photoshop 3.0\0", b"8BIM"
_THUMBNAIL_RESOURCES = (1033, 1036)
_THUMBNAIL_DROPPED = "thumbnail dropped: it showed the picture before"
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>\s*))(\d)""")


def bare_exif(exif: bytes | None) -> bytes | None:
    """EXIF without the prefix that JPEG puts in front of its TIFF structure; None when it is not EXIF at all."""
    if not exif:
        return None
    exif = exif.removeprefix(_EXIF_PREFIX)
    return exif if exif[:4] in (b"II*\x00", b"MM\x00*") else None


class _Exif:
    """Bare EXIF opened for reading and patching; of a directory that is cut or points outside, what is there counts."""

    def __init__(self, exif: bytes):
        self.data = bytearray(exif)
        self._order = "<" if exif[:2] == b"II" else ">"
        self._main, self._end = self._directory(4)
        camera = self._main.get(_CAMERA)
        self._camera = self._directory(camera + 8)[0] if camera else {}

    def _directory(self, pointer: int) -> tuple[dict[int, int], int | None]:
        """Where each tag's entry stands in the directory that four bytes at `pointer` lead to, and where it ends."""
        order, data, entries = self._order, self.data, {}
        try:
            (start,) = struct.unpack_from(order + "I", data, pointer)
            (count,) = struct.unpack_from(order + "H", data, start)
            for entry in range(start + 2, start + 2 + 12 * count, 12):
                tag, *_ = struct.unpack_from(order + "HHII", data, entry)
                entries[tag] = entry
            end = start + 2 + 12 * count
            struct.unpack_from(order + "I", data, end)
        except struct.error:
            return entries, None
        return entries, end

    @property
    def orientation(self) -> int | None:
        entry = self._main.get(_ORIENTATION)
        if entry is None:
            return None
        kind, _, value = struct.unpack_from(self._order + "HIH", self.data, entry + 2)
        return value if kind == _SHORT else None

    def turn_upright(self) -> None:
        """Reset the orientation; a thumbnail that lies on its side is dropped, as readers show it unturned."""
        if self.orientation in (None, 1):
            return
        struct.pack_into(self._order + "H", self.data, self._main[_ORIENTATION] + 8, 1)
        self.drop_thumbnail()

    def drop_thumbnail(self) -> bool:
        """Unlink the directory of the thumbnail and blank its JPEG where it stands; whether there was one."""
        if self._end is None or not any(self.data[self._end : self._end + 4]):
            return False
        directory, _ = self._directory(self._end)
        start, size = (self._number(directory, tag) for tag in (_THUMBNAIL, _THUMBNAIL_BYTES))
        if start and size and self.data.startswith(b"\xff\xd8", start):  # elsewhere it would blank what is no picture
            end = min(start + size, len(self.data))
            self.data[start:end] = bytes(end - start)
        struct.pack_into(self._order + "I", self.data, self._end, 0)
        return True

    def _number(self, directory: dict[int, int], tag: int) -> int | None:
        """The value of a tag that holds one whole number; None where there is none."""
        if tag not in directory:
            return None
        (kind,) = struct.unpack_from(self._order + "H", self.data, directory[tag] + 2)
        return struct.unpack_from(self._order + ("H" if kind == _SHORT else "I"), self.data, directory[tag] + 8)[0]

    def set_size(self, width: int, height: int) -> None:
        """Correct the sizes that are given; none is added."""
        for directory, place in ((self._main, 0), (self._camera, 1)):
            for tag, value in ((_WIDTH[place], width), (_HEIGHT[place], height)):
                if tag in directory:
                    struct.pack_into(self._order + "HII", self.data, directory[tag] + 2, _LONG, 1, value)


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 to 8 as EXIF numbers them (1 = upright): from EXIF, else from XMP, else 1."""
    value = _Exif(exif).orientation if exif else None
    if value is None:
        found = _XMP_ORIENTATION.search(xmp) if xmp else None
        value = int(found[2]) if found else 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes | None) -> bytes | None:
    """The same EXIF saying "upright", without a thumbnail that is not."""
    if not exif:
        return exif
    opened = _Exif(exif)
    opened.turn_upright()
    return bytes(opened.data)


def resized_exif(exif: bytes | None, width: int, height: int) -> tuple[bytes | None, str | None]:
    """The same EXIF with its sizes, where it gives any, set to these, and a sentence where it lost its thumbnail."""
    if not exif:
        return exif, None
    opened = _Exif(exif)
    opened.set_size(width, height)
    had_one = opened.drop_thumbnail()
    return bytes(opened.data), _THUMBNAIL_DROPPED if had_one else None


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The same XMP saying "upright"."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else xmp


def resized_xmp(xmp: bytes | None, scale: int) -> tuple[bytes | None, str | None]:
    """The same XMP with its sizes and places in pixels times `scale`, and a sentence where it lost its thumbnail."""
    if not xmp:
        return xmp, None
    if scale != 1:
        xmp = _XMP_SIZE.sub(lambda found: found[1] + b"%d" % (int(found[2]) * scale), xmp)
    start, end = xmp.find(_XMP_THUMBNAIL), xmp.rfind(_XMP_THUMBNAIL_END)
    if not 0 <= start < end:
        return xmp, None
    return xmp[:start] + xmp[end + len(_XMP_THUMBNAIL_END) :], _THUMBNAIL_DROPPED


def bare_captions(captions: Captions) -> tuple[Captions, str | None]:
    """The same without the thumbnails that Photoshop keeps beside a JPEG's IPTC, and a sentence where there was one.

    Resources of (Adobe Photoshop File Formats Specification, "Image Resource Blocks"): a mark, a number, a name, a size
    and so many bytes, each padded to even lengths.
    """
    bare = tuple((kind, _without_thumbnails(content)) for kind, content in captions)
    return bare, None if bare == captions else _THUMBNAIL_DROPPED


def _without_thumbnails(segment: bytes) -> bytes:
    at, kept = len(_RESOURCES), []
    if not segment.startswith(_RESOURCES):
        return segment
    while segment.startswith(_RESOURCE, at) and at + 12 <= len(segment):
        named = at + 6 + (1 + segment[at + 6] + 1) // 2 * 2
        size = int.from_bytes(segment[named : named + 4], "big")
        end = named + 4 + (size + 1) // 2 * 2
        if int.from_bytes(segment[at + 4 : at + 6], "big") not in _THUMBNAIL_RESOURCES:
            kept.append(segment[at:end])
        at = end
    return _RESOURCES + b"".join(kept) + segment[at:]


def has_gain_map(xmp: bytes | None) -> bool:
    """Whether a JPEG's XMP tells of a picture behind the first one that makes it brighter."""
    return xmp is not None and _GAIN_MAP.search(xmp) is not None


def xmp_of_first(xmp: bytes | None) -> tuple[bytes | None, list[str]]:
    """A JPEG's XMP without what tells of pictures and films behind the first picture, and sentences on those."""
    if not xmp:
        return xmp, []
    notes = []
    if has_gain_map(xmp):
        notes.append("its gain map was not kept: what it makes brighter than white stays white")
    if _MOTION.search(xmp):
        notes.append("the film of its motion photo was not kept")
    return _XMP_BESIDE.sub(b"", xmp), notes


def turn_upright(pixels: np.ndarray, value: int) -> np.ndarray:
    """`pixels` (H, W, C) turned and mirrored as EXIF orientation `value` asks; contiguous."""
    if value in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def other_colours(told_by: str) -> str:
    """What is said of pixels that are not those of sRGB where no profile but only `told_by` tells so."""
    return f"its colours are not those of sRGB ({told_by}), which is not kept: they may look off"


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
