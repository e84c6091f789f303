"""A streaming PNG encoder (PNG 3rd edition): memory for a few strips of rows, strips filtered and deflated in parallel."""

import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from torch import Tensor

from imagesmith.data.frame import ImageMeta
from imagesmith.tensors import Depth

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_STRIP_BYTES = 1 << 20
_MAX_CHUNK = 1 << 20
_ADLER_PRIME = 65521


class PngWriter:
    """Writes rows as they come; `close` ends the file.

    `depth` is "uint8" or "uint16". ICC, EXIF, XMP and dpi of `meta` become iCCP, eXIf, iTXt and pHYs chunks. The pixel
    stream is cut into strips that are deflated independently, each ended by a full flush, so their concatenation is
    one valid zlib stream whatever the number of `threads`, and the file is the same byte for byte.
    """

    def __init__(
        self,
        stream: BinaryIO,
        width: int,
        height: int,
        channels: int,
        depth: Depth,
        meta: ImageMeta | None = None,
        *,
        threads: int | None = None,
    ):
        assert depth in ("uint8", "uint16"), f"PNG holds uint8 or uint16, got {depth}"
        assert width > 0 and height > 0 and channels in _COLOUR_TYPE
        self._stream, self._width, self._height, self._channels = stream, width, height, channels
        self._dtype = np.dtype(np.uint8 if depth == "uint8" else ">u2")
        self._pixel_bytes = channels * self._dtype.itemsize
        self._row_bytes = width * self._pixel_bytes
        self._strip_rows = max(1, _STRIP_BYTES // self._row_bytes)
        self._held: list[np.ndarray] = []
        self._held_rows = self._rows = 0
        self._above = np.zeros((1, self._row_bytes), np.uint8)
        self._adler = 1
        threads = threads or min(8, os.cpu_count() or 1)
        wanted = threads > 1 and self._row_bytes * height > 2 * _STRIP_BYTES
        self._pool = ThreadPoolExecutor(threads, "png") if wanted else None
        self._most_pending = threads + 1
        self._pending: deque[Future[tuple[bytes, int, int]]] = deque()
        self._write_head(depth, meta)

    def _write_head(self, depth: Depth, meta: ImageMeta | None) -> None:
        bits = 8 if depth == "uint8" else 16
        header = struct.pack(">IIBBBBB", self._width, self._height, bits, _COLOUR_TYPE[self._channels], 0, 0, 0)
        self._stream.write(SIGNATURE)
        self._chunk(b"IHDR", header)
        if meta and meta.icc:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(meta.icc))
        if meta and meta.dpi:
            x, y = (min(round(value / 0.0254), 2**31 - 1) for value in meta.dpi)
            self._chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
        if meta and meta.exif:
            self._chunk(b"eXIf", meta.exif)
        if meta and meta.xmp:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + meta.xmp)
        self._deflated = b"\x78\x9c"  # the zlib header that precedes all strips

    def _chunk(self, kind: bytes, body: bytes) -> None:
        self._stream.write(struct.pack(">I4s", len(body), kind))
        self._stream.write(body)
        self._stream.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))

    def write_rows(self, pixels: np.ndarray | Tensor) -> None:
        """Append rows (rows, W, C) of the writer's depth, any number at a time; they are copied or encoded at once."""
        rows = pixels.numpy() if isinstance(pixels, Tensor) else pixels
        expected = (self._width, self._channels)
        assert rows.shape[1:] == expected and rows.dtype.itemsize == self._dtype.itemsize, (
            f"expected rows of {expected} {self._dtype}, got {rows.shape} {rows.dtype}"
        )
        self._rows += len(rows)
        assert self._rows <= self._height, f"{self._rows} rows written into a picture of {self._height}"
        while len(rows):
            take = rows[: self._strip_rows - self._held_rows]
            raw = np.array(take, self._dtype, order="C").view(np.uint8).reshape(len(take), self._row_bytes)
            self._held.append(raw)
            self._held_rows += len(take)
            rows = rows[len(take) :]
            if self._held_rows == self._strip_rows:
                self._send_strip()

    def _send_strip(self) -> None:
        """Hand the held rows, with the row above them that the filters need, to a thread or do them here."""
        strip = np.concatenate((self._above, *self._held))
        self._above = strip[-1:]
        self._held, self._held_rows = [], 0
        if self._pool is None:
            self._write_strip(_encode_strip(strip, self._pixel_bytes))
            return
        self._pending.append(self._pool.submit(_encode_strip, strip, self._pixel_bytes))
        if len(self._pending) >= self._most_pending:
            self._write_strip(self._pending.popleft().result())

    def _write_strip(self, strip: tuple[bytes, int, int]) -> None:
        packed, adler, size = strip
        self._adler = _combine_adler(self._adler, adler, size)
        self._chunk(b"IDAT", self._deflated + packed)
        self._deflated = b""

    def close(self) -> None:
        """Finish the file; all rows must have been written. The stream stays open."""
        assert self._rows == self._height, f"{self._rows} of {self._height} rows were written"
        if self._held:
            self._send_strip()
        while self._pending:
            self._write_strip(self._pending.popleft().result())
        self.abandon()
        self._chunk(b"IDAT", b"\x03\x00" + struct.pack(">I", self._adler))  # an empty last block, then the checksum
        self._chunk(b"IEND", b"")

    def abandon(self) -> None:
        """Release the threads without finishing the file."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _encode_strip(strip: np.ndarray, pixel_bytes: int) -> tuple[bytes, int, int]:
    """(deflated bytes, adler32 and length of the filtered bytes) of rows whose first is only the one above."""
    filtered = filter_rows(strip, pixel_bytes)
    deflate = zlib.compressobj(4, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    packed = deflate.compress(filtered) + deflate.flush(zlib.Z_FULL_FLUSH)
    return packed, zlib.adler32(filtered), filtered.size


def filter_rows(strip: np.ndarray, pixel_bytes: int) -> np.ndarray:
    """Filter bytes and filtered rows of `strip[1:]`, each row with the filter of least absolute differences."""
    return np.concatenate((np.full((len(strip) - 1, 1), 2, np.uint8), strip[1:] - strip[:-1]), axis=1)


def _combine_adler(first: int, second: int, size: int) -> int:
    """Adler-32 of a concatenation from those of its two parts, the second of `size` bytes (RFC 1950, section 8)."""
    low1, high1, low2, high2 = first & 0xFFFF, first >> 16, second & 0xFFFF, second >> 16
    low = (low1 + low2 - 1) % _ADLER_PRIME
    high = (high1 + high2 + size * (low1 - 1)) % _ADLER_PRIME
    return high << 16 | low
