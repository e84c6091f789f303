"""DICOM in and out: every value, every word about the patient, and nothing that is no longer true."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage

from imagesmith.data.files import Frame, read_header, read_image, write_image
from imagesmith.data.frame import DicomHeader, ImageMeta
from imagesmith.data.sources import list_items
from imagesmith.errors import FormatError, ImageError, OutputError, TruncatedError
from imagesmith.infer.truth import agreeing_with_size
from imagesmith.tensors import imresize

GRAY = [
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm", "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm", "JPEGLSNearLossless_08.dcm",
]  # fmt: skip
COLOUR = ["ExplVR_BigEnd.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle_16bit.dcm",
          "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_small_odd.dcm"]  # fmt: skip


def sample(name: str) -> Path:
    """A file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def written(frame: Frame) -> Dataset:
    stream = io.BytesIO()
    write_image(frame, stream, format="dcm")
    return pydicom.dcmread(io.BytesIO(stream.getvalue()))


def made(pixels: np.ndarray, **elements: Any) -> bytes:
    """A small gray DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = MRImageStorage, "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = MRImageStorage, "1.2.3", "1.2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are meant
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("name", GRAY)
def test_every_gray_value_comes_back(name: str) -> None:
    """The accident: 12 bits in 16 read as nearly black, a signed value as a bright one, or rounded on the way."""
    expected = pixel_array(sample(name)).astype(np.int64)
    frame = read_image(sample(name))
    assert frame.depth == "float32"
    assert (frame.pixels.min(), frame.pixels.max()) == (0, 1)
    result = written(frame)
    np.testing.assert_array_equal(result.pixel_array.astype(np.int64), expected)
    assert (result.BitsStored, result.PixelRepresentation) == (
        pydicom.dcmread(sample(name)).BitsStored, pydicom.dcmread(sample(name)).PixelRepresentation,
    )  # fmt: skip


@pytest.mark.parametrize("name", COLOUR)
def test_colour_is_read_and_written_as_rgb(name: str) -> None:
    """The accident: brightness and colour differences shown as red, green and blue."""
    expected = pixel_array(sample(name))
    frame = read_image(sample(name))
    np.testing.assert_array_equal(frame.pixels.numpy(), expected)
    result = written(frame)
    assert result.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(result.pixel_array, expected)


def test_a_palette_becomes_the_colours_that_it_names() -> None:
    """The accident: the numbers of colours taken for gray, or kept beside a palette that they no longer mean."""
    frame = read_image(sample("examples_palette.dcm"))
    assert (frame.depth, frame.channels) == ("uint8", 3)
    result = written(frame)
    assert "RedPaletteColorLookupTableData" not in result
    np.testing.assert_array_equal(result.pixel_array, frame.pixels.numpy())


def test_colour_below_zero_is_refused() -> None:
    """The accident: signed bytes, for which a picture has no depth, end in a KeyError."""
    dataset = pydicom.dcmread(sample("SC_rgb_small_odd.dcm"))
    dataset.PixelRepresentation = 1
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(FormatError, match="RGB of 3 samples"):
        read_image(stream.getvalue())


def test_the_result_says_what_it_is_and_keeps_what_is_known_of_the_patient() -> None:
    """The accident: a picture that a network changed goes to the archive under the identifier of the original."""
    source = pydicom.dcmread(sample("CT_small.dcm"))
    frame = read_image(sample("CT_small.dcm"))
    assert frame.meta.dicom is not None
    made_by = DicomHeader(frame.meta.dicom.dataset, frame.meta.dicom.low, frame.meta.dicom.high, made_by="denoise")
    changed = Frame(frame.pixels, frame.depth, ImageMeta("dcm", frame.meta.mode, dicom=made_by))
    result, again = written(changed), written(changed)
    for same in ("PatientName", "PatientID", "StudyInstanceUID", "PixelSpacing", "RescaleIntercept", "SOPClassUID"):
        assert result[same].value == source[same].value
    assert [e.value for e in result if e.tag.is_private] == [e.value for e in source if e.tag.is_private]
    assert result.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "denoise" in result.DerivationDescription
    assert "not for diagnosis" in result.DerivationDescription
    assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert result.SOPInstanceUID != source.SOPInstanceUID
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID
    assert result.SeriesInstanceUID != source.SeriesInstanceUID
    assert (again.SOPInstanceUID, again.SeriesInstanceUID) == (result.SOPInstanceUID, result.SeriesInstanceUID)


def test_an_enlarged_picture_lies_where_it_lay() -> None:
    """The accident: lengths measured on the result are four times too long, and slices lie half a pixel aside."""
    frame = read_image(
        made(np.arange(12, dtype=np.uint16).reshape(3, 4), PixelSpacing=[2.0, 1.0],
             ImagePositionPatient=[10.0, 20.0, 30.0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    )  # fmt: skip
    larger = frame.pixels.repeat_interleave(4, 0).repeat_interleave(4, 1)
    result = written(Frame(larger, frame.depth, frame.meta))
    assert (result.Rows, result.Columns) == (12, 16)
    assert list(result.PixelSpacing) == [0.5, 0.25]
    # the corner stays: half a pixel before the centre of the first one
    assert list(result.ImagePositionPatient) == pytest.approx([10 - 0.5 + 0.125, 20 - 1 + 0.25, 30])


def test_overlays_do_not_stay_in_an_enlarged_picture() -> None:
    """The accident: a mark drawn on a finding points beside it."""
    frame = read_image(sample("examples_overlay.dcm"))
    stream = io.BytesIO()
    larger = frame.pixels.repeat_interleave(2, 0).repeat_interleave(2, 1)
    notes = write_image(Frame(larger, frame.depth, frame.meta), stream, format="dcm")
    assert any("overlays" in note for note in notes)
    assert 0x60003000 not in pydicom.dcmread(io.BytesIO(stream.getvalue()))
    assert 0x60003000 in written(frame)


def test_as_a_picture_it_is_what_viewers_show(tmp_path: Path) -> None:
    """The accident: a picture of a window that nobody chose, or a negative."""
    values = np.array([[0, 100, 200, 300]], np.uint16)
    source = made(values, WindowCenter=150.5, WindowWidth=101, RescaleSlope=1, RescaleIntercept=0)
    negative = made(values, WindowCenter=150.5, WindowWidth=101, PhotometricInterpretation="MONOCHROME1")
    for data, expected in ((source, [0, 0, 65535, 65535]), (negative, [65535, 65535, 0, 0])):
        place = tmp_path / "shown.png"
        notes = write_image(read_image(data), place, overwrite=True)
        assert any("100 to 200" in note for note in notes)
        assert read_image(place).pixels.flatten().tolist() == expected


def test_as_tiff_it_holds_the_units_of_the_instrument(tmp_path: Path) -> None:
    """The accident: Hounsfield units become grays between 0 and 1, and nobody can go back."""
    write_image(read_image(sample("CT_small.dcm")), tmp_path / "ct.tif")
    source = pydicom.dcmread(sample("CT_small.dcm"))
    expected = source.pixel_array * float(source.RescaleSlope) + float(source.RescaleIntercept)
    np.testing.assert_allclose(read_image(tmp_path / "ct.tif").pixels[..., 0].numpy(), expected, atol=1e-3)


def test_two_files_of_a_pair_lie_on_one_scale() -> None:
    """The accident: one hot pixel in the input, and a network learns that everything else has to be twice as bright."""
    target = np.array([[0, 100], [200, 400]], np.uint16)
    hot = target.copy()
    hot[1, 1] = 800
    one, other = read_image(made(target)), read_image(made(hot))
    one, other = one.on_scale_of(other), other.on_scale_of(one)
    assert torch.equal(one.pixels.flatten()[:3], other.pixels.flatten()[:3])
    np.testing.assert_array_equal(written(one).pixel_array, target)
    np.testing.assert_array_equal(written(other).pixel_array, hot)


def test_consistency_counts_what_the_file_can_hold() -> None:
    """The accident: "within half a level", and the file that clips what is below zero is 277 values off."""
    values = np.zeros((16, 16), np.uint16)
    values[:, 8:] = 1000
    frame = read_image(made(values))
    larger = imresize(frame.pixels.permute(2, 0, 1), 2)
    result, lacking = agreeing_with_size(larger, frame, 2)
    again = written(Frame(result.permute(1, 2, 0), "float32", frame.meta)).pixel_array.astype(np.float32)
    off = np.abs(imresize(torch.from_numpy(again)[None], 0.5)[0].numpy() - values).max() / 1000 * 255
    assert off <= 0.5 + lacking + 0.01


def test_pixels_in_the_upper_bits_are_refused() -> None:
    """The accident: the lowest four bits, which are empty, read as the picture."""
    with pytest.raises(FormatError, match="lowest bits"):
        read_image(made(np.arange(16, dtype=np.uint16).reshape(4, 4) << 4, BitsStored=12, HighBit=15))


def test_words_of_big_endian_files_are_turned() -> None:
    """The accident: a table of four values becomes another table."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([0, 1000, 2000, 3000], ">u2").tobytes()
    table["LUTData"].VR = "OW"
    dataset = pydicom.dcmread(io.BytesIO(made(np.arange(16, dtype=np.uint16).reshape(4, 4))))
    dataset.VOILUTSequence = [table]
    dataset.PixelData = np.arange(16, dtype=">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, implicit_vr=False, little_endian=False, force_encoding=True)
    result = written(read_image(stream.getvalue()))
    assert np.frombuffer(result.VOILUTSequence[0].LUTData, "<u2").tolist() == [0, 1000, 2000, 3000]
    assert result.pixel_array.flatten().tolist() == list(range(16))


@pytest.mark.parametrize(
    ("elements", "name"),
    [
        ({"WindowCenter": "30", "WindowWidth": "0"}, "png"),
        ({"RescaleSlope": "1", "RescaleIntercept": "", "RescaleType": ""}, "tif"),
        ({"SOPInstanceUID": "", "SeriesInstanceUID": "", "SOPClassUID": ""}, "dcm"),
        ({"ImageType": "ORIGINAL"}, "dcm"),
        ({"SeriesDescription": "x" * 64, "DerivationDescription": "y" * 1024}, "dcm"),
    ],
)
def test_odd_elements_stop_nothing(elements: dict[str, Any], name: str) -> None:
    """The accident: an hour of work ends in a ValueError of a library, for a window of no width."""
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4)
    frame = read_image(made(pixels, **elements))
    stream = io.BytesIO()
    write_image(frame, stream, format=name)
    if name == "dcm":
        result = pydicom.dcmread(io.BytesIO(stream.getvalue()))
        assert result.ImageType == ["DERIVED", "SECONDARY"]
        assert len(result.SeriesDescription) <= 64
        assert len(result.DerivationDescription) <= 1024
        assert result.SOPClassUID
        assert stream.getvalue()[:128] == bytes(128)


