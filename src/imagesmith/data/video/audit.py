"""The closing look at a finished film: nothing of the source is missing, late, silent or black."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
import torch
from av.packet import Packet
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import read_image
from imagesmith.data.video.animations import UNIT_MS, times_shown
from imagesmith.data.video.colour import ToRgb, in_prores
from imagesmith.data.video.encoding import loses_shape
from imagesmith.data.video.film import decoded, lies_on_its_side, opened, shown_stream, upright
from imagesmith.data.video.folders import frame_files, frame_name
from imagesmith.data.video.info import VideoInfo, counted
from imagesmith.data.video.reader import open_video, read_info
from imagesmith.data.video.span import Span
from imagesmith.data.video.streams import in_span, is_moving

_THUMB = (32, 18)
_BLACK, _NOT_BLACK, _OTHER_COLOUR = 3, 10, 60  # mean of 0 to 255, and mean distance from the source
_SAME_COLOUR = 2  # mean distance of frames that become the same picture
_SHAPE = "the shape of pixels"
_INAUDIBLE = Fraction(1, 1000)  # and what Matroska rounds to


@dataclass(frozen=True)
class Audit:
    """What the closing look found; times in seconds, None where a folder of frames has none.

    What an encoding cannot hold, and is told about before (`lost_by`), is no fault, though `tags_kept` is False then.
    `timestamp_error_s` is the largest distance of a frame's time from the source's, after the constant by which a
    container may move all streams together; `sound_offset_error_s` how much sound moved against the pictures.
    `black_frames` are black, or far from the source's colours, where the source is not.
    """

    frames_in: int
    frames_out: int
    timestamp_error_s: float | None
    sound_offset_error_s: float
    has_sound: bool
    audio_packets_equal: bool
    tags_kept: bool
    black_frames: int
    sentences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.sentences


def audit(
    source_info: VideoInfo,
    output: Path,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    frames: int | None = None,
) -> Audit:
    """Compare a finished output with the part of its source that it was made of; the pictures of both are decoded.

    Of a folder, which may hold others besides, the first `frames` of those that are named by numbers are looked at.
    """
    info, span = read_info(output), Span(start_s, end_s)
    made = _moments(info, Span()) if info.kind != "folder" or frames is None else _numbered(output, frames)
    seen = _Seen()
    befores = _moments(source_info, span, is_upright=info.kind != "film")
    if info.kind == "animation":
        pairs = _pairs_of_shown(list(befores), made, source_info.start * source_info.time_base, _format(info))
    else:
        pairs = itertools.zip_longest(befores, made)
    for before, after in pairs:
        seen.add(before, after)
    timed = source_info.kind != "folder" and info.kind != "folder"
    error = max(seen.latest - seen.shift, seen.shift - seen.earliest) if timed else None
    sounds, kept = _sounds(source_info, span), _sounds(info, Span())
    offsets = [abs(kept[digest] - first - seen.shift) for digest, first in sounds.items() if digest in kept]
    offset = max(offsets, default=Fraction(0))
    equal = set(kept) <= set(sounds)
    camera_offset = _camera_offset(_cameras(source_info, span), _cameras(info, Span()), seen.shift)
    changed = _changed_tags(source_info, info)
    is_shapeless = any(loses_shape(stream.codec, output) for stream in info.streams)
    sentences = list(seen.sentences())
    if error is not None and error > _allowed(source_info, info):
        sentences.append(f"a frame is {float(error) * 1000:.3g} ms off its time")
    if offset > _INAUDIBLE:
        sentences.append(f"sound moved by {float(offset) * 1000:.3g} ms against the pictures")
    if camera_offset > _INAUDIBLE:
        sentences.append(f"a second picture moved by {float(camera_offset) * 1000:.3g} ms against the first")
    if not equal:
        sentences.append("packets of sound are not those of the source")
    sentences += [sentence for tag, sentence in changed.items() if not (tag == _SHAPE and is_shapeless)]
    return Audit(
        seen.frames_in,
        seen.frames_out,
        None if error is None else float(error),
        float(offset),
        bool(kept),
        equal,
        not changed,
        seen.black,
        tuple(sentences),
    )


class _Moment(NamedTuple):
    """A frame's time in seconds and its colours, (18, 32, 3) uint8."""

    time: Fraction
    thumb: np.ndarray


