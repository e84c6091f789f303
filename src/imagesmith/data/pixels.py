"""Only the 8-bit pixels of a picture, for data sets of many thousand small files."""

import io
from pathlib import Path

import numpy as np
from PIL import JpegImagePlugin

from imagesmith.data.decoded import quiet
from imagesmith.data.files import read_image
from imagesmith.tensors import from_float, to_float

_MOST_QUICK_PIXELS = 1 << 22


def read_pixels(source: Path | bytes) -> np.ndarray:
    """uint8 (H, W, 1-4) of a picture: `read_image(source).pixels` brought to 8 bits. Raises as `read_image` does."""
    if isinstance(source, Path):
        try:
            source_bytes = source.read_bytes() if source.is_file() else None
        except OSError:
            source_bytes = None
    else:
        source_bytes = source
    if source_bytes is not None and (pixels := _plain_jpeg(source_bytes)) is not None:
        return pixels
    frame = read_image(source)
    pixels = frame.pixels if frame.depth == "uint8" else from_float(to_float(frame.pixels, frame.depth), "uint8")
    return pixels.numpy()


def _plain_jpeg(data: bytes) -> np.ndarray | None:
    """The pixels of a JPEG that is gray or RGB, small and without orientation; None leaves it to `read_image`.

    Most of `read_image`'s time on a picture of 32 pixels goes into metadata that a data set has no use for.
    """
    if not data.startswith(b"\xff\xd8\xff"):
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
