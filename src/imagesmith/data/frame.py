"""What a picture file holds once it is read: pixels, their depth, and everything worth carrying into the result."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from imagesmith.tensors import DEPTH_MAX, Depth

SAMPLE_BYTES: dict[Depth, int] = {"uint8": 1, "uint16": 2, "float32": 4}
DEPTH_WORDS: dict[Depth, str] = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
_FAINT_SHARE = 1 / 8  # of the range

Captions = tuple[tuple[bytes, bytes], ...]
"""(kind, content) of what only files of one format hold: JPEG's segments of IPTC and comments, PNG's chunks of text."""


@dataclass(frozen=True)
class JpegTables:
    """How a JPEG file was quantised: steps of its 8x8 coefficients, 64 each, row by row.

    `chroma` is None for gray files; so many pixels (across, down) share one pair of chroma samples: `subsampling`.
    `turn` is the EXIF orientation that was applied after decoding (1: none). `is_ycbcr` is False for the rare files
    that store RGB or CMYK.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...] | None
    subsampling: tuple[int, int] = (1, 1)
    turn: int = 1
    is_ycbcr: bool = True


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says besides its pixels, and how those became gray from 0 to 1.

    `dataset` is the file without its pixels, in little endian with explicit types. A gray pixel of 0 was `low` in the
    file, one of 1 was `high`, and the file holds whole values from `least` to `most`; colour is as the file has it.
    `made_by` names the models that a result went through.
    """

    dataset: bytes
    low: int = 0
    high: int = 1
    least: int = 0
    most: int = 65535
    made_by: str = ""

    def stored(self, gray: Tensor) -> Tensor:
        """The whole values, as float64, that a file holds for gray pixels."""
        return (self.low + gray.double() * (self.high - self.low)).round().clamp(self.least, self.most)

    def kept(self, gray: Tensor) -> Tensor:
        """The gray pixels that are read again from what a file holds for some."""
        return ((self.stored(gray) - self.low) / (self.high - self.low)).float()


@dataclass(frozen=True)
class ImageMeta:
    """What travels with the pixels.

    `format` is a key of `formats.FORMATS`; `mode` names the pixel layout of the file ("P", "CMYK", "16-bit RGB", ...).
    `exif` is the bare TIFF structure (no "Exif" prefix), `xmp` an XML packet; in both the orientation is reset to 1.
    `captions` are written back to files of `format` alone. `dpi` is (x, y). `notes` are sentences for the user: all
    that was changed or could not be kept. `jpeg` is what a JPEG file was quantised with, `dicom` what a DICOM file
    says. Of the `frames` that the file holds these pixels are the first.
    """

    format: str
    mode: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    captions: Captions = ()
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    lossless: bool = True
    jpeg: JpegTables | None = None
    dicom: DicomHeader | None = None
    frames: int = 1


@dataclass(frozen=True)
class Frame:
    """One picture: `pixels` (H, W, C) in the dtype of `depth`, C = 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA.

    Alpha is straight (not multiplied in); the orientation is already applied. Float pixels may lie outside [0, 1].
    `lost`, bool (H, W), is True where the file's data did not survive; None where all did or nothing is known.
    `was_damaged`: the file is not whole, even where no pixel of it is lost.
    """

    pixels: Tensor
    depth: Depth
    meta: ImageMeta
    lost: Tensor | None = None
    was_damaged: bool = False

    @classmethod
    def of(cls, image: Tensor) -> Self:
        """A picture that comes from no file, uint8 (C, H, W), as a PNG has it."""
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(image)]
        return cls(image.permute(1, 2, 0).contiguous(), "uint8", ImageMeta("png", mode))

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def channels(self) -> int:
        return self.pixels.shape[2]

    @property
    def colours(self) -> int:
        """How many of the channels are colour, 1 or 3; the one after them is alpha."""
        return self.channels - (self.channels in (2, 4))

    @property
    def faint_peak(self) -> float | None:
        """The farthest from 0 of 16-bit or float colours that use less than an eighth of their range, or None.

        So instruments leave their 10 to 13 bits, and maps of small quantities their floats: little more than black to a
        network, and to whatever looks at 8 bits. Of black it is None.
        """
        if self.depth == "uint8":
            return None
        colours = self.pixels[..., : self.colours].numpy()
        peak = max(colours.max().item(), -colours.min().item())
        return peak if 0 < peak < _FAINT_SHARE * DEPTH_MAX[self.depth] else None

    def rows(self, top: int, bottom: int) -> Tensor:
        """(bottom - top, W, C)"""
        return self.pixels[top:bottom]

    def on_scale_of(self, other: "Frame") -> "Frame":
        """The picture in which equal grays are equal values of its file and that of `other`, where both are DICOM.

        Each is read between its own least and greatest value.
        """
        own, its = self.meta.dicom, other.meta.dicom
        if own is None or its is None or self.depth != "float32" or (own.low, own.high) == (its.low, its.high):
            return self
        low, high = min(own.low, its.low), max(own.high, its.high)
        pixels = (own.low - low + self.pixels * (own.high - own.low)) / (high - low)
        return replace(self, pixels=pixels, meta=replace(self.meta, dicom=replace(own, low=low, high=high)))

    def parts(self) -> Iterator[Tensor]:
        """All rows, from top to bottom."""
        yield self.pixels


@dataclass(frozen=True)
class Header:
    """What a file declares about its picture; width and height as stored, before any orientation is applied."""

    format: str
    width: int
    height: int
    channels: int
    depth: Depth
    frames: int

    @property
    def pixel_bytes(self) -> int:
        """Of the decoded picture."""
        return self.height * self.width * self.channels * SAMPLE_BYTES[self.depth]