class _Seen:
    """What a walk through both films in step brings to light."""

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.black = 0
        self.earliest = self.latest = self.shift = Fraction(0)

    def add(self, before: _Moment | None, after: _Moment | None) -> None:
        self.frames_in += before is not None
        self.frames_out += after is not None
        if before is None or after is None:
            return
        late = after.time - before.time
        if self.frames_out == 1:
            self.earliest = self.latest = self.shift = late
        self.earliest, self.latest = min(self.earliest, late), max(self.latest, late)
        is_black = after.thumb.mean() < _BLACK and before.thumb.mean() > _NOT_BLACK
        self.black += bool(is_black or np.abs(after.thumb - before.thumb.astype(float)).mean() > _OTHER_COLOUR)

    def sentences(self) -> Iterator[str]:
        if self.frames_in != self.frames_out:
            yield f"{counted(self.frames_in, 'frame')} went in, {self.frames_out} came out"
        if self.black:
            yield f"{counted(self.black, 'frame')} black, or of other colours than the source's"


def _pairs_of_shown(
    befores: Sequence[_Moment], afters: Iterator[_Moment], start: Fraction, format: str
) -> Iterator[tuple[_Moment | None, _Moment | None]]:
    """Frames of a source that starts at `start` and of its animation of a `format`.

    Its encoders show one picture longer where the next is the same, or would come too soon after it (`times_shown`).
    """
    wanted, tick = times_shown(format, [before.time - start for before in befores]), _tick(format)
    shown: tuple[_Moment, _Moment] | None = None
    coming = next(afters, None)
    for number, before in enumerate(befores):
        is_same = shown is not None and np.abs(before.thumb - shown[0].thumb.astype(float)).mean() < _SAME_COLOUR
        if shown is not None and (is_same or number not in wanted):
            shift = shown[1].time - shown[0].time
            if number not in wanted or coming is None or coming.time - shift > before.time + tick:
                yield before, shown[1]._replace(time=before.time + shift)
                continue
        yield before, coming
        if coming is not None:
            shown, coming = (before, coming), next(afters, None)
    while coming is not None:
        yield None, coming
        coming = next(afters, None)


def _format(animation: VideoInfo) -> str:
    return animation.path.suffix.lower().lstrip(".")


def _tick(format: str) -> Fraction:
    """The unit in seconds of the times in an animation."""
    return Fraction(UNIT_MS[format], 1000)


def _numbered(folder: Path, frames: int) -> Iterator[_Moment]:
    """The pictures that `write_folder` made, as far as they are there."""
    by_name = {path.stem: path for path in frame_files(folder)}
    for number in range(1, frames + 1):
        if (path := by_name.get(Path(frame_name(number, "png")).stem)) is not None:
            frame = read_image(path)
            yield _Moment(Fraction(number - 1), _small(frame.pixels))


def _small(pixels: Tensor) -> np.ndarray:
    """(18, 32, 3) uint8 of (H, W, 3) uint8 or uint16."""
    pixels = pixels if pixels.dtype == torch.uint8 else pixels.int() >> 8
    small = F.interpolate(pixels.permute(2, 0, 1).float()[None], _THUMB[::-1], mode="area")[0]
    return small.permute(1, 2, 0).byte().numpy()


def _moments(info: VideoInfo, span: Span, *, is_upright: bool = False) -> Iterator[_Moment]:
    if info.kind != "film":
        with open_video(info.path, span.start_s, span.end_s) as reader:
            for frame in reader:
                yield _Moment(frame.pts * info.time_base, _small(frame.pixels))
        return
    matrix = info.matrix if is_upright else None
    size = (_THUMB[1], _THUMB[0]) if lies_on_its_side(matrix) else _THUMB
    to_rgb = ToRgb(info.colour, size, deep=False)
    first, stop = span.first(info), span.stop(info)
    with opened(info.path) as container:
        stream = shown_stream(container, info.path)
        for picture in decoded(container, stream, []):
            if picture.pts >= stop:
                return
            if picture.pts >= first:
                yield _Moment(picture.pts * info.time_base, upright(to_rgb(picture.frame), matrix).numpy())


