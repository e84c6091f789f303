"""Pictures in memory - PIL images, arrays, tensors - as frames, and back as what they were."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagesmith.data.dicom_writer import shown
from imagesmith.data.files import DEPTHS, LEVEL_NOT_KEPT, Frame, ImageMeta, frame_of, read_image
from imagesmith.data.metadata import bare_captions, resized_exif, resized_xmp
from imagesmith.data.scanlines import Picture
from imagesmith.errors import UsageError
from imagesmith.tensors import from_float, to_float

Rebuild = Callable[[list[Frame]], Any]


def through(restored: Callable[[Frame], Frame], image: Any) -> Any:
    """What `restored` makes of a Frame, PIL image, array or tensor, as the same kind; a path gives a PIL image.

    A warning tells where a file has more bits than Pillow takes, or more pictures than one.
    """
    if isinstance(image, str | Path):
        frame = read_image(image)
        if frame.meta.frames > 1:
            warnings.warn(
                f"{image}: the first of {frame.meta.frames} pictures is taken\n"
                "pass the others singly, or a film to imagesmith.restore_video",
                stacklevel=3,
            )
        if frame.channels > 1 and frame.depth != "uint8":
            warnings.warn(
                f"{image}: a PIL image holds 8 bits of colour, the file has {frame.depth}\n"
                "pass imagesmith.read_image(path) for a Frame that keeps them, and imagesmith.write_image to save it",
                stacklevel=3,
            )
        return to_pil(restored(frame))
    if isinstance(image, Frame):
        return restored(image)
    frames, rebuild = unwrap(image)
    return rebuild([restored(frame) for frame in frames])


def unwrap(image: Any) -> tuple[list[Frame], Rebuild]:
    """The frames of a PIL image, array or tensor, and the function that makes the same kind of their results.

    UsageError for other kinds, for shapes and dtypes that are no picture's, and for values that are not finite.
    """
    if isinstance(image, Image.Image):
        frames, rebuild = _unwrap_pil(image)
    elif isinstance(image, np.ndarray):
        frames, rebuild = _unwrap_array(image)
    elif isinstance(image, Tensor):
        frames, rebuild = _unwrap_tensor(image)
    else:
        raise UsageError(f"expected a path, PIL image, array or tensor, got {type(image).__name__}")
    bad = sum(int((~frame.pixels.isfinite()).sum()) for frame in frames if frame.depth == "float32")
    if bad:
        raise UsageError(
            f"expected finite values, got {bad} that are NaN or infinite\n"
            "give them values first, such as numpy.nan_to_num does"
        )
    return frames, rebuild


def stacked(strips: Iterable[Tensor], frame: Picture, scale: int) -> Tensor:
    """The picture (H * scale, W * scale, C) whose strips come from top to bottom, with room for one picture only."""
    pixels, top = torch.empty(0), 0
    for strip in strips:
        if top == 0:
            pixels = strip.new_empty((frame.height * scale, frame.width * scale, frame.channels))
        pixels[top : top + len(strip)] = strip
        top += len(strip)
    return pixels


def result_meta(frame: Picture, scale: int, made_by: str, notes: Iterable[str] = ()) -> ImageMeta:
    """What the result of `frame` carries: all of it, with the sizes that are now true, and `notes` added once each.

    Thumbnails, which show the picture as it was before, are dropped.
    """
    meta = frame.meta
    exif, of_exif = resized_exif(meta.exif, frame.width * scale, frame.height * scale)
    xmp, of_xmp = resized_xmp(meta.xmp, scale)
    captions, of_captions = bare_captions(meta.captions)
    return replace(
        meta,
        exif=exif,
        xmp=xmp,
        captions=captions,
        notes=tuple(dict.fromkeys((*meta.notes, *notes, *filter(None, (of_exif, of_xmp, of_captions))))),
        dicom=meta.dicom and replace(meta.dicom, made_by=made_by),
    )


def to_pil(frame: Frame) -> Image.Image:
    """A PIL image; colour of more than 8 bits, for which Pillow has no mode, is rounded to 8, DICOM as it is shown."""
    frame = shown(frame, "png", [])
    pixels = frame.pixels
    if pixels.shape[2] > 1 and frame.depth != "uint8":
        pixels = from_float(to_float(pixels, frame.depth), "uint8")
    array = pixels.numpy()
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    exif = frame.meta.exif and b"Exif\0\0" + frame.meta.exif  # as Pillow's own readers have it
    found = {"icc_profile": frame.meta.icc, "exif": exif, "xmp": frame.meta.xmp, "dpi": frame.meta.dpi}
    image.info.update({key: value for key, value in found.items() if value is not None})
    return image


def _unwrap_pil(image: Image.Image) -> tuple[list[Frame], Rebuild]:
    frame = frame_of(image)
    if LEVEL_NOT_KEPT in frame.meta.notes:
        warnings.warn(
            f"{LEVEL_NOT_KEPT}\npass imagesmith.read_image(path) for a Frame that keeps it",
            stacklevel=5,
        )
    return [frame], lambda frames: to_pil(frames[0])


def _unwrap_array(image: np.ndarray) -> tuple[list[Frame], Rebuild]:
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] > 4):
        raise UsageError(f"expected an array (H, W) or (H, W, C) with C from 1 to 4, got shape {image.shape}")
    native = image.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16) and native.kind != "f":
        raise UsageError(f"expected an array of uint8, uint16 or float, got {image.dtype}")
    if np.ma.is_masked(image):
        raise UsageError(
            f"expected an array with all its values, got {np.ma.count_masked(image)} that are masked\n"
            "give them values first, such as image.filled(0) does"
        )
    array = np.array(image, np.float32 if native.kind == "f" else native)

    def rebuild(frames: list[Frame]) -> np.ndarray:
        restored = frames[0].pixels.numpy().astype(image.dtype, copy=False)
        return restored[..., 0] if image.ndim == 2 else restored

    return [_frame(torch.from_numpy(array.reshape(*array.shape[:2], -1)), "array")], rebuild


def _unwrap_tensor(image: Tensor) -> tuple[list[Frame], Rebuild]:
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 2, 3, 4) or image.numel() == 0:
        raise UsageError(
            f"expected a tensor (N, C, H, W) or (C, H, W) with C from 1 to 4, got shape {tuple(image.shape)}"
        )
    if image.layout is not torch.strided or image.is_meta:
        found = "one on the device meta, without values" if image.is_meta else str(image.layout).removeprefix("torch.")
        raise UsageError(f"expected a dense tensor, got {found}\nmake it dense first, such as to_dense does")
    if not image.dtype.is_floating_point:
        raise UsageError(f"expected a float tensor in [0, 1], got {image.dtype}; see imagesmith.tensors.to_float")
    batch = image.detach().to("cpu", torch.float32).reshape(-1, *image.shape[-3:])

    def rebuild(frames: list[Frame]) -> Tensor:
        if len({frame.pixels.shape for frame in frames}) > 1:
            raise UsageError("expected results of one size, got several; name a scale, or pass the pictures singly")
        restored = torch.stack([frame.pixels.permute(2, 0, 1) for frame in frames])
        restored = restored.to(image.device, image.dtype)
        return restored if image.ndim == 4 else restored[0]

    return [_frame(x.permute(1, 2, 0), "tensor") for x in batch], rebuild


def _frame(pixels: Tensor, mode: str) -> Frame:
    return Frame(pixels, DEPTHS[pixels.dtype], ImageMeta(format="png", mode=mode))
