"""Noise levels that were put in are found again, and texture is not taken for noise."""

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.estimate.noise import noise_curve, noise_sigma


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A clean photograph (3, 200, 300): shrunk, so that nothing of its camera is left."""
    image = torch.from_numpy(np.array(data.coffee())).permute(2, 0, 1)[None] / 255
    return torch.nn.functional.interpolate(image, (200, 300), mode="area")[0]


def noisy(image: Tensor, sigma: float) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return ((image + torch.randn(image.shape, generator=rng) * sigma / 255) * 255).round().clamp(0, 255) / 255


@pytest.mark.parametrize("sigma", [5, 15, 30])
def test_white_noise_is_measured(photo: Tensor, sigma: float) -> None:
    """The accident: an estimate off by a third sends clean photos through a denoiser, or leaves noisy ones."""
    assert noise_sigma(noisy(photo, sigma)) == pytest.approx(sigma, rel=0.15)
    assert noise_sigma(noisy(photo[:1], sigma)) == pytest.approx(sigma, rel=0.35)


def test_a_clean_photo_has_none(photo: Tensor) -> None:
    """The accident: fur and foliage counted as noise, and smoothed away."""
    assert noise_sigma(photo) < 2
    grass = torch.from_numpy(np.array(data.grass()))[None] / 255
    assert noise_sigma(grass.expand(3, -1, -1)) < 12


def test_what_is_too_small_or_flat_has_none() -> None:
    """The accident: an icon that ends in an empty matrix."""
    for shape in ((3, 1, 1), (1, 8, 300), (3, 12, 12), (3, 64, 64)):
        assert noise_sigma(torch.full(shape, 0.5)) == 0
        assert noise_sigma(torch.ones(shape)) == 0
        assert noise_curve(torch.full(shape, 0.5)).gain == 0


def test_the_noise_of_a_sensor_grows_with_light() -> None:
    """The accident: a recipe with white noise for a camera whose shadows are clean."""
    light = torch.linspace(0.1, 0.9, 400).expand(3, 300, 400)
    rng = torch.Generator().manual_seed(1)
    grain = torch.randn(light.shape, generator=rng)
    curve = noise_curve(light + grain * (0.004 * light + 0.01**2).sqrt())
    assert curve.gain == pytest.approx(0.004, rel=0.2)
    assert curve.floor == pytest.approx(0.01, abs=0.008)
    even = noise_curve(light + 0.05 * grain)
    assert even.gain < 0.001
    assert even.floor == pytest.approx(0.05, rel=0.1)