def _carried(info: VideoInfo, span: Span, kind: Literal["audio", "video"]) -> Iterator[Packet]:
    """The packets that are carried over from all streams of a kind; the picture that is worked on is none of them."""
    if info.kind != "film":
        return
    with opened(info.path) as container:
        shown = shown_stream(container, info.path)
        streams = [stream for stream in container.streams if stream.type == kind and stream.index != shown.index]
        streams = [stream for stream in streams if kind == "audio" or is_moving(stream)]
        if streams:
            yield from in_span(container.demux(streams), info, span)


def _sounds(info: VideoInfo, span: Span) -> dict[str, Fraction]:
    """The time of the first packet by the digest of all packets' content, for each audio stream."""
    digests, firsts = {}, {}
    for packet in _carried(info, span, "audio"):
        index = packet.stream.index
        digests.setdefault(index, hashlib.sha256()).update(_content(packet))
        firsts.setdefault(index, _time(packet))
    return {digest.hexdigest(): firsts[index] for index, digest in digests.items()}


class _Camera(NamedTuple):
    """A picture beside the one that is worked on: its codec and its packets' times in seconds."""

    codec: str
    times: list[Fraction]


def _cameras(info: VideoInfo, span: Span) -> list[_Camera]:
    """Those of a film, up to where decoding times do not rise, as at the seams of broadcasts: they are counted anew."""
    found, last = dict[int, _Camera](), dict[int, float]()
    for packet in _carried(info, span, "video"):
        index, decoded_at = packet.stream.index, packet.dts
        if decoded_at is not None:
            last[index] = decoded_at if decoded_at > last.get(index, -math.inf) else math.inf
        if last.get(index) != math.inf:
            found.setdefault(index, _Camera(packet.stream.codec_context.name, [])).times.append(_time(packet))
    return list(found.values())


def _camera_offset(befores: list[_Camera], afters: list[_Camera], shift: Fraction) -> Fraction:
    """The largest distance of a packet from its time; pictures of a codec that the output cannot hold are not there."""
    kept = {after.codec for after in afters}
    pairs = zip((before for before in befores if before.codec in kept), afters, strict=False)
    offsets = (
        abs(now - was - shift) for before, after in pairs for was, now in zip(before.times, after.times, strict=False)
    )
    return max(offsets, default=Fraction(0))


def _time(packet: Packet) -> Fraction:
    assert packet.pts is not None
    return packet.pts * packet.time_base


def _content(packet: Packet) -> bytes:
    """What a packet holds, without the header (ADTS) that AAC has in broadcasts alone, where no index tells it."""
    content = bytes(packet)
    has_header = packet.stream.codec_context.name == "aac" and content[0] == 0xFF and content[1] & 0xF6 == 0xF0
    return content[7 if content[1] & 1 else 9 :] if has_header else content


def _changed_tags(before: VideoInfo, after: VideoInfo) -> dict[str, str]:
    """A sentence for each tag of a film that another film does not have."""
    if (before.kind, after.kind) != ("film", "film"):
        return {}
    colour = before.colour
    if av.VideoFormat(after.pix_fmt).is_rgb:  # which has neither matrix nor range of its own
        colour = replace(colour, matrix=after.colour.matrix, range=after.colour.range)
    elif any(stream.codec == "prores" for stream in after.streams):
        colour = in_prores(colour)
    pairs = {
        "colour": (colour, after.colour),
        "the turn": (before.matrix, after.matrix),
        _SHAPE: (before.sample_aspect, after.sample_aspect),
    }
    return {name: f"{name} is {now}, was {was}" for name, (was, now) in pairs.items() if was != now}


def _allowed(before: VideoInfo, after: VideoInfo) -> Fraction:
    """How far times may be off: not at all where the output counts in ticks that divide the source's, else one tick."""
    if after.kind == "animation":
        return _tick(_format(after))
    return Fraction(0) if before.time_base % after.time_base == 0 else after.time_base
