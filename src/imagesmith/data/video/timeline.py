"""The frames of a film in the order they are shown, at rising times, with stand-ins for those that are missing."""

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from imagesmith.data.video.info import USUAL_RATE, counted

_MOST_REORDERED = 16  # pictures of H.264 and HEVC that wait for their turn
_MOST_SILENCE_S = 0.5  # sound often goes on a little after the last picture


class Picture(NamedTuple):
    """A decoded frame and its time; `repeated` where it stands in for one that could not be decoded."""

    frame: av.VideoFrame
    pts: int
    repeated: bool


def time_base_of(stream: VideoStream) -> Fraction:
    """The unit of a stream's times; every container that is read tells one."""
    assert stream.time_base, "a stream without a time base"
    return stream.time_base


def decoding_times(shown: Sequence[int]) -> list[int]:
    """When the packets of a stream are decoded, by their PTS in the order of decoding.

    The k-th at the PTS of the picture `delay` places earlier in the order shown: rising, and never after its own
    picture, as one uninterrupted encoder gives them.
    """
    ordered = sorted(shown)
    ranks = {pts: rank for rank, pts in enumerate(ordered)}
    delay = max(k - ranks[pts] for k, pts in enumerate(shown))
    step = max(1, ordered[1] - ordered[0]) if delay else 0
    return [*(ordered[0] - k * step for k in range(delay, 0, -1)), *ordered[: len(ordered) - delay]]


def shown_until(container: InputContainer, stream: VideoStream, pts: int) -> int:
    """The PTS up to which the picture at `pts` is shown: to the next one, or as long as packets tell.

    Of the last picture its own packet tells it, in MP4 the last one that is decoded. `pts` where none does.
    """
    later, is_found, own, last = list[int](), False, 0, 0
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.seek(pts, stream=stream)
    with contextlib.suppress(av.error.FFmpegError, OSError):
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None:
                continue
            last = packet.duration or 0
            if packet.pts == pts:
                is_found, own = True, last
            elif packet.pts > pts:
                later.append(packet.pts)
            if len(later) > _MOST_REORDERED:
                break
    return min(later, default=pts + max(own, last)) if is_found else pts


class Timeline:
    """Puts decoded frames in order, and says which are missing.

    A packet that raised an error owes a frame; with threads the decoder tells of it late, so what is owed is only
    counted, and the gap it left shows when a frame beyond it comes out. Packets without a frame of their own
    (references that are never shown) leave gaps as well, but owe nothing.
    """

    def __init__(self, stream: VideoStream, duration_s: float) -> None:
        self._declared, self._duration_s, self._time_base = stream.frames, duration_s, time_base_of(stream)
        rate = stream.guessed_rate or stream.average_rate or USUAL_RATE
        self._step = max(1, round(1 / (rate * self._time_base)))
        self._start = stream.start_time or 0
        self._expected: list[int] = []
        self._last: Picture | None = None
        self._reached_s = 0.0
        self._packets = self._repeated = self._retimed = self._headless = self._silent = 0
        self.owed = 0
        self.cut_short = self.ended = False

    def expect(self, packet: Packet) -> None:
        """Note a packet of the pictures, whose frame comes out later."""
        self._packets += 1
        self.reach(packet, self._step)
        if packet.pts is not None and not packet.is_discard:
            heapq.heappush(self._expected, packet.pts)

    def reach(self, packet: Packet, usual: int = 0) -> None:
        """Note how far a packet of any stream goes, `usual` ticks where it does not tell."""
        if packet.pts is not None:
            end_s = float((packet.pts + (packet.duration or usual)) * packet.time_base)
            self._reached_s = max(self._reached_s, end_s)

    def place(self, frame: av.VideoFrame) -> Iterator[Picture]:
        pts = frame.pts
        if pts is not None:
            yield from self._stand_ins(before=pts)
            if self._expected and self._expected[0] == pts:
                heapq.heappop(self._expected)
        least = self._last.pts + 1 if self._last else pts or 0
        if pts is None or pts < least:
            self._retimed += 1
            slightly = pts is not None and least - pts <= self._step
            pts = least if slightly or not self._last else self._last.pts + self._step
        self._last = Picture(frame, pts, False)
        yield self._last

    def _stand_ins(self, before: float) -> Iterator[Picture]:
        while self._expected and self._expected[0] < before:
            pts = heapq.heappop(self._expected)
            if not self.owed:
                self._silent += self._last is not None  # in front of the first, they belong to what was left out
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
        notes = []
        if self._repeated:
            notes.append(
                f"{counted(self._repeated, 'frame')} could not be decoded; the last good one is repeated instead"
            )
        if self._headless:
            notes.append(f"{counted(self._headless, 'frame')} at the beginning could not be decoded: left out")
        if self._retimed:
            notes.append(
                f"{counted(self._retimed, 'frame')} without a usable time: put after the one before at the usual rate"
            )
        if self._silent:
            notes.append(f"{counted(self._silent, 'packet')} gave no picture: damaged, or never meant to be shown")
        lost_s = self._duration_s - self._reached_s
        if self._declared:  # else times may count from anywhere, and durations from 0
            lost_s += float(self._start * self._time_base)
        most_s = 1.5 * self._step * self._time_base if self._declared > self._packets else _MOST_SILENCE_S
        if self.cut_short or (self.ended and lost_s > most_s):
            of = f" of {self._duration_s:.2f} s" if lost_s > 0 else ""
            notes.append(f"the file is damaged or cut short: its pictures end after {self._shown_s:.2f} s{of}")
        return notes

    @property
    def _shown_s(self) -> float:
        return float((self._last.pts - self._start + self._step) * self._time_base) if self._last else 0.0
