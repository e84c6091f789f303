"""What survives of a JPEG file whose bytes were cut off or changed, found by decoding it several times.

A decoder fills what it cannot read with gray or with nonsense, and says neither where nor whether. So other bytes are
put behind the entropy-coded data: blocks that then change were not read from the file. Where bytes in the middle were
changed, the decoder falls out of step and meets the end too early, or never reads the last bytes at all; where that
began shows as a line of hard edges as long as a row of blocks.
"""

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_SEQUENTIAL, _PROGRESSIVE, _DRI, _SOS, _EOI, _RST0 = (0xC0, 0xC1), 0xC2, 0xDD, 0xDA, 0xD9, 0xD0
_END_MARK = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_TAIL_BYTES, _LAST_BYTES = 64, 3  # put behind the data; exchanged at its end
_LAST_BYTES_OF_LUMA = 16  # hold brightness as well: chroma comes last in a block
_TRIES = 3  # a block that is the same with so many other bytes is as good as read
_ZERO_FILLED = 64  # so many zero bytes at the end were never written by an encoder
_LONGEST_GAP = 3  # restart markers count modulo 8: a longer gap cannot be told from a wrong number
_MOST_LEVELS = 16  # of one edge count: a photograph has a few strong ones, damage many
_SUSPECT_LEVELS, _SURE_LEVELS = 5.0, 12.0  # mean of a line of edges; none of 300 photographs had over 10.7
_MARGIN = 2  # blocks before that line: the first wrong ones may look right

Decode = Callable[[bytes], np.ndarray]
"""A JPEG file to its pixels (H, W) or (H, W, C); what is missing is filled with anything."""


@dataclass(frozen=True)
class Survey:
    """What is left of a JPEG: `data` decodes without an error; `lost` (H, W) is True where it holds no picture."""

    data: bytes
    lost: np.ndarray | None
    note: str | None


