"""JPEG: the real codec, and what its quantisation tables tell a network."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.degrade.edges import mirrored
from imagesmith.degrade.pillow import from_pillow, to_pillow

_MCU_PX = 16
"""Side of what 4:2:0 codes together: two by two blocks of 8 pixels and one block of each chroma channel."""


@dataclass(frozen=True)
class Jpeg:
    """Compression by libjpeg at a quality drawn per image, colour as 4:2:0 or 4:4:4, one channel as a gray JPEG.

    A share `subsampling` of colour images is 4:2:0, a share `shifted` has its block grid displaced against the image's
    corner, as after cropping. With `table_plane` a constant plane of `table_level` follows the picture, which is 0 for
    a share `blind`, as for files that have lost their tables.
    """

    quality: Range = (5, 95)
    subsampling: float = 0.5
    shifted: float = 0.3
    table_plane: bool = False
    blind: float = 0.5
    scale: ClassVar[int] = 1
    context_px: ClassVar[int] = _MCU_PX  # keeps the grid aligned with the corner of a patch

    @property
    def planes(self) -> int:
        """1 with `table_plane`."""
        return int(self.table_plane)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        quality = round(uniform(self.quality, rng))
        subsampled, shifted = chance(self.subsampling, rng), chance(self.shifted, rng)
        left, top = torch.randint(_MCU_PX, (2,), generator=rng).tolist() if shifted else (0, 0)
        height, width = image.shape[-2:]
        decoded, luma_table = _through_codec(mirrored(image, left, 0, top, 0), quality, subsampled)
        compressed = decoded[:, top : top + height, left : left + width].to(image.dtype)
        if not self.table_plane:
            return compressed
        level = 0.0 if chance(self.blind, rng) else table_level(luma_table)
        return torch.cat([compressed, compressed.new_full((1, height, width), level)])


def table_level(luma_table: Sequence[int]) -> float:
    """How coarse a luma quantisation table is: log2 of the mean of its 64 steps, over 8, clamped to [0, 1].

    0.95 at libjpeg's quality 10, 0.44 at 90; 0 stands for 'not known'.
    """
    return min(1.0, max(0.0, math.log2(sum(luma_table) / len(luma_table)) / 8))


def _through_codec(image: Tensor, quality: int, subsampled: bool) -> tuple[Tensor, Sequence[int]]:
    """(1 or 3, H, W) rounded to 8 bits, encoded and decoded by libjpeg; and the file's luma quantisation table."""
    stream = io.BytesIO()
    to_pillow(image).save(stream, "JPEG", quality=quality, subsampling="4:2:0" if subsampled else "4:4:4")
    with Image.open(stream, formats=["JPEG"]) as file:
        return from_pillow(file), file.quantization[0]
