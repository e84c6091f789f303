"""What lies beyond a picture's edge."""

import numpy as np
import pytest
import torch

from imagesmith.tensors.edges import mirrored, mirrored_crop, mirrored_indices


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (10, 12)])
def test_mirroring_is_numpys_reflect(size):
    """An edge repeated twice is a line that no picture has; a small picture must be mirrored more than once."""
    for image in (torch.rand(3, *size), torch.rand(2, 3, *size).double(), torch.arange(size[0] * size[1]).view(size)):
        borders = [(0, 0)] * (image.ndim - 2) + [(4, 9), (2, 11)]
        expected = np.pad(image.numpy(), borders, mode="reflect" if min(size) > 1 else "edge")
        assert np.array_equal(mirrored(image, left=2, right=11, top=4, bottom=9), expected)


def test_indices_start_anywhere():
    """A run within the picture is itself."""
    assert mirrored_indices(10, 3, 4).tolist() == [3, 4, 5, 6]
    assert mirrored_indices(4, -2, 8).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


@pytest.mark.parametrize(("top", "left"), [(2, 1), (-3, 1), (2, 5), (-12, 20)])
def test_a_crop_is_that_of_the_mirrored_picture(top, left):
    """Wherever it begins."""
    image = torch.rand(3, 9, 8)
    whole = mirrored(image, 30, 30, 30, 30)
    expected = whole[:, 30 + top : 30 + top + 5, 30 + left : 30 + left + 6]
    assert torch.equal(mirrored_crop(image, top, left, 5, 6), expected)
