"""Writing TIFF of every depth with tifffile, and the EXIF directories behind it."""

import io
import struct
from typing import BinaryIO

import tifffile
from PIL import Image, TiffImagePlugin

from imagesmith.data.decoded import quiet
from imagesmith.data.frame import Frame

TEXT_TAGS = (270, 271, 272, 305, 306, 315, 316, 33432)  # description, camera, software, date, artist, host, copyright
DIRECTORIES = (0x8769, 0x8825)  # camera settings, place
_XMP = 700


def write_tiff(frame: Frame, stream: BinaryIO, notes: list[str]) -> None:
    """Deflate, integers with the horizontal predictor; BigTIFF from 4 GiB on."""
    meta, channels = frame.meta, frame.pixels.shape[2]
    texts, directories = _exif_parts(meta.exif, notes)
    extra = [(tag, "s", 0, text, True) for tag, text in texts.items()]
    if meta.xmp:
        extra.append((_XMP, "B", len(meta.xmp), meta.xmp, True))
    packed = io.BytesIO()
    tifffile.imwrite(
        packed,
        frame.pixels.numpy() if channels > 1 else frame.pixels.numpy()[..., 0],
        byteorder="<",
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="adobe_deflate",
        predictor=frame.depth != "float32",
        resolution=meta.dpi,
        resolutionunit="inch" if meta.dpi else None,
        iccprofile=meta.icc,
        extratags=extra,
        metadata=None,
        software=False,
    )
    if directories:
        _append_directories(packed, directories)
    stream.write(packed.getbuffer())


def _exif_parts(
    exif: bytes | None, notes: list[str]
) -> tuple[dict[int, bytes], dict[int, TiffImagePlugin.ImageFileDirectory_v2]]:
    """The text tags of bare EXIF, and its directories ready to be written little-endian."""
    if not exif:
        return {}, {}
    texts: dict[int, bytes] = {}
    directories: dict[int, TiffImagePlugin.ImageFileDirectory_v2] = {}
    try:
        with quiet():
            source = Image.Exif()
            source.load(exif)
            for tag in TEXT_TAGS:
                if isinstance(value := source.get(tag), str):
                    texts[tag] = value.encode()
            for tag in DIRECTORIES:
                if entries := source.get_ifd(tag):
                    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
                    directory.update(entries)
                    directory.tobytes(0)  # fails here, not half-way through the file
                    directories[tag] = directory
    except Exception:  # a camera's broken directory must not cost the picture
        notes.append("EXIF was not kept: it is damaged")
        return {}, {}
    return texts, directories


def _append_directories(packed: io.BytesIO, directories: dict[int, TiffImagePlugin.ImageFileDirectory_v2]) -> None:
    """Put `directories` behind a finished little-endian TIFF, and behind them its main directory with tags for them.

    tifffile writes no tags that point to directories. A main directory moved to the end is plain TIFF 6.0.
    """
    view = packed.getbuffer()
    is_big = view[2] == 43
    number, pointer, entry, pointer_at = ("<Q", "<Q", "<HHQQ", 8) if is_big else ("<H", "<I", "<HHII", 4)
    (start,) = struct.unpack_from(pointer, view, pointer_at)
    (count,) = struct.unpack_from(number, view, start)
    first, size = start + struct.calcsize(number), struct.calcsize(entry)
    entries = [bytes(view[at : at + size]) for at in range(first, first + count * size, size)]
    view.release()
    for tag, directory in directories.items():
        offset = _aligned_end(packed)
        entries.append(struct.pack(entry, tag, 4, 1, offset))
        packed.write(directory.tobytes(offset))
    start = _aligned_end(packed)
    entries.sort(key=lambda raw: raw[:2][::-1])
    packed.write(struct.pack(number, len(entries)) + b"".join(entries) + struct.pack(pointer, 0))
    packed.seek(pointer_at)
    packed.write(struct.pack(pointer, start))


def _aligned_end(packed: io.BytesIO) -> int:
    """The next even position at the end of the stream."""
    packed.write(b"\0" * (packed.seek(0, io.SEEK_END) % 2))
    return packed.tell()
