"""Encoding a frame into each of the formats: what a format cannot hold is converted, and every conversion is said."""

import io
from typing import BinaryIO

import numpy as np
import tifffile
import torch
from PIL import Image

from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.data.png import PngWriter
from imagesmith.errors import OutputError
from imagesmith.tensors import Depth, from_float, to_float

_JPEG_LARGEST, _WEBP_LARGEST, _AVIF_LARGEST = 65500, 16383, 65535
_SEGMENT = 65533  # what one JPEG segment can carry
_ROWS_PER_WRITE = 256


def encode(frame: Frame, stream: BinaryIO, name: str, quality: int | None) -> tuple[str, ...]:
    """Write `frame` as format `name`; returns what was changed."""
    notes: list[str] = []
    frame = _fitted(frame, name, notes)
    largest = {"jpg": _JPEG_LARGEST, "webp": _WEBP_LARGEST, "avif": _AVIF_LARGEST}.get(name)
    height, width, channels = frame.pixels.shape
    if largest and max(height, width) > largest:
        raise OutputError(
            f"expected at most {largest} pixels a side for {name}, got {width}x{height}\nwrite it as png or tif"
        )
    if name == "png":
        _write_png(frame, stream)
    elif name == "tif":
        _write_tiff(frame, stream, notes)
    else:
        _write_pillow(frame, stream, name, quality, notes)
    return tuple(notes)


def _fitted(frame: Frame, name: str, notes: list[str]) -> Frame:
    """The frame in a depth and with channels that format `name` holds."""
    pixels, depth = frame.pixels, frame.depth
    wanted: Depth = "uint8"
    if name == "tif" or (depth == "uint16" and (name == "png" or (name == "jp2" and pixels.shape[2] == 1))):
        wanted = depth
    elif name == "png" and depth == "float32":
        wanted = "uint16"
    if wanted != depth:
        if depth == "float32" and ((pixels < 0).any() or (pixels > 1).any()):
            notes.append(f"{name} holds no float: values outside 0 to 1 were clipped")
        notes.append(f"{depth} reduced to {wanted}, which is what {name} holds")
        pixels = torch.cat([from_float(to_float(rows, depth), wanted) for rows in pixels.split(_ROWS_PER_WRITE)])
    if name in ("jpg", "bmp") and pixels.shape[2] in (2, 4):
        pixels = _on_white(pixels, name, notes)
    if name in ("webp", "avif") and pixels.shape[2] < 3:
        gray, alpha = pixels[..., :1].expand(-1, -1, 3), pixels[..., 1:]
        pixels = torch.cat((gray, alpha), dim=2)
        notes.append(f"gray written as RGB, which is what {name} holds")
        if frame.meta.icc:
            notes.append("dropped the gray colour profile")
            frame = Frame(pixels, wanted, _without_icc(frame.meta))
    return Frame(pixels, wanted, frame.meta)


def _without_icc(meta: ImageMeta) -> ImageMeta:
    return ImageMeta(meta.format, meta.mode, None, meta.exif, meta.xmp, meta.dpi, meta.notes, meta.lossless)


def _on_white(pixels: torch.Tensor, name: str, notes: list[str]) -> torch.Tensor:
    """Drop the alpha channel of 8-bit pixels, laying what is not opaque over white."""
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    if (alpha == 255).all():
        notes.append(f"dropped an alpha channel that is opaque everywhere; {name} holds none")
        return colour.contiguous()
    notes.append(f"transparency laid over white; {name} holds no alpha (png, webp and tif do)")
    blended = [
        from_float(1 + (to_float(c, "uint8") - 1) * to_float(a, "uint8"), "uint8")
        for c, a in zip(colour.split(_ROWS_PER_WRITE), alpha.split(_ROWS_PER_WRITE), strict=True)
    ]
    return torch.cat(blended)


