"""The kernel of a shake, found in the blurred picture with a rough guess at the sharp one."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.degrade.blur import GaussianBlur, MotionBlur, filtered
from imagesmith.estimate.shake import blur_kernel, first_kernels
from imagesmith.tensors import generator_for
from imagesmith.tensors.deconvolution import deconvolved


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A real photograph in [0, 1], (3, 240, 320)."""
    return torch.from_numpy(data.astronaut()[:240, 100:420].copy()).permute(2, 0, 1) / 255


def db(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a.clamp(0, 1) - b).square().mean().log10())


@pytest.mark.parametrize("seed", range(3))
def test_a_rough_guess_is_enough(photo: Tensor, seed: int) -> None:
    """A guess as a network makes it: less blurred than the picture, but far from sharp."""
    rng = generator_for(seed)
    blurred = filtered(photo, MotionBlur((9, 11)).kernel(rng))
    blurred = (blurred + 2 / 255 * torch.randn(photo.shape, generator=rng)).clamp(0, 1)
    guess = filtered(photo, GaussianBlur((1.2, 1.2), anisotropic=0).kernel(rng))
    mended = deconvolved(blurred, blur_kernel(blurred, guess), 0.01)
    assert db(mended, photo) > db(blurred, photo) + 2.5


def test_a_sharp_picture_is_left_alone(photo: Tensor) -> None:
    """A kernel where there was no blur would sharpen what is sharp."""
    kernel = blur_kernel(photo, photo)
    assert float(kernel.max()) > 0.7
    assert db(deconvolved(photo, kernel, 0.01), photo) > 30


@pytest.mark.parametrize("seed", range(3))
def test_edges_alone_are_a_beginning(photo: Tensor, seed: int) -> None:
    """Nothing is known at first; what the network then makes of it must be a better guess than the blurred picture."""
    rng = generator_for(seed)
    blurred = filtered(photo, MotionBlur((9, 11), share_straight=1).kernel(rng))
    blurred = (blurred + 2 / 255 * torch.randn(photo.shape, generator=rng)).clamp(0, 1)
    found = [db(deconvolved(blurred, kernel, 0.01), photo) for kernel in first_kernels(blurred)]
    assert max(found) > db(blurred, photo) + 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 5)])
def test_pictures_of_any_size_have_a_kernel(size: tuple[int, int]) -> None:
    image = torch.rand(1, *size, generator=generator_for(0))
    for kernel in (blur_kernel(image, image), *first_kernels(image)):
        assert torch.isfinite(kernel).all()
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
