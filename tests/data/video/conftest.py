"""Films that the tests encode themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.data.video import (
    Encoding,
    VideoFrame,
    VideoInfo,
    join,
    open_video,
    read_info,
    segment_writer,
    settle,
)
from imagesmith.data.video.encoding import output_kind


def _moving_photo(count: int, width: int = 64, height: int = 48) -> list[Tensor]:
    """Crops of a photograph that move to the left, uint8 (H, W, 3), no two alike."""
    photo = data.astronaut()
    return [torch.from_numpy(photo[40 : 40 + height, 60 + 2 * k : 60 + 2 * k + width].copy()) for k in range(count)]


def _make_film(
    path: Path,
    pts: Sequence[int] = range(20),
    time_base: Fraction = Fraction(1, 25),
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: Sequence[str] = (),
    audio_start_s: float = 0.0,
    audio_s: float | None = None,
    last: int | None = None,
    size: tuple[int, int] = (64, 48),
    matrix: tuple[int, ...] | None = None,
    tags: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    dress: Callable[[av.container.OutputContainer], Callable[[], None]] | None = None,
) -> list[Tensor]:
    """Encode a film of `_moving_photo` with sine tones as audio tracks of the given codecs; returns its frames.

    The sound is as long as the pictures, or `audio_s`; the last picture is shown for a frame, or `last` ticks. `tags`
    are matrix, range, primaries and transfer. `dress` may add to the container before anything is written, and
    returns what shall be called between pictures and sound.
    """
    frames = _moving_photo(len(pts), *size)
    quick = {"preset": "ultrafast"} if codec.startswith("libx26") else {}
    options = dict(options or {})
    if codec == "libx265":  # whose decoding times of so few frames are whatever the memory held
        options["x265-params"] = ":".join(filter(None, [options.get("x265-params"), "bframes=0"]))
    with av.open(path, "w", container_options=container_options or {}) as film:
        track = film.add_stream(codec, rate=25, options={**quick, **options})
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
        last_s = float((pts[-1] - pts[0]) * time_base) + 0.04 if audio_s is None else audio_s
        encoded = []
        for image, time in zip(frames, pts, strict=True):
            rgb = av.VideoFrame.from_ndarray(image.numpy(), "rgb24")
            matrix_range = {"dst_colorspace": {6: 5}.get(tags[0], tags[0]), "dst_color_range": tags[1]} if tags else {}
            frame = rgb.reformat(format=pix_fmt, **matrix_range)
            frame.pts, frame.time_base = time, time_base
            encoded += track.encode(frame)
        for packet in encoded + track.encode(None):
            if last and packet.pts == pts[-1]:
                packet.duration = last
            film.mux(packet)
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


@pytest.fixture(scope="session")
def make_film() -> Callable[..., list[Tensor]]:
    return _make_film


@pytest.fixture(scope="session")
def moving() -> Callable[..., list[Tensor]]:
    return _moving_photo


@pytest.fixture(scope="session")
def camera() -> Callable:
    """What dresses a film with a second, smaller picture with B-frames, shown at times in 25ths of a second.

    `gop` is how many pictures at most go from one key frame to the next.
    """

    def of(pts: Sequence[int], gop: int = 250) -> Callable:
        def dress(container: av.container.OutputContainer) -> Callable[[], None]:
            options = {"preset": "ultrafast", "bf": "3", "b_strategy": "0", "g": str(gop)}
            track = container.add_stream("libx264", rate=25, options=options)
            track.width, track.height, track.pix_fmt = 32, 32, "yuv420p"

            def then() -> None:
                for pixels, time in zip(_moving_photo(len(pts), 32, 32), pts, strict=True):
                    frame = av.VideoFrame.from_ndarray(pixels.numpy(), "rgb24")
                    frame.pts, frame.time_base = time, Fraction(1, 25)
                    container.mux(track.encode(frame))
                container.mux(track.encode(None))

            return then

        return dress

    return of


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """An ordinary film of 20 frames with sound."""
    _make_film(tmp_path / "film.mp4", audio=["aac"])
    return tmp_path / "film.mp4"


@dataclass(frozen=True)
class Redone:
    """A film read, written in parts and joined: what went in, and what the join had to say."""

    info: VideoInfo
    frames: list[VideoFrame]
    notes: tuple[str, ...]


@pytest.fixture
def redo(tmp_path: Path) -> Callable[..., Redone]:
    """What restoring does with a film, without a network: `scale` enlarges by doubling pixels."""

    def run(
        source: Path, output: Path, encoding: Encoding | None = None, *, per: int = 7, scale: int = 1, **span: float
    ) -> Redone:
        info = read_info(source)
        quick = Encoding(preset="ultrafast") if output_kind(output) == "film" else Encoding()
        encoding = settle(encoding or quick, info, output)
        with open_video(source, **span) as reader:
            frames = list(reader)
        parts = []
        for first in range(0, len(frames), per):
            parts.append(tmp_path / f"part{first}")
            size = info.width * scale, info.height * scale
            with segment_writer(parts[-1], info, encoding, size=size) as write:
                for frame in frames[first : first + per]:
                    pixels = (
                        frame.pixels.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
                        if scale > 1
                        else frame.pixels
                    )
                    write(pixels, frame.pts)
        return Redone(info, frames, join(parts, info, output, encoding, **span))

    return run


@dataclass(frozen=True)
class Seen:
    """A film as another program would see it: times in seconds, packets by stream kind as (time, bytes)."""

    times: list[Fraction]
    packets: dict[str, list[list[tuple[Fraction, bytes]]]]
    codecs: list[str]


@pytest.fixture(scope="session")
def look() -> Callable[[Path], Seen]:
    def run(path: Path) -> Seen:
        with av.open(path) as container:
            track = container.streams.video[0]
            times = [Fraction(frame.pts) * track.time_base for frame in container.decode(track)]
        with av.open(path) as container:
            streams = list(container.streams)
            found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in streams}
            for packet in container.demux():
                if packet.size and packet.pts is not None:
                    found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
            kinds = {stream.type for stream in streams}
            packets = {kind: [found[stream.index] for stream in streams if stream.type == kind] for kind in kinds}
            codecs = [stream.codec_context.codec.canonical_name for stream in streams if stream.codec_context]
        return Seen(times, packets, codecs)

    return run
