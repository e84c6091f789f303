"""What lies beyond a picture's edge."""

import numpy as np
import pytest
import torch

from imagesmith.tensors.edges import mirrored, mirrored_indices


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5)])
def test_mirroring_is_numpys_reflect(size):
    """An edge repeated twice is a line that no picture has; a small picture must be mirrored more than once."""
    image = torch.rand(3, *size)
    expected = np.pad(image.numpy(), ((0, 0), (4, 9), (2, 11)), mode="reflect" if min(size) > 1 else "edge")
    assert np.array_equal(mirrored(image, left=2, right=11, top=4, bottom=9), expected)


def test_indices_start_anywhere():
    """A run within the picture is itself."""
    assert mirrored_indices(10, 3, 4).tolist() == [3, 4, 5, 6]
    assert mirrored_indices(4, -2, 8).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
