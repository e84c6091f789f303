"""Encoding a frame into each of the formats: what a format cannot hold is converted, and every conversion is said."""

import dataclasses
import io
import struct
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from imagesmith.data import jp2_boxes
from imagesmith.data.dicom_writer import shown, write_dicom
from imagesmith.data.formats import check_side
from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.data.png import PngWriter
from imagesmith.data.tiff_writer import write_tiff
from imagesmith.tensors import Depth, from_float, to_float

BY_ROWS = ("png", "tif")
"""Formats that are written row by row."""
LOSSY = ("jpg", "avif")
"""Formats that change every pixel a little; WebP does so only where `ImageMeta.lossless` is False."""
_SEGMENT = 65533  # bytes that one segment of a JPEG can carry
_ROWS_AT_ONCE = 256
_QUALITY = 95
_X_RESOLUTION = 282  # the tag of EXIF
_BMP_HOLDS_NO = {"exif": "exif", "xmp": "xmp", "icc_profile": "the colour profile"}
_UNKNOWN_TO = {"bmp": _BMP_HOLDS_NO, "gif": _BMP_HOLDS_NO | {"dpi": "the resolution"}}


def encode(frame: Frame, stream: BinaryIO, name: str, quality: int | None) -> tuple[str, ...]:
    """Write `frame` as format `name`; returns what was changed."""
    notes: list[str] = []
    height, width = frame.pixels.shape[:2]
    check_side(name, width, height)
    if name == "dcm":
        return write_dicom(frame, stream)
    frame = _with_channels_of(name, _at_depth_of(name, shown(frame, name, notes), notes), notes)
    if name in BY_ROWS:
        rows = frame.pixels.split(_ROWS_AT_ONCE)
        size = frame.height, frame.width, frame.channels
        notes += encode_rows(rows, stream, name, size=size, depth=frame.depth, meta=frame.meta)
    else:
        if name == "gif":
            notes.append("reduced to 256 colours: gif holds no more (png does)")
        _write_pillow(frame, stream, name, _options(frame, name, quality, notes))
    return tuple(notes)


def encode_rows(
    rows: Iterable[torch.Tensor],
    stream: BinaryIO,
    name: str,
    *,
    size: tuple[int, int, int],
    depth: Depth,
    meta: ImageMeta,
) -> tuple[str, ...]:
    """Write the picture of `size` (H, W, C) whose rows (h, W, C) of `depth` come from top to bottom; a few are held.

    `name` is one of BY_ROWS, PNG only for integers; returns what was changed.
    """
    height, width, channels = size
    notes = _lost_captions(name, meta)
    if name == "tif":
        write_tiff(rows, stream, notes, size=size, depth=depth, meta=meta)
        return tuple(notes)
    writer = PngWriter(stream, width, height, channels, depth=depth, meta=meta)
    try:
        for strip in rows:
            writer.write_rows(strip)
        writer.close()
    finally:
        writer.abandon()
    return tuple(notes)


def _lost_captions(name: str, meta: ImageMeta) -> list[str]:
    """A sentence where `name` is not the format that holds what the file says in words."""
    if not meta.captions or name == meta.format:
        return []
    return [f"{'IPTC and comments' if meta.format == 'jpg' else 'texts'} not kept: {name} has another place for them"]


def _at_depth_of(name: str, frame: Frame, notes: list[str]) -> Frame:
    """The frame at the nearest depth that format `name` holds."""
    wanted: Depth = "uint8"
    if name == "tif":
        wanted = frame.depth
    elif frame.depth != "uint8" and (name == "png" or (name == "jp2" and frame.pixels.shape[2] == 1)):
        wanted = "uint16"
    if wanted == frame.depth:
        return frame
    if frame.depth == "float32" and ((frame.pixels < 0).any() or (frame.pixels > 1).any()):
        notes.append(f"values outside 0 to 1 were clipped: {name} holds no float (tif does)")
    notes.append(f"{frame.depth} reduced to {wanted}: {name} holds no more here (tif does)")
    strips = [from_float(to_float(rows, frame.depth), wanted) for rows in frame.pixels.split(_ROWS_AT_ONCE)]
    return Frame(torch.cat(strips), wanted, frame.meta)


