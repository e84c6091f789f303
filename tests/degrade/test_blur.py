"""Kernels of blur, and filtering with them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from imagesmith.degrade.blur import DefocusBlur, GaussianBlur, MotionBlur, filtered
from imagesmith.tensors import generator_for


@pytest.mark.parametrize("blur", [MotionBlur(), MotionBlur((1, 1)), GaussianBlur((0.0, 4.0)), DefocusBlur((0.0, 6.0))])
def test_kernels_are_normalised_and_fit_the_context(blur):
    """A kernel of another sum brightens the picture; one that reaches beyond the context makes edges lie."""
    for seed in range(40):
        kernel = blur.kernel(generator_for(seed))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.shape[0] // 2 <= blur.context_px
        assert kernel.min() >= 0
        assert float(kernel.double().sum()) == pytest.approx(1, abs=1e-6)


def _centre_and_spread(kernel):
    """Centre of mass (row, column) from the middle, and the variances across and along its main direction."""
    points = torch.nonzero(kernel > 0).double() - kernel.shape[0] // 2
    weights = kernel[kernel > 0].double()
    return (points * weights[:, None]).sum(0), torch.linalg.eigvalsh((points * weights[:, None]).T @ points)


def test_shaken_paths_keep_the_picture_in_place_and_their_length():
    """A kernel off its middle moves the picture, and the network is trained to move it back; a longer one than asked
    for makes a protocol that says '15 px' untrue."""
    across = []
    for seed in range(60):
        kernel = MotionBlur((9, 9), share_straight=0).kernel(generator_for(seed))
        centre, spread = _centre_and_spread(kernel)
        assert centre.abs().max() < 1e-3
        extent = float(torch.pdist(torch.nonzero(kernel > 1e-6).double()).max())
        assert 8 <= extent <= 8 + 2 * 2**0.5  # each end spreads over its neighbours
        across.append(float(spread[0]))
    assert sorted(across)[30] > 0.4, "half of the paths are nearly straight lines"


def test_straight_lines_are_straight():
    """`share_straight` that is not obeyed would train on shakes alone."""
    for seed in range(20):
        _, spread = _centre_and_spread(MotionBlur((11, 11), share_straight=1).kernel(generator_for(seed)))
        assert spread[0] < 0.35
        assert spread[1] == pytest.approx(10**2 / 12, abs=1)


def test_gaussian_and_disc_have_their_width():
    """A width in another unit than it says would make every protocol line wrong."""
    kernel = GaussianBlur((2, 2), anisotropic=0).kernel(generator_for(0)).double()
    steps = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    assert float((kernel.sum(0) * steps**2).sum() ** 0.5) == pytest.approx(2, rel=0.03)
    disc = DefocusBlur((4, 4)).kernel(generator_for(0)).double()
    assert 1 / float(disc.max()) == pytest.approx(np.pi * 4**2, rel=0.02)


@pytest.mark.parametrize("shape", [(3, 40, 50), (1, 40, 50), (3, 3, 2)])
def test_filtering_is_convolution_with_mirrored_edges(shape):
    """A correlation in its place would mirror every kernel; a picture smaller than the kernel must still work."""
    image = torch.rand(shape, generator=generator_for(1))
    kernel = MotionBlur((7, 7), share_straight=0).kernel(generator_for(3))
    expected = [ndimage.convolve(channel, kernel.double().numpy(), mode="mirror") for channel in image.double().numpy()]
    assert torch.allclose(filtered(image, kernel).double(), torch.tensor(np.stack(expected)), atol=2e-6)