@dataclass(frozen=True)
class _Layout:
    """Where the first scan begins in the file, and in which blocks (MCUs) it goes through the picture."""

    height: int
    width: int
    block: tuple[int, int]
    is_subsampled: bool
    is_progressive: bool
    interval: int
    start: int

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks (down, across)."""
        return -(-self.height // self.block[0]), -(-self.width // self.block[1])

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def segments(self) -> int:
        """Parts between restart markers."""
        return -(-self.blocks // self.interval) if self.interval else 1

    def span(self, segment: int) -> slice:
        """The blocks of a segment."""
        size = self.interval or self.blocks
        return slice(segment * size, min((segment + 1) * size, self.blocks))


def survey_jpeg(data: bytes, decode: Decode) -> Survey | None:
    """What survives of a baseline or progressive JPEG; None where its header is unreadable or of another kind.

    Of a progressive one all counts as there once its first, coarse scan is. `decode` is called up to seven times.
    """
    layout = _layout(data)
    if layout is None:
        return None
    head, (segments, is_whole) = data[: layout.start], _segments(data, layout)
    if layout.is_progressive and is_whole:
        if _END_MARK in data[layout.start :]:
            return Survey(data, None, None)
        return Survey(
            data + _END_MARK, None, "the file ends early: fine detail is missing, all of the picture is there"
        )
    intact = _joined(head, segments)
    pixels = decode(intact)

    def changed(variants: Iterable[Sequence[bytes]]) -> np.ndarray:
        """Which blocks differ in any of these variants of the segments."""
        found = np.zeros(layout.blocks, bool)
        for variant in variants:
            found |= _by_block((decode(_joined(head, variant)) != pixels), layout)
        return found

    rng = np.random.default_rng(0)
    unread = changed([part + _noise(_TAIL_BYTES, rng) for part in segments] for _ in range(_TRIES))
    lost = _behind_first(unread, layout)
    if is_whole:
        last = changed([_exchanged(part, _LAST_BYTES, rng) for part in segments] for _ in range(_TRIES))
        lost = _out_of_step(lost, last, pixels, layout)
    if not lost.any():
        return Survey(intact, None, None if is_whole else "its end mark is missing, the picture is complete")
    mask = _as_pixels(lost, layout)
    rows = np.flatnonzero(mask.any(axis=1))
    note = f"rows below about {rows[0]} are missing (of {layout.height})"
    if not mask[-1].any() or not mask[rows[0] :].any(axis=1).all():
        note = (
            f"{mask.mean():.1%} of the picture is missing, between rows {rows[0]} and {rows[-1]} (of {layout.height})"
        )
    return Survey(intact, mask, note)


def looks_damaged(data: bytes, decode: Decode) -> bool:
    """Whether there is a sign in a whole baseline JPEG that `survey_jpeg` may find something in it.

    `decode` gives its brightness alone (H, W) and is called three times, a tenth of what the survey takes.
    """
    layout = _layout(data)
    if layout is None or layout.is_progressive:
        return False
    head, (segments, _) = data[: layout.start], _segments(data, layout)
    pixels, rng = decode(_joined(head, segments)), np.random.default_rng(0)
    longer = [part + _noise(_TAIL_BYTES, rng) for part in segments]
    others = [_exchanged(part, _LAST_BYTES_OF_LUMA, rng) for part in segments]
    unread, at_end = (_by_block(decode(_joined(head, parts)) != pixels, layout) for parts in (longer, others))
    unused = [not at_end[layout.span(index)].any() for index in range(layout.segments)]
    if unread.any() or (any(unused) and (layout.segments == 1 or not all(unused))):
        return True
    return layout.segments == 1 and _first_edge(pixels, layout, layout.blocks, is_suspect=False) is not None


def _layout(data: bytes) -> _Layout | None:
    """From the markers before the first scan (ITU T.81, annex B); None unless that scan holds all components."""
    at, frame, interval = 2, None, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, (size,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        body = data[at + 4 : at + 2 + size]
        at += 2 + size
        if marker in (*_SEQUENTIAL, _PROGRESSIVE) and len(body) >= 9:
            frame = marker, body
        elif marker == _DRI and len(body) >= 2:
            (interval,) = struct.unpack_from(">H", body)
        elif marker == _SOS:
            holds_all = frame is not None and body and body[0] == frame[1][5]
            return _layout_of(*frame, interval, at) if frame and holds_all and at <= len(data) else None
    return None


def _layout_of(marker: int, body: bytes, interval: int, start: int) -> _Layout | None:
    height, width, components = struct.unpack_from(">HHB", body, 1)
    factors = [divmod(byte, 16) for byte in body[7 : 6 + 3 * components : 3]]  # (across, down)
    if len(factors) != components or not height or not width or any(0 in factor for factor in factors):
        return None
    across, down = (1, 1) if components == 1 else (max(factor[axis] for factor in factors) for axis in (0, 1))
    is_subsampled = components > 1 and len(set(factors)) > 1
    return _Layout(height, width, (8 * down, 8 * across), is_subsampled, marker == _PROGRESSIVE, interval, start)


def _segments(data: bytes, layout: _Layout) -> tuple[list[bytes], bool]:
    """The entropy-coded parts of the first scan, empty where one is missing, and whether the scan's end was found.

    A marker that has no business inside a scan is a changed byte and ends its part, as it does for the decoder.
    """
    parts, index, begin = [b""] * layout.segments, 0, layout.start
    for found in _MARKER.finditer(data, layout.start):
        marker = found[1][0]
        gap = (marker - _RST0 - index) % 8
        is_restart = _RST0 <= marker < _RST0 + 8 and gap <= _LONGEST_GAP and index + gap + 1 < layout.segments
        if begin is not None:
            parts[index], begin = data[begin : found.start()], None
        if is_restart:
            index, begin = index + gap + 1, found.end()
        elif marker == _EOI or layout.is_progressive:
            return parts, True
    if begin is not None:
        rest = data[begin:].rstrip(b"\xff")
        bare = rest.rstrip(b"\0")
        parts[index] = bare if len(rest) - len(bare) >= _ZERO_FILLED else rest
    return parts, False


def _joined(head: bytes, segments: Sequence[bytes]) -> bytes:
    """A file of one scan, with its restart markers in order and an end mark."""
    restarts = (bytes((0xFF, _RST0 + index % 8)) for index in range(len(segments) - 1))
    return head + segments[0] + b"".join(map(b"".join, zip(restarts, segments[1:], strict=True))) + _END_MARK


def _exchanged(part: bytes, size: int, rng: np.random.Generator) -> bytes:
    """With other last bytes, and without half of a stuffed 0xFF 0x00 before them, which would become a marker."""
    return part[:-size].rstrip(b"\xff") + _noise(size, rng)


def _noise(size: int, rng: np.random.Generator) -> bytes:
    """Entropy-coded data of no meaning and without a marker."""
    return rng.integers(0, 255, size, np.uint8).tobytes()


def _by_block(differs: np.ndarray, layout: _Layout) -> np.ndarray:
    """Whether a block differs anywhere but at its rim, where chroma of the neighbours shines through; (blocks,)."""
    (down, across), (high, wide) = layout.grid, layout.block
    differs = np.any(np.atleast_3d(differs), axis=2)
    padding = (0, down * high - layout.height), (0, across * wide - layout.width)
    cells = np.pad(differs, padding, mode="edge").reshape(down, high, across, wide)
    return cells[:, 1:-1, :, 1:-1].any(axis=(1, 3)).ravel()


def _behind_first(unread: np.ndarray, layout: _Layout) -> np.ndarray:
    """All blocks of a segment from its first unread one on: what is decoded without data may look like anything."""
    spans = (unread[layout.span(index)] for index in range(layout.segments))
    return np.concatenate([np.logical_or.accumulate(span) for span in spans])


def _out_of_step(lost: np.ndarray, at_end: np.ndarray, pixels: np.ndarray, layout: _Layout) -> np.ndarray:
    """`lost` with what was decoded out of step in a file that has its end.

    A segment that lacks data, or whose last bytes mean nothing (`at_end`: the blocks that they change), holds changed
    bytes. It is lost from the line of edges on, or as a whole where it is one of several. Encoders may leave bytes that
    mean nothing at the end of all segments, so these alone are no reason.
    """
    lost, spans = lost.copy(), [layout.span(index) for index in range(layout.segments)]
    lacking = [bool(lost[span].any()) for span in spans]
    unused = [not at_end[span].any() for span in spans]
    if layout.segments == 1:
        stop = int(np.argmax(lost)) if lacking[0] else layout.blocks
        onset = _first_edge(pixels, layout, stop, is_suspect=lacking[0] or unused[0])
        if onset is not None:
            lost[onset:] = True
        return lost
    for span, lacks, is_unused in zip(spans, lacking, unused, strict=True):
        lost[span] |= lacks or (is_unused and not all(unused))
    return lost


def _first_edge(pixels: np.ndarray, layout: _Layout, stop: int, *, is_suspect: bool) -> int | None:
    """Where the strongest line of edges before block `stop` begins, or None where there is none that only damage makes.

    Without other signs of damage it must be strong and have a step: bars and tables have straight lines.
    """
    (down, across), (high, wide) = layout.grid, layout.block
    if stop < 2 * across:
        return None
    rows = pixels.reshape(*pixels.shape[:2], -1).astype(np.int16)
    top = np.arange(1, down) * high
    inside = np.minimum(top + 1, layout.height - 1)
    usual = np.abs(rows[top - 1] - rows[top - 2]) + np.abs(rows[inside] - rows[top])
    excess = (np.abs(rows[top] - rows[top - 1]) - usual / 2).mean(axis=2)
    starts = np.arange(across) * wide
    edges = np.zeros((down, across))  # how much harder the upper edge of a block is than the picture beside it
    edges[1:] = np.add.reduceat(excess, starts, axis=1) / np.diff(np.append(starts, layout.width))
    edges = edges.clip(0, _MOST_LEVELS)
    sums = np.concatenate(([0.0], np.cumsum(edges.ravel()[:stop])))
    line = (sums[across:] - sums[:-across]) / across  # the mean over a row of blocks that begins at each block
    rise = line[across:] - line[:-across]
    first = across + int(np.argmax(rise))
    row, column = divmod(first, across)
    has_step = column > 0 and min(edges[row, column:].mean(), edges[row + 1, :column].mean()) >= _SURE_LEVELS
    if rise[first - across] < (_SUSPECT_LEVELS if is_suspect else _SURE_LEVELS) or not (is_suspect or has_step):
        return None
    return max(0, first - _MARGIN)


def _as_pixels(lost: np.ndarray, layout: _Layout) -> np.ndarray:
    """Blocks as pixels (H, W); where chroma is coarser, it shines from a lost block into the pixels beside it."""
    (down, across), (high, wide) = layout.grid, layout.block
    mask = lost.reshape(down, across).repeat(high, axis=0).repeat(wide, axis=1)[: layout.height, : layout.width]
    if not layout.is_subsampled:
        return np.ascontiguousarray(mask)
    grown = mask.copy()
    grown[:-1] |= mask[1:]
    grown[1:] |= mask[:-1]
    wider = grown.copy()
    wider[:, :-1] |= grown[:, 1:]
    wider[:, 1:] |= grown[:, :-1]
    return wider
