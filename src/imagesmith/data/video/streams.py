"""The other streams of a film carried over: packets as they are, text subtitles in the form the container holds."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from imagesmith.data.video.film import opened, shown_stream
from imagesmith.data.video.info import VideoInfo
from imagesmith.data.video.span import Span
from imagesmith.data.video.timeline import decoding_times

_OF_THE_FILE = frozenset({"DURATION", "ENCODER", "encoder", "vendor_id"})
_OF_THE_PACKETS = ("ALPHA_MODE", "BPS", "NUMBER_OF_", "_STATISTICS_")
_RUN_UP_S = Fraction(1, 10)
_LEAST_JUMP_S = Fraction(1, 10)
_TEXT = frozenset({"mov_text", "subrip", "ass", "ssa", "webvtt", "text"})
_TEXT_OF = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}


@dataclass(frozen=True)
class Copy:
    """The output's stream for one of the source's; `is_rewritten` where its text is encoded anew."""

    track: Stream
    is_rewritten: bool = False


Copies = dict[int, Copy]
"""By the index of the source's stream."""


def copied_streams(
    source: InputContainer, film: OutputContainer, info: VideoInfo, span: Span
) -> tuple[Copies, tuple[str, ...]]:
    """Streams added to `film` for all of the source's that it can hold, and sentences about what changes.

    Text subtitles change their form where they must: their words, breaks and plain styles stay. Other pictures of which
    `copied_packets` will give nothing are left out: a stream without packets is none to MP4, and empty in Matroska.
    """
    copies: Copies = {}
    notes = []
    container = film.format.name
    shown = shown_stream(source, info.path)
    for stream in source.streams:
        is_chapter_track = stream.type == "data" and source.chapters()  # the output makes its own
        if stream.index == shown.index or is_chapter_track:
            continue
        if is_moving(stream) and not _is_seen(stream.index, info, span):
            notes.append(f"{named(stream)} is left out: none of its key frames lies in the part that is asked for")
        elif _holds(container, stream):
            copies[stream.index] = Copy(_added(film, stream))
            if is_moving(stream):
                notes.append(f"{named(stream)} is kept as it is: one picture of a film is worked on")
        elif stream.type == "subtitle" and _codec(stream) in _TEXT:
            copies[stream.index] = Copy(_rewritten(film, cast(SubtitleStream, stream)), is_rewritten=True)
            notes.append(f"{named(stream)} becomes {_TEXT_OF[container]}, the text that {container} holds")
        else:
            notes.append(f"{named(stream)} is left out: {container} cannot hold it")
    return copies, tuple(notes)


