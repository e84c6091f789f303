"""The quick reader of pixels gives what the careful one gives."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from imagesmith.data.files import read_image
from imagesmith.data.pixels import read_pixels, read_size
from imagesmith.errors import FormatError, ImageError, TruncatedError


def test_pictures_are_those_that_read_image_gives(tmp_path: Path) -> None:
    """The quick way for plain JPEGs must not turn, colour or cut what the careful way would not."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8))
    turned = Image.Exif()
    turned[274] = 6
    variants = {
        "rgb": (image, {}),
        "gray": (image.convert("L"), {}),
        "cmyk": (image.convert("CMYK"), {}),
        "turned": (image, {"exif": turned}),
    }
    for name, (variant, options) in variants.items():
        path = tmp_path / f"{name}.jpg"
        variant.save(path, **options)
        expected = read_image(path).pixels.numpy()
        assert np.array_equal(read_pixels(path), expected), name
        assert np.array_equal(read_pixels(path.read_bytes()), expected), name
        assert read_size(path) == read_size(path.read_bytes()) == expected.shape[:2], name


def test_faults_are_those_that_read_image_tells(tmp_path: Path) -> None:
    """The quick way must not let pass, or tell in Pillow's words, what the careful way refuses."""
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    data = path.read_bytes()
    with pytest.raises(TruncatedError, match="ends before its picture does"):
        read_pixels(data[: len(data) // 2])
    with pytest.raises(FormatError):
        read_pixels(b"no picture")
    with pytest.raises(ImageError, match="cannot be read"):
        read_pixels(tmp_path / "none.jpg")


def test_deep_pictures_become_eight_bits(tmp_path: Path) -> None:
    """A cast of 16 bits to 8 keeps the low byte, which is noise."""
    Image.fromarray(np.full((3, 5), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    assert read_pixels(tmp_path / "deep.png").tolist() == [[[128]] * 5] * 3


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.001, 1.001)])
def test_float_pictures_within_black_and_white_become_eight_bits(tmp_path: Path, low: float, high: float) -> None:
    """What rounding errors of another program add to white must not cost the picture."""
    tifffile.imwrite(tmp_path / "float.tif", np.array([[low, 0.5, high]], np.float32))
    assert read_pixels(tmp_path / "float.tif")[..., 0].tolist() == [[0, 128, 255]]


def deep(path: Path, peak: int, channels: int) -> Path:
    """A TIFF of 16 bits whose colours are 0 and `peak`, opaque where it has alpha."""
    pixels = np.zeros((4, 4, channels), np.uint16)
    pixels[0] = peak
    if channels == 4:
        pixels[..., 3] = 65535
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"] if channels == 4 else None)
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_what_eight_bits_would_leave_a_few_levels_of_is_refused(tmp_path: Path, channels: int) -> None:
    """The accident: X-rays of 12 bits in files of 16 are learnt from as 16 shades of black, and nobody is told."""
    faint = deep(tmp_path / "xray.tif", 4095, channels)
    with pytest.raises(
        ImageError, match=r"xray\.tif: expected 16-bit .* got at most 4095 of 65535; scale all pictures"
    ):
        read_pixels(faint)
    (note,) = [note for note in read_image(faint).meta.notes if "eighth" in note]
    assert "scale them first" in note
    for peak in (0, 8192):
        path = deep(tmp_path / f"{peak}.tif", peak, channels)
        assert read_pixels(path)[0, 0, 0] == peak // 256, "black is black, and a dark photograph a photograph"
        assert not any("eighth" in note for note in read_image(path).meta.notes)


@pytest.mark.parametrize("sign", [1, -1])
def test_faint_floats_are_refused_and_noted(tmp_path: Path, sign: int) -> None:
    """The accident: a diffusion map of 0 to 0.003 is learnt from as black, and comes back noisier than it was."""
    faint = tmp_path / "adc.tif"
    tifffile.imwrite(faint, sign * np.linspace(0, 0.003, 20, dtype=np.float32).reshape(4, 5))
    with pytest.raises(ImageError, match=r"adc\.tif: expected float .* got at most 0\.003 of 1; scale all pictures"):
        read_pixels(faint)
    assert sum("float values use less than an eighth" in note for note in read_image(faint).meta.notes) == 1
    for peak in (0, 0.2):
        tifffile.imwrite(faint, np.linspace(0, peak, 20, dtype=np.float32).reshape(4, 5))
        assert read_pixels(faint).max() == round(peak * 255)
        assert not read_image(faint).meta.notes


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_what_eight_bits_would_clip_is_refused(tmp_path: Path, dtype: type) -> None:
    """The accident: a data set of CT slices becomes white with black holes, and nobody is told."""
    tifffile.imwrite(tmp_path / "slice.tif", np.array([[-1000, 40, 1040]], dtype))
    with pytest.raises(ImageError, match=r"slice\.tif: expected float pixels in \[0, 1\], got -1000 to 1040; scale"):
        read_pixels(tmp_path / "slice.tif")
