"""What decades in a drawer do to a photograph."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade.blur import filtered
from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.degrade.masks import scratches_mask

_PAPER = 0.75
"""The gray of bare paper, to which everything fades."""
_YELLOWED = (0.05, 0.2, 0.6)
"""How much red, green and blue yellow paper swallows."""
_OCTAVES = (1, 2, 4, 8)
"""Pixels between the independent values of each layer of a paper's texture."""
_PAPER_VARIANCE = 1 + 0.391 + 0.431 + 0.441
"""Of the sum of the layers: enlarging a coarse one bilinearly takes more than half of its variance from it."""
_SOFT = torch.tensor([[1.0, 2.0, 1.0], [2.0, 12.0, 2.0], [1.0, 2.0, 1.0]]) / 24


@dataclass(frozen=True)
class OldPhoto:
    """Fading, yellowing, the texture of paper, dust, salt and scratches, each of a strength drawn from its range.

    `fading` and `yellowing` are shares (1: bare paper), `texture` is the paper's standard deviation, `dust` the number
    of specks on 100 x 100 pixels, `salt` the share of white pixels; scratches take a fifth of the share `scratches`.
    """

    fading: Range = (0.0, 0.5)
    yellowing: Range = (0.0, 0.6)
    texture: Range = (0.0, 0.045)
    dust: Range = (0.0, 6.0)
    salt: Range = (0.0, 0.002)
    scratches: Range = (0.0, 0.08)
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0
    context_px: ClassVar[int] = 0

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        channels, height, width = image.shape
        image = torch.lerp(image, torch.full_like(image, _PAPER), uniform(self.fading, rng))
        yellowing = uniform(self.yellowing, rng)
        if channels == 3:
            image = image * (1 - yellowing * image.new_tensor(_YELLOWED)[:, None, None])
        image = image * (1 + uniform(self.texture, rng) * _paper(height, width, rng))
        specks = round(uniform(self.dust, rng) * height * width / 1e4)
        image = _stained(image, _dust(height, width, specks, rng), rng)
        image = _stained(image, scratches_mask(height, width, self.scratches, rng).float(), rng)
        salt = torch.rand(height, width, generator=rng) < uniform(self.salt, rng)
        return image.masked_fill(salt, 1.0).clamp(0, 1)


def _paper(height: int, width: int, rng: torch.Generator) -> Tensor:
    """Fibres and stains (H, W): noise of several sizes, of mean 0 and standard deviation 1."""
    layers = [
        F.interpolate(
            torch.randn(1, 1, height // step + 2, width // step + 2, generator=rng), scale_factor=step, mode="bilinear"
        )[0, 0, :height, :width]
        for step in _OCTAVES
    ]
    return torch.stack(layers).sum(0) / _PAPER_VARIANCE**0.5


def _dust(height: int, width: int, specks: int, rng: torch.Generator) -> Tensor:
    """Specks of 1 to 6 pixels, most of them long, (H, W), 1 where they lie."""
    canvas = Image.new("L", (width, height))
    brush = ImageDraw.Draw(canvas)
    for x, y, across, down in torch.rand(specks, 4, generator=rng).tolist():
        left, top = x * width, y * height
        brush.ellipse((left, top, left + 5 * across**2, top + 5 * down**2), fill=1)
    return torch.from_numpy(np.array(canvas)).float()


def _stained(image: Tensor, where: Tensor, rng: torch.Generator) -> Tensor:
    """The image with marks at `where` (H, W), their edges softened: light ones as a rule, sometimes dark."""
    tone = uniform((0.0, 0.3), rng) if chance(0.3, rng) else uniform((0.8, 1.0), rng)
    opacity = filtered(where[None], _SOFT).to(image.dtype) * uniform((0.5, 1.0), rng)
    return image + opacity * (tone - image)
