"""Films that the tests encode themselves."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor


def moving_photo(count: int, width: int = 64, height: int = 48) -> list[Tensor]:
    """Crops of a photograph that move to the left, uint8 (H, W, 3), no two alike."""
    photo = data.astronaut()
    return [torch.from_numpy(photo[40 : 40 + height, 60 + 2 * k : 60 + 2 * k + width].copy()) for k in range(count)]


def make_film(
    path: Path,
    pts: Sequence[int] = range(20),
    time_base: Fraction = Fraction(1, 25),
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: Sequence[str] = (),
    audio_start_s: float = 0.0,
    size: tuple[int, int] = (64, 48),
    matrix: tuple[int, ...] | None = None,
    tags: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    dress: Callable[[av.container.OutputContainer], Callable[[], None]] | None = None,
) -> list[Tensor]:
    """Encode a film of `moving_photo` with sine tones as audio tracks of the given codecs; returns its frames.

    `tags` are matrix, range, primaries and transfer. `dress` may add to the container before anything is written, and
    returns what shall be called between pictures and sound.
    """
    frames = moving_photo(len(pts), *size)
    quick = {"preset": "ultrafast"} if codec.startswith("libx26") else {}
    with av.open(path, "w", container_options=container_options or {}) as film:
        track = film.add_stream(codec, rate=25, options={**quick, **(options or {})})
        track.width, track.height, track.pix_fmt = size[0], size[1], pix_fmt
        track.codec_context.time_base = track.time_base = time_base
        if aspect:
            track.codec_context.sample_aspect_ratio = aspect
        if matrix:
            track.set_display_matrix(matrix)
        context = track.codec_context
        if tags:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        sounds = [film.add_stream(name, rate=48000) for name in audio]
        then = dress(film) if dress else None
        last_s = float((pts[-1] - pts[0]) * time_base) + 0.04
        for image, time in zip(frames, pts, strict=True):
            rgb = av.VideoFrame.from_ndarray(image.numpy(), "rgb24")
            matrix_range = {"dst_colorspace": {6: 5}.get(tags[0], tags[0]), "dst_color_range": tags[1]} if tags else {}
            frame = rgb.reformat(format=pix_fmt, **matrix_range)
            frame.pts, frame.time_base = time, time_base
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
        if then:
            then()
        for number, sound in enumerate(sounds):
            for samples in _sine(last_s, 220 * (number + 1), audio_start_s):
                film.mux(sound.encode(samples))
            film.mux(sound.encode(None))
    return frames


def _sine(seconds: float, hertz: float, start_s: float) -> list[av.AudioFrame]:
    found = []
    for first in range(0, int(seconds * 48000), 1024):
        wave = 0.2 * np.sin(2 * np.pi * hertz * (first + np.arange(1024)) / 48000)
        frame = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (2, 1)), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, first + round(start_s * 48000), Fraction(1, 48000)
        found.append(frame)
    return found


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """An ordinary film of 20 frames with sound."""
    make_film(tmp_path / "film.mp4", audio=["aac"])
    return tmp_path / "film.mp4"
