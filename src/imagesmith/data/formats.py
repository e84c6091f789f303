"""The list of picture formats: how each is told by its content, opened and named on disk. No other is ever decoded."""

from collections.abc import Callable
from dataclasses import dataclass

from imagesmith.data.decoded import TITLES, ImageFormat
from imagesmith.data.dicom_reader import DicomFile
from imagesmith.data.pillow_formats import PillowFile
from imagesmith.data.png_reader import PngFile
from imagesmith.data.tiff_reader import TiffFile
from imagesmith.errors import FormatError, OutputError
from imagesmith.tensors import Depth


@dataclass(frozen=True)
class Format:
    """One picture format: `suffixes` with the usual one first, `open` reads a header."""

    suffixes: tuple[str, ...]
    open: Callable[[bytes], ImageFormat]


def _pillow(name: str) -> Callable[[bytes], ImageFormat]:
    return lambda data: PillowFile(name, data)


FORMATS: dict[str, Format] = {
    "jpg": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), _pillow("jpg")),
    "png": Format((".png", ".apng"), PngFile),
    "webp": Format((".webp",), _pillow("webp")),
    "tif": Format((".tif", ".tiff"), TiffFile),
    "bmp": Format((".bmp", ".dib"), _pillow("bmp")),
    "gif": Format((".gif",), _pillow("gif")),
    "avif": Format((".avif",), _pillow("avif")),
    "jp2": Format((".jp2", ".j2k", ".jpx", ".j2c", ".jpc", ".jpf"), _pillow("jp2")),
    "dcm": Format((".dcm", ".dicom", ".ima"), DicomFile),
}
SUFFIXES = frozenset(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
ACCEPTED = ", ".join(TITLES[name] for name in FORMATS)

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
    (b"II+\x00", "tif"),
    (b"MM\x00+", "tif"),
    (b"BM", "bmp"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_DICOM_AT = 128  # behind a preamble of any content (DICOM PS3.10, section 7.1)
_MATROSKA = b"\x1a\x45\xdf\xa3"
_GZIP = b"\x1f\x8b"
_UNREAD_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # where in the file, what stands there, what it is called
    (0, b"%PDF", "PDF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"ObjectType =", "MetaImage"),
    (0, b"NDims =", "MetaImage"),
    (344, b"n+1\x00", "NIfTI"),
    (344, b"ni1\x00", "NIfTI"),
    (4, b"n+2\x00", "NIfTI"),
)


ENOUGH_TO_TELL = 512
"""Bytes from which `format_of` knows every format."""


def format_of(data: bytes) -> str:
    """The key in `FORMATS` of a file's content; FormatError names the list."""
    if is_dicom(data):  # asked first: what its preamble says besides may be TIFF
        return "dcm"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        brands = data[8 : max(16, min(int.from_bytes(data[:4], "big"), 512))]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
    raise FormatError(f"expected {ACCEPTED}, got {_refused(data)}")


def is_dicom(data: bytes) -> bool:
    """Whether a file that begins so is DICOM, which often has no ending in its name."""
    return data[_DICOM_AT : _DICOM_AT + 4] == b"DICM"


def _refused(data: bytes) -> str:
    """What a file is that is no picture to be read, and what can be done about it."""
    if not data:
        return "an empty file"
    is_heic = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
    is_film = not is_heic and (data[4:8] == b"ftyp" or data.startswith(_MATROSKA) or data[8:12] == b"AVI ")
    if is_film:
        return "a film\nimagesmith restore takes films whose names end as films do, in .mp4, .mkv or .avi: rename it"
    if data.startswith(_GZIP):
        return "a gzip archive\nunpack it first"
    called = (name for at, magic, name in _UNREAD_MAGIC if data.startswith(magic, at))
    what = "HEIC" if is_heic else next(called, f"content that begins with {data[:8]!r}")
    return f"{what}\nconvert it to one of these first"


def format_named(text: str) -> str:
    """The key in `FORMATS` that a user means by "JPEG", ".tiff" or "png"."""
    suffix = "." + text.lower().lstrip(".")
    for name, entry in FORMATS.items():
        if suffix in entry.suffixes or text.lower() == TITLES[name].lower():
            return name
    raise FormatError(f"expected one of {', '.join(FORMATS)}, got '{text}'")


LARGEST_SIDE = {"jpg": 65500, "webp": 16383, "avif": 65535}
"""Pixels a side that a format or its encoder stops at (libjpeg short of 65535); others take what memory takes."""


def output_format(name: str, depth: Depth, channels: int, longest_side: int = 0) -> str:
    """The format that keeps what a picture is: its own where that can hold it, else PNG, or TIFF for float."""
    if name == "dcm":
        return name
    if depth == "float32":
        return "tif"
    holds: dict[str, set[tuple[str, int]]] = {
        "png": {(d, c) for d in ("uint8", "uint16") for c in (1, 2, 3, 4)},
        "tif": {(d, c) for d in ("uint8", "uint16") for c in (1, 2, 3, 4)},
        "jpg": {("uint8", 1), ("uint8", 3)},
        "bmp": {("uint8", 1), ("uint8", 3)},
        "webp": {("uint8", c) for c in (1, 2, 3, 4)},
        "avif": {("uint8", c) for c in (1, 2, 3, 4)},
        "jp2": {("uint8", 1), ("uint8", 2), ("uint8", 3), ("uint8", 4), ("uint16", 1)},
    }
    fits = (depth, channels) in holds.get(name, set()) and longest_side <= LARGEST_SIDE.get(name, longest_side)
    return name if fits else "png"


def check_source(name: str, source: str) -> None:
    """OutputError where a picture read from format `source` is to become one that cannot be made of it."""
    if name == "dcm" and source != name:
        raise OutputError(f"expected a DICOM file to be written as DICOM, got {TITLES[source]}\nwrite it as png or tif")


def check_side(name: str, width: int, height: int) -> None:
    """OutputError where a picture is larger than format `name` takes."""
    largest = LARGEST_SIDE.get(name)
    if largest and max(width, height) > largest:
        raise OutputError(
            f"expected at most {largest} pixels a side for {name}, got {width}x{height}\nwrite it as png or tif"
        )
