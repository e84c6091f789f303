"""Films of generated pictures: H.264 in MP4 for any player, or an animated GIF."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagesmith.atomic import replacing
from imagesmith.data.shapes import as_channels
from imagesmith.data.video.colour import UNTAGGED, FromRgb
from imagesmith.data.video.writer import encoding_errors
from imagesmith.degrade import x264
from imagesmith.errors import UsageError

LEAST_PX = 256
"""Smaller frames are enlarged by a whole factor to at least so many pixels on the longer side."""
MOST_FPS = {".mp4": 240, ".gif": 50}
"""Frames a second by suffix; a GIF counts in hundredths of a second, and viewers take 1/100 for a mistake."""
FILM_ON_WHITE = "transparency laid over white: films hold none here (a folder of png does)"
"""Said of frames with alpha."""
_CRF = "16"  # hardly a visible loss

Write = Callable[[Tensor], None]


@contextlib.contextmanager
def video_writer(path: Path, fps: int, *, overwrite: bool = False) -> Iterator[Write]:
    """A function that adds a frame, uint8 (H, W, 1 to 4), to the film `path` (.mp4 or .gif).

    The film appears when the block ends, as a whole or not at all. All frames have one size. Small ones are enlarged by
    a whole factor without interpolation; H.264 keeps colour at half the resolution and needs even sides, so odd ones
    are enlarged by an even factor. Alpha is laid on white.
    """
    check_video(path, fps)
    open_film = _gif if path.suffix.lower() == ".gif" else _mp4
    with replacing(path, overwrite=overwrite) as stream, encoding_errors(path), open_film(stream, fps) as write:
        yield write


def check_video(path: Path, fps: int) -> None:
    """UsageError where no film of that name or speed can be written."""
    suffix = path.suffix.lower()
    if suffix not in MOST_FPS:
        raise UsageError(f"expected a film that ends in {' or '.join(MOST_FPS)}, got '{path.name}'")
    if not 1 <= fps <= MOST_FPS[suffix]:
        raise UsageError(f"expected 1 to {MOST_FPS[suffix]} frames a second for {suffix}, got {fps}")


@contextlib.contextmanager
def _mp4(stream: BinaryIO, fps: int) -> Iterator[Write]:
    options = {"crf": _CRF, "preset": "medium", **x264.repeatable()}
    with av.open(stream, "w", format="mp4") as film:
        track = film.add_stream("libx264", rate=Fraction(fps), options=options)
        track.pix_fmt = "yuv420p"
        track.codec_context.colorspace, track.codec_context.color_range = UNTAGGED.matrix, UNTAGGED.range
        to_yuv = FromRgb(UNTAGGED, "yuv420p")

        def write(image: Tensor) -> None:
            pixels = _enlarged(image, even=True)
            if not track.codec_context.is_open:  # the first frame
                track.height, track.width = pixels.shape[:2]
            assert (track.height, track.width) == pixels.shape[:2], f"a frame of another size: {pixels.shape}"
            film.mux(track.encode(to_yuv(torch.from_numpy(pixels))))

        yield write
        film.mux(track.encode(None))


@contextlib.contextmanager
def _gif(stream: BinaryIO, fps: int) -> Iterator[Write]:
    """Held as a whole, a byte a pixel: Pillow writes a GIF in one go."""
    frames: list[Image.Image] = []
    yield lambda image: frames.append(Image.fromarray(_enlarged(image)).quantize(256))
    if frames:
        ends = [round(100 * k / fps) * 10 for k in range(len(frames) + 1)]  # hundredths, whose errors do not add up
        shown = [end - begin for begin, end in itertools.pairwise(ends)]
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0)


def _enlarged(image: Tensor, *, even: bool = False) -> np.ndarray:
    """uint8 RGB of at least `LEAST_PX` on the longer side, by a whole factor; with `even`, both sides are even."""
    pixels = as_channels(image.numpy(), 3)
    height, width = pixels.shape[:2]
    factor = math.ceil(LEAST_PX / max(height, width))
    if even and (height % 2 or width % 2) and factor % 2:
        factor += 1
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
