"""What a TIFF holds no data for: values that stand for none, and strips or tiles that are left out of the file."""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import tifffile

from imagesmith.errors import FormatError, ImageError

NODATA = 42113
"""GDAL's tag."""
_GRAY = (0, 1)  # values of PhotometricInterpretation
_GRAY_OR_RGB = (*_GRAY, 2)
_TIFFFILE_CODECS = (1, 8, 32773, 32946, 34925)  # none, deflate, PackBits, deflate, LZMA


@dataclass
class Filler:
    """GDAL's value for places without data among float pixels, which may come in several parts.

    It is looked for outside of [0, 1] only: networks see that in any case, and rims of black or white harm nothing.
    """

    value: float
    """NaN where the file names none."""
    colours: int
    """How many of the channels are colour."""
    _count: int = field(default=0, init=False)
    _low: float = field(default=0.0, init=False)
    _high: float = field(default=1.0, init=False)

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Self:
        """What the file declares."""
        try:
            value = float(page.tags[NODATA].value)
        except (KeyError, ValueError, TypeError):  # none, or no number
            value = math.nan
        return cls(value, 1 if int(page.photometric) in _GRAY else 3)

    def look_at(self, pixels: np.ndarray) -> None:
        """Count it among these (rows, W, C), and see how far all other values reach."""
        if pixels.dtype != np.float32 or math.isnan(self.value) or 0 <= self.value <= 1:
            return
        values = pixels[..., : self.colours]
        with np.errstate(over="ignore"):
            are_others = values != np.float32(self.value)
        self._count += values.size - int(np.count_nonzero(are_others))
        self._low = float(values.min(where=are_others, initial=self._low))
        self._high = float(values.max(where=are_others, initial=self._high))

    @property
    def notes(self) -> list[str]:
        """The same of a part as of all, so without a number."""
        return [f"values of {self.value:g}, which stand for no data, were taken for colours"] if self._count else []

    def check(self) -> None:
        """ImageError where it would more than double the range that networks see."""
        if self._count and max(self._low - self.value, self.value - self._high) > self._high - self._low:
            raise ImageError(
                f"expected values only, got {self._count} times {self.value:g}, which in this file stands for no data\n"
                "replace them, such as by the mean of what lies around them"
            )


def is_sparse(page: tifffile.TiffPage) -> bool:
    """Whether strips or tiles are left out of the file, as GDAL leaves out those of one value (SPARSE_OK)."""
    return any(at == size == 0 for at, size in zip(page.dataoffsets, page.databytecounts, strict=False))


def sparse_note(page: tifffile.TiffPage) -> str:
    """The same of a part as of all."""
    return f"parts of the picture are left out of the file (a sparse TIFF): they were filled with {page.nodata:g}"


def check_parts(page: tifffile.TiffPage) -> None:
    """FormatError where parts are left out of a file that tifffile cannot decode here: nothing else fills them."""
    is_for_tifffile = int(page.compression) in _TIFFFILE_CODECS and int(page.predictor) < 3
    is_plain = int(page.photometric) in _GRAY_OR_RGB and int(page.bitspersample) >= 8
    if is_sparse(page) and not (is_for_tifffile and is_plain):
        raise FormatError(
            "expected all parts of the picture, got a sparse TIFF, which leaves some out\n"
            "write it in full first: `gdal_translate` does, without SPARSE_OK"
        )
