"""Counting the modes of StackedMNIST."""

import math

import pytest
import torch
from torch import nn

from imagesmith.metrics.modes import STACKED_SAMPLES, modes_of, name_channels, stack_digits, stacked_modes


def uniform(count: int) -> torch.Tensor:
    return torch.randint(10, (count, 3), generator=torch.Generator().manual_seed(4))


def test_perfect_images_have_every_mode_and_the_divergence_of_their_number():
    """A table that calls 0.02 nats a defect of the generator asks for less than real data have."""
    modes, kl = stacked_modes(uniform(STACKED_SAMPLES))
    assert modes == 1000
    assert kl == pytest.approx(999 / (2 * STACKED_SAMPLES), rel=0.1)


def test_every_mode_equally_often_is_no_divergence():
    each = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert stacked_modes(each.repeat(2, 1)) == (1000, pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("modes", [1, 8, 250])
def test_collapse_shows_in_both_numbers(modes: int):
    """A divergence taken the wrong way round is infinite as soon as one mode is missing."""
    digits = torch.cartesian_prod(*[torch.arange(10)] * 3)[:modes]
    assert stacked_modes(digits.repeat(30, 1)) == (modes, pytest.approx(math.log(1000 / modes)))


def test_the_mode_reads_the_channels_in_order():
    """Modes summed instead of read as a number fall together: 28 of them instead of 1000."""
    assert modes_of(torch.tensor([[0, 0, 7], [1, 2, 3], [9, 9, 9]])).tolist() == [7, 123, 999]


class ByBrightness(nn.Module):
    """Sees the digit d in an image of brightness d / 10."""

    size = (5, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[1:] == (1, *self.size)
        return -(image.mean(dim=(1, 2, 3))[:, None] * 10 - torch.arange(10)).abs()


def test_stacked_digits_are_named_as_they_were_stacked():
    """Channels of one image mixed with those of its neighbour give all modes, whatever was generated."""
    labels = torch.arange(10)
    digits = (labels / 10).view(-1, 1, 1, 1).expand(-1, 1, 5, 4)
    images, modes = stack_digits(digits, labels, 400, seed=3)
    assert images.shape == (400, 3, 5, 4)
    named = name_channels(ByBrightness(), images, batch=77)
    assert torch.equal(modes_of(named), modes)
    assert torch.equal(name_channels(ByBrightness(), nn.functional.pad(images, (2, 3, 1, 1))), named)
    assert len(modes.unique()) > 250
    assert torch.equal(stack_digits(digits, labels, 400, seed=3)[0], images)
    assert not torch.equal(stack_digits(digits, labels, 400, seed=4)[1], modes)
