"""Samples of a TIFF through Pillow's libtiff, for compressions and predictors that tifffile lacks here.

Of deep samples Pillow gives gray ones alone at full depth, and few kinds of them. So it is handed a directory that
calls the bytes of all samples a gray picture of 8 bits; predictors are undone here.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from imagesmith.data.decoded import to_array
from imagesmith.data.pillow_formats import open_plugin
from imagesmith.data.tiff_directory import Entry, directory, head, longs

CLASSIC_END = 1 << 32
"""As far as a classic directory can point."""
_BLACK_IS_ZERO = 1
_BYTEWISE = (5, 8, 32773, 32946, 34925, 50000)  # LZW, deflate, PackBits, deflate, LZMA, Zstandard
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # by SampleFormat; 4 is undefined
_TYPES = ("u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8")
_PLAIN, _HORIZONTAL, _FLOAT = 1, 2, 3  # values of Predictor (TIFF 6.0, section 14, and Technical Note 3)


class PillowTiff(TiffImagePlugin.TiffImageFile):
    """Pillow's reader without its own size limit (ours came first) and without its own turning upright."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()

    def load_end(self) -> None:
        pass


def samples(data: bytes, page: tifffile.TiffPage) -> np.ndarray | None:
    """(H, W, samples) of the first picture of a file; None for samples or a compression that cannot be read so."""
    kind = f"{_KINDS.get(int(page.sampleformat), '')}{int(page.bitspersample) // 8}"
    is_of_bytes = kind in _TYPES and int(page.bitspersample) % 8 == 0 and int(page.compression) in _BYTEWISE
    if not is_of_bytes or int(page.predictor) not in (_PLAIN, _HORIZONTAL, _FLOAT) or len(data) > CLASSIC_END:
        return None
    is_planar = int(page.planarconfig) == 2 and page.samplesperpixel > 1
    planes = page.samplesperpixel if is_planar else 1
    parts = [_plane(data, page, plane, planes, np.dtype(kind)) for plane in range(planes)]
    return np.concatenate(parts, axis=2) if is_planar else parts[0]


def with_directory(data: bytes, entries: Mapping[int, Entry]) -> bytes:
    """A classic TIFF whose only directory holds `entries`; the old data keep their places."""
    order = "<" if data[:2] == b"II" else ">"
    start = len(data) + len(data) % 2
    return b"".join((head(order, start), data[8:], b"\0" * (len(data) % 2), directory(order, start, entries)))


def _plane(data: bytes, page: tifffile.TiffPage, plane: int, planes: int, dtype: np.dtype) -> np.ndarray:
    """(H, W, C): plane `plane` of `planes`, which holds C of the samples; `dtype` is that of native samples."""
    channels = page.samplesperpixel // planes
    step = page.tilewidth if page.is_tiled else page.imagewidth
    across = -(-page.imagewidth // step)  # tiles are read with what sticks out, which predictors count in
    stored = _stored(data, page, plane, planes, across * step * channels * dtype.itemsize)
    predictor, order = int(page.predictor), page.parent.byteorder
    if predictor == _FLOAT and dtype.itemsize > 1:
        _undo_float_predictor(stored, across, channels, dtype.itemsize)
        order = ">"
    pixels = stored.view(dtype.newbyteorder(order)).reshape(len(stored), across * step, channels)
    pixels = pixels.astype(dtype, copy=False)
    if predictor == _HORIZONTAL:  # of floats the bits are added up
        words = pixels.view(f"u{dtype.itemsize}")
        for tile in _columns(words, across):
            np.cumsum(tile, axis=1, dtype=tile.dtype, out=tile)
    return pixels[:, : page.imagewidth]


def _undo_float_predictor(stored: np.ndarray, across: int, channels: int, size: int) -> None:
    """Make of the rows (H, bytes) of `across` tiles floats of `size` bytes, the highest first, in place.

    In a row of a tile come the highest bytes of all its floats, then the next ones, as differences.
    """
    for tile in _columns(stored, across):
        rows = tile.reshape(len(tile), -1, channels)
        np.cumsum(rows, axis=1, dtype=np.uint8, out=rows)
        tile[:] = rows.reshape(len(tile), size, -1).swapaxes(1, 2).reshape(tile.shape)


def _columns(rows: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """So many parts of the same width, from left to right."""
    width = rows.shape[1] // count
    return (rows[:, left * width : (left + 1) * width] for left in range(count))


def _stored(data: bytes, page: tifffile.TiffPage, plane: int, planes: int, row_bytes: int) -> np.ndarray:
    """(H, row_bytes): the bytes of a plane as its codec gives them."""
    count = len(page.dataoffsets) // planes
    segments = slice(plane * count, (plane + 1) * count)
    offsets, sizes = (324, 325) if page.is_tiled else (273, 279)
    entries = {
        256: (row_bytes,),
        257: (page.imagelength,),
        258: (8,),
        259: (int(page.compression),),
        262: (_BLACK_IS_ZERO,),
        266: (int(page.fillorder),),
        277: (1,),
        offsets: tuple(page.dataoffsets[segments]),
        sizes: tuple(page.databytecounts[segments]),
    }
    if page.is_tiled:
        entries |= {322: (row_bytes // -(-page.imagewidth // page.tilewidth),), 323: (page.tilelength,)}
    else:
        entries |= {278: (page.rowsperstrip,)}
    order = page.parent.byteorder
    file = with_directory(data, {tag: longs(order, numbers) for tag, numbers in entries.items()})
    return to_array(open_plugin(PillowTiff, file), "tif", partial=False)[..., 0]
