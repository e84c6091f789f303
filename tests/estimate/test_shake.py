"""The kernel of a shake, found in the blurred picture with a rough guess at the sharp one."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.degrade.blur import GaussianBlur, MotionBlur, filtered
from imagesmith.estimate.shake import blur_kernel, edge_softness, first_kernels
from imagesmith.tensors import generator_for, imresize
from imagesmith.tensors.deconvolution import deconvolved, kernel_spectrum


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


def a_shake() -> Tensor:
    """A kernel that no lens has."""
    return MotionBlur((11, 13)).kernel(generator_for(0))


def test_photographs_that_were_enlarged_have_soft_edges(photo: Tensor) -> None:
    softness = [edge_softness(imresize(photo, factor), a_shake()) for factor in (1.0, 1.3, 1.6)]
    assert softness == sorted(softness)
    assert softness[-1] > softness[0] + 0.3


def test_what_a_lens_does_is_all_blur(photo: Tensor) -> None:
    """The accident: of a picture out of focus half of the blur was left, as if its edges had always been soft."""
    soft = imresize(photo, 1.6)
    for kernel in (GaussianBlur((1.5, 1.5)).kernel(generator_for(0)), torch.ones(1, 1)):
        assert edge_softness(soft, kernel) == 0
    assert edge_softness(soft, a_shake()) > 0.3


@pytest.mark.parametrize("image", [torch.full((3, 40, 50), 0.5), torch.rand(1, 1, 9), torch.zeros(3, 3, 3)])
def test_where_nothing_tells_of_edges_they_are_steps(image: Tensor) -> None:
    assert edge_softness(image, a_shake()) == 0


@pytest.mark.parametrize("seed", range(2))
def test_soft_edges_are_not_taken_for_a_part_of_the_blur(photo: Tensor, seed: int) -> None:
    """The accident: kernels of soft photographs came out too wide, and what they mended to was too sharp."""
    rng = generator_for(seed)
    soft = imresize(photo, 1.6).clamp(0, 1)
    kernel = MotionBlur((9, 11)).kernel(rng)
    blurred = (filtered(soft, kernel) + 2 / 255 * torch.randn(soft.shape, generator=rng)).clamp(0, 1)
    wanted = kernel_spectrum(kernel, 64, 64)
    of_steps, of_soft = (
        float((kernel_spectrum(blur_kernel(blurred, soft, softness_px=px), 64, 64) - wanted).abs().mean())
        for px in (0.0, edge_softness(soft, kernel))
    )
    assert of_soft < 0.8 * of_steps
