"""The parts of a film joined, with everything else of the source around them: sound, subtitles, chapters, tags."""

import contextlib
import heapq
import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from imagesmith.atomic import replacing
from imagesmith.data.video.animations import write_animation
from imagesmith.data.video.colour import ToRgb
from imagesmith.data.video.encoding import LOSSLESS, Encoding, lost_by, output_kind, settle
from imagesmith.data.video.film import decoded, opened, shown_stream, upright
from imagesmith.data.video.folders import write_folder
from imagesmith.data.video.info import USUAL_RATE, VideoFrame, VideoInfo
from imagesmith.data.video.span import Span
from imagesmith.data.video.streams import copied_packets, copied_streams, labelled, named
from imagesmith.data.video.timeline import decoding_times, shown_until, time_base_of
from imagesmith.data.video.writer import encoding_errors
from imagesmith.errors import OutputError, VideoError

if TYPE_CHECKING:
    from av.container.core import Chapter

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_LARGEST_TIMESCALE = 2**31 - 1
_BROADCASTS = ("mpegts", "mpeg")  # their times are those of a clock that ran before
_OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "DURATION"})


def join(
    segments: Sequence[Path],
    info: VideoInfo,
    output: Path,
    encoding: Encoding,
    *,
    overwrite: bool = False,
    start_s: float | None = None,
    end_s: float | None = None,
    scratch: Path | None = None,
) -> tuple[str, ...]:
    """Make `output` of parts in their order, whole or not at all; returns sentences about what could not be kept.

    The span is the one that was read: sound and subtitles are cut to it, and everything moves so that the first frame
    is at 0. Without a start no time changes, but broadcasts, which count from anywhere, begin at 0. Until it is whole
    the output lies in `scratch`, see `atomic.replacing`.
    """
    assert segments, "a film of no parts"
    encoding, span = settle(encoding, info, output), Span(start_s, end_s)
    parts = _Parts(segments, info)
    lost, kind = lost_by(encoding, info, parts.scale, output), output_kind(output)
    if kind == "folder":
        behind = write_folder(parts.frames(), output, encoding.codec, overwrite=overwrite, scratch=scratch)
        return (*lost, *left_out(info, output), *behind)
    if kind == "animation":
        place = {"overwrite": overwrite, "scratch": scratch}
        dropped = write_animation(parts.frames(), info, output, encoding.codec, end_s=end_s, **place)
        return (*dict.fromkeys((*lost, *dropped)), *left_out(info, output))
    with (
        replacing(output, overwrite=overwrite, scratch=scratch) as stream,
        encoding_errors(output),
        contextlib.ExitStack() as stack,
    ):
        source = stack.enter_context(opened(info.path)) if info.kind == "film" else None
        options = _container_options(info, source, output)
        film = stack.enter_context(
            av.open(stream.name, "w", format=_FORMATS[output.suffix.lower()], container_options=options)
        )
        shift = -parts.first * info.time_base if start_s or parts.first < 0 else _counted_from(info, source)
        track = _picture_track(film, parts, info, source, stack)
        others = iter(())
        notes: tuple[str, ...] = ()
        film.metadata.update({key: text for key, text in info.metadata.items() if key not in _OF_THE_FILE})
        if source:
            copies, notes = copied_streams(source, film, info, span)
            film.set_chapters(list(_moved(info.chapters, shift, span.stop(info) * info.time_base + shift)))
            others = copied_packets(source, copies, info, span, shift)
        pictures = parts.packets(track, round(shift / info.time_base), span)
        for _, packet in heapq.merge(pictures, others, key=lambda timed: timed[0]):
            film.mux(packet)
    return (*lost, *notes)


def _counted_from(info: VideoInfo, source: InputContainer | None) -> Fraction:
    """Seconds, whole ticks of the pictures, by which the first packet of a broadcast comes to lie at 0; else 0."""
    if source is None or source.format.name not in _BROADCASTS:
        return Fraction(0)
    return -round(Fraction(source.start_time or 0, av.time_base) / info.time_base) * info.time_base


def left_out(
    info: VideoInfo, output: Path, *, start_s: float | None = None, end_s: float | None = None
) -> tuple[str, ...]:
    """The sentences about other streams that `join` will return, before anything is computed."""
    if info.kind != "film":
        return ()
    with opened(info.path) as source:
        if output_kind(output) != "film":
            return tuple(
                f"{named(stream)} is left out: {output.name} holds pictures alone"
                for stream in source.streams
                if stream.type != "data" and stream is not shown_stream(source, info.path)
            )
        with av.open(io.BytesIO(), "w", format=_FORMATS[output.suffix.lower()]) as trial:
            return copied_streams(source, trial, info, Span(start_s, end_s))[1]


