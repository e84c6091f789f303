"""Blur that was put in is found again with its direction, and sharp photographs with soft parts are not blurred."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.estimate.blur import edge_blur
from imagesmith.estimate.patches import smoothed


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A sharp photograph (1, 256, 256) with a blurred background."""
    gray = torch.from_numpy(data.astronaut().mean(axis=2)).float() / 255
    return torch.nn.functional.avg_pool2d(gray[None], 2)


def moved(image: Tensor, pixels: int, axis: int) -> Tensor:
    return torch.stack([image.roll(k, axis) for k in range(pixels)]).mean(dim=0)


def test_a_sharp_photo_is_sharp(photo: Tensor) -> None:
    """The accident: every portrait sharpened for the blur behind the face."""
    blur = edge_blur(photo)
    assert blur is not None
    assert blur.widest < 1.1


def test_gaussian_blur_is_measured(photo: Tensor) -> None:
    """The accident: a width off by half, so that clean photos are mended or blurred ones are left."""
    blur = edge_blur(smoothed(photo[0], 2.0)[None])
    assert blur is not None
    assert 1.6 < blur.narrowest <= blur.widest < 2.8


@pytest.mark.parametrize(("axis", "angle"), [(2, 0.0), (1, 90.0)])
def test_the_direction_of_a_motion_is_told(photo: Tensor, axis: int, angle: float) -> None:
    """The accident: a motion blur that passes for sharp, because the edges along it are."""
    blur = edge_blur(moved(photo, 9, axis))
    assert blur is not None
    assert blur.widest > 1.6
    assert blur.widest > 1.5 * blur.narrowest
    assert min(abs(blur.angle - angle), 180 - abs(blur.angle - angle)) <= 25


def test_where_there_are_no_edges_nothing_is_told() -> None:
    """The accident: a clear sky that is 'completely blurred'."""
    assert edge_blur(torch.full((3, 100, 100), 0.5)) is None
    assert edge_blur(torch.linspace(0, 1, 200).expand(1, 200, 200)) is None
    assert edge_blur(torch.rand(1, 20, 300)) is None, "too low to tell"
