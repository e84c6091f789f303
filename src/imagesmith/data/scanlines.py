"""A picture that stays in its file: rows are decoded as they are asked for, from top to bottom."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from imagesmith.data.decoded import TITLES, Decoded, WholeOnly
from imagesmith.data.files import check_pixels, decoding, format_of_file, meta_of, named
from imagesmith.data.frame import Frame, Header, ImageMeta
from imagesmith.data.png_bands import PngBands
from imagesmith.data.tiff_bands import TiffBands
from imagesmith.errors import ImageError, TooLargeError
from imagesmith.tensors import Depth

_KINDS = {"png": PngBands, "tif": TiffBands}


class Bands(Protocol):
    """A file that is decoded band by band; making one reads its header only."""

    header: Header
    band_rows: int
    """Of the highest band."""
    decoding_bytes: int
    """What decoding one takes at its worst moment, the pixels themselves included."""

    def described(self) -> Decoded:
        """The first band with the metadata of the whole picture."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """The pixels (rows, W, C) from top to bottom."""
        ...


class Scanlines:
    """What a `Frame` is, of which only some rows are in memory at a time."""

    lost, was_damaged = None, False

    def __init__(
        self,
        header: Header,
        meta: ImageMeta,
        bands: Callable[[], Iterator[np.ndarray]],
        band_rows: int,
        decoding_bytes: int,
    ) -> None:
        """`bands` begins to decode, from the first row on, each time that it is called; none is over `band_rows`."""
        self.header, self.band_rows = header, min(band_rows, header.height)
        self.decoding_bytes = decoding_bytes
        self.height, self.width, self.channels = header.height, header.width, header.channels
        self.depth: Depth = header.depth
        self.meta = meta
        self._bands = bands
        self._decoding = iter(())
        self._held: deque[Tensor] = deque()
        self._first = self._end = header.height  # which rows are held; these make the first call begin at the top

    @property
    def colours(self) -> int:
        """How many of the channels are colour, 1 or 3; the one after them is alpha."""
        return self.channels - (self.channels in (2, 4))

    def rows(self, top: int, bottom: int) -> Tensor:
        """(bottom - top, W, C); asking for rows above those of the call before begins again at the top of the file."""
        if top < self._first:
            self._decoding, self._first, self._end = self._bands(), 0, 0
            self._held.clear()
        while self._end < bottom:
            band = torch.from_numpy(next(self._decoding))
            self._held.append(band)
            self._end += len(band)
            self._forget_above(top)
        self._forget_above(top)
        starts = itertools.accumulate(map(len, self._held), initial=self._first)
        asked = [band[max(0, top - start) : bottom - start] for start, band in zip(starts, self._held, strict=False)]
        return torch.cat([rows for rows in asked if len(rows)]) if len(asked) > 1 else asked[0]

    def parts(self) -> Iterator[Tensor]:
        """All rows, a band at a time."""
        return (torch.from_numpy(band) for band in self._bands())

    def _forget_above(self, top: int) -> None:
        while self._held and self._first + len(self._held[0]) <= top:
            self._first += len(self._held.popleft())


Picture = Frame | Scanlines


def read_scanlines(path: Path, *, max_pixels: int, least_bytes: int, room: int | None = None) -> Scanlines | None:
    """The (first) picture of a PNG or TIFF, row by row and equal to that of `read_image` in every pixel and in `meta`.

    But for the notes on faint values, and on fillers below the first band, which only all rows tell. None where
    its pixels have less than `least_bytes`. WholeOnly where it can only be decoded as a whole; TooLargeError where even
    a band takes more than `room` bytes; otherwise raises as `read_image` does, what is damaged further below, or found
    in all rows, only when its rows are asked for.
    """
    with named(path):
        name = format_of_file(path)
        if name not in _KINDS:
            raise WholeOnly(f"{TITLES[name]} is decoded as a whole")
        with decoding(name):
            opened: Bands = _KINDS[name](path)
            header = opened.header
            check_pixels(header, max_pixels)
            if header.pixel_bytes < least_bytes:
                return None
            _check_bands(opened, room)
            decoded = opened.described()
        header = dataclasses.replace(header, channels=decoded.pixels.shape[2], depth=str(decoded.pixels.dtype))
        meta, turn = meta_of(decoded, header.channels, header.frames)
        if turn != 1:
            raise WholeOnly(f"it has to be turned upright (orientation {turn})")

    def bands() -> Iterator[np.ndarray]:
        with named(path), decoding(name):
            try:
                yield from opened
            except OSError as error:
                if error.errno is None:  # a decoder's word for what is damaged
                    raise
                raise ImageError(f"cannot be read any more: {error.strerror}; leave it where it is meanwhile") from None

    return Scanlines(header, meta, bands, opened.band_rows, opened.decoding_bytes)


def _check_bands(opened: Bands, room: int | None) -> None:
    """TooLargeError where decoding one of them takes more than `room` bytes."""
    if room is not None and opened.decoding_bytes > room:
        raise TooLargeError(
            f"expected rows that decode within the {max(0, room) / 1e9:.2f} GB that --max-ram leaves, the file has "
            f"{opened.band_rows} of its {opened.header.height} in one piece, which takes "
            f"{opened.decoding_bytes / 1e9:.2f} GB\nraise the limit, or store it in smaller strips or tiles "
            "(`tiffcp -r 64`)"
        )
