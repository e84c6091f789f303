"""A TIFF from top to bottom: whole strips or tiles become a small TIFF of their own, which is read as any other.

So every layout and compression that is read as a whole is read by bands too, with the same numbers.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from imagesmith.data.decoded import Decoded, WholeOnly, damaged, quiet, truncated
from imagesmith.data.frame import SAMPLE_BYTES
from imagesmith.data.tiff_directory import SAMPLE_TAGS, Entry, directory, head, longs, stored
from imagesmith.data.tiff_nodata import NODATA, Filler, is_sparse, sparse_note
from imagesmith.data.tiff_reader import TiffFile, header_of, tiff_exif

_DESCRIBING_TAGS = (274, 282, 283, 296, 301, 318, 319, 700, 34675)  # orientation, resolution, colours, XMP, ICC
_BAND_BYTES = 8 << 20
_MOST_BAND_BYTES = 256 << 20
_DECODING_COPIES, _STORED_COPIES = 3, 4
"""Of a band as it is decoded, and of its bytes in the file, at most; measured over depths, layouts and codecs."""
_OLD_JPEG, _DEFLATE = 6, 8


@dataclass(frozen=True)
class _Band:
    """So many rows, in `segments` (place, bytes) of the file, plane by plane."""

    rows: int
    rows_per_strip: int
    segments: list[tuple[int, int]]


class TiffBands:
    """The first picture of a TIFF or BigTIFF, band by band."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb") as file, quiet(), tifffile.TiffFile(file) as tiff:
            self._page = page = tiff.pages.first
            self._order = tiff.byteorder
            self._entries, self._describing = (
                {tag: stored(page.tags[tag], file, self._order) for tag in tags if tag in page.tags}
                for tags in (SAMPLE_TAGS, _DESCRIBING_TAGS)
            )
            self._exif_notes: list[str] = []
            self._exif = tiff_exif(page, file, self._exif_notes)
            self._bytes = file.seek(0, 2)
            self._filler = Filler.of(page)
            self.header = header_of(tiff)
            self._opening_notes = [f"first of {self.header.frames} pages"] if self.header.frames > 1 else []
            if is_sparse(page):
                if self.header.depth == "float32" and NODATA in page.tags:
                    raise WholeOnly("parts of it are left out, which stand for no data")
                self._opening_notes.append(sparse_note(page))
                if NODATA in page.tags:  # they are filled with it
                    self._entries[NODATA] = stored(page.tags[NODATA], file, self._order)
        if page.compression == _OLD_JPEG:
            raise WholeOnly("its JPEG is of the old kind, whose strips hang together")
        self._bands = self._cut()
        self.band_rows = max(band.rows for band in self._bands)
        self.decoding_bytes = max(map(self._decoding_bytes, self._bands))
        if any(place + size > self._bytes for band in self._bands for place, size in band.segments):
            raise truncated("tif", can_keep=self.header.depth == "uint8")

    def described(self) -> Decoded:
        """The first band with the metadata of the whole picture."""
        filler = dataclasses.replace(self._filler)
        with open(self._path, "rb") as file:
            decoded = self._decoded(self._bands[0], file, self._describing)
        filler.look_at(decoded.pixels)
        own = (note for note in decoded.notes if note not in self._opening_notes)
        notes = [*self._opening_notes, *own, *filler.notes, *self._exif_notes]
        return dataclasses.replace(decoded, exif=self._exif, notes=notes)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The pixels (rows, W, C) from top to bottom; ImageError at their end for what only all of them tell."""
        filler = dataclasses.replace(self._filler)
        profile = {tag: entry for tag, entry in self._describing.items() if tag == 34675}  # CMYK is converted by it
        with open(self._path, "rb") as file:
            for band in self._bands:
                pixels = self._decoded(band, file, profile).pixels
                filler.look_at(pixels)
                yield pixels
        filler.check()

    def _decoded(self, band: _Band, file: BinaryIO, describing: dict[int, Entry]) -> Decoded:
        order, page = self._order, self._page
        parts, places, at = [], [], 8
        for place, size in band.segments:
            file.seek(place)
            parts.append(file.read(size).ljust(size + size % 2, b"\0"))
            places.append(at if size else 0)  # a segment that is left out is empty, and has no place
            at += len(parts[-1])
        offsets, sizes = (324, 325) if page.is_tiled else (273, 279)
        entries = self._entries | describing
        if at == 8:  # all of it is left out, for which tifffile takes no plain strip
            entries[259] = longs(order, (_DEFLATE,))
        entries[256], entries[257] = longs(order, (page.imagewidth,)), longs(order, (band.rows,))
        entries[offsets], entries[sizes] = longs(order, places), longs(order, [size for _, size in band.segments])
        if page.is_tiled:
            entries[322], entries[323] = longs(order, (page.tilewidth,)), longs(order, (page.tilelength,))
        else:
            entries[278] = longs(order, (band.rows_per_strip,))
        data = b"".join((head(order, at), *parts, directory(order, at, entries)))
        return TiffFile(data).decode(partial=False)

    def _decoding_bytes(self, band: _Band) -> int:
        """What decoding it takes at its worst moment; as stored, samples may be wider than the pixels, and more."""
        page, header = self._page, self.header
        row = header.width * max(
            header.channels * SAMPLE_BYTES[header.depth], page.samplesperpixel * int(page.bitspersample) // 8
        )
        return _DECODING_COPIES * row * band.rows + _STORED_COPIES * sum(size for _, size in band.segments)

    def _cut(self) -> list[_Band]:
        """The bands, each of whole strips or of one row of tiles."""
        page = self._page
        height, width = page.imagelength, page.imagewidth
        planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        bits = int(page.bitspersample) * page.samplesperpixel // planes
        row_bytes = (width * bits + 7) // 8
        per_segment = page.tilelength if page.is_tiled else min(page.rowsperstrip or height, height)
        across = math.ceil(width / page.tilewidth) if page.is_tiled else 1
        down = math.ceil(height / per_segment)
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if any(place > 0 == size for place, size in segments):
            raise WholeOnly("it does not say how many bytes its parts have")
        if len(segments) < planes * down * across:
            raise damaged("tif", f"it has {len(segments)} parts where {planes * down * across} are needed")
        if per_segment * row_bytes * planes > _BAND_BYTES and page.compression == 1 and not page.is_tiled:
            return _pieces(segments, height, per_segment, row_bytes, planes)
        if per_segment * row_bytes * planes > _MOST_BAND_BYTES:
            what = "row of tiles" if page.is_tiled else "compressed strip"
            raise WholeOnly(f"one {what} of the file holds {per_segment} of its {height} rows")
        count = 1 if page.is_tiled else max(1, _BAND_BYTES // (per_segment * row_bytes * planes))
        return [
            _Band(
                min(height, (first + count) * per_segment) - first * per_segment,
                per_segment,
                [
                    segments[(plane * down + row) * across + column]
                    for plane in range(planes)
                    for row in range(first, min(first + count, down))
                    for column in range(across)
                ],
            )
            for first in range(0, down, count)
        ]


def _pieces(strips: list[tuple[int, int]], height: int, per_strip: int, row_bytes: int, planes: int) -> list[_Band]:
    """Bands of large strips that are not compressed, whose rows can be counted off."""
    bands, most = [], max(1, _BAND_BYTES // (row_bytes * planes))
    down = len(strips) // planes
    for strip in range(down):
        rows = min(per_strip, height - strip * per_strip)
        for start in range(0, rows, most):
            count = min(most, rows - start)
            own = [strips[plane * down + strip] for plane in range(planes)]
            pieces = [(place + start * row_bytes, count * row_bytes) if size else (0, 0) for place, size in own]
            bands.append(_Band(count, count, pieces))
    return bands
