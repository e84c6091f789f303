"""DICOM results: an object of its own, derived from the one that was read (PS3.3, C.7.6.1), or gray as viewers show it.

All that a file says of its patient, study and instrument is kept; what names the object itself is made anew, out of
what it was made from, so that the same run writes the same bytes.
"""

import hashlib
import io
import math
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from imagesmith import __version__
from imagesmith.data.decoded import quiet
from imagesmith.data.dicom_reader import OVERLAYS, drop, opened
from imagesmith.data.frame import DicomHeader, Frame
from imagesmith.errors import OutputError
from imagesmith.tensors import from_float

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_MOST_TEXT = 64  # characters of a series' description
_OF_ONE_PIXEL = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_UNTRUE = (
    *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries"),
    *("InstanceCreationDate", "InstanceCreationTime", "IconImageSequence", "DigitalSignaturesSequence"),
)
_PALETTE, _IMAGE, _OF_PALETTES = "RedPaletteColorLookupTableDescriptor", 0x0028, range(0x1101, 0x1224)
_REGIONS = 0x00186011  # of an ultrasound
_ACQUISITION, _SHUTTERS = 0x0018, (*range(0x1600, 0x1625), *range(0x1700, 0x1721))
_ROWS_AT_ONCE = 256
_MOST_WORDS = 1024  # characters of a derivation's description


def write_dicom(frame: Frame, stream: BinaryIO) -> tuple[str, ...]:
    """Write what a DICOM file became as one derived from it; returns what was changed.

    Gray values are those of the file's scale, rounded and held within its bits. OutputError for another picture, and
    for one whose size is no whole multiple of its source's.
    """
    source = frame.meta.dicom
    if source is None:
        raise OutputError("expected a picture that was read from DICOM, to write it as DICOM; write it as png or tif")
    with quiet():
        dataset = opened(source.dataset)
        scale = frame.height // int(dataset.Rows)
        if scale < 1 or (dataset.Rows * scale, dataset.Columns * scale) != (frame.height, frame.width):
            raise OutputError(
                f"expected a whole multiple of {dataset.Columns}x{dataset.Rows}, whose places in the body are known, "
                f"got {frame.width}x{frame.height}\nwrite it as png or tif"
            )
        try:
            notes, packed = _derived(frame, source, dataset, scale)
        except Exception as error:  # whatever pydicom and odd elements of a source come to
            raise OutputError(f"it cannot be written as DICOM: {error}; write it as png or tif") from error
    stream.write(packed)
    return tuple(notes)


def _derived(frame: Frame, source: DicomHeader, dataset: "Dataset", scale: int) -> tuple[list[str], bytes]:
    pixels = _values(frame, source, dataset)
    notes = ["derived, not for diagnosis: it says so, and has identifiers of its own"]
    if scale > 1:
        notes += _enlarge(dataset, scale)
    _describe(dataset, source.made_by, hashlib.sha256(pixels.tobytes()).hexdigest())
    _put(dataset, pixels)
    packed = io.BytesIO()
    dataset.save_as(packed, enforce_file_format=True)
    return notes, packed.getvalue()


def shown(frame: Frame, name: str, notes: list[str]) -> Frame:
    """The picture for format `name`, which is not DICOM, in values that mean something there.

    Gray becomes float of the instrument's unit for TIFF, else 16 bits through the file's first window, as viewers show
    it, bright where they do. Anything else stays as it is.
    """
    source = frame.meta.dicom
    if source is None or frame.channels != 1:
        return frame
    with quiet():
        dataset = opened(source.dataset)
    [slope], [intercept] = _numbers(dataset, "RescaleSlope") or [1.0], _numbers(dataset, "RescaleIntercept") or [0.0]
    unit = str(dataset.get("RescaleType") or "without a unit")
    if "ModalityLUTSequence" in dataset:
        slope, intercept, unit = 1.0, 0.0, "its table of units is not applied"
    span, low = (source.high - source.low) * slope, source.low * slope + intercept
    meta = replace(frame.meta, dicom=None)
    strips = frame.pixels.split(_ROWS_AT_ONCE)
    if name == "tif":
        notes.append(f"values as the instrument gives them, {unit}, as float")
        return Frame(torch.cat([(low + rows.double() * span).float() for rows in strips]), "float32", meta)
    black, white = _window(dataset) or (min(low, low + span), max(low, low + span))
    notes.append(f"shown as viewers do, {black:g} to {white:g}; write it as dcm or tif to keep every value")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        black, white = white, black
    gray = [((low + rows.double() * span - black) / (white - black)).float().clamp(0, 1) for rows in strips]
    return Frame(torch.cat([from_float(rows, "uint16") for rows in gray]), "uint16", meta)


