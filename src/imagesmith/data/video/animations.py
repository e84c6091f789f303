"""Animated GIF and WebP as films: every picture's own duration is kept, transparency is laid on white."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
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
UNIT_MS = {"gif": 10, "webp": 1}
"""In what a format counts its times."""
LEAST_MS = {"gif": 20, "webp": 1}
"""Viewers take a shorter time for a mistake, and show the picture for `_INSTEAD_MS`."""
_INSTEAD_MS = 100


def moves(path: Path) -> bool:
    """Whether a file has more than one picture; one that cannot be opened has not, and is refused as a picture."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def animation_info(path: Path) -> VideoInfo:
    """Size, times and plays (0: for ever) of an animation, whose pictures are gone through once for their durations."""
    durations = []
    try:
        with Image.open(path) as image:
            width, height = image.size
            transparent = image.has_transparency_data
            plays = _plays(image)
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
        metadata={"plays": str(plays)},
        notes=("transparency is laid on white",) if transparent else (),
    )


def _plays(image: Image.Image) -> int:
    """How often an animation is shown, 0 for ever; a GIF tells how often it is repeated, and nothing if never."""
    loops = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loops is None else loops and loops + 1
    return loops or 0


def _duration(image: Image.Image, number: int) -> int:
    """Milliseconds that picture `number` is shown, the image set to it."""
    image.seek(number)
    image.load()  # WebP tells the duration with the pixels
    told = round(image.info.get("duration", 0))
    return told if told >= LEAST_MS[(image.format or "webp").lower()] else _INSTEAD_MS


def animation_frames(info: VideoInfo) -> Iterator[VideoFrame]:
    """The pictures as they are seen, each laid over those before it."""
    pts = 0
    with Image.open(info.path) as image:
        for number in range(info.frames or 1):
            duration = _duration(image, number)
            pixels = as_channels(np.asarray(image.convert("RGBA")), 3)
            yield VideoFrame(torch.from_numpy(np.ascontiguousarray(pixels)), pts)
            pts += duration


def too_fast(format: str) -> str:
    """What is said where frames are left out, as they follow each other faster than `format` shows them."""
    keeps = ".webp or a film" if format == "gif" else "a film"
    return f"{format} shows at most {1000 // LEAST_MS[format]} frames a second: some are left out ({keeps} keeps them)"


def times_shown(format: str, seconds: Sequence[Fraction]) -> dict[int, int]:
    """By the number of a frame the milliseconds at which GIF or WebP shows it; those that come too fast are left out.

    Each time is rounded, so that errors do not add up. Of frames that follow each other too fast the later ones are
    kept, as the last of them may be shown for long; the first one always is.
    """
    unit, least = UNIT_MS[format], LEAST_MS[format]
    times = [round(second * 1000 / unit) * unit for second in seconds]
    kept = dict[int, int]()
    until = math.inf
    for number in range(len(times) - 1, 0, -1):
        if min(until - times[number], times[number] - times[0]) >= least:
            kept[number] = until = times[number]
    return {0: times[0], **dict(reversed(kept.items()))}


def write_animation(
    frames: Iterable[VideoFrame],
    info: VideoInfo,
    output: Path,
    format: str,
    *,
    end_s: float | None,
    overwrite: bool,
    scratch: Path | None = None,
) -> tuple[str, ...]:
    """Write frames of the source `info` up to `end_s` as GIF or WebP with its durations; Pillow wants all at once.

    Returns a sentence where some had to be left out.
    """
    pictures, seconds = [], []
    for frame in frames:
        pixels = frame.pixels if frame.pixels.dtype == torch.uint8 else (frame.pixels.int() >> 8).byte()
        picture = Image.fromarray(pixels.numpy())
        pictures.append(picture.quantize(256) if format == "gif" else picture)
        seconds.append((frame.pts - info.start) * info.time_base)
    shown = times_shown(format, seconds)
    times = list(shown.values())
    unit = UNIT_MS[format]
    end = round(min(info.duration_s, info.duration_s if end_s is None else end_s) * 1000 / unit) * unit
    ends = [*times[1:], end if end > times[-1] else times[-1] + round(1000 / (info.rate or 10))]
    durations = [max(end - time, LEAST_MS[format]) for time, end in zip(times, ends, strict=True)]
    options = {
        "save_all": True,
        "append_images": [pictures[number] for number in shown if number],
        **_loops(format, info),
    }
    with replacing(output, overwrite=overwrite, scratch=scratch) as stream:
        pictures[0].save(stream, format.upper(), quality=90, duration=durations, **options)
    return (too_fast(format),) if len(shown) < len(pictures) else ()


def _loops(format: str, info: VideoInfo) -> dict[str, int]:
    """The option for as many plays as the source has, which is no animation where it tells none: for ever."""
    plays = int(info.metadata.get("plays", 0))
    if format == "webp":
        return {"loop": plays}
    return {} if plays == 1 else {"loop": max(0, plays - 1)}
