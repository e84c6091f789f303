"""Colour of films: what the tags say, what is assumed where they say nothing, and RGB made from YUV and back by it.

swscale guesses BT.601 and limited range wherever it is not told, whatever the tags say; so it is always told.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, VideoReformatter
from torch import Tensor

from imagesmith.degrade.clips import SWSCALE_EXACTLY

UNSPECIFIED = 2  # of matrix, primaries and transfer
BT709, BT470BG, SMPTE170M, BT2020 = 1, 5, 6, 9
LIMITED, FULL = 1, 2
_SD_LINES = 576
_SWS = {BT709: 1, 4: 4, BT470BG: 5, SMPTE170M: 5, 7: 7, BT2020: 9, 10: 9}  # H.273 -> the numbers of swscale
_NAMES = {BT709: "BT.709", BT470BG: "BT.601", SMPTE170M: "BT.601", BT2020: "BT.2020"}


@dataclass(frozen=True)
class ColourTags:
    """Code points of ITU-T H.273; `matrix` and `range` (1 limited, 2 full) are always known, assumed or read.

    `primaries` and `transfer` are 2 where the film does not say; nothing here converts them.
    """

    matrix: int
    range: int
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


_WHITE = 255 * 256  # in 16-bit RGB, as swscale takes it on the way to YUV
UNTAGGED = ColourTags(SMPTE170M, LIMITED)
"""What pictures that are RGB by nature become in a film."""


def in_prores(tags: ColourTags) -> ColourTags:
    """The tags as ProRes holds them: a limited range, and one number for a matrix that H.273 counts twice."""
    matrix = {BT470BG: SMPTE170M, 10: BT2020}.get(tags.matrix, tags.matrix)
    return replace(tags, matrix=matrix, range=LIMITED)


class Told(NamedTuple):
    """Colour tags with a sentence for each that was assumed."""

    tags: ColourTags
    notes: tuple[str, ...]


def colour_of(frame: av.VideoFrame) -> Told:
    """The tags of a decoded frame, completed: untagged films of up to 576 lines are BT.601, others BT.709.

    An RGB frame has no matrix of its own: its tags are those its YUV shall have.
    """
    primaries, transfer = frame.color_primaries, frame.color_trc
    usual = SMPTE170M if frame.height <= _SD_LINES else BT709
    if frame.format.is_rgb:
        return Told(ColourTags(usual, LIMITED, primaries, transfer), ())
    notes = []
    matrix = frame.colorspace
    if matrix not in _SWS:
        what = "does not say its colour matrix" if matrix == UNSPECIFIED else f"has an unusual colour matrix ({matrix})"
        notes.append(f"the film {what}; {_NAMES[usual]} is assumed ({frame.height} lines)")
        matrix = usual
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return Told(ColourTags(matrix, FULL if full else LIMITED, primaries, transfer), tuple(notes))


def is_deep(frame: av.VideoFrame) -> bool:
    """Whether samples have more than eight bits."""
    return frame.format.components[0].bits > 8


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether its pixels tell how much of what lies behind them is seen."""
    return any(component.is_alpha for component in frame.format.components)


class ToRgb:
    """Decoded frames as tensors (H, W, 3) of one size, uint8, or with `deep` uint16 over its full range.

    What is transparent is laid on white.
    """

    def __init__(self, tags: ColourTags, size: tuple[int, int], *, deep: bool) -> None:
        self._tags, (self._width, self._height), self._deep = tags, size, deep
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Tensor:
        told = {}
        if not frame.format.is_rgb:
            told = {"src_colorspace": _SWS[self._tags.matrix], "src_color_range": self._tags.range}
        shallow, deep = ("rgba", "rgba64le") if is_transparent(frame) else ("rgb24", "rgb48le")
        rgb = self._reformatter.reformat(
            frame,
            self._width,
            self._height,
            deep if self._deep else shallow,
            interpolation=SWSCALE_EXACTLY,
            dst_color_range=ColorRange.JPEG,
            threads=1,
            **told,
        )
        pixels = rgb.to_ndarray()
        pixels, alpha = pixels[..., :3], pixels[..., 3:]
        if self._deep and not frame.format.is_rgb:
            pixels = _times(pixels, 65535, self._white(frame))
        if alpha.size:
            pixels = _on_white(pixels, alpha, _opaque(frame) if self._deep else 255)
        return torch.from_numpy(pixels)

    def _white(self, frame: av.VideoFrame) -> int:
        """What swscale makes of white in 16 bits: of a full range the samples moved up, else 255 * 256."""
        is_full = self._tags.range == FULL or len(frame.format.components) < 3
        return _opaque(frame) if is_full else _WHITE


def _opaque(frame: av.VideoFrame) -> int:
    """The largest sample of a frame moved up to 16 bits."""
    bits = min(16, frame.format.components[0].bits)
    return (2**bits - 1) << (16 - bits)


def _on_white(colours: np.ndarray, alpha: np.ndarray, opaque: int) -> np.ndarray:
    """Straight colours (H, W, 3), full range, over white: as seen through `alpha` (H, W, 1), of at most `opaque`."""
    white = np.iinfo(colours.dtype).max
    shade = (white - colours).astype(np.uint32) * np.minimum(alpha, opaque)
    return (white - (shade + opaque // 2) // opaque).astype(colours.dtype)


def _times(array: np.ndarray, numerator: int, denominator: int) -> np.ndarray:
    """uint16 values times a fraction, rounded."""
    product = (array.astype(np.uint32) * numerator + denominator // 2) // denominator
    return np.minimum(product, 65535, out=product).astype(np.uint16)


class FromRgb:
    """Tensors (H, W, 3) uint8 or uint16 as frames in `pix_fmt` of `even_size`, the last line doubled if need be.

    Each carries all tags: ProRes believes the frame, not the encoder.
    """

    def __init__(self, tags: ColourTags, pix_fmt: str) -> None:
        self._tags, self._pix_fmt = tags, pix_fmt
        self._reformatter = VideoReformatter()

    def __call__(self, pixels: Tensor) -> av.VideoFrame:
        array = np.ascontiguousarray(pixels.numpy())
        height, width, _ = array.shape
        across, down = even_size((width, height), self._pix_fmt)
        if (across, down) != (width, height):
            array = np.pad(array, ((0, down - height), (0, across - width), (0, 0)), mode="edge")
        told = {}
        if not av.VideoFormat(self._pix_fmt).is_rgb:
            if array.dtype == np.uint16:
                array = _times(array, _WHITE, 65535)
            told = {"dst_colorspace": _SWS[self._tags.matrix], "dst_color_range": self._tags.range}
        rgb = av.VideoFrame.from_ndarray(array, "rgb24" if array.dtype == np.uint8 else "rgb48le")
        frame = self._reformatter.reformat(
            rgb, format=self._pix_fmt, interpolation=SWSCALE_EXACTLY, src_color_range=ColorRange.JPEG, threads=1, **told
        )
        frame.color_primaries, frame.color_trc = self._tags.primaries, self._tags.transfer
        return frame


def sharing_colour(pix_fmt: str) -> tuple[int, int]:
    """How many pixels across and down share a sample of colour."""
    layout = av.VideoFormat(pix_fmt, 16, 16)
    return 16 // layout.chroma_width(16), 16 // layout.chroma_height(16)


def even_size(size: tuple[int, int], pix_fmt: str) -> tuple[int, int]:
    """(width, height) enlarged to even numbers where the format has fewer samples of colour than of brightness."""
    across, down = sharing_colour(pix_fmt)
    return math.ceil(size[0] / across) * across, math.ceil(size[1] / down) * down
