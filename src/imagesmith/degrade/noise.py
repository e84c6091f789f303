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
        return to_float(from_float(noisy, "uint8"), "uint8") if chance(self.rounded, rng) else noisy