class _Parts:
    """The parts as one run of packets: their PTS as they were written, their DTS counted anew across the joins.

    An encoder that reorders frames starts each part with decoding times before its first picture, which fall behind
    the end of the part before.
    """

    def __init__(self, paths: Sequence[Path], info: VideoInfo) -> None:
        self.paths, self._info, self._times = paths, info, list[int]()
        for path in paths:
            times = self._read_times(path)
            if not times or (self._times and min(times) <= self.end):
                raise OutputError(
                    f"{path}: the part is damaged or not the next one; remove it and run the command again"
                )
            self._times += times
            self.end = max(times)
        self.scale = max(1, self.size[1] // info.height)
        self.first, *later = heapq.nsmallest(2, self._times)
        self.step = later[0] - self.first if later else round(1 / ((info.rate or USUAL_RATE) * info.time_base)) or 1

    def _read_times(self, path: Path) -> list[int]:
        """The PTS of a part in the order of decoding; none where it cannot be read."""
        try:
            with opened(path) as part:
                track = part.streams.video[0]
                self.size = track.width, track.height
                return [self._pts(packet) for packet in part.demux(track) if packet.size]
        except (VideoError, IndexError, av.error.FFmpegError):
            return []

    def _pts(self, packet: Packet) -> int:
        assert packet.pts is not None, "a part whose packets have no times"
        return round(packet.pts * packet.time_base / self._info.time_base) + self._info.start

    def _until(self, span: Span) -> int:
        """The PTS up to which the last picture is shown: as the source tells and the span goes, else like the first."""
        info, ends = self._info, [span.stop(self._info)]
        if info.duration_s:
            ends.append(info.start + round(Fraction(info.duration_s) / info.time_base))
        if info.kind == "film":
            with opened(info.path) as source:
                ends.append(shown_until(source, shown_stream(source, info.path), self.end))
        return int(min(ends)) if min(ends) > self.end else self.end + self.step

    def packets(self, track: VideoStream, shift: int, span: Span) -> Iterator[tuple[Fraction, Packet]]:
        """(decoding time in seconds, packet for `track`), all times moved by `shift` ticks."""
        decoded_at, until = decoding_times(self._times), self._until(span)
        # MP4 takes the length of a track from the last packet that is decoded, which need not be the last one shown
        held = until - self.first - (decoded_at[-1] - decoded_at[0])
        for packet, dts in zip(self._packets(), decoded_at, strict=True):
            pts = self._pts(packet)
            packet.time_base, packet.pts, packet.dts = self._info.time_base, pts + shift, dts + shift
            packet.duration = until - pts if pts == self.end else self.step
            if dts == decoded_at[-1]:
                packet.duration = max(1, min(until - pts, held))
            packet.stream = track
            yield packet.dts * self._info.time_base, packet

    def _packets(self) -> Iterator[Packet]:
        for path in self.paths:
            with opened(path) as part:
                yield from (packet for packet in part.demux(video=0) if packet.size)

    def frames(self) -> Iterator[VideoFrame]:
        """The pictures themselves, for outputs that are no films: upright, as none of these holds a turn."""
        to_rgb = ToRgb(self._info.colour, self.size, deep=self._info.depth == "uint16")
        for path in self.paths:
            with opened(path) as part:
                track = part.streams.video[0]
                for picture in decoded(part, track, []):
                    pts = round(picture.pts * time_base_of(track) / self._info.time_base)
                    yield VideoFrame(upright(to_rgb(picture.frame), self._info.matrix), pts + self._info.start)


def _picture_track(
    film: OutputContainer, parts: _Parts, info: VideoInfo, source: InputContainer | None, stack: contextlib.ExitStack
) -> VideoStream:
    """The stream for the joined pictures, with all that players must know before its first packet."""
    first = stack.enter_context(opened(parts.paths[0]))
    track = film.add_stream_from_template(first.streams.video[0], opaque=True)
    track.time_base = info.time_base
    track.codec_context.sample_aspect_ratio = info.sample_aspect
    if track.codec.canonical_name == "hevc" and film.format.name in ("mp4", "mov"):
        track.codec_context.codec_tag = "hvc1"  # the name under which Apple's players know it
    if track.codec.canonical_name == LOSSLESS:  # which says nothing of colours itself, as H.264 does
        track.codec_context.color_primaries, track.codec_context.color_trc = info.colour.primaries, info.colour.transfer
    if source:
        labelled(track, shown_stream(source, info.path), is_anew=True)
    if info.matrix:
        track.set_display_matrix(info.matrix)
    return track


def _container_options(info: VideoInfo, source: InputContainer | None, output: Path) -> dict[str, str]:
    """For MP4 an index in front, and a clock that divides every track's: offsets between tracks count in its ticks.

    Keys of its own names are written only where a telephone did so (place, camera): not every player looks there.
    """
    if _FORMATS[output.suffix.lower()] not in ("mp4", "mov"):
        return {}
    rates = [stream.rate for stream in source.streams.audio if stream.rate] if source else []
    timescale = math.lcm(info.time_base.denominator, *rates)
    if timescale > _LARGEST_TIMESCALE:
        timescale = info.time_base.denominator
    keys = "+use_metadata_tags" if any(key.startswith("com.") for key in info.metadata) else ""
    return {"movflags": f"faststart{keys}", "movie_timescale": str(timescale)}


def _moved(chapters: Sequence["Chapter"], shift: Fraction, end: Fraction | float) -> Iterator["Chapter"]:
    """The chapters within 0 and `end` seconds after moving all by `shift` seconds, the last one cut there."""
    for chapter in chapters:
        base = chapter["time_base"] or Fraction(1, av.time_base)
        first, last = (round(chapter[key] + shift / base) for key in ("start", "end"))
        if last > 0 and first * base < end:
            yield {**chapter, "start": max(0, first), "end": max(first, math.ceil(min(last * base, end) / base))}
