"""DICOM results: an object of its own, derived from the one that was read (PS3.3, C.7.6.1), or gray as viewers show it.

All that a file says of its patient, study and instrument is kept; what names the object itself is made anew, out of
what it was made from, so that the same run writes the same bytes.
"""

import hashlib
import io
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from imagesmith import __version__
from imagesmith.data.decoded import quiet
from imagesmith.data.dicom_reader import opened
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
_PALETTE_TAGS = ("Red", "Green", "Blue")
_PLACES = "SequenceOfUltrasoundRegions"
_OVERLAYS = range(0x6000, 0x6020)


def write_dicom(frame: Frame, stream: BinaryIO) -> tuple[str, ...]:
    """Write what a DICOM file became as one derived from it; returns what was changed.

    Gray values are those of the file's scale, rounded and held within its bits. OutputError for another picture.
    """
    source = frame.meta.dicom
    if source is None:
        raise OutputError("expected a picture that was read from DICOM, to write it as DICOM; write it as png or tif")
    with quiet():
        dataset = opened(source.dataset)
        pixels = _values(frame, source, dataset)
        scale = frame.height // int(dataset.Rows)
        notes = ["derived, not for diagnosis: it says so, and has identifiers of its own"]
        if scale > 1:
            notes += _enlarge(dataset, scale)
        _describe(dataset, source.made_by, hashlib.sha256(pixels.tobytes()).hexdigest())
        _put(dataset, pixels)
        packed = io.BytesIO()
        dataset.save_as(packed, enforce_file_format=True)
    stream.write(packed.getbuffer())
    return tuple(notes)


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
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    values = (source.low + frame.pixels.double() * (source.high - source.low)) * slope + intercept
    meta = replace(frame.meta, dicom=None)
    if name == "tif":
        notes.append(f"values as the instrument gives them, {dataset.get('RescaleType') or 'without a unit'}, as float")
        return Frame(values.float(), "float32", meta)
    low, high = _window(dataset, sorted((source.low * slope + intercept, source.high * slope + intercept)))
    gray = ((values - low) / (high - low)).clamp(0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 1 - gray
    notes.append(f"shown as viewers do, {low:g} to {high:g}; write it as dcm or tif to keep every value")
    return Frame(from_float(gray.float(), "uint16"), "uint16", meta)


def _window(dataset: "Dataset", whole: list[float]) -> tuple[float, float]:
    """The values that are shown as black and white: by the file's first window (PS3.3, C.11.2.1.2), else `whole`."""
    centers, widths = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centers is None or widths is None or centers == "" or widths == "":
        return whole[0], whole[1]
    center, width = float(np.atleast_1d(centers)[0]), float(np.atleast_1d(widths)[0])
    if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR":
        center, width = center - 0.5, width - 1
    return center - width / 2, center + max(width, 1e-3) / 2


def _values(frame: Frame, source: DicomHeader, dataset: "Dataset") -> np.ndarray:
    """The pixels as the file is to hold them."""
    if frame.channels != 1:
        return frame.pixels.numpy()
    bits, is_signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    least = -(1 << bits - 1) if is_signed else 0
    stored = torch.round(source.low + frame.pixels.double() * (source.high - source.low))
    kind = f"<{'i' if is_signed else 'u'}{int(dataset.BitsAllocated) // 8}"
    return stored.clamp(least, least + (1 << bits) - 1).numpy().astype(kind)


def _put(dataset: "Dataset", pixels: np.ndarray) -> None:
    """The pixels and what the file says of how they are stored."""
    height, width, channels = pixels.shape
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, channels
    if channels == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        bits = 8 * pixels.dtype.itemsize
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
        for colour in _PALETTE_TAGS:
            for what in ("Descriptor", "Data"):
                dataset.pop(f"{colour}PaletteColorLookupTable{what}", None)
    packed = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def _describe(dataset: "Dataset", made_by: str, digest: str) -> None:
    """What it is now: derived from the object that it was, in a series of its own, by these models."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.SourceImageSequence = [source]
    kinds = list(dataset.get("ImageType") or [])
    dataset.ImageType = ["DERIVED", "SECONDARY", *kinds[2:]]
    dataset.DerivationDescription = f"{made_by} of imagesmith {__version__}; not for diagnosis"
    dataset.SeriesDescription = f"{dataset.get('SeriesDescription') or ''} {made_by}".strip()[:_MOST_TEXT]
    dataset.SOPInstanceUID = _uid(dataset.SOPInstanceUID, made_by, digest)
    dataset.SeriesInstanceUID = _uid(dataset.get("SeriesInstanceUID", ""), made_by, str(__version__))
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
    spacing, direction = dataset.get("PixelSpacing"), dataset.get("ImageOrientationPatient")
    position = dataset.get("ImagePositionPatient")
    if spacing and position and direction:  # the centre of the first pixel moves towards the corner
        down, right = (float(value) * (1 / scale - 1) / 2 for value in spacing)
        moved = [
            float(at) + float(along_row) * right + float(along_column) * down
            for at, along_row, along_column in zip(position, direction[:3], direction[3:], strict=True)
        ]
        dataset.ImagePositionPatient = [_decimal(value) for value in moved]
    for keyword in _OF_ONE_PIXEL:
        if dataset.get(keyword):
            setattr(dataset, keyword, [_decimal(float(value) / scale) for value in dataset[keyword].value])
    placed = [tag for tag in tuple(dataset.keys()) if tag.group in _OVERLAYS]
    if _PLACES in dataset:
        placed.append(dataset[_PLACES].tag)
    for tag in placed:
        del dataset[tag]
    return ["overlays and regions, whose places are pixels, not kept in the enlarged picture"] if placed else []
