"""Noise has the strength that it says."""

import pytest
import torch

from imagesmith.degrade.noise import GaussianNoise, PoissonGaussianNoise
from imagesmith.tensors import generator_for


def _spread(part, level, seed=0):
    return float((part(torch.full((1, 128, 128), level), generator_for(seed)) - level).std())


def test_gaussian_noise_has_its_sigma_in_grey_levels():
    """A sigma in another unit makes a network for other noise than the protocol's."""
    assert _spread(GaussianNoise((25, 25), rounded=0), 0.5) * 255 == pytest.approx(25, rel=0.03)


def test_shot_noise_grows_with_the_light_and_read_noise_does_not():
    """Noise of one strength everywhere is what no camera has."""
    shot = PoissonGaussianNoise(shot=(0.004, 0.004), read=(0, 0), rounded=0)
    for level in (0.1, 0.8):
        assert _spread(shot, level) == pytest.approx((0.004 * level) ** 0.5, rel=0.05)
    read = PoissonGaussianNoise(shot=(0, 0), read=(8, 8), rounded=0)
    for level in (0.1, 0.8):
        assert _spread(read, level) * 255 == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("kind", [GaussianNoise, PoissonGaussianNoise])
def test_rounded_noise_is_what_an_8_bit_file_holds(kind):
    """Files hold neither 300 nor 127.4; a network that only saw those fails at black and white."""
    noisy = kind(rounded=1)(torch.rand(3, 40, 40, generator=generator_for(0)), generator_for(3))
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert torch.allclose(noisy * 255, (noisy * 255).round(), atol=1e-4)
