"""Reading TIFF: tifffile for the header and for deep pixels, Pillow's libtiff for 8 bits and for what is left.

Pillow reduces 16-bit colour to 8 bits and knows no float colour, so 16-bit, 12-bit, float and wide integers go another
way: tifffile where its codecs reach (none, deflate, PackBits), else libtiff told that the samples are bytes. What lacks
some of its strips or tiles goes the first of these.
"""

import contextlib
import io
import weakref
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from imagesmith.data import metadata
from imagesmith.data.decoded import Decoded, damaged, load, quiet, too_large, truncated
from imagesmith.data.frame import Header
from imagesmith.data.pillow_formats import open_plugin, read_as_float, to_gray_or_rgb
from imagesmith.data.tiff_directory import SAMPLE_TAGS, longs, stored
from imagesmith.data.tiff_libtiff import CLASSIC_END, PillowTiff, samples, with_directory
from imagesmith.data.tiff_nodata import Filler, check_parts, is_sparse, sparse_note
from imagesmith.data.tiff_writer import DIRECTORIES, TEXT_TAGS
from imagesmith.errors import FormatError, ImageError
from imagesmith.tensors import Depth

_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_RGB = 2
_GRAY_OR_RGB = (0, 1, _RGB)
_YCBCR, _SUBSAMPLING = 6, 530
_DNG_VERSION = 50706  # the tag that tells a camera's raw file
_PLACE_TAGS = (256, 257, 273, 278, 279, 322, 323, 324, 325)
_INCH = 2
_UNITS_PER_INCH = {_INCH: 1.0, 3: 2.54}
_UNKEPT = {"the place on a map (GeoTIFF)": (33550, 33922, 34264, 34735), "IPTC": (33723, 34377)}
_USUAL_CODECS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)  # Pillow's libtiff may lack any other
_WITH_COLOURS = (*_GRAY_OR_RGB, 3, 6)  # and palettes and YCbCr; what print and Lab become is sRGB
_SRGB_PLACES = {318: (0.3127, 0.329), 319: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)}  # of white, and of red, green and blue
_TRANSFER_FUNCTION = 301
_RATIONAL, _SHORT = 5, 3
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_UNCOMPRESSED = 1
_COMPLEX = (5, 6)  # whole and float: values of SampleFormat (TIFF Technical Note 1)
_DIVIDED_PX = 1 << 16  # at a time
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples (TIFF 6.0, section 18)


