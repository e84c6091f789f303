"""Reading DICOM (PS3.3, PS3.5) with pydicom, an extra: one picture a file, gray of 8 to 16 bits or colour.

Gray is what an instrument counted, seldom in all of its bits: the least and the greatest value of the picture become
0 and 1, so that a network sees neither black nor a sliver of its range, and the writer turns every value back.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesmith.data.decoded import TITLES, Decoded, damaged, quiet, truncated
from imagesmith.data.frame import DicomHeader, Header
from imagesmith.errors import FormatError, ImageError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

_NAME = "dcm"
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # zlib around all of the file: its size is known to nobody before
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_JPEG_2000 = b"\xff\x4f\xff\x51"
_SIZE_AT = 8  # of the four numbers of 32 bits, behind the start of a JPEG 2000 stream (ISO/IEC 15444-1, A.5.1)
_LATE = 4096
_PREAMBLE, _LAST_OF_META = 128, 2
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
OVERLAYS = range(0x6000, 0x6020)
"""Groups of elements that hold what is drawn over the pixels."""


class DicomFile:
    """A DICOM file whose header has been read; `decode` gives its pixels."""

    def __init__(self, data: bytes):
        self._dataset = dataset = _parsed(data)
        kind = str(dataset.get("PhotometricInterpretation"))
        depth = "float32" if kind in _GRAY else "uint16" if _bits(dataset) == 16 and kind != _PALETTE else "uint8"
        channels = 1 if kind in _GRAY else 3
        self.header = Header(_NAME, int(dataset.Columns), int(dataset.Rows), channels, depth, frames=1)
        self._kind = kind

    turn = 1

    def decode(self, partial: bool) -> Decoded:
        """The picture; gray as float between its least and its greatest value. No part of a cut one can be kept."""
        dataset, notes, low, high = self._dataset, [], 0, 1
        _check_stream(dataset, self.header)
        with quiet():
            pixels = _stored(dataset)
            if self._kind == _PALETTE:
                pixels = _without_palette(pixels, dataset)
                notes.append("palette read as RGB")
        if self._kind in _GRAY:
            low, high = int(pixels.min()), int(pixels.max())
            notes.append(f"values from {low} to {high} are black to white for the network, and turned back")
            high = max(high, low + 1)
            pixels = (pixels.astype(np.float32) - low) / np.float32(high - low)
        if _drop_embedded_overlays(dataset):
            notes.append("overlays in spare bits of the pixels not kept")
        bits = _stored_bits(dataset)
        least = -(1 << bits - 1) if dataset.get("PixelRepresentation") else 0
        return Decoded(
            np.ascontiguousarray(pixels.reshape(self.header.height, self.header.width, -1)),
            _NAME,
            f"{bits}-bit {self._kind}",
            notes=notes,
            turn=self.turn,
            dicom=DicomHeader(_without_pixels(dataset), low, high, least, least + (1 << bits) - 1),
        )


def opened(data: bytes) -> "Dataset":
    """All elements of a DICOM file; FormatError where pydicom is missing."""
    return _pydicom().dcmread(io.BytesIO(data))


def drop(dataset: "Dataset", unwanted: "Callable[[BaseTag], bool]") -> bool:
    """Delete the elements with tags that are `unwanted`; whether there were some."""
    found = list(filter(unwanted, dataset.keys()))
    for tag in found:
        del dataset[tag]
    return bool(found)


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise FormatError(
            "a DICOM file, which this installation cannot read\npip install 'imagesmith[medical]' reads and writes it"
        ) from None
    return pydicom


def _parsed(data: bytes) -> "Dataset":
    """The elements of a file that holds one picture of a kind that is read; FormatError says what another one is."""
    if _DEFLATED in data:
        raise FormatError("expected DICOM whose elements are not deflated as a whole, got one; export it again without")
    with quiet():
        dataset = opened(data)
        if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
            kind = getattr(dataset.get("SOPClassUID"), "name", None) or dataset.get("Modality") or "a file without"
            raise FormatError(f"expected a DICOM picture, got one that holds no pixels: {kind}")
        frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel", 1))
        kind = str(dataset.PhotometricInterpretation)
        if frames != 1:
            raise FormatError(
                f"expected a DICOM file of one picture, got {frames} frames; export each as a file of its own"
            )
        if any(groups in dataset for groups in _FUNCTIONAL_GROUPS):
            raise FormatError("expected DICOM of the classic kinds, got an enhanced one; export its frames singly")
        if "PixelData" not in dataset:
            raise FormatError("expected whole numbers as pixels, got a DICOM file of float values; export it as TIFF")
        is_colour = kind in _COLOURS and samples == 3 and not dataset.get("PixelRepresentation")
        is_known = is_colour or (kind in (*_GRAY, _PALETTE) and samples == 1)
        if not is_known or _bits(dataset) not in (8, 16):
            raise FormatError(
                f"expected gray or colour of 8 or 16 bits, got {kind} of {samples} samples and {_bits(dataset)} bits\n"
                "export it as 16-bit PNG or TIFF"
            )
        if int(dataset.get("HighBit", _stored_bits(dataset) - 1)) != _stored_bits(dataset) - 1:
            raise FormatError(
                f"expected pixels in the lowest bits, got {_stored_bits(dataset)} bits below bit {dataset.HighBit}\n"
                "export it as 16-bit PNG or TIFF"
            )
        return dataset


def _bits(dataset: "Dataset") -> int:
    return int(dataset.get("BitsAllocated", 0))


def _stored_bits(dataset: "Dataset") -> int:
    return int(dataset.get("BitsStored") or _bits(dataset))


def _drop_embedded_overlays(dataset: "Dataset") -> bool:
    """Delete overlays whose bits are those of the pixels that these do not use; whether there were some."""
    embedded = [group for group in OVERLAYS if dataset.get((group, 0x0102)) and (group, 0x3000) not in dataset]
    return drop(dataset, lambda tag: tag.group in embedded)


def _stored(dataset: "Dataset") -> np.ndarray:
    """The values of the file, (H, W) or (H, W, 3), colour as RGB; the error that a decoder's complaint means."""
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID.name
    try:
        pixels = pixel_array(dataset)
    except ValueError as error:
        if "less than expected" in str(error):
            raise truncated(_NAME) from None
        raise
    except RuntimeError as error:
        if "missing dependencies" in str(error):
            raise FormatError(
                f"this {TITLES[_NAME]} is compressed as {syntax}, which needs a decoder\npip install python-gdcm"
            ) from None
        why = "unsupported" if "not support" in str(error) else "broken"
        raise damaged(_NAME, f"its pixels are {why} {syntax}") from None
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _check_stream(dataset: "Dataset", header: Header) -> None:
    """ImageError for a JPEG 2000 stream of another size than the file declares, which would be decoded all the same."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    start = dataset.PixelData[:_LATE].find(_JPEG_2000)
    if start < 0:
        return
    sizes = np.frombuffer(dataset.PixelData[start + _SIZE_AT : start + _SIZE_AT + 16], ">u4").astype(np.int64)
    if len(sizes) == 4 and (sizes[0] - sizes[2], sizes[1] - sizes[3]) != (header.width, header.height):
        raise ImageError(
            f"the DICOM file is damaged: it declares {header.width}x{header.height} pixels and holds "
            f"{sizes[0] - sizes[2]}x{sizes[1] - sizes[3]}\nexport it again from the program that made it"
        )


def _without_palette(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """(H, W, 3) uint8"""
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(pixels, dataset)[..., :3]
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _without_pixels(dataset: "Dataset") -> bytes:
    """The bytes of a file that says all the same, in little endian with explicit types, without its pixels."""
    from pydicom.uid import ExplicitVRLittleEndian

    del dataset.PixelData
    drop(dataset, lambda tag: tag.group <= _LAST_OF_META)  # in the data they are nobody's
    if not dataset.original_encoding[1]:
        dataset.walk(_swap)
    dataset.preamble = bytes(_PREAMBLE)  # some are the head of a TIFF, or of a program
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    packed = io.BytesIO()
    with quiet():
        _pydicom().dcmwrite(packed, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    return packed.getvalue()


def _swap(_: "Dataset", element: Any) -> None:
    """Turn the bytes of an element of words, which pydicom leaves in the order of the file."""
    size = _WORD_BYTES.get(element.VR)
    if size and element.value:
        element.value = np.frombuffer(element.value, f">u{size}").astype(f"<u{size}").tobytes()
