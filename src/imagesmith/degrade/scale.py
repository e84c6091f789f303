"""Degradations that lose resolution."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from imagesmith.degrade.combine import Parts, refuse_other_shapes
from imagesmith.degrade.draw import Names, Range, uniform
from imagesmith.degrade.pillow import from_pillow, to_pillow
from imagesmith.errors import ConfigError, not_one_of
from imagesmith.tensors import from_float, imresize, to_float

FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Antialiased: the kernel is widened where a picture is made smaller."""
_WIDEST = 3
"""Half the width of the widest of them, in pixels of the smaller picture."""


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


@dataclass(frozen=True)
class Resize:
    """Down-scaling by `scale` with one of `filters`, on the way there through another size, as files get on the web.

    The picture is first resized by a factor drawn from `factor` (1 for neither), goes through `between` at that size,
    and is then brought to exactly H / scale, W / scale; each resize draws its filter and rounds to 8 bits. Where the
    factor is not 1, crops are not sampled at the points at which the whole picture would be.
    """

    scale: int = 1
    factor: Range = (1.0, 1.0)
    filters: Names = tuple(FILTERS)
    between: Parts = ()
    planes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not self.filters:
            raise ConfigError(f"expected at least one filter of 'resize' out of {', '.join(FILTERS)}, got none")
        for name in self.filters:
            if name not in FILTERS:
                raise ConfigError(not_one_of("a filter", name, FILTERS))
        refuse_other_shapes("resize", self.between)

    @property
    def context_px(self) -> int:
        """Half the kernels of both resizes and what the parts between need, rounded up to whole output pixels."""
        smallest = min(self.factor)
        between = sum(part.context_px for part in self.between)
        first = 0 if smallest == max(self.factor) == 1 else _WIDEST * max(1, 1 / smallest)
        second = _WIDEST * max(self.scale, 1 / smallest)
        return math.ceil((first + between / smallest + second) / self.scale) * self.scale

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        height, width = image.shape[-2:]
        factor = uniform(self.factor, rng)
        image = self._resized(image, max(1, round(height * factor)), max(1, round(width * factor)), rng)
        for part in self.between:
            image = part(image, rng)
        return self._resized(image, height // self.scale, width // self.scale, rng)

    def _resized(self, image: Tensor, height: int, width: int, rng: torch.Generator) -> Tensor:
        chosen = FILTERS[self.filters[int(torch.randint(len(self.filters), (), generator=rng))]]
        if image.shape[-2:] == (height, width):
            return image
        return from_pillow(to_pillow(image).resize((width, height), chosen))
