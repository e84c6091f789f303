"""A PNG from top to bottom: bands of inflated rows become small PNGs of their own, which are read as any other."""

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imagesmith.data.decoded import Decoded, WholeOnly, damaged, truncated
from imagesmith.data.png_reader import CRITICAL, SIGNATURE, PngFile, dropped, mismatch

_BAND_BYTES = 4 << 20
_DECODING_COPIES = 3  # of a band: as inflated, as unfiltered, and as pixels
_PIECE = 1 << 20
_LARGEST_CHUNK = 64 << 20  # of metadata; what is larger is left out
_FOR_PIXELS = (b"IHDR", b"PLTE", b"tRNS")


class PngBands:
    """The picture of a PNG, band by band; the checksums of the whole file are examined first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[tuple[bytes, bytes]] = []
        self._parts: list[tuple[int, int]] = []  # place and size of each IDAT
        self._notes: list[str] = []
        with open(path, "rb") as file:
            self._walk(file)
        png = PngFile(_small(self._chunks, b"", height=None))
        self.header = png.header
        if png.is_interlaced or png.bits < 8:
            raise WholeOnly("its rows are interlaced" if png.is_interlaced else "its pixels share bytes")
        self._row_bytes = png.row_bytes
        self.band_rows = max(1, _BAND_BYTES // self._row_bytes)
        self.decoding_bytes = _DECODING_COPIES * self._row_bytes * self.band_rows

    def described(self) -> Decoded:
        """The first band with the metadata of the whole picture."""
        first = next(self._inflated())
        decoded = self._png_of(first, self._chunks).decode(partial=False)
        return dataclasses.replace(decoded, notes=[*self._notes, *decoded.notes])

    def __iter__(self) -> Iterator[np.ndarray]:
        """The pixels (rows, W, C) from top to bottom."""
        chunks = [(kind, body) for kind, body in self._chunks if kind in _FOR_PIXELS]
        above = b""  # the row above a band, which its filters need, stored without a filter
        for band in self._inflated():
            png = self._png_of(above + band, chunks)
            samples = png.samples(partial=False)
            last = samples[-1].astype(">u2") if png.bits == 16 else samples[-1]
            yield png.with_transparency(samples[1:] if above else samples)
            above = b"\0" + last.tobytes()

    def _walk(self, file: BinaryIO) -> None:
        """Find the chunks; TruncatedError for a file that ends early, ImageError for one that was changed."""
        file.seek(at := len(SIGNATURE))
        while len(beginning := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", beginning)
            is_kept = kind not in (b"IDAT", b"fdAT") and size <= _LARGEST_CHUNK
            checksum, body, left = zlib.crc32(kind), b"", size
            while left and (piece := file.read(min(left, _PIECE))):
                checksum = zlib.crc32(piece, checksum)
                body += piece if is_kept else b""
                left -= len(piece)
            stored = file.read(4)
            if left or len(stored) < 4:
                raise truncated("png", can_keep=kind == b"IDAT" or bool(self._parts))
            is_intact = stored == struct.pack(">I", checksum)
            if not is_intact and kind in CRITICAL:
                raise mismatch(kind, at, "; --partial keeps what is above the damage" if kind == b"IDAT" else "")
            if not is_intact:
                self._notes.append(dropped(kind))
            elif kind == b"IDAT":
                self._parts.append((at + 8, size))
            elif kind == b"IEND":
                return
            elif is_kept:
                self._chunks.append((kind, body))
            at += 12 + size
        raise truncated("png", can_keep=bool(self._parts))

    def _inflated(self) -> Iterator[bytes]:
        """Filtered rows, so many as a band has."""
        stream, held, done, height = zlib.decompressobj(), bytearray(), 0, self.header.height
        with open(self._path, "rb") as file:
            for place, size in self._parts:
                file.seek(place)
                left = size
                while left:
                    piece = file.read(min(left, _PIECE))
                    left -= len(piece)
                    while piece:
                        held += stream.decompress(piece, _BAND_BYTES)
                        piece = stream.unconsumed_tail
                        while len(held) >= (wanted := self._row_bytes * min(self.band_rows, height - done)):
                            yield bytes(held[:wanted])
                            del held[:wanted]
                            done += wanted // self._row_bytes
                            if done == height:
                                return  # whatever comes after the picture
        raise damaged("png", f"its pixel data ends in row {done + len(held) // self._row_bytes}")

    def _png_of(self, filtered: bytes, chunks: list[tuple[bytes, bytes]]) -> PngFile:
        """A PNG of these rows; `chunks` are its others."""
        return PngFile(_small(chunks, filtered, height=len(filtered) // self._row_bytes))


def _small(chunks: list[tuple[bytes, bytes]], filtered: bytes, height: int | None) -> bytes:
    """A PNG file of these chunks and rows, of another height than its IHDR says if one is given."""
    data = bytearray(SIGNATURE)
    for kind, body in [*chunks, (b"IDAT", zlib.compress(filtered, 0)), (b"IEND", b"")]:
        content = body
        if kind == b"IHDR" and height is not None:
            content = body[:4] + struct.pack(">I", height) + body[8:]
        data += struct.pack(">I4s", len(content), kind) + content
        data += struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    return bytes(data)