def _numbers(dataset: "Dataset", keyword: str) -> list[float] | None:
    """The numbers of an element; None where there are none, or something else is in its place."""
    try:
        found = [float(value) for value in np.atleast_1d(dataset.get(keyword))]
    except (TypeError, ValueError):
        return None
    return found if found and all(map(math.isfinite, found)) else None


def _window(dataset: "Dataset") -> tuple[float, float] | None:
    """The values that are shown as black and white, by the file's first window (PS3.3, C.11.2.1.2); None without."""
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    if not centers or not widths or "ModalityLUTSequence" in dataset:
        return None
    center, width = centers[0], widths[0]
    if (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR":
        center, width = center - 0.5, width - 1
    return (center - width / 2, center + width / 2) if width > 0 else None


def _values(frame: Frame, source: DicomHeader, dataset: "Dataset") -> np.ndarray:
    """The pixels as the file is to hold them."""
    if frame.channels != 1:
        pixels = frame.pixels.numpy()
        return np.minimum(pixels, min(source.most, np.iinfo(pixels.dtype).max))
    kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{int(dataset.BitsAllocated) // 8}"
    return np.concatenate([source.stored(rows).numpy().astype(kind) for rows in frame.pixels.split(_ROWS_AT_ONCE)])


def _put(dataset: "Dataset", pixels: np.ndarray) -> None:
    """The pixels and what the file says of how they are stored."""
    height, width, channels = pixels.shape
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, channels
    if channels == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        bits = 8 * pixels.dtype.itemsize
        if int(dataset.BitsAllocated) != bits or _PALETTE in dataset:
            dataset.BitsAllocated = dataset.BitsStored = bits
            dataset.HighBit = bits - 1
        dataset.PixelRepresentation = 0
        drop(dataset, lambda tag: tag.group == _IMAGE and tag.element in _OF_PALETTES)
    packed = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def _describe(dataset: "Dataset", made_by: str, digest: str) -> None:
    """What it is now: derived from the object that it was, in a series of its own, by these models."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    own = str(dataset.get("SOPInstanceUID") or "")
    dataset.SOPClassUID = dataset.get("SOPClassUID") or SecondaryCaptureImageStorage
    if own:
        source = Dataset()
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, own
        dataset.SourceImageSequence = [source]
    kinds = dataset.get("ImageType") or []
    dataset.ImageType = ["DERIVED", "SECONDARY", *([] if isinstance(kinds, str) else kinds[2:])]
    maker = made_by.encode("ascii", "replace").decode().replace("\\", "/")[: _MOST_TEXT - 1]
    history = (dataset.get("DerivationDescription"), f"{maker} of imagesmith {__version__}; not for diagnosis")
    dataset.DerivationDescription = "; ".join(str(each) for each in history if each)[-_MOST_WORDS:]
    before = str(dataset.get("SeriesDescription") or "")[: _MOST_TEXT - 1 - len(maker)]
    dataset.SeriesDescription = f"{before} {maker}".strip()
    series = dataset.get("SeriesInstanceUID") or dataset.get("StudyInstanceUID") or own or digest
    dataset.SOPInstanceUID = _uid(own, made_by, digest)
    dataset.SeriesInstanceUID = _uid(str(series), made_by, str(__version__))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _UNTRUE:
        dataset.pop(keyword, None)


def _uid(*made_from: str) -> "UID":
    """An identifier that the same origins always give (PS3.5, B.2)."""
    from pydicom.uid import UID

    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(made_from)).int}")


def _decimal(value: float) -> str:
    """A number as files hold it, in at most 16 characters (PS3.5, 6.2)."""
    return f"{value:.9g}"


def _enlarge(dataset: "Dataset", scale: int) -> list[str]:
    """Correct the sizes that the file gives, and drop what lies at pixels; returns what was dropped."""
    spacing, direction = _numbers(dataset, "PixelSpacing"), _numbers(dataset, "ImageOrientationPatient")
    position = _numbers(dataset, "ImagePositionPatient")
    if spacing and position and direction:  # the centre of the first pixel moves towards the corner
        down, right = (value * (1 / scale - 1) / 2 for value in spacing)
        moved = [
            at + along_row * right + along_column * down
            for at, along_row, along_column in zip(position, direction[:3], direction[3:], strict=True)
        ]
        dataset.ImagePositionPatient = [_decimal(value) for value in moved]
    for keyword in _OF_ONE_PIXEL:
        if values := _numbers(dataset, keyword):
            setattr(dataset, keyword, [_decimal(value / scale) for value in values])
    is_placed = drop(
        dataset,
        lambda tag: (
            tag.group in OVERLAYS or tag == _REGIONS or (tag.group == _ACQUISITION and tag.element in _SHUTTERS)
        ),
    )
    return ["overlays, shutters and regions, whose places are pixels, not kept in the enlarged picture"] * is_placed
