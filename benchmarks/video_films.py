"""Films for the benchmarks, drawn from a photograph, and what is in a film by a way that the package does not use."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from timing import photo_folder

RATE, TICK, SOUND_RATE, SOUND_SAMPLES = 25, Fraction(1, 90_000), 48_000, 1024


def moving_frames(count: int, width: int, height: int) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8: a window that wanders over a photograph, by a few pixels a frame, and back."""
    photo = Image.open(photo_folder() / "astronaut.png").convert("RGB")
    side = max(512, 2 * max(width, height))
    picture = np.array(photo.resize((side, side), Image.Resampling.BICUBIC))
    across, down = side - width, side - height
    for k in range(count):
        left, top = (abs((speed * k + room) % (2 * room) - room) for speed, room in ((3, across), (2, down)))
        yield picture[top : top + height, left : left + width]


def draw_film(
    path: Path, count: int, size: tuple[int, int], *, rate: int = RATE, variable: bool = False, sound: bool = False
) -> Path:
    """H.264 of `size` (width, height), B-frames included; with `variable` frames of 8 to 120 ms, with a tone."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as film:
        picture = film.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
        picture.codec_context.time_base = TICK
        tone = film.add_stream("aac", rate=SOUND_RATE, layout="stereo") if sound else None
        pts = 0
        for pixels in moving_frames(count, *size):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.time_base = pts, TICK
            film.mux(picture.encode(frame))
            pts += int(rng.integers(720, 10_800)) if variable else int(1 / (rate * TICK))
        film.mux(picture.encode(None))
        if tone:
            for frame in [*_tone(float(pts * TICK)), None]:
                film.mux(tone.encode(frame))
    return path


def frame_digests(path: Path) -> list[str]:
    """A digest of every decoded picture, in order."""
    with av.open(str(path)) as film:
        return [hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in film.decode(video=0)]


def frame_times(path: Path) -> list[Fraction]:
    """The time of every decoded picture in seconds, in order."""
    with av.open(str(path)) as film:
        return [_time(frame) for frame in film.decode(video=0)]


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """(time, content) of every audio packet that holds something."""
    with av.open(str(path)) as film:
        packets = film.demux(audio=0) if film.streams.audio else ()
        return [(_time(packet), bytes(packet)) for packet in packets if packet.size]


def _time(timed: av.VideoFrame | av.Packet) -> Fraction:
    assert timed.pts is not None, "films drawn here have all their times"
    assert timed.time_base is not None
    return timed.pts * timed.time_base


def _tone(seconds: float) -> Iterator[av.AudioFrame]:
    for start in range(0, int(seconds * SOUND_RATE), SOUND_SAMPLES):
        wave = 0.3 * np.sin(2 * np.pi * 440 * (start + np.arange(SOUND_SAMPLES)) / SOUND_RATE)
        frame = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (2, 1)), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame
