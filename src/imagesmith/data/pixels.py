"""Only the 8-bit pixels of a picture, for data sets of many thousand small files."""

import io
from pathlib import Path

import numpy as np
from PIL import JpegImagePlugin

from imagesmith.data import metadata
from imagesmith.data.decoded import quiet
from imagesmith.data.files import Frame, named, read_image
from imagesmith.data.frame import DEPTH_WORDS
from imagesmith.errors import ImageError
from imagesmith.tensors import DEPTH_MAX, Depth, from_float, to_float

FAINT = "values that use their range"
"""What the message expects of a picture of which 8 bits would leave a few levels above black."""
_MOST_QUICK_PIXELS = 1 << 22
_HALF_A_LEVEL = 0.5 / 255  # so far beyond black and white nothing is lost in 8 bits


def read_pixels(source: Path | bytes) -> np.ndarray:
    """uint8 (H, W, 1-4) of a picture: `as_uint8` of `read_image(source)`. Raises as these do."""
    return read_with_depth(source)[0]


def read_with_depth(source: Path | bytes) -> tuple[np.ndarray, Depth]:
    """What `read_pixels` gives, and the depth of the values that it was made of."""
    pixels = _plain_jpeg(_jpeg_bytes(source))
    if pixels is not None:
        return pixels, "uint8"
    frame = read_image(source)
    with named(source):
        return as_uint8(frame), frame.depth


def as_uint8(frame: Frame) -> np.ndarray:
    """The pixels of a frame brought to 8 bits. Raises as `check_unit_range` does."""
    check_unit_range(frame)
    is_deep = frame.depth != "uint8"
    return (from_float(to_float(frame.pixels, frame.depth), "uint8") if is_deep else frame.pixels).numpy()


def check_unit_range(frame: Frame) -> None:
    """ImageError for a picture that 8 bits would spoil.

    Floats, as of heights, CT slices and high dynamic range, would be clipped; the 10 to 13 bits of an instrument in
    values of 16, and floats of small quantities, would become a few levels above black.
    """
    if (peak := frame.faint_peak) is not None:
        raise ImageError(
            f"expected {DEPTH_WORDS[frame.depth]} {FAINT}, got at most {peak:.5g} of {DEPTH_MAX[frame.depth]}; "
            "scale all pictures alike first, or save what is meant to be so dark at 8 bits"
        )
    if frame.depth != "float32":
        return
    low, high = (value.item() for value in frame.pixels.aminmax())
    if low < -_HALF_A_LEVEL or high > 1 + _HALF_A_LEVEL:
        found = f"{low:.4g} to {high:.4g}"
        raise ImageError(f"expected float pixels in [0, 1], got {found}; scale all pictures alike first")


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Height and width of the upright picture: what `read_pixels` gives. Only JPEGs are spared the decoding."""
    try:
        with quiet():
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(_jpeg_bytes(source)))
        turn = metadata.orientation(metadata.bare_exif(image.info.get("exif")), image.info.get("xmp"))
    except Exception:  # no JPEG, or a broken one, of which `read_image` tells in the user's words
        height, width = read_pixels(source).shape[:2]
        return height, width
    return (image.width, image.height) if turn >= 5 else (image.height, image.width)


def _jpeg_bytes(source: Path | bytes) -> bytes:
    """The content of a JPEG, b"" for any other source and for one that cannot be read."""
    try:
        data = source if isinstance(source, bytes) else source.read_bytes() if source.is_file() else b""
    except OSError:
        return b""
    return data if data.startswith(b"\xff\xd8\xff") else b""


def _plain_jpeg(data: bytes) -> np.ndarray | None:
    """The pixels of a JPEG that is gray or RGB, small and without orientation; None leaves it to `read_image`.

    Most of `read_image`'s time on a picture of 32 pixels goes into metadata that a data set has no use for.
    """
    if not data:
        return None
    try:
        with quiet():
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
            is_plain = image.mode in ("L", "RGB") and not {"exif", "xmp"} & image.info.keys()
            if is_plain and image.width * image.height <= _MOST_QUICK_PIXELS:
                return np.array(image).reshape(image.height, image.width, -1)
    except Exception:  # whatever is wrong with it, `read_image` says it in the user's words
        return None
    return None
