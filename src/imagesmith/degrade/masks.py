"""Holes to be filled: free-form strokes, boxes and scratches, and the plane that tells where they are."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from imagesmith.degrade.draw import Names, Range, uniform
from imagesmith.errors import ConfigError, not_one_of

_UNKNOWN = 0.5
"""What stands in a hole: the middle of the range, so that a hole is as far from black as from white."""
_SCRATCHED = 0.2
"""Share of the area asked for that scratches take: as many as cover all of it would leave nothing to mend from."""
_CORNERS = 8
"""Most corners of one brush stroke."""


@dataclass(frozen=True)
class Holes:
    """Holes of one of `kinds` over a `share` of the area (scratches a fifth of it), set to 0.5; the mask plane follows.

    (C, H, W) -> (C + 1, H, W), the last channel 1 in holes and 0 elsewhere.
    """

    share: Range = (0.05, 0.35)
    kinds: Names = ("free_form", "boxes", "scratches")
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 1
    context_px: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"expected at least one kind of holes out of {', '.join(MASKS)}, got none")
        for kind in self.kinds:
            if kind not in MASKS:
                raise ConfigError(not_one_of("a kind of holes", kind, MASKS))

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        kind = self.kinds[int(torch.randint(len(self.kinds), (), generator=rng))]
        height, width = image.shape[-2:]
        mask = MASKS[kind](height, width, self.share, rng)
        return torch.cat([image.masked_fill(mask, _UNKNOWN), mask[None].to(image.dtype)])


def free_form_mask(height: int, width: int, share: Range, rng: torch.Generator) -> Tensor:
    """Strokes of a brush 4 to 16 pixels wide, bool (H, W), True over a share of the area drawn from `share`."""
    return _covered(height, width, uniform(share, rng), _stroke, rng)


def boxes_mask(height: int, width: int, share: Range, rng: torch.Generator) -> Tensor:
    """Upright boxes with sides of 6 to 32 pixels, bool (H, W), True over a share of the area drawn from `share`."""
    return _covered(height, width, uniform(share, rng), _box, rng)


def scratches_mask(height: int, width: int, share: Range, rng: torch.Generator) -> Tensor:
    """Scratches 1 to 3 pixels wide across the picture, bool (H, W), True over a fifth of a share from `share`."""
    return _covered(height, width, _SCRATCHED * uniform(share, rng), _scratch, rng)


MASKS: dict[str, Callable[[int, int, Range, torch.Generator], Tensor]] = {
    "free_form": free_form_mask,
    "boxes": boxes_mask,
    "scratches": scratches_mask,
}

_Draw = Callable[[ImageDraw.ImageDraw, int, int, list[float]], None]


def _covered(height: int, width: int, share: float, draw: _Draw, rng: torch.Generator) -> Tensor:
    """Shapes drawn until they cover `share` of the area to the pixel; the last one is cut off where it is too much."""
    wanted = min(height * width, round(share * height * width))
    canvas = Image.new("L", (width, height))
    brush = ImageDraw.Draw(canvas)
    mask, count = np.zeros((height, width), bool), 0
    while count < wanted:
        draw(brush, height, width, torch.rand(3 + 2 * _CORNERS, generator=rng).tolist())
        drawn = np.asarray(canvas) > 0
        if np.count_nonzero(drawn) > wanted:
            surplus = np.flatnonzero(drawn & ~mask)[wanted - count :]
            drawn.flat[surplus] = False
        mask, count = drawn, np.count_nonzero(drawn)
    return torch.from_numpy(mask)


def _stroke(brush: ImageDraw.ImageDraw, height: int, width: int, draws: list[float]) -> None:
    """A walk with round corners that turns by up to a right angle after each 8 to 32 pixels."""
    x, y, thickness = draws[0] * width, draws[1] * height, round(4 + 12 * draws[2])
    direction = 2 * math.pi * draws[3]
    corners = [(x, y)]
    for turn, step in zip(draws[4:-1:2], draws[5:-1:2], strict=True):
        direction += math.pi * (turn - 0.5)
        x, y = x + (8 + 24 * step) * math.cos(direction), y + (8 + 24 * step) * math.sin(direction)
        corners.append((x, y))
    corners = corners[: 3 + int(draws[-1] * (_CORNERS - 2))]
    brush.line(corners, fill=1, width=thickness)
    for x, y in corners:
        brush.circle((x, y), thickness / 2, fill=1)


def _box(brush: ImageDraw.ImageDraw, height: int, width: int, draws: list[float]) -> None:
    across, down = 6 + 26 * draws[2], 6 + 26 * draws[3]
    left, top = draws[0] * (width + across) - across, draws[1] * (height + down) - down
    brush.rectangle((left, top, left + across - 1, top + down - 1), fill=1)


def _scratch(brush: ImageDraw.ImageDraw, height: int, width: int, draws: list[float]) -> None:
    """From a point of the picture in two directions that are nearly opposite."""
    x, y, reach = draws[0] * width, draws[1] * height, (0.2 + draws[3]) * max(height, width)
    there = 2 * math.pi * draws[4]
    back = there + math.pi + 0.5 * (draws[5] - 0.5)
    ends = [(x + reach * math.cos(angle), y + reach * math.sin(angle)) for angle in (there, back)]
    brush.line([ends[0], (x, y), ends[1]], fill=1, width=1 + int(3 * draws[2]))
