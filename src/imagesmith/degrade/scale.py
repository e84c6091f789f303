"""Degradations that lose resolution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from imagesmith.tensors import from_float, imresize, to_float


@dataclass(frozen=True)
class BicubicDown:
    """MATLAB's antialiased bicubic down-scaling, rounded to 8 bits: the low-resolution images of the papers.

    (C, H, W) in [0, 1], H and W multiples of `scale` -> (C, H / scale, W / scale). Draws nothing from `rng`.
    """

    scale: int
    planes: ClassVar[int] = 0

    @property
    def context_px(self) -> int:
        """Half the widened kernel, rounded up to whole output pixels."""
        return 3 * self.scale

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return to_float(imresize(from_float(image, "uint8"), 1 / self.scale), "uint8")