def _holds(container: str, stream: Stream) -> bool:
    """Whether a container takes a stream's codec, by starting such a file in memory."""
    if stream.type == "data":
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            _added(trial, stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _added(film: OutputContainer, stream: Stream) -> Stream:
    copy = film.add_stream_from_template(stream, opaque=True)
    return labelled(copy, stream)


def _rewritten(film: OutputContainer, stream: SubtitleStream) -> Stream:
    copy = film.add_stream(_TEXT_OF[film.format.name])
    assert isinstance(copy, SubtitleStream)
    stream.codec_context.open(strict=False)  # whose header holds the styles
    copy.codec_context.subtitle_header = stream.codec_context.subtitle_header
    return labelled(copy, stream)


def labelled(copy: Stream, stream: Stream, *, is_anew: bool = False) -> Stream:
    """`copy` with language, title and roles of `stream`, without what counts its packets if they are made anew."""
    for key, text in stream.metadata.items():
        if key not in _OF_THE_FILE and not (is_anew and key.upper().startswith(_OF_THE_PACKETS)):
            copy.metadata[key] = text
    copy.disposition = stream.disposition
    return copy


def _codec(stream: Stream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"


def named(stream: Stream) -> str:
    """ "audio stream 1 (aac, eng)", "attachment stream 4 (font.ttf)"."""
    if stream.type == "attachment":
        return f"attachment stream {stream.index} ({stream.metadata.get('filename', 'without a name')})"
    language = f", {stream.language}" if stream.language not in (None, "und") else ""
    return f"{stream.type} stream {stream.index} ({_codec(stream)}{language})"


def is_moving(stream: Stream) -> bool:
    """Whether a stream is a film, and no cover picture."""
    return stream.type == "video" and not _is_cover(stream)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def in_span(packets: Iterable[Packet], info: VideoInfo, span: Span) -> Iterator[Packet]:
    """Covers, and the packets of sound, text and other pictures that belong to the part of a film.

    Of an excerpt's other pictures they begin with a key frame: what comes before could not be decoded.
    """
    begun = set[int]()
    for packet in packets:
        if not packet.size:
            continue
        if not _is_cover(packet.stream):
            if packet.pts is None or not _is_heard(packet) or not span.holds(packet.pts * packet.time_base, info):
                continue
            if span.start_s and is_moving(packet.stream) and not (packet.is_keyframe or packet.stream.index in begun):
                continue
        begun.add(packet.stream.index)
        yield packet


def _is_seen(index: int, info: VideoInfo, span: Span) -> bool:
    """Whether anything of another picture belongs to the part of a film."""
    with opened(info.path) as source:
        return next(in_span(source.demux(source.streams[index]), info, span), None) is not None


def _is_heard(packet: Packet) -> bool:
    """False for sound in front of the beginning that an edit list hides, save the tenth of a second to start on."""
    if packet.stream.type != "audio" or not packet.is_discard or packet.pts is None:
        return True
    return (packet.pts + (packet.duration or 0)) * packet.time_base > -_RUN_UP_S


class _Clock:
    """Keeps decoding times rising where a source's jump back, as at the seams of broadcasts."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._added = 0

    def set(self, packet: Packet) -> None:
        """Move the packet's times: all after a jump by as much as it takes, a single one that is late by a tick."""
        assert packet.dts is not None
        assert packet.pts is not None
        if self._last is not None and packet.dts + self._added <= self._last:
            back = self._last - packet.dts - self._added
            if back * packet.time_base >= _LEAST_JUMP_S:
                self._added += back + (packet.duration or 1)
        packet.pts, packet.dts = packet.pts + self._added, packet.dts + self._added
        if self._last is not None and packet.dts <= self._last:
            packet.dts = self._last + 1
            packet.pts = max(packet.pts, packet.dts)
        self._last = packet.dts


def copied_packets(
    source: InputContainer, copies: Copies, info: VideoInfo, span: Span, shift: Fraction
) -> Iterator[tuple[Fraction, Packet]]:
    """(decoding time in seconds, packet) of all copied streams, those of the span, all moved by `shift` seconds."""
    streams = [source.streams[index] for index in copies if source.streams[index].type != "attachment"]
    counted = _counted_times(info.path, [stream.index for stream in streams if is_moving(stream)])
    clocks: dict[int, _Clock] = {}

    def decodable() -> Iterator[Packet]:
        for packet in source.demux(streams) if streams else ():
            if packet.size and packet.pts is not None and packet.stream.index in counted:
                packet.dts = next(counted[packet.stream.index])
            yield packet

    for packet in in_span(decodable(), info, span):
        copy, base = copies[packet.stream.index], packet.time_base
        if _is_cover(packet.stream):
            packet.pts = packet.dts = 0
        else:
            assert packet.pts is not None
            moved = round(shift / base)
            packet.pts += moved
            packet.dts = packet.pts if packet.dts is None else packet.dts + moved
            clocks.setdefault(packet.stream.index, _Clock()).set(packet)
        carried = _as_text(packet, copy) if copy.is_rewritten else packet
        if carried is not None:
            carried.stream = copy.track
            yield packet.dts * base, carried


def _counted_times(path: Path, films: Sequence[int]) -> dict[int, Iterator[int]]:
    """Decoding times for all packets of those of the streams `films` that do not tell them, as in Matroska, by index.

    They would be taken for jumps back where pictures are reordered, if they were those at which these are shown.
    """
    shown, untold = {index: list[int]() for index in films}, set[int]()
    with opened(path) as source:
        for packet in source.demux([source.streams[index] for index in films]) if films else ():
            if packet.size and packet.pts is not None:
                shown[packet.stream.index].append(packet.pts)
                if packet.dts is None:
                    untold.add(packet.stream.index)
    return {index: iter(decoding_times(shown[index])) for index in untold}


def _as_text(packet: Packet, copy: Copy) -> Packet | None:
    """A subtitle encoded for its new stream; None for the silence that MP4 writes between two."""
    stream, track = packet.stream, copy.track
    assert isinstance(stream, SubtitleStream)
    assert isinstance(track, SubtitleStream)
    found = stream.decode2(packet)
    lines = [rect.ass for rect in found.rects if isinstance(rect, AssSubtitle)] if found else []
    if not lines:
        return None
    encoded = track.codec_context.encode_subtitle(SubtitleSet.create(b"\n".join(lines), 0, 0))
    encoded.time_base, encoded.pts, encoded.dts = packet.time_base, packet.pts, packet.dts
    encoded.duration = packet.duration
    return encoded
