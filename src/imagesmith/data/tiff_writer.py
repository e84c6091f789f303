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
    extra += [(tag, "I", 1, 0, True) for tag in directories]
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
    """Put each directory at the end of a finished TIFF and point its tag there."""
    if not directories:
        return
    with tifffile.TiffFile(packed) as tiff:
        tags = tiff.pages.first.tags
        pointers = {tag: tags[tag].valueoffset for tag in directories}
    for tag, directory in directories.items():
        end = packed.seek(0, io.SEEK_END)
        packed.write(b"\0" * (end % 2))
        offset = packed.tell()
        packed.write(directory.tobytes(offset))
        packed.seek(pointers[tag])
        packed.write(struct.pack("<I", offset))
