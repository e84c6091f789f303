"""The other streams of a film carried over: packets as they are, text subtitles in the form the container holds."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from imagesmith.data.video.film import shown_stream
from imagesmith.data.video.info import VideoInfo
from imagesmith.data.video.span import Span

Copies = dict[int, Stream]
"""The output's stream for the index of each of the source's that is kept."""


def copied_streams(source: InputContainer, film: OutputContainer, path: Path) -> tuple[Copies, tuple[str, ...]]:
    """Streams added to `film` for all of the source's that it can hold, and a sentence for each that it cannot."""
    copies: Copies = {}
    notes = []
    shown = shown_stream(source, path)
    for stream in source.streams:
        if stream.index == shown.index:
            continue
        if not _holds(film.format.name, stream):
            notes.append(f"{_named(stream)} is left out: {film.format.name} cannot hold it")
            continue
        copies[stream.index] = _added(film, stream)
    return copies, tuple(notes)


def _holds(container: str, stream: Stream) -> bool:
    """Whether a container takes a stream's codec, by starting such a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            _added(trial, stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, AttributeError):
        return False
    return True


def _added(film: OutputContainer, stream: Stream) -> Stream:
    copy = film.add_stream_from_template(stream)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _named(stream: Stream) -> str:
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    language = f", {stream.language}" if stream.language else ""
    return f"{stream.type} stream {stream.index} ({codec}{language})"


def copied_packets(
    source: InputContainer, copies: Copies, info: VideoInfo, span: Span, shift: Fraction
) -> Iterator[tuple[Fraction, Packet]]:
    """(time in seconds, packet) of all copied streams within the span, all moved by `shift` seconds."""
    first, stop = span.first(info) * info.time_base, span.stop(info) * info.time_base
    for packet in source.demux([source.streams[index] for index in copies]):
        if packet.pts is None or not packet.size:
            continue
        time = packet.pts * packet.time_base
        if (span.start_s and time < first) or time >= stop:
            continue
        moved = round(shift / packet.time_base)
        packet.stream = copies[packet.stream.index]
        packet.pts += moved
        packet.dts = packet.pts if packet.dts is None else packet.dts + moved
        yield packet.dts * packet.time_base, packet
