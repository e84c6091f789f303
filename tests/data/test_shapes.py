"""Every picture comes to one shape: the right one for the data, around its middle, without moire or dark fringes."""

import numpy as np
import pytest

from imagesmith.data.shapes import BASES, as_channels, choose_size, fit


@pytest.mark.parametrize(
    ("height", "width", "most_px", "expected"),
    [
        (128, 128, 128, (128, 128)),
        (128, 128, 64, (64, 64)),
        (28, 28, 128, (28, 28)),
        (32, 32, 128, (32, 32)),
        (100, 100, 128, (96, 96)),
        (321, 481, 128, (80, 128)),
        (481, 321, 128, (128, 80)),
        (1080, 1920, 256, (160, 256)),
        (500, 4000, 128, (48, 128)),
        (512, 1024, 64, (32, 64)),
        (80, 128, 64, (40, 64)),
        (4, 4, 128, (6, 6)),
    ],
)
def test_the_size_fits_the_data(height: int, width: int, most_px: int, expected: tuple[int, int]) -> None:
    """A wide set squeezed into a square, or a small one blown up, wastes the network on what is not in the data."""
    chosen = choose_size([(height, width)] * 3, most_px=most_px)
    assert (chosen.height, chosen.width) == expected
    assert f"{width}x{height}" in chosen.reason
    assert max(expected) <= most_px


def test_every_size_can_be_reached_by_doubling() -> None:
    """A size that no network can make is refused only after the data set is decoded."""
    for height in range(8, 300, 7):
        for width in (20, 64, 133, 250):
            chosen = choose_size([(height, width)], most_px=256)
            assert any(
                chosen.height % (1 << k) == 0 and chosen.height >> k in BASES
                and chosen.width % (1 << k) == 0 and chosen.width >> k in BASES
                for k in range(1, 9)
            ), (height, width, chosen)  # fmt: skip


def test_one_odd_picture_does_not_choose() -> None:
    """A single panorama or thumbnail in a folder of portraits."""
    chosen = choose_size([(200, 100)] * 9 + [(10, 900)], most_px=64)
    assert chosen.height > chosen.width


def test_the_middle_is_kept() -> None:
    """Heads cut off, or everything moved by the crop."""
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = 200
    square = fit(pixels, (20, 20))
    assert square.shape == (20, 20, 3)
    assert square.min() > 180  # at the sides, the filter sees a little of what is cut off
    assert np.array_equal(fit(pixels, (40, 100)), pixels)


def test_shrinking_is_antialiased() -> None:
    """Taking every eighth pixel of fine stripes gives coarse stripes that are not in the picture."""
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(fit(stripes, (8, 8)).astype(int) - 100).max() <= 5


def test_resizing_weighs_colour_by_alpha() -> None:
    """The black under transparent pixels makes a dark fringe around every object."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = (250, 100, 50, 255)
    small = fit(pixels, (6, 6))
    seen = small[small[..., 3] > 30]
    assert np.abs(seen[:, :3].astype(int) - (250, 100, 50)).max() <= 4


@pytest.mark.parametrize("has", [1, 2, 3, 4])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4])
def test_channels_change_as_said(has: int, wanted: int) -> None:
    """Channels dropped or repeated in the wrong place show as tinted or see-through pictures."""
    pixels = np.full((2, 3, has), 60, np.uint8)
    if has in (2, 4):
        pixels[..., -1] = [255, 0, 255]
    made = as_channels(pixels, wanted)
    assert made.shape == (2, 3, wanted)
    assert made.dtype == np.uint8
    colour = made[..., :1] if wanted <= 2 else made[..., :3]
    hidden = 255 if has in (2, 4) and wanted in (1, 3) else 60
    assert colour[:, [0, 2]].reshape(-1).tolist() == [60] * colour[:, [0, 2]].size
    assert np.unique(colour[:, 1]).tolist() == [hidden]
    if wanted in (2, 4):
        assert made[0, :, -1].tolist() == ([255, 0, 255] if has in (2, 4) else [255] * 3)
