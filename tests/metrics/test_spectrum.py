"""The spectrum distance: blind to where detail is, honest about how much of it there is at each frequency."""

import math

import numpy as np
import pytest
import torch
from skimage import data

from imagesmith.errors import ImageError
from imagesmith.metrics.spectrum import _log_spectrum, spectrum_distance
from imagesmith.tensors import imresize


def noise(seed: int, sigma: float, height: int = 96, width: int = 128) -> torch.Tensor:
    """Gray noise around the middle, of `sigma` grey levels."""
    rng = torch.Generator().manual_seed(seed)
    return (0.5 + sigma / 255 * torch.randn(1, 1, height, width, generator=rng, dtype=torch.float64)).clamp(0, 1)


def distance(restored: torch.Tensor, target: torch.Tensor, crop: int = 0) -> float:
    return float(spectrum_distance(restored, target, crop))


def test_detail_in_other_places_counts_as_the_same_detail():
    """The accident: a metric of sharpness that is PSNR in disguise punishes what an adversarial network is for."""
    assert distance(noise(1, 20), noise(2, 20)) < 0.1
    assert distance(torch.full_like(noise(1, 20), 0.5), noise(2, 20)) > 2


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_twice_the_amplitude_is_four_times_the_power(factor: float):
    """The accident: amplitude or natural logarithm instead of power and log10, and no number can be compared."""
    assert distance(noise(1, 10 * factor), noise(1, 10)) == pytest.approx(math.log10(4), abs=0.03)


def test_one_frequency_lies_in_its_ring():
    """The accident: rings are counted in pixels of one side, and a wide picture's spectrum is smeared."""
    for height, width, axis in ((64, 96, 0), (64, 96, 1), (96, 64, 1), (65, 97, 0)):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        wave = 128 + 50 * torch.cos(2 * math.pi * (rows, columns)[axis].double() / 8)
        ring = int(_log_spectrum(wave[None, None])[0].argmax()) + 1
        assert ring == round(2 * (min(height, width) // 2) / 8)


def test_parseval():
    """The accident: half of the plane is counted once instead of twice, or the window's power is forgotten."""
    levels = 128 + 20 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    power = 10 ** _log_spectrum(levels)
    assert float(power.mean()) == pytest.approx(400, rel=0.05)


def test_a_photograph_blurred_by_enlarging_is_far_and_farther_the_more():
    photo = torch.from_numpy(np.ascontiguousarray(data.astronaut()[:192, :192])).permute(2, 0, 1)[None] / 255
    found = [distance(imresize(imresize(photo[0], 1 / scale), scale)[None], photo, 4) for scale in (2, 3, 4)]
    assert found == sorted(found)
    assert 0.3 < found[0] < found[-1] < 3


def test_flat_pictures_have_a_distance():
    """The accident: the logarithm of no power at all."""
    flat = torch.full((1, 3, 32, 32), 0.5)
    assert distance(flat, flat) == 0
    assert math.isfinite(distance(flat, torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))))


def test_a_picture_too_small_for_rings_is_said():
    with pytest.raises(ImageError, match=r"at least 16x16 pixels after cropping 4.*got 14x20"):
        spectrum_distance(torch.zeros(1, 3, 28, 22), torch.zeros(1, 3, 28, 22), 4)
