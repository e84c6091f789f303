"""Degradations that add noise."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.tensors import from_float, to_float


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise of standard deviation `sigma` in grey levels (1 / 255), drawn per image from a range.

    A share `rounded` of the images is clipped and rounded to 8 bits, as files are; the others keep the values that the
    papers measure on, which reach beyond [0, 1].
    """

    sigma: Range = (0.0, 55.0)
    rounded: float = 0.5
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0
    context_px: ClassVar[int] = 0

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        sigma = uniform(self.sigma, rng) / 255
        noisy = image + torch.randn(image.shape, generator=rng, dtype=image.dtype) * sigma
        return _to_8_bits(noisy) if chance(self.rounded, rng) else noisy


@dataclass(frozen=True)
class PoissonGaussianNoise:
    """A sensor's noise: photons that are counted (variance `shot` x brightness) and the reading of the counter.

    `shot` is the variance at white for values in [0, 1], so 1 / shot photons make white; its root is drawn evenly.
    `read` is a standard deviation in grey levels. A share `rounded` is clipped and rounded to 8 bits.
    """

    shot: Range = (0.0, 0.01)
    read: Range = (0.0, 10.0)
    rounded: float = 0.5
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0
    context_px: ClassVar[int] = 0

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        shot = uniform((min(self.shot) ** 0.5, max(self.shot) ** 0.5), rng) ** 2
        read = uniform(self.read, rng) / 255
        noisy = image if shot < 1e-7 else torch.poisson(image.clamp(min=0) / shot, generator=rng) * shot
        noisy = noisy + torch.randn(image.shape, generator=rng, dtype=image.dtype) * read
        return _to_8_bits(noisy) if chance(self.rounded, rng) else noisy


def _to_8_bits(image: Tensor) -> Tensor:
    return to_float(from_float(image, "uint8"), "uint8")
