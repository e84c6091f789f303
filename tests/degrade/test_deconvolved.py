"""What a deblurring network is told in training: deconvolution with a kernel that is about right, most of the time."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.degrade import Chain, build_degradation
from imagesmith.degrade.deconvolved import Deconvolved
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for

SHAKE = {"name": "motion_blur", "options": {"length": [7, 11]}}
NOISE = {"name": "gaussian_noise", "options": {"sigma": [2, 2]}}


@pytest.fixture(scope="module")
def shaken() -> Deconvolved:
    return Deconvolved(Chain(tuple(build_degradation(**part) for part in (SHAKE, NOISE))))


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return torch.from_numpy(data.astronaut()[20:190, 130:310].copy()).permute(2, 0, 1) / 255


def db(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a.clamp(0, 1) - b).square().mean().log10())


def test_most_are_told_more_than_they_see_and_some_nothing_or_wrong(shaken: Deconvolved, photo: Tensor) -> None:
    """Told the truth alone, a network would believe any kernel; told nothing, it could make no first guess."""
    made = [shaken(photo, generator_for(seed)) for seed in range(100)]
    unknown = [x for x in made if torch.equal(x[3:6], x[:3])]
    assert 5 <= len(unknown) <= 30
    gains = [db(x[3:6, 40:-40, 40:-40], photo[:, 40:-40, 40:-40]) - db(x[:3, 40:-40, 40:-40], photo[:, 40:-40, 40:-40])
             for x in made if not torch.equal(x[3:6], x[:3])]  # fmt: skip
    assert sum(gain > 1 for gain in gains) > 0.7 * len(gains)
    assert min(gains) < 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (48, 60)])
def test_any_size_and_draws_that_depend_on_the_seed_alone(
    shaken: Deconvolved, channels: int, size: tuple[int, int]
) -> None:
    image = torch.rand(channels, *size, generator=generator_for(1))
    for seed in range(8):
        made = shaken(image, generator_for(seed))
        assert made.shape == (channels + shaken.planes, *size)
        assert torch.isfinite(made).all()
        assert torch.equal(made, shaken(image, generator_for(seed)))


def test_what_changes_the_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="parts that keep size and channels"):
        Deconvolved(Chain((build_degradation("bicubic", {"scale": 2}),)))