def test_series_without_a_name_are_not_thrown_together() -> None:
    """The accident: two patients become one series, for both came without an identifier."""
    first, second = (
        written(
            read_image(made(np.full((4, 4), value, np.uint16), SeriesInstanceUID="", SOPInstanceUID=f"1.2.{value}"))
        )
        for value in (1, 2)
    )
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_a_cut_out_piece_is_not_written_with_the_place_of_the_whole() -> None:
    """The accident: a crop that claims to lie where its picture lay."""
    frame = read_image(made(np.arange(16, dtype=np.uint16).reshape(4, 4)))
    with pytest.raises(OutputError, match="whole multiple"):
        write_image(Frame(frame.pixels[1:], frame.depth, frame.meta), io.BytesIO(), format="dcm")


def test_a_picture_of_one_value_stays_it() -> None:
    """The accident: division by the range of a slice above the head, which is zero."""
    frame = read_image(made(np.full((3, 4), 7, np.int16)))
    assert torch.isfinite(frame.pixels).all()
    assert (written(frame).pixel_array == 7).all()


def test_values_stay_within_the_bits_of_the_file() -> None:
    """The accident: what a network overshoots wraps round to black."""
    frame = read_image(made(np.array([[0, 4095]], np.uint16), BitsStored=12, HighBit=11))
    result = written(Frame(frame.pixels * 1.5 - 0.2, frame.depth, frame.meta))
    assert result.pixel_array.flatten().tolist() == [0, 4095]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SC_rgb_rle_2frame.dcm", "got 2 frames"),
        ("rtdose_1frame.dcm", "32 bits"),
        ("liver_1frame.dcm", "enhanced"),
        ("reportsi.dcm", "holds no pixels"),
        ("image_dfl.dcm", "deflated"),
        ("JPGExtended.dcm", "cannot be read"),
    ],
)
def test_what_is_not_read_is_said(name: str, words: str) -> None:
    """The accident: the first of thirty frames restored and the others gone, or a bomb unpacked."""
    with pytest.raises(FormatError, match=words):
        read_image(sample(name))


