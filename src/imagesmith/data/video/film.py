"""Films: their container, what it declares, and their frames one by one, whatever is damaged in between."""

import contextlib
import re
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from torch import Tensor

from imagesmith.containers import usable_cores
from imagesmith.data.video.colour import colour_of, is_deep, is_transparent
from imagesmith.data.video.hdr10 import Hdr10
from imagesmith.data.video.info import StreamInfo, VideoInfo
from imagesmith.data.video.side_data import side_data
from imagesmith.data.video.timeline import Picture, Timeline, time_base_of
from imagesmith.errors import VideoError

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".vob", ".wmv"}
    | {".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".nut"}
)
"""Names by which films are told; what is inside is found out when they are opened."""
_MOST_THREADS = 4
_STEPS_BACK_S = (0, 2, 20)  # a seek without an index lands at any frame; from one key frame to the next: 0.5 to 12 s
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")

# what matters is said in our own words, once; any other level calls Python from the decoders' own threads, and two
# films that are opened at a time then wait for each other for ever
av.logging.set_level(None)


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
            notes += (
                "the film is interlaced: lines of two moments are worked on as one picture and written as progressive; "
                "deinterlace it first",
            )
        if is_transparent(frame):
            notes += ("transparency is laid on white",)
        elif any(key.lower() == "alpha_mode" and text == "1" for key, text in stream.metadata.items()):
            notes += ("transparency is not kept: it is a second picture of each frame, which is not read",)
        return VideoInfo(
            path=path,
            kind="film",
            width=frame.width,
            height=frame.height,
            frames=stream.frames or None,
            duration_s=max(_duration_s(container, stream), _shown_s(container, stream, first.pts)),
            time_base=time_base_of(stream),
            rate=stream.guessed_rate or stream.average_rate or None,
            start=first.pts,
            rotation=frame.rotation,
            matrix=_display_matrix(frame),
            sample_aspect=stream.sample_aspect_ratio or Fraction(1),
            pix_fmt=frame.format.name,
            depth="uint16" if is_deep(frame) else "uint8",
            colour=tags,
            hdr10=Hdr10.of(frame),
            interlaced=frame.interlaced_frame,
            streams=tuple(map(_described, container.streams)),
            chapters=tuple(container.chapters()),
            metadata=dict(container.metadata),
            notes=notes,
        )


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if told := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # FFmpeg's own for Matroska is that of the file
        hours, minutes, seconds = map(float, told.groups())
        return (hours * 60 + minutes) * 60 + seconds
    if stream.duration:
        return float(stream.duration * time_base_of(stream))
    return (container.duration or 0) / av.time_base


def _shown_s(container: InputContainer, stream: VideoStream, start: int) -> float:
    """Seconds from `start` to the end of the last picture of an MP4 with B-frames, 0 of other films.

    Its header counts decoding times, which stay far behind where a pause lies among the last pictures.
    """
    if "mp4" not in container.format.name or not stream.codec_context.has_b_frames:
        return 0.0
    last, own, told = start, 0, 0
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.seek(stream.duration or 0, stream=stream)
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                told = packet.duration or 0
                last, own = max((last, own), (packet.pts, told))
    return float((last + min(own, told) - start) * time_base_of(stream))  # lengths are those of decoding as well


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """Turn and flip without the shift, which counts in pixels of the unrestored frame and which players work out."""
    found = side_data(frame, "DISPLAYMATRIX")
    if found is None:
        return None
    a, b, u, c, d, v, _, _, w = struct.unpack("=9i", found)
    return a, b, u, c, d, v, 0, 0, w


def lies_on_its_side(matrix: tuple[int, ...] | None) -> bool:
    """Whether players show the rows of a film with that display matrix as columns."""
    return matrix is not None and abs(matrix[0]) < abs(matrix[1])


def upright_size(info: VideoInfo) -> tuple[int, int]:
    """(width, height) of a film's frames as players show them, but for the shape of pixels."""
    return (info.height, info.width) if lies_on_its_side(info.matrix) else (info.width, info.height)


def upright(pixels: Tensor, matrix: tuple[int, ...] | None) -> Tensor:
    """Stored pixels (H, W, C) as players show them, turned by the nearest quarter and flipped."""
    if matrix is None:
        return pixels
    turned = pixels.transpose(0, 1) if lies_on_its_side(matrix) else pixels
    return turned.flip(_flipped(matrix)).contiguous()


def stored(pixels: Tensor, matrix: tuple[int, ...] | None) -> Tensor:
    """Pixels (H, W, C) as players show them, turned and flipped to how a film with that display matrix stores them."""
    if matrix is None:
        return pixels
    turned = pixels.flip(_flipped(matrix))
    return (turned.transpose(0, 1) if lies_on_its_side(matrix) else turned).contiguous()


def _flipped(matrix: tuple[int, ...]) -> list[int]:
    """The axes that players flip, once what lies on its side has its rows for columns."""
    right, down = (matrix[3], matrix[1]) if lies_on_its_side(matrix) else (matrix[0], matrix[4])
    return [axis for axis, sign in ((0, down), (1, right)) if sign < 0]


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
        stream.thread_count = min(_MOST_THREADS, usable_cores())
    times = Timeline(stream, _duration_s(container, stream))
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


def _packets(container: InputContainer, stream: VideoStream, times: Timeline) -> Iterator[Packet | None]:
    """The packets with data, and None at the end, which makes the decoder hand out what it still holds.

    Where a stream tells no number of frames, its length may be that of sound that goes on: then all streams are read.
    """
    try:
        for packet in container.demux(stream) if stream.frames else container.demux():
            if packet.stream.index != stream.index:
                times.reach(packet)
            elif packet.size:
                times.expect(packet)
                yield packet
        times.ended = True
    except (av.error.FFmpegError, OSError):
        times.cut_short = True
    yield None


def decoded_from(
    container: InputContainer, stream: VideoStream, info: VideoInfo, pts: int, notes: list[str]
) -> Iterator[Picture]:
    """`decoded` from some frame not after `pts` on: of a key frame before it, or the first where none can be found."""
    said = len(notes)
    for back_s in _STEPS_BACK_S:
        target = pts - round(back_s / info.time_base)
        if target < info.start:
            break
        pictures = decoded(container, stream, notes)
        with contextlib.suppress(av.error.FFmpegError, OSError):
            container.seek(target, stream=stream)
        head = next(pictures, None)
        # a frame without a time of its own (AVI has none) says nothing about where it lies
        if head is not None and head.frame.pts is not None and head.pts <= pts:
            yield head
            yield from pictures
            return
        pictures.close()
        del notes[said:]
    # opened anew: a broadcast counts decoding times, and a seek to the first picture's lands behind its key frame
    with opened(info.path) as anew:
        yield from decoded(anew, shown_stream(anew, info.path), notes)