def _with_channels_of(name: str, frame: Frame, notes: list[str]) -> Frame:
    """The frame with channels that format `name` holds: no alpha in JPEG and BMP, no gray in WebP and AVIF."""
    pixels, meta = frame.pixels, frame.meta
    if name in ("jpg", "bmp") and pixels.shape[2] in (2, 4):
        colour, alpha = pixels[..., :-1], pixels[..., -1:]
        if (alpha == 255).all():
            notes.append(f"dropped an alpha channel that is opaque everywhere: {name} holds none")
            return Frame(colour.contiguous(), frame.depth, meta)
        notes.append(f"transparency laid over white: {name} holds none (png, webp and tif do)")
        return Frame(_on_white(colour, alpha), frame.depth, meta)
    if name in ("webp", "avif") and pixels.shape[2] < 3:
        if meta.icc:
            notes.append("dropped the gray colour profile: the picture is stored as RGB")
            meta = dataclasses.replace(meta, icc=None)
        return Frame(torch.cat((pixels[..., :1].expand(-1, -1, 3), pixels[..., 1:]), dim=2), frame.depth, meta)
    if name == "gif" and pixels.shape[2] in (2, 4):
        colour, alpha = pixels[..., :-1], pixels[..., -1:]
        if ((alpha > 0) & (alpha < 255)).any():
            notes.append("what is half transparent becomes opaque: gif holds nothing between (png and webp do)")
        return Frame(torch.cat((colour.expand(-1, -1, 3), alpha), dim=2), frame.depth, meta)
    return frame


def _on_white(colour: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    strips = zip(colour.split(_ROWS_AT_ONCE), alpha.split(_ROWS_AT_ONCE), strict=True)
    return torch.cat([from_float(1 + (to_float(c, "uint8") - 1) * to_float(a, "uint8"), "uint8") for c, a in strips])


def _options(frame: Frame, name: str, quality: int | None, notes: list[str]) -> dict[str, object]:
    """Keyword arguments of Pillow's `save`; says which metadata the format has no place for."""
    meta, options = frame.meta, {}
    notes += _lost_captions(name, meta)
    kept = {"exif": meta.exif, "xmp": meta.xmp, "icc_profile": meta.icc, "dpi": meta.dpi}
    if name == "jpg":
        options = {"quality": quality or _QUALITY, "subsampling": "4:4:4"}
        kept["exif"] = b"Exif\0\0" + meta.exif if meta.exif else None
        for key, room in (("exif", _SEGMENT), ("xmp", _SEGMENT - 29)):
            if kept[key] and len(kept[key]) > room:
                notes.append(f"{key.upper()} was not kept: it has {len(kept[key])} bytes, more than JPEG allows")
                kept[key] = None
        if meta.format == "jpg":
            kept["extra"] = b"".join(kind + struct.pack(">H", 2 + len(text)) + text for kind, text in meta.captions)
    elif name == "webp":
        lossless = meta.lossless and quality is None
        # of a lossless file "quality" is effort
        options = {"lossless": lossless, "quality": 50 if lossless else quality or _QUALITY, "exact": True}
    elif name == "avif":
        options = {"quality": quality or _QUALITY, "subsampling": "4:4:4"}
    elif name in ("bmp", "gif"):
        lost = [what for key, what in _UNKNOWN_TO[name].items() if kept.pop(key)]
        if lost:
            notes.append(f"{', '.join(lost)} not kept: {name} holds none")
    elif name == "jp2":
        kept = {}  # put in by `jp2_boxes`
        options = {"irreversible": False, "mct": int(frame.pixels.shape[2] > 2)}
    if name in ("webp", "avif") and kept.pop("dpi") and not _tells_resolution(meta.exif):
        notes.append(f"the resolution was not kept: {name} has no place for it outside EXIF")
    return options | {key: value for key, value in kept.items() if value}


def _tells_resolution(exif: bytes | None) -> bool:
    found = Image.Exif()
    found.load(exif or b"")
    return _X_RESOLUTION in found


def _write_pillow(frame: Frame, stream: BinaryIO, name: str, options: dict[str, object]) -> None:
    """Encode in memory first: a full disk then shows as what it is, not as a codec's error."""
    array = frame.pixels.numpy()
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    packed = io.BytesIO()
    image.save(packed, {"jpg": "JPEG", "jp2": "JPEG2000"}.get(name, name.upper()), **options)
    if name == "jp2":
        stream.write(jp2_boxes.with_metadata(packed.getvalue(), frame.meta))
    else:
        stream.write(packed.getbuffer())
