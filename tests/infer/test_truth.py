"""Consistency: what was measured can be had back from the result, after rounding and writing it."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.files import Frame, ImageMeta, read_image
from imagesmith.data.frame import DicomHeader
from imagesmith.errors import ImageError, TooLargeError
from imagesmith.infer.intervals import Intervals
from imagesmith.infer.truth import HALF_LEVEL, agreeing_with_jpeg, agreeing_with_size, check_room, half_level
from imagesmith.tensors import from_float, imresize, to_float

PHOTO = np.ascontiguousarray(data.astronaut()[40:112, 150:246])


def small_frame(scale: int, depth: str = "uint8", alpha: bool = False) -> Frame:
    """The photograph down-scaled, with an opaque middle where it has alpha."""
    small = imresize(torch.from_numpy(PHOTO).permute(2, 0, 1), 1 / scale)
    if alpha:
        opacity = torch.zeros_like(small[:1])
        opacity[:, 4:, 5:] = 255
        small = torch.cat((small, opacity))
    values = from_float(to_float(small, "uint8"), depth)
    return Frame(values.permute(1, 2, 0).contiguous(), depth, ImageMeta("png", "RGB"))


def invented(frame: Frame, scale: int) -> torch.Tensor:
    """What a network that does as it likes might make of it: enlarged, noisy, and too dark."""
    given = to_float(frame.pixels, frame.depth).permute(2, 0, 1)
    noise = torch.randn(imresize(given, scale).shape, generator=torch.Generator().manual_seed(1))
    return imresize(given, scale) * 0.95 + 0.03 * noise


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_the_result_shrunk_is_the_picture_again(scale: int, depth: str) -> None:
    """Projected before it is rounded, a result is off by more than half a grey level once it lies in a file."""
    frame = small_frame(scale, depth)
    agreed, lacking = agreeing_with_size(invented(frame, scale), frame, scale)
    assert agreed.dtype == frame.pixels.dtype
    error = imresize(to_float(agreed, depth), 1 / scale) - to_float(frame.pixels, depth).permute(2, 0, 1)
    assert lacking == 0.0
    assert error.abs().max() <= HALF_LEVEL + 1e-7


@pytest.mark.parametrize(
    ("depth", "dicom", "expected"),
    [
        ("uint8", None, ""),
        ("uint16", None, " of 8 bits, 128.5 in values of this file"),
        ("float32", None, " of 8 bits, 0.001961 in values of this file"),
        ("float32", DicomHeader(b"", -1000, 1040), " of 8 bits, 4 in values of this file"),
    ],
)
def test_half_a_level_is_said_in_the_unit_of_the_file(depth: str, dicom: DicomHeader | None, expected: str) -> None:
    """The accident: 'within half a grey level' of 16 bits, and off by 128 of them."""
    frame = Frame(torch.zeros(1, 1, 1), depth, ImageMeta("tif", "gray", dicom=dicom))
    assert half_level(frame) == f"half a grey level{expected}"


def test_what_was_invented_between_the_pixels_stays() -> None:
    """A projection onto the plain enlargement agrees as well, and throws all detail away."""
    frame = small_frame(4)
    result = invented(frame, 4)
    agreed, _ = agreeing_with_size(result, frame, 4)
    plain = imresize(to_float(frame.pixels, "uint8").permute(2, 0, 1), 4)
    kept, detail = (x - imresize(imresize(x, 0.25), 4) for x in (to_float(agreed, "uint8"), result))
    assert torch.corrcoef(torch.stack((kept.flatten(), detail.flatten())))[0, 1] > 0.9
    assert (to_float(agreed, "uint8") - plain).std() > 0.02


BOARD = torch.from_numpy((np.indices((12, 12)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None])


def test_what_cannot_agree_is_measured() -> None:
    """A chessboard of single pixels is no down-scaled picture: 'consistent' would be a lie there."""
    frame = Frame(BOARD, "uint8", ImageMeta("png", "L"))
    _, lacking = agreeing_with_size(to_float(BOARD, "uint8").permute(2, 0, 1).repeat(1, 2, 2), frame, 2)
    assert lacking > 5


def test_what_cannot_agree_is_given_up_and_all_else_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: 120 rounds for a few pixels that no picture can have - or an end before the others had theirs."""
    rounds = list[float]()

    def counted(x: torch.Tensor, scale: float) -> torch.Tensor:
        rounds.append(scale)
        return imresize(x, scale)

    frame = small_frame(2)
    frame.pixels[:12, :12] = BOARD
    result = invented(frame, 2)
    monkeypatch.setattr("imagesmith.infer.truth.imresize", counted)
    agreed, lacking = agreeing_with_size(result, frame, 2)
    assert rounds.count(0.5) < 60
    error = imresize(to_float(agreed, "uint8"), 0.5) - to_float(frame.pixels, "uint8").permute(2, 0, 1)
    error[:, :18, :18] = 0  # the board and what it reaches
    assert lacking > 5
    assert error.abs().max() <= HALF_LEVEL + 1e-7