class TiffFile:
    """A TIFF whose first directory has been read; `decode` gives its pixels."""

    def __init__(self, data: bytes):
        self._data = data
        stream = io.BytesIO(data)
        # tifffile's objects hold each other, and with them the bytes, until the collector of cycles comes
        weakref.finalize(self, stream.close)
        with quiet():
            tiff = tifffile.TiffFile(stream)
            self._page = page = tiff.pages.first
            self.header = header_of(tiff)
        self._bits, self._kind = int(page.bitspersample), int(page.sampleformat)
        self._photometric, self._compression = int(page.photometric), int(page.compression)
        self._extra = _first_extra(page)

    def decode(self, partial: bool) -> Decoded:
        """The first picture; deep pixels stay deep, float values are kept as they are."""
        page, notes = self._page, []
        if self.header.frames > 1:
            notes.append(f"first of {self.header.frames} pages")
        if is_sparse(page):
            notes.append(sparse_note(page))
        tags = page.tags
        icc = tags[34675].value if 34675 in tags else None
        icc = bytes(icc) if isinstance(icc, bytes | bytearray) else None
        with quiet():
            pixels = None if self._is_for_pillow else self._deep_pixels(notes)
            if pixels is None:
                pixels, icc = self._pillow_pixels(partial, icc, notes)
        notes += self._sample_notes()
        if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
            raise ImageError(
                f"expected finite values, got {np.count_nonzero(~np.isfinite(pixels))} that are NaN or infinite\n"
                "replace them in the program that made this float TIFF"
            )
        filler = Filler.of(page)
        filler.look_at(pixels)
        filler.check()
        notes += filler.notes
        if icc is None and self._photometric in _WITH_COLOURS and _has_colours_of_its_own(page):
            notes.append(metadata.other_colours("WhitePoint, PrimaryChromaticities or TransferFunction"))
        xmp = tags[700].value if 700 in tags else None
        bits = f"{self._bits}-bit {'float ' if self._kind == 3 else ''}"
        return Decoded(
            pixels,
            "tif",
            bits + getattr(page.photometric, "name", "unknown"),
            icc=icc,
            exif=tiff_exif(page, io.BytesIO(self._data), notes),
            xmp=bytes(xmp) if isinstance(xmp, bytes | bytearray) else None,
            dpi=self._dpi(notes),
            notes=notes,
            turn=self.turn,
            was_damaged=self._ends_early(),
        )

    @property
    def turn(self) -> int:
        """The orientation that is to be applied."""
        found = self._page.tags[274].value if 274 in self._page.tags else 1
        return found if isinstance(found, int) and 1 <= found <= 8 else 1

    @property
    def _is_for_pillow(self) -> bool:
        """Whether samples have up to 8 bits and none is an extra one, or the file is cut: Pillow keeps what there is.

        Of extra samples Pillow knows a few layouts, and drops or divides by them in silence. It reads strips that are
        left out from the beginning of the file.
        """
        if is_sparse(self._page):
            return False
        has_extra = self._page.samplesperpixel > _colours(self._photometric)
        return self.header.depth == "uint8" and (self._bits < 8 or not has_extra or self._ends_early())

    def _sample_notes(self) -> list[str]:
        """What became of samples that are not colours."""
        notes, dropped = [], self._page.samplesperpixel - self.header.channels
        if self._photometric in _GRAY_OR_RGB and dropped > 0:
            notes.append(f"dropped {dropped} extra sample{'s' * (dropped > 1)} per pixel")
        if self._photometric in _GRAY_OR_RGB and self._extra == _ASSOCIATED:
            notes.append("premultiplied alpha divided out")
        return notes

    def _pillow_pixels(self, partial: bool, icc: bytes | None, notes: list[str]) -> tuple[np.ndarray, bytes | None]:
        if self._ends_early() and not partial:
            raise truncated("tif", can_keep=True)
        with self._codec_named():
            image = open_plugin(PillowTiff, self._for_pillow())
            loaded = load(image, "tif", partial)
        if loaded is not image:
            notes.append("the file ends early: what is missing is black")
        if self.header.depth == "uint16" and loaded.im.mode in ("RGB", "RGBA", "CMYK", "LAB"):
            notes.append(f"16-bit {image.mode} read as 8-bit")
        pixels, icc = to_gray_or_rgb(image._new(loaded.im), "tif", icc, notes)
        return (self._scaled(pixels, notes) if pixels.dtype == np.uint16 else pixels), icc

    @contextlib.contextmanager
    def _codec_named(self) -> Iterator[None]:
        """FormatError instead of any other where this libtiff was probably built without the codec of the file."""
        try:
            yield
        except Exception as error:
            if self._compression in _USUAL_CODECS:
                raise
            codec = getattr(self._page.compression, "name", self._compression)
            raise FormatError(
                f"this kind of TIFF cannot be read: its compression is {codec}\nstore it with LZW or deflate instead"
            ) from error

    def _for_pillow(self) -> bytes:
        """The file; a big-endian BigTIFF, which Pillow finds no directory in, with a classic one behind it."""
        tags = self._page.tags
        if not _hides_its_directory(self._page):
            return self._data
        if len(self._data) > CLASSIC_END:
            raise too_large("tif", "a big-endian BigTIFF of over 4 GB is only read row by row")
        entries = {tag: stored(tags[tag], io.BytesIO(self._data), ">") for tag in SAMPLE_TAGS if tag in tags}
        for tag in _PLACE_TAGS:
            if tag in tags:
                value = tags[tag].value
                entries[tag] = longs(">", value if isinstance(value, tuple) else (value,))
        return with_directory(self._data, entries)

    def _ends_early(self) -> bool:
        """Whether a strip or tile lies, in whole or part, behind the end of the file."""
        page = self._page
        return any(at + size > len(self._data) for at, size in zip(page.dataoffsets, page.databytecounts, strict=False))

    def _deep_pixels(self, notes: list[str]) -> np.ndarray | None:
        """Samples of 8 bits or more at full depth; None where only Pillow can read them."""
        page = self._page
        if self._photometric not in _GRAY_OR_RGB:
            return None
        if self._ends_early():
            raise truncated("tif")
        try:
            raw = page.asarray()
        except (ValueError, NotImplementedError, ModuleNotFoundError) as error:
            # tifffile lacks the codec, or Python before 3.14 the module of the same name
            if "imagecodecs" not in str(error) and not isinstance(error, ModuleNotFoundError):
                raise
            raw = samples(self._data, page)
            if raw is None:
                return None
        else:
            if int(page.planarconfig) == 2 and page.samplesperpixel > 1:
                raw = np.moveaxis(raw.reshape(page.samplesperpixel, page.imagelength, page.imagewidth), 0, 2)
        raw = raw.reshape(page.imagelength, page.imagewidth, -1)[..., : self.header.channels]
        return self._straight(self._scaled(raw, notes))

    def _scaled(self, raw: np.ndarray, notes: list[str]) -> np.ndarray:
        """Samples in the dtype of the header's depth; white-is-zero turned round, 9 to 15 bits stretched to 16."""
        if self.header.depth == "float32":
            return self._as_float(raw, notes)
        bits = self._bits
        top = (1 << bits) - 1
        raw = raw.astype(self.header.depth)
        if self._photometric == _WHITE_IS_ZERO:
            raw[..., 0] = raw.dtype.type(top) - raw[..., 0]
        if 8 < bits < 16:
            notes.append(f"{bits}-bit values stretched to 16 bits")
            raw = ((raw.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
        return raw

    def _as_float(self, raw: np.ndarray, notes: list[str]) -> np.ndarray:
        """The values of the file in float32; white-is-zero turned round, the alpha of integers scaled into [0, 1]."""
        is_whole = raw.dtype.kind in "iu"
        if is_whole:
            notes.append(read_as_float(self._bits))
        elif raw.dtype.itemsize > 4:
            notes.append("64-bit floats read as 32-bit")
        with np.errstate(over="ignore"):
            pixels = raw.astype(np.float32)
        if self._photometric == _WHITE_IS_ZERO:
            # ~x is the least plus the greatest of the whole numbers, less x
            pixels[..., 0] = ~raw[..., 0] if is_whole else 1 - pixels[..., 0]
            notes.append("white is zero in the file: its values were turned round")
        if is_whole and pixels.shape[2] in (2, 4):
            opaque = np.iinfo(raw.dtype).max
            pixels[..., -1] /= opaque
            notes.append(f"alpha divided by {opaque}")
        return pixels

    def _straight(self, pixels: np.ndarray) -> np.ndarray:
        """Divide premultiplied colour by its alpha, in place."""
        if self._extra == _ASSOCIATED and pixels.shape[2] in (2, 4):
            at_once = max(1, _DIVIDED_PX // pixels.shape[1])
            for first in range(0, len(pixels), at_once):
                _divide_by_alpha(pixels[first : first + at_once])
        return pixels

    def _dpi(self, notes: list[str]) -> tuple[float, float] | None:
        tags = self._page.tags
        if 282 not in tags or 283 not in tags:
            return None
        try:
            x, y = (tags[tag].value[0] / tags[tag].value[1] for tag in (282, 283))
        except (TypeError, ZeroDivisionError, IndexError):
            return None
        per_inch = _UNITS_PER_INCH.get(tags[296].value if 296 in tags else _INCH)
        if per_inch is None:
            if (x, y) != (1, 1):
                notes.append("a resolution without a unit was not kept")
            return None
        return x * per_inch, y * per_inch


def _divide_by_alpha(pixels: np.ndarray) -> None:
    """In float64, which takes many times the memory of the pixels."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    alpha = pixels[..., -1:].astype(np.float64)
    colour = np.divide(pixels[..., :-1] * top, alpha, out=np.zeros(pixels[..., :-1].shape), where=alpha > 0)
    pixels[..., :-1] = colour if pixels.dtype == np.float32 else np.clip(np.rint(colour), 0, top)


def header_of(tiff: tifffile.TiffFile) -> Header:
    """What the first directory declares; refuses numbers that cannot be meant, before any of them sizes a buffer."""
    page = tiff.pages.first
    bits, photometric = int(page.bitspersample), int(page.photometric)
    if int(page.sampleformat) in _COMPLEX:
        raise FormatError("expected real numbers, got a TIFF of complex ones; save their magnitude or phase by itself")
    if not 0 < page.imagewidth < 1 << 31 or not 0 < page.imagelength < 1 << 31 or not page.dataoffsets:
        raise damaged("tif", f"it declares {page.imagewidth}x{page.imagelength} pixels and no place for them")
    if page.imagedepth > 1 or not 0 < page.samplesperpixel <= 64 or not 0 < bits <= 64:
        raise FormatError(
            f"expected a flat TIFF of at most 64 samples, got {page.samplesperpixel} samples of "
            f"{bits} bits, depth {page.imagedepth}; export it as RGB or gray"
        )
    if _DNG_VERSION in page.tags or page.is_reduced:
        raise FormatError(
            f"expected a picture, got a camera's raw file or a preview: its first page is a small copy "
            f"({page.imagewidth}x{page.imagelength}); develop it first, and export it as TIFF"
        )
    area = page.imagewidth * page.imagelength
    if page.is_tiled and page.tilewidth * page.tilelength > 4 * area + (1 << 22):
        raise damaged("tif", f"its tiles of {page.tilewidth}x{page.tilelength} are far larger than the picture")
    check_parts(page)
    _check_chroma(page)
    alpha = _first_extra(page) in (_ASSOCIATED, _UNASSOCIATED) and photometric in _GRAY_OR_RGB
    depth: Depth = "uint8" if bits <= 8 else "uint16"
    if int(page.sampleformat) not in (1, 4) or bits > 16:  # floats, signed and wide integers; 1 and 4 are unsigned
        depth = "float32"
    return Header("tif", page.imagewidth, page.imagelength, _colours(photometric) + alpha, depth, _frames(tiff))


def _check_chroma(page: tifffile.TiffPage) -> None:
    """FormatError for colours at a lower resolution without a codec, which Pillow reads as if they were at the full."""
    is_plain = int(page.photometric) == _YCBCR and int(page.compression) == _UNCOMPRESSED
    subsampling = page.tags[_SUBSAMPLING].value if _SUBSAMPLING in page.tags else (2, 2)  # the default of TIFF 6.0
    if is_plain and subsampling != (1, 1):
        raise FormatError(
            "expected colours at full resolution, got an uncompressed TIFF with YCbCr ones at a lower one\n"
            "store it as RGB or with JPEG: `tiff2rgba` does"
        )


def _is_of_kind(page: tifffile.TiffPage | tifffile.TiffFrame, bits: int) -> bool:
    """Whether NewSubfileType (TIFF 6.0) has one of these bits."""
    return isinstance(page, tifffile.TiffPage) and bool(page.subfiletype & bits)


def _is_pyramid(page: tifffile.TiffPage) -> bool:
    """Whether a smaller copy follows, or lies in a directory below that of the picture."""
    try:
        pages = page.parent.pages
        below = page.pages is not None and page.pages.first.is_reduced
        return below or (len(pages) > 1 and _is_of_kind(pages[1], _REDUCED))
    except Exception:  # a later directory is broken; only the first picture is wanted
        return False


def _has_colours_of_its_own(page: tifffile.TiffPage) -> bool:
    """Whether tags other than a profile tell colours that are not those of sRGB (TIFF 6.0, section 20)."""
    for number, usual in _SRGB_PLACES.items():
        if (tag := page.tags.get(number)) is None:
            continue
        if (tag.dtype, tag.count) != (_RATIONAL, len(usual)):
            return True
        tops, bottoms = np.reshape(tag.value, (-1, 2)).T
        if not np.allclose(tops, bottoms * np.array(usual), rtol=0.01):
            return True
    if (tag := page.tags.get(_TRANSFER_FUNCTION)) is None:
        return False
    levels = 1 << int(page.bitspersample)
    if tag.dtype != _SHORT or tag.count not in (levels, 3 * levels):
        return True
    stored = np.linspace(0, 1, levels)
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    return bool(np.abs(np.reshape(tag.value, (-1, levels)) / 65535 - linear).max() > 0.02)


def _colours(photometric: int) -> int:
    return 1 if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3


def _frames(tiff: tifffile.TiffFile) -> int:
    """How many pictures there are; ImageJ and tifffile put those of large stacks behind one directory.

    Where smaller copies of the first follow, or a mask, as in a pyramid, there is one.
    """
    page = tiff.pages.first
    try:
        later = range(1, len(tiff.pages))
        if later and all(_is_of_kind(tiff.pages[place], _REDUCED | _MASK) for place in later):
            return 1
        if len(tiff.pages) > 1 or not (page.is_imagej or page.is_shaped):
            return len(tiff.pages)
        return max(1, tiff.series[0].size // page.size)
    except Exception:  # a later directory or a description is broken; only the first picture is wanted
        return 2


def _first_extra(page: tifffile.TiffPage) -> int:
    """What the first sample after the colours is (TIFF 6.0, ExtraSamples); 0 if there is none or nobody knows.

    A fourth sample of RGB that nobody explains is alpha: OpenCV writes it so.
    """
    if page.extrasamples:
        return int(page.extrasamples[0])
    return _UNASSOCIATED if int(page.photometric) == _RGB and page.samplesperpixel == 4 else 0


def tiff_exif(page: tifffile.TiffPage, file: BinaryIO, notes: list[str]) -> bytes | None:
    """The descriptive tags with the camera and place directories, without those that lay out the pixels.

    Says what of the others is missed.
    """
    notes += [f"{what} was not kept" for what, tags in _UNKEPT.items() if any(tag in page.tags for tag in tags)]
    if _is_pyramid(page):
        notes.append("its smaller copies (a pyramid) were not kept")
    source, kept = Image.Exif(), Image.Exif()
    try:
        if _hides_its_directory(page):
            kept.update({tag: page.tags[tag].value for tag in TEXT_TAGS if tag in page.tags})
            if any(place in page.tags for place in DIRECTORIES):
                notes.append("camera settings and place were not kept: those of a big-endian BigTIFF are not read")
            return kept.tobytes() if len(kept) else None
        source.bigtiff, source.endian = page.parent.is_bigtiff, page.parent.byteorder
        source.load_from_fp(file, page.offset)
        for tag in TEXT_TAGS:
            if tag in source:
                kept[tag] = source[tag]
        for place in DIRECTORIES:
            if place in source and (entries := source.get_ifd(place)):
                kept.get_ifd(place).update(entries)
        return kept.tobytes() if len(kept) or kept._ifds else None
    except Exception:  # a broken camera directory must not cost the picture
        notes.append("dropped EXIF that is damaged")
        return None


def _hides_its_directory(page: tifffile.TiffPage) -> bool:
    """Whether Pillow finds no directory in the file: a big-endian BigTIFF."""
    return page.parent.is_bigtiff and page.parent.byteorder == ">"
