"""A closed part of a film: pictures only, with the exact time of each, in a file that is whole or absent."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from torch import Tensor

from imagesmith.atomic import replacing
from imagesmith.data.video.colour import FromRgb, even_size, in_prores
from imagesmith.data.video.encoding import PRORES, Encoding, open_encoder, settle
from imagesmith.data.video.info import USUAL_RATE, VideoInfo
from imagesmith.errors import OutputError

Write = Callable[[Tensor, int], None]
"""Adds a frame, (H, W, 3) uint8 or uint16, at a PTS in the source's time base."""
_LONG_BEFORE = 1 << 24  # ticks; more than a part has frames
_MOST_RATE = Fraction(240)  # a hint for quality; AV1 takes no more, times stay as they are


@contextlib.contextmanager
def segment_writer(path: Path, info: VideoInfo, encoding: Encoding, *, size: tuple[int, int]) -> Iterator[Write]:
    """A function that adds frames of `size` (width, height), at rising times, to the part `path`.

    Parts of one film are made with one `encoding`; `join` makes the film of them. Times count from the film's first
    frame in the part, because NUT, which keeps any time base exactly, holds no negative ones.
    """
    encoding = encoding if encoding.is_settled else settle(encoding, info)
    if encoding.encoder == PRORES:
        info = replace(info, colour=in_prores(info.colour))
    with (
        replacing(path, overwrite=True) as stream,
        encoding_errors(path),
        av.open(stream.name, "w", format=part_format(encoding), container_options=_as_they_are(info)) as film,
    ):
        track = _track(film, info, encoding, even_size(size, encoding.pix_fmt))
        to_yuv = FromRgb(info.colour, encoding.pix_fmt)

        def write(pixels: Tensor, pts: int) -> None:
            assert pixels.shape == (size[1], size[0], 3), f"a frame of another size: {tuple(pixels.shape)}"
            frame = to_yuv(pixels)
            frame.pts, frame.time_base = pts - info.start, info.time_base
            film.mux(in_order(track.encode(frame)))

        in_order = _Order() if part_format(encoding) == "nut" else _as_shown
        yield write
        film.mux(in_order(track.encode(None)))


class _Order:
    """Decoding times that any muxer takes: rising, and long before what is shown; `join` counts the film's anew.

    x265 makes those of a part of one or two frames out of memory that it never set.
    """

    def __init__(self) -> None:
        self._next = -_LONG_BEFORE

    def __call__(self, packets: list[Packet]) -> list[Packet]:
        for packet in packets:
            packet.dts = self._next
            self._next += 1
        return packets


def _as_shown(packets: list[Packet]) -> list[Packet]:
    """Decoding times of ProRes, which reorders nothing: MOV holds none that are as far off as those of `_Order`."""
    for packet in packets:
        packet.dts = packet.pts
    return packets


def part_format(encoding: Encoding) -> str:
    """The container of a part: NUT, and MOV for ProRes, which NUT does not know."""
    return "mov" if encoding.encoder == PRORES else "nut"


def _as_they_are(info: VideoInfo) -> dict[str, str]:
    """Options without which times move where decoding starts before 0 (B-frames) and a late start in MOV is rounded."""
    return {"avoid_negative_ts": "disabled", "movie_timescale": str(info.time_base.denominator)}


@contextlib.contextmanager
def encoding_errors(path: Path) -> Iterator[None]:
    """Failures of an encoder or a container as OutputError; those of the file system pass through as they are."""
    try:
        yield
    except OSError:
        raise
    except av.error.FFmpegError as error:
        raise OutputError(f"{path}: cannot be encoded: {error}") from error


def _track(film: OutputContainer, info: VideoInfo, encoding: Encoding, size: tuple[int, int]) -> VideoStream:
    track = film.add_stream(
        encoding.encoder, rate=min(info.rate or USUAL_RATE, _MOST_RATE), options=encoding.options(info.hdr10)
    )
    assert isinstance(track, VideoStream)
    track.width, track.height = size
    track.pix_fmt = encoding.pix_fmt
    track.sample_aspect_ratio = info.sample_aspect
    context = track.codec_context
    context.time_base = track.time_base = info.time_base
    if not av.VideoFormat(encoding.pix_fmt).is_rgb:
        context.colorspace, context.color_range = info.colour.matrix, info.colour.range
    context.color_primaries, context.color_trc = info.colour.primaries, info.colour.transfer
    open_encoder(context, size)
    return track
