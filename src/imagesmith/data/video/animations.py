"""Animated GIF and WebP as films: every picture's own duration is kept, transparency is laid on white."""

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagesmith.atomic import replacing
from imagesmith.data.shapes import as_channels
from imagesmith.data.video.info import VideoFrame, VideoInfo
from imagesmith.errors import VideoError

SUFFIXES = frozenset({".gif", ".webp"})
_TICK = Fraction(1, 1000)
_SHORTEST_MS = 100  # what browsers make of a duration of 0


def moves(path: Path) -> bool:
    """Whether a file has more than one picture; one that cannot be opened has not, and is refused as a picture."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def animation_info(path: Path) -> VideoInfo:
    """Size, times and number of loops of an animation, whose pictures are gone through once for their durations."""
    durations = []
    try:
        with Image.open(path) as image:
            width, height = image.size
            transparent = image.has_transparency_data
            loop = image.info.get("loop", 1)
            with contextlib.suppress(EOFError, OSError):  # cut short: what is there is used
                durations += (_duration(image, number) for number in range(getattr(image, "n_frames", 1)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: not an animation that can be read: {error}") from error
    if not durations:
        raise VideoError(f"{path}: cut short before the end of its first picture")
    return VideoInfo(
        path=path,
        kind="animation",
        width=width,
        height=height,
        frames=len(durations),
        duration_s=sum(durations) / 1000,
        time_base=_TICK,
        rate=Fraction(1000, durations[0]) if len(set(durations)) == 1 else None,
        pix_fmt="rgba" if transparent else "rgb24",
        metadata={"loop": str(loop)},
        notes=("transparency is laid on white",) if transparent else (),
    )


def _duration(image: Image.Image, number: int) -> int:
    """Milliseconds that picture `number` is shown, the image set to it."""
    image.seek(number)
    image.load()  # WebP tells the duration with the pixels
    return round(image.info.get("duration", 0)) or _SHORTEST_MS


def animation_frames(info: VideoInfo) -> Iterator[VideoFrame]:
    """The pictures as they are seen, each laid over those before it."""
    pts = 0
    with Image.open(info.path) as image:
        for number in range(info.frames or 1):
            duration = _duration(image, number)
            pixels = as_channels(np.asarray(image.convert("RGBA")), 3)
            yield VideoFrame(torch.from_numpy(np.ascontiguousarray(pixels)), pts)
            pts += duration


def write_animation(
    frames: Iterable[VideoFrame],
    info: VideoInfo,
    output: Path,
    format: str,
    *,
    end_s: float | None,
    overwrite: bool,
    scratch: Path | None = None,
) -> None:
    """Write frames of the source `info` up to `end_s` as GIF or WebP with its durations; Pillow wants all at once."""
    pictures, times = [], []
    unit = 10 if format == "gif" else 1  # milliseconds; each time is rounded, so that errors do not add up
    for frame in frames:
        pixels = frame.pixels if frame.pixels.dtype == torch.uint8 else (frame.pixels.int() >> 8).byte()
        picture = Image.fromarray(pixels.numpy())
        pictures.append(picture.quantize(256) if format == "gif" else picture)
        times.append(round((frame.pts - info.start) * info.time_base * 1000 / unit) * unit)
    end = round(min(info.duration_s, info.duration_s if end_s is None else end_s) * 1000 / unit) * unit
    ends = [*times[1:], end if end > times[-1] else times[-1] + round(1000 / (info.rate or 10))]
    durations = [end - time for time, end in zip(times, ends, strict=True)]
    options = {
        "save_all": True,
        "append_images": pictures[1:],
        "duration": durations,
        "loop": int(info.metadata.get("loop", 0)),
    }
    with replacing(output, overwrite=overwrite, scratch=scratch) as stream:
        pictures[0].save(stream, format.upper(), quality=90, **options)