def test_transparent_pixels_ask_for_nothing() -> None:
    """Colours that nobody sees would draw a rim into those that are seen; alpha itself stays."""
    frame = small_frame(2, alpha=True)
    result = invented(frame, 2)
    result[3] = result[3].clamp(0, 1).round()
    agreed, lacking = agreeing_with_size(result, frame, 2)
    assert lacking == 0.0
    assert torch.equal(agreed[3], from_float(result[3], "uint8"))
    assert torch.equal(agreed[:, :, :2], from_float(result[:, :, :2], "uint8"))


def jpeg_of(pixels: np.ndarray, **options: object) -> Frame:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return read_image(stream.getvalue())


def floats(pixels: np.ndarray) -> torch.Tensor:
    return to_float(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)), "uint8").permute(2, 0, 1)


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("colour", [True, False])
def test_the_original_lies_in_the_intervals_and_results_come_to(quality: int, sampling: str, colour: bool) -> None:
    """Intervals around anything but the file's own coefficients would push results away from the truth."""
    original = PHOTO // 2 + 60 if colour else PHOTO[..., 1]  # gray reaches black and white, where decoding clips
    frame = jpeg_of(original, quality=quality, subsampling=sampling)
    intervals = Intervals(floats(frame.pixels.numpy()), frame.meta.jpeg)
    if quality < 90:  # where steps are as small as the rounding of pixels, a coefficient may be taken for the next
        assert intervals.correction(floats(original), 0.0)[1] < 1.2, "libjpeg computes with integers, that much is left"
    smooth = torch.nn.functional.avg_pool2d(floats(frame.pixels.numpy()), 5, 1, 2)
    assert intervals.correction(smooth, 0.0)[1] > 3
    agreed, lacking = agreeing_with_jpeg(smooth, frame)
    assert lacking == intervals.correction(to_float(agreed, "uint8"), 0.0)[1]
    assert lacking < (0.1 if quality < 90 else 1.0)


def test_a_consistent_result_compressed_again_is_the_file() -> None:
    """The proof that needs none of our own arithmetic: the codec cannot tell the result from what it was given."""
    frame = jpeg_of(PHOTO // 2 + 60, quality=20, subsampling="4:4:4")
    smooth = torch.nn.functional.avg_pool2d(floats(frame.pixels.numpy()), 3, 1, 1)
    agreed, _ = agreeing_with_jpeg(smooth, frame)
    again = jpeg_of(agreed.permute(1, 2, 0).contiguous().numpy(), quality=20, subsampling="4:4:4")
    before = jpeg_of(from_float(smooth, "uint8").permute(1, 2, 0).contiguous().numpy(), quality=20, subsampling="4:4:4")
    differs, differed = ((found.pixels != frame.pixels).float().mean() for found in (again, before))
    assert differs < 0.2 * differed


@pytest.mark.parametrize("size", [(67, 93), (31, 47)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_of_odd_sizes_agree_too(orientation: int, size: tuple[int, int]) -> None:
    """A camera held upright turns the picture after decoding: its blocks begin at another corner."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = jpeg_of(PHOTO[: size[0], : size[1]] // 2 + 60, quality=30, exif=exif)
    decoded = to_float(frame.pixels, "uint8").permute(2, 0, 1)
    agreed, lacking = agreeing_with_jpeg(decoded, frame)
    assert lacking < 0.1
    assert (to_float(agreed, "uint8") - decoded).abs().mean() * 255 < 0.1, "the file's own picture was moved"


def test_a_picture_without_tables_is_told() -> None:
    """A screenshot of a JPEG has its artefacts, but nothing says what they stand for."""
    frame = Frame(torch.from_numpy(PHOTO), "uint8", ImageMeta("png", "RGB"))
    with pytest.raises(ImageError, match="leave --consistency out"):
        agreeing_with_jpeg(floats(PHOTO), frame)


def test_a_picture_smaller_than_a_block_is_left_as_it_is() -> None:
    """Nothing of it lies in a whole block."""
    frame = jpeg_of(PHOTO[:5, :7], quality=30)
    decoded = to_float(frame.pixels, "uint8").permute(2, 0, 1)
    agreed, lacking = agreeing_with_jpeg(decoded, frame)
    assert lacking == 0.0
    assert torch.equal(agreed, frame.pixels.permute(2, 0, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_ask_for_nothing(value: float) -> None:
    """The accident: NaN passes for agreement, or infinity eats its surroundings."""
    frame = small_frame(2, "float32")
    expected, _ = agreeing_with_size(invented(frame, 2), frame, 2)
    pixels = frame.pixels.clone()
    pixels[5, 6] = value
    frame = dataclasses.replace(frame, pixels=pixels)
    agreed, lacking = agreeing_with_size(invented(frame, 2).nan_to_num(0, 0, 0), frame, 2)
    assert lacking == 0
    assert agreed.isfinite().all()
    assert torch.allclose(agreed[:, 30:, 30:], expected[:, 30:, 30:], atol=2 / 255)


def test_no_room_for_a_whole_result_is_told_before() -> None:
    """The accident: --consistency takes ten times what --max-ram allows, and nothing is said."""
    frame = small_frame(2)
    with pytest.raises(TooLargeError, match="--consistency"):
        check_room(frame, 4, limit=1)
    check_room(frame, 4, limit=None)