def test_a_file_cut_short_is_told() -> None:
    """The accident: the lower half of a slice is black, which is air."""
    with pytest.raises(TruncatedError):
        read_image(sample("MR_truncated.dcm"))
    data = sample("CT_small.dcm").read_bytes()
    for end in (140, 400, 3000, len(data) - 500):
        with pytest.raises(ImageError):
            read_image(data[:end])


def test_a_stream_of_another_size_is_refused_before_it_is_decoded() -> None:
    """The accident: a header of 64x64 pixels in front of a stream that unpacks to gigabytes."""
    dataset = pydicom.dcmread(sample("MR_small_jp2klossless.dcm"))
    assert dataset.file_meta.TransferSyntaxUID == JPEG2000Lossless
    dataset.PixelData = dataset.PixelData.replace((64).to_bytes(4, "big") * 2, (60000).to_bytes(4, "big") * 2, 1)
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(ImageError, match="holds 60000x60000"):
        read_image(stream.getvalue())


def test_only_dicom_becomes_dicom(tmp_path: Path) -> None:
    """The accident: a photograph with the name of a slice, without patient or study."""
    photo = Frame.of(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(OutputError, match="read from DICOM"):
        write_image(photo, tmp_path / "photo.dcm")


def test_a_header_is_read_without_pixels() -> None:
    """The accident: the size of a slice is only known after it was decoded."""
    header = read_header(sample("CT_small.dcm"))
    assert (header.format, header.width, header.height, header.channels, header.depth) == (
        "dcm",
        128,
        128,
        1,
        "float32",
    )


def test_series_without_endings_are_found_in_a_folder(tmp_path: Path) -> None:
    """The accident: a folder as the scanner wrote it is "without pictures"."""
    for name in ("IM000001", "1.2.840.7", "DICOMDIR"):
        (tmp_path / name).write_bytes(sample("MR_small.dcm").read_bytes())
    (tmp_path / "LICENSE").write_text("no picture")
    items = list_items([tmp_path], recursive=False)
    assert [str(item.name) for item in items] == ["1.2.840.7.dcm", "IM000001.dcm"]
    assert items.skipped == 2


def test_without_pydicom_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a traceback of an import where a line would do."""
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(FormatError, match=r"imagesmith\[medical\]"):
        read_image(sample("MR_small.dcm").read_bytes())