def _write_png(frame: Frame, stream: BinaryIO) -> None:
    height, width, channels = frame.pixels.shape
    writer = PngWriter(stream, width, height, channels, frame.depth, frame.meta)
    try:
        for rows in frame.pixels.split(_ROWS_PER_WRITE):
            writer.write_rows(rows)
        writer.close()
    finally:
        writer.abandon()


def _write_tiff(frame: Frame, stream: BinaryIO, notes: list[str]) -> None:
    """Deflate with predictor; BigTIFF above 4 GiB. Pillow writes the depths it knows, with EXIF, tifffile the others."""
    height, width, channels = frame.pixels.shape
    meta = frame.meta
    if frame.depth == "uint8" or channels == 1:
        exif = Image.Exif()
        if meta.exif:
            exif.load(meta.exif)
        options = (
            {"compression": "tiff_adobe_deflate", "tiffinfo": {700: meta.xmp}}
            if meta.xmp
            else {"compression": "tiff_adobe_deflate"}
        )
        _save(frame, stream, "TIFF", exif=exif, **options)
        return
    if meta.exif:
        notes.append("EXIF was not kept: it cannot be written beside 16-bit or float colour in tif")
    extra = [(700, "B", len(meta.xmp), meta.xmp, True)] if meta.xmp else []
    tifffile.imwrite(
        stream,
        frame.pixels.numpy() if channels > 1 else frame.pixels.numpy()[..., 0],
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


def _write_pillow(frame: Frame, stream: BinaryIO, name: str, quality: int | None, notes: list[str]) -> None:
    meta = frame.meta
    options: dict[str, object] = {}
    if name == "jpg":
        options = {"quality": 95 if quality is None else quality, "subsampling": "4:4:4"}
        if meta.exif and len(meta.exif) + 8 <= _SEGMENT:
            options["exif"] = b"Exif\0\0" + meta.exif
        elif meta.exif:
            notes.append("EXIF was not kept: it is larger than JPEG allows")
        if meta.xmp and len(meta.xmp) + 31 <= _SEGMENT:
            options["xmp"] = meta.xmp
        elif meta.xmp:
            notes.append("XMP was not kept: it is larger than JPEG allows")
    elif name in ("webp", "avif"):
        options = {"quality": 95 if quality is None else quality}
        if name == "webp":
            options |= {"lossless": meta.lossless and quality is None, "exact": True}
            if options["lossless"]:
                options |= {"quality": 50, "method": 2}  # effort, not loss
        else:
            options |= {"subsampling": "4:4:4"}
        if meta.exif:
            options["exif"] = meta.exif
        if meta.xmp:
            options["xmp"] = meta.xmp
        if meta.dpi:
            notes.append(f"the resolution in dpi was not kept: {name} holds it only inside EXIF")
    elif meta.exif or meta.xmp:
        notes.append(f"EXIF and XMP were not kept: {name} holds none")
    if name == "bmp" and meta.icc:
        notes.append("the colour profile was not kept: bmp holds none")
    if name == "jp2":
        if meta.dpi:
            notes.append("the resolution in dpi was not kept in jp2")
        if meta.icc:
            notes.append("the colour profile was not kept in jp2")
        options = {"irreversible": False, "mct": 1} if frame.pixels.shape[2] >= 3 else {"irreversible": False}
    _save(frame, stream, {"jpg": "JPEG", "jp2": "JPEG2000"}.get(name, name.upper()), **options)


def _save(frame: Frame, stream: BinaryIO, pillow_name: str, **options: object) -> None:
    """Encode in memory first: a full disk then shows as what it is, not as a codec's error."""
    array = frame.pixels.numpy()
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    if frame.meta.icc:
        options["icc_profile"] = frame.meta.icc
    if frame.meta.dpi:
        options["dpi"] = frame.meta.dpi
    packed = io.BytesIO()
    image.save(packed, pillow_name, **options)
    stream.write(packed.getbuffer())
