"""Degradations that lose resolution."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade.combine import Chain, Parts, refuse_other_shapes
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
class GaussianDown:
    """A Gaussian of standard deviation 1.6 and of its result every `scale`-th pixel, rounded to 8 bits.

    The "BD" of the papers on films at its usual scale of 4: fspecial of 12 x 12, edges replicated, sampled at 2:4:end-2
    (BasicVSR's BD_degradation.m). So the even kernels lie in the middle of the blocks of pixels that become one, as
    bicubic's do. (C, H, W) in [0, 1], H and W multiples of `scale`. Draws nothing from `rng`.
    """

    scale: int = 4
    planes: ClassVar[int] = 0
    sigma: ClassVar[float] = 1.6
    reach: ClassVar[int] = 6
    """Half the kernel's width."""

    def __post_init__(self) -> None:
        if self.scale % 2:
            raise ConfigError(f"expected an even scale of 'gaussian_down', whose kernel is even, got {self.scale}")

    @property
    def context_px(self) -> int:
        """How far kernels reach beyond their blocks, rounded up to whole output pixels."""
        return math.ceil(max(0, self.reach - self.scale // 2) / self.scale) * self.scale

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        offsets = torch.arange(-self.reach, self.reach, dtype=torch.float64) + 0.5
        weights = torch.exp(-0.5 * (offsets / self.sigma) ** 2)
        weights = (weights / weights.sum()).view(1, 1, 1, -1)
        padded = F.pad(image.double().unsqueeze(1), (self.reach,) * 4, mode="replicate")
        first = self.scale // 2  # there the first kernel has its middle in the middle of the first block
        rows = F.conv2d(padded[..., first:, first:], weights.transpose(2, 3), stride=(self.scale, 1))
        blurred = F.conv2d(rows, weights, stride=(1, self.scale)).squeeze(1)
        height, width = (side // self.scale for side in image.shape[-2:])
        return to_float(from_float(blurred[:, :height, :width], "uint8"), "uint8")


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
        def between(frames: Tensor) -> Tensor:
            return Chain(self.between)(frames[0], rng).unsqueeze(0)

        return self.frames(image.unsqueeze(0), rng, between)[0]

    def frames(self, clip: Tensor, rng: torch.Generator, between: Callable[[Tensor], Tensor]) -> Tensor:
        """All frames (T, C, H, W) by one factor with the same filters; `between` stands for the parts of that name."""
        height, width = clip.shape[-2:]
        factor = uniform(self.factor, rng)
        clip = self._resized(clip, max(1, round(height * factor)), max(1, round(width * factor)), rng)
        return self._resized(between(clip), height // self.scale, width // self.scale, rng)

    def _resized(self, clip: Tensor, height: int, width: int, rng: torch.Generator) -> Tensor:
        chosen = FILTERS[self.filters[int(torch.randint(len(self.filters), (), generator=rng))]]
        if clip.shape[-2:] == (height, width):
            return clip
        return torch.stack([from_pillow(to_pillow(frame).resize((width, height), chosen)) for frame in clip])
