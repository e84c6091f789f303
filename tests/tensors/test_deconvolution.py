"""Kernels between pictures, and taking blur back."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.degrade.blur import MotionBlur, filtered
from imagesmith.tensors import generator_for
from imagesmith.tensors.deconvolution import (
    FILTER_REACH_PX,
    KERNEL_REACH_PX,
    deconvolution_planes,
    deconvolved,
    fading,
    gradients,
    kernel_between,
    kernel_spectrum,
)

SIDE = 2 * KERNEL_REACH_PX + 1


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A real photograph in [0, 1], (3, 200, 240)."""
    return torch.from_numpy(data.astronaut()[20:220, 100:340].copy()).permute(2, 0, 1) / 255


def shake(seed: int) -> Tensor:
    """A kernel (19, 19) with its centre of mass in the middle."""
    drawn = MotionBlur((7, 10)).kernel(generator_for(seed))
    kernel, border = torch.zeros(SIDE, SIDE), KERNEL_REACH_PX - len(drawn) // 2
    kernel[border : SIDE - border, border : SIDE - border] = drawn
    return kernel


def db(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a.clamp(0, 1) - b).square().mean().log10())


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_between_a_picture_and_its_blurred_version_is_found(photo: Tensor, seed: int) -> None:
    kernel = shake(seed)
    blurred = filtered(photo, kernel) + 2 / 255 * torch.randn(photo.shape, generator=generator_for(seed))
    gray = [x.mean(0, keepdim=True) for x in (blurred, photo)]
    found = kernel_between(gray[0], gradients(gray[1]), fading(photo.shape[-2:], 20))
    assert found.shape == (SIDE, SIDE)
    assert found.min() >= 0
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert float((found * kernel).sum() / found.norm() / kernel.norm()) > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_what_a_known_kernel_took_away_comes_back(photo: Tensor, seed: int) -> None:
    """And from where it was: a kernel that is off its middle does not move the picture."""
    kernel = shake(seed)
    blurred = filtered(photo, kernel) + 2 / 255 * torch.randn(photo.shape, generator=generator_for(seed))
    mended = deconvolved(blurred, kernel, 0.01)
    assert db(mended, photo) > db(blurred, photo) + 2.5
    assert torch.allclose(deconvolved(blurred, kernel.roll((2, -3), (0, 1)), 0.01), mended, atol=1e-4)


def test_pieces_are_those_of_the_whole(photo: Tensor) -> None:
    """Tiles would show as seams, and films as large as memory could not be mended."""
    kernel, reach = shake(1), FILTER_REACH_PX
    whole = deconvolved(photo, kernel, 0.002)
    piece = deconvolved(photo[:, 40:190, 60:220], kernel, 0.002)
    inner = piece[:, reach:-reach, reach:-reach]
    assert torch.allclose(inner, whole[:, 40 + reach : 190 - reach, 60 + reach : 220 - reach], atol=1e-5)


def test_nothing_to_find_is_one_point() -> None:
    """A black or an even picture must not become NaN."""
    for level in (0.0, 0.7):
        even = torch.full((1, 40, 50), level)
        found = kernel_between(even, gradients(even), fading((40, 50), 20))
        assert float(found[KERNEL_REACH_PX, KERNEL_REACH_PX]) == 1
        assert torch.allclose(deconvolved(even, found, 0.01), even, atol=1e-4)


def test_islands_are_noise() -> None:
    """A second path far from the first is a mistake of the search, and doubles every edge."""
    image = torch.rand(1, 120, 120, generator=generator_for(3))
    kernel = torch.zeros(SIDE, SIDE)
    kernel[9, 5:14], kernel[2, 2] = 1, 0.6
    blurred = filtered(image, kernel / kernel.sum())
    found = kernel_between(blurred, gradients(image), fading((120, 120), 20))
    assert int((found > 0).sum()) == 9


def test_planes_are_rgb_and_the_picture_where_no_kernel_is_known(photo: Tensor) -> None:
    assert torch.equal(deconvolution_planes(photo, None), photo.repeat(2, 1, 1))
    gray = deconvolution_planes(photo[:1], shake(0))
    assert gray.shape == (6, *photo.shape[1:])
    assert torch.equal(gray[0], gray[2])


def test_a_spectrum_is_that_of_the_convolution(photo: Tensor) -> None:
    kernel, image = shake(2), torch.zeros(64, 64)
    image[32, 32] = 1
    seen = torch.fft.irfft2(torch.fft.rfft2(image) * kernel_spectrum(kernel, 64, 64), s=(64, 64))
    assert torch.allclose(seen[23:42, 23:42], kernel, atol=1e-3)


def test_a_long_kernel_does_not_reach_around_its_border(photo: Tensor) -> None:
    """The accident: a kernel moved into the middle, whose end leaves at one side and comes back at the other."""
    kernel = torch.zeros(SIDE, SIDE)
    kernel[SIDE // 2] = torch.linspace(0.1, 1, SIDE)
    kernel /= kernel.sum()
    found = kernel_between(filtered(photo, kernel).mean(0, keepdim=True), gradients(photo.mean(0, keepdim=True)), 1)
    row = found[SIDE // 2]
    assert row[row > 0].diff().min() > -0.01
