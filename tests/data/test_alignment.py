"""Displacement between two pictures: known ones are found, damage is not taken for one."""

import math

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.configs import recipe
from imagesmith.data.alignment import displacement
from imagesmith.degrade import build_degradation
from imagesmith.tensors import generator_for, imresize


def gray(image) -> Tensor:
    return torch.from_numpy(image.copy()).float().mean(dim=2) / 255


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-7, 0), (0, 11)])
def test_whole_pixels_are_found(down: int, right: int):
    photo = gray(data.coffee())
    inside = photo[20:220, 20:320]
    moved = photo[20 - down : 220 - down, 20 - right : 320 - right]
    assert displacement(moved, inside) == pytest.approx((down, right, 1), abs=0.1)


def test_half_a_pixel_is_found():
    """Resizing tools that disagree about the middle of a pixel shift by half of one, and whoever learns from that blurs."""
    photo = gray(data.astronaut())
    half = displacement(imresize(photo[2:402, 2:402], 0.5), imresize(photo[1:401, 1:401], 0.5))
    assert half[:2] == pytest.approx((-0.5, -0.5), abs=0.05)


@pytest.mark.parametrize(
    "damage",
    [
        "gaussian_noise:sigma=[50,50]",
        "jpeg:quality=[8,8]",
        "gaussian_blur:sigma=[3,3]",
        "poisson_gaussian_noise:shot=[0.02,0.02]",
    ],
)
def test_damage_displaces_nothing(damage: str):
    (part,) = recipe(damage)
    photo = torch.from_numpy(data.chelsea()[:256, :256].copy()).permute(2, 0, 1) / 255
    damaged = build_degradation(part.name, part.options)(photo, generator_for(1))
    down, right, sureness = displacement(damaged.mean(dim=0), photo.mean(dim=0))
    assert math.hypot(down, right) < 0.25
    assert sureness > 0.6


def test_different_and_flat_pictures_are_told():
    """A random peak taken for a displacement would have a network learn from pictures of two things."""
    cat, cup = gray(data.chelsea())[:200, :200], gray(data.coffee())[:200, :200]
    assert displacement(cat, cup)[2] < 0.25
    assert displacement(torch.full((64, 64), 0.3), torch.full((64, 64), 0.3))[2] < 1e-6
