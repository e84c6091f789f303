"""Films: their container, what it declares, and their frames one by one, whatever is damaged in between."""

import contextlib
import heapq
import itertools
import os
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from imagesmith.data.video.colour import colour_of, is_deep
from imagesmith.data.video.info import StreamInfo, VideoInfo
from imagesmith.errors import VideoError

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".vob", ".wmv"}
    | {".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".nut"}
)
"""Names by which films are told; what is inside is found out when they are opened."""
_MOST_THREADS = 4
_USUAL_RATE = Fraction(25)
_MOST_SILENCE_S = 0.5  # sound often goes on a little after the last picture

# what matters is said in our own words, once; any other level calls Python from the decoders' own threads, and two
# films that are opened at a time then wait for each other for ever
av.logging.set_level(None)


class Picture(NamedTuple):
    """A decoded frame and its time; `repeated` where it stands in for one that could not be decoded."""

    frame: av.VideoFrame
    pts: int
    repeated: bool


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """A film's container, closed at the end; VideoError with the reason where there is none."""
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: {_why_not_opened(path, error)}") from error
    with container:
        yield container


def _why_not_opened(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the spelling"
    with contextlib.suppress(OSError):
        if path.stat().st_size == 0:
            return "the file is empty (0 bytes); get it again"
    return "not a film, or its header is damaged or missing (a download cut short?)\nget it again, or repair it first"


def shown_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that a player shows: the largest video stream, the first of equal ones, that is no cover picture."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
        raise VideoError(f"{path}: expected a film, found {kinds} and no moving picture")
    return max(films, key=lambda stream: stream.width * stream.height)


def time_base_of(stream: VideoStream) -> Fraction:
    """The unit of a stream's times; every container that is read tells one."""
    assert stream.time_base, "a stream without a time base"
    return stream.time_base


def film_info(path: Path) -> VideoInfo:
    """What a film declares; only its first frame is decoded, for what containers leave to it."""
    with opened(path) as container:
        stream = shown_stream(container, path)
        with contextlib.closing(decoded(container, stream, [])) as frames:
            first = next(frames, None)
        if first is None:
            raise VideoError(f"{path}: not one frame could be decoded ({stream.codec_context.name}); get it again")
        frame = first.frame
        tags, notes = colour_of(frame)
        if frame.interlaced_frame:
            notes += ("the film is interlaced and is kept so: lines of two moments are worked on as one picture",)
        if frame.format.name.startswith(("yuva", "gbra", "rgba", "bgra", "argb", "abgr", "ya")):
            notes += ("transparency is not kept",)
        return VideoInfo(
            path=path,
            kind="film",
            width=frame.width,
            height=frame.height,
            frames=stream.frames or None,
            duration_s=_duration_s(container, stream),
            time_base=time_base_of(stream),
            rate=stream.guessed_rate or stream.average_rate or None,
            start=first.pts,
            rotation=frame.rotation,
            matrix=_display_matrix(frame),
            sample_aspect=stream.sample_aspect_ratio or Fraction(1),
            pix_fmt=frame.format.name,
            depth="uint16" if is_deep(frame) else "uint8",
            colour=tags,
            interlaced=frame.interlaced_frame,
            streams=tuple(map(_described, container.streams)),
            chapters=tuple(container.chapters()),
            metadata=dict(container.metadata),
            notes=notes,
        )


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration:
        return float(stream.duration * time_base_of(stream))
    return (container.duration or 0) / av.time_base


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    found = frame.side_data.get("DISPLAYMATRIX")
    return struct.unpack("=9i", bytes(found)) if found is not None else None


def _described(stream: Stream) -> StreamInfo:
    context = stream.codec_context
    codec = context.codec.canonical_name if context else "unknown"
    return StreamInfo(stream.index, stream.type, codec, stream.language or "")


def decoded(container: InputContainer, stream: VideoStream, notes: list[str]) -> Generator[Picture]:
    """Every frame of a stream in the order it is shown, at strictly rising times.

    Where the decoder gives up on packets, the last good frame stands in at their times. Ends early where the file
    does. What had to be done is added to `notes` at the end.
    """
    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
        stream.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
    times = _Timeline(stream, _duration_s(container, stream))
    try:
        for packet in _packets(container, stream, times):
            try:
                frames = stream.decode(packet)
            except (av.error.FFmpegError, OSError):
                times.owed += 1
                continue
            for frame in frames:
                yield from times.place(frame)
        yield from times.rest()
    finally:  # who stops in the middle is told as well
        notes += times.said()


def _packets(container: InputContainer, stream: VideoStream, times: "_Timeline") -> Iterator[Packet | None]:
    """The packets with data, and None at the end, which makes the decoder hand out what it still holds."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                times.expect(packet.pts, is_shown=not packet.is_discard)
                yield packet
        times.ended = True
    except (av.error.FFmpegError, OSError):
        times.cut_short = True
    yield None


def decoded_from(
    container: InputContainer, stream: VideoStream, pts: int, start: int, notes: list[str]
) -> Iterator[Picture]:
    """`decoded` from some frame not after `pts` on: the key frame before it, or the film's `start` without an index."""
    pictures, said = decoded(container, stream, notes), len(notes)
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.seek(pts, stream=stream)
    head = next(pictures, None)
    if head is not None and head.pts <= pts:
        return itertools.chain([head], pictures)
    pictures.close()
    del notes[said:]
    container.seek(start, stream=stream)
    return decoded(container, stream, notes)


class _Timeline:
    """Puts decoded frames in order, and says which are missing.

    A packet that raised an error owes a frame; with threads the decoder tells of it late, so what is owed is only
    counted, and the gap it left shows when a frame beyond it comes out. Packets without a frame of their own
    (references that are never shown) leave gaps as well, but owe nothing.
    """

    def __init__(self, stream: VideoStream, duration_s: float) -> None:
        self._declared, self._duration_s, self._time_base = stream.frames, duration_s, time_base_of(stream)
        rate = stream.guessed_rate or stream.average_rate or _USUAL_RATE
        self._step = max(1, round(1 / (rate * self._time_base)))
        self._expected: list[int] = []
        self._last: Picture | None = None
        self._packets = self._repeated = self._retimed = self._headless = self._silent = self._first = 0
        self.owed = 0
        self.cut_short = self.ended = False

    def expect(self, pts: int | None, *, is_shown: bool) -> None:
        self._packets += 1
        if pts is not None and is_shown:
            heapq.heappush(self._expected, pts)

    def place(self, frame: av.VideoFrame) -> Iterator[Picture]:
        pts = frame.pts
        if pts is not None:
            yield from self._stand_ins(before=pts)
            if self._expected and self._expected[0] == pts:
                heapq.heappop(self._expected)
        least = self._last.pts + 1 if self._last else pts or 0
        if pts is None or pts < least:
            self._retimed += 1
            pts = least if pts is not None or not self._last else self._last.pts + self._step
        if self._last is None:
            self._first = pts
        self._last = Picture(frame, pts, False)
        yield self._last

    def _stand_ins(self, before: float) -> Iterator[Picture]:
        while self._expected and self._expected[0] < before:
            pts = heapq.heappop(self._expected)
            if not self.owed:
                self._silent += 1
                continue
            self.owed -= 1
            if self._last is None:
                self._headless += 1
            elif pts > self._last.pts:
                self._repeated += 1
                self._last = Picture(self._last.frame, pts, True)
                yield self._last

    def rest(self) -> Iterator[Picture]:
        """Stand-ins for what is still owed at the end."""
        yield from self._stand_ins(before=float("inf"))

    def said(self) -> list[str]:
        """Sentences about all that was not as it should be."""
        notes, declared = [], self._declared
        if self._repeated:
            notes.append(f"{self._repeated} frames could not be decoded; the last good one is repeated in their place")
        if self._headless:
            notes.append(f"{self._headless} frames at the beginning could not be decoded and are left out")
        if self._retimed:
            notes.append(f"{self._retimed} frames had no usable time; they follow at the usual rate")
        if self._silent:
            notes.append(f"{self._silent} packets gave no picture: damaged, or never meant to be shown")
        if self.cut_short or (self.ended and declared > self._packets):
            of = f" of {declared}" if declared else ""
            notes.append(f"the file is damaged or cut short: {self._packets}{of} frames are there, the rest is lost")
        elif self.ended and not declared and self._duration_s - self._shown_s > _MOST_SILENCE_S:
            notes.append(
                f"the pictures end after {self._shown_s:.2f} s of {self._duration_s:.2f} s; the file may be cut short"
            )
        return notes

    @property
    def _shown_s(self) -> float:
        return float((self._last.pts - self._first + self._step) * self._time_base) if self._last else 0.0
