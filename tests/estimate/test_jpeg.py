"""The grid, the quality and the noise before a compression, from pixels alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from imagesmith.estimate.jpeg import find_grid, luma_table, noise_before, quality_of_tables


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A clean photograph, uint8 (200, 300, 3)."""
    return np.array(Image.fromarray(data.coffee()).reduce(2))


def compressed(photo: np.ndarray, quality: int) -> tuple[Tensor, dict]:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as file:
        return torch.from_numpy(np.array(file)).permute(2, 0, 1) / 255, file.quantization


@pytest.mark.parametrize("quality", [10, 40, 75, 90])
def test_the_quality_is_found_in_pixels_and_tables(photo: np.ndarray, quality: int) -> None:
    """The accident: a file saved once more as PNG counts as clean, or its quality is guessed at half the true one."""
    image, tables = compressed(photo, quality)
    assert quality_of_tables(tables[0]) == quality
    grid = find_grid(image)
    assert grid is not None
    assert grid.quality == pytest.approx(quality, abs=2)
    assert (grid.top, grid.left) == (0, 0)


def test_a_cropped_file_keeps_its_grid(photo: np.ndarray) -> None:
    """The accident: every screenshot of a JPEG looks clean because its blocks begin elsewhere."""
    grid = find_grid(compressed(photo, 30)[0][:, 3:, 5:])
    assert grid is not None
    assert (grid.top, grid.left) == (5, 3)


def test_what_was_never_compressed_has_no_grid(photo: np.ndarray) -> None:
    """The accident: clean photos repaired for a damage that they do not have."""
    image = torch.from_numpy(photo).permute(2, 0, 1) / 255
    assert find_grid(image) is None
    assert find_grid(torch.full((3, 64, 64), 0.5)) is None
    assert find_grid(torch.rand(1, 9, 400)) is None
    assert find_grid(compressed(photo, 30)[0][:, ::2, ::2]) is None, "shrinking wipes the grid out"


def test_noise_under_the_compression_shows(photo: np.ndarray) -> None:
    """The accident: a noisy photo that went through the web counts as merely compressed."""
    grain = np.random.default_rng(0).normal(0, 20, photo.shape)
    image, _ = compressed((photo + grain).clip(0, 255).astype(np.uint8), 70)
    grid = find_grid(image)
    assert grid is not None
    assert noise_before(image, grid) > 7
    image, _ = compressed(photo, 70)
    assert noise_before(image, find_grid(image) or grid) < 4


def test_the_tables_are_libjpegs(photo: np.ndarray) -> None:
    """The accident: a typing error among 64 numbers."""
    for quality in range(1, 101):
        assert luma_table(quality).tolist() == compressed(photo, quality)[1][0]
