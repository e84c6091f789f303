"""JPEG: the real codec, and what its quantisation tables tell a network."""

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.degrade.pillow import from_pillow, to_pillow
from imagesmith.tensors.blocks import BLOCK, dct, from_blocks, inverse_dct, to_blocks, to_rgb, to_ycc
from imagesmith.tensors.edges import mirrored

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
    file = _coded(to_pillow(image), quality, "4:2:0" if subsampled else "4:4:4")
    return from_pillow(file), file.quantization[0]


def _coded(picture: Image.Image, quality: int, subsampling: str) -> JpegImageFile:
    """The picture as a JPEG file in memory."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    stream.seek(0)
    return JpegImageFile(stream)


def differentiable_jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What libjpeg makes of (N, 1 or 3, H, W) in [0, 1] at `quality` (N,), 1 to 100, in 4:4:4; the same shape.

    The values are the codec's to about a grey level. Where the codec rounds, the gradient passes as if it did not;
    `quality` gets none.
    """
    height, width = images.shape[-2:]
    channels = images.shape[1]
    middle = images.new_tensor([128, 0, 0])[:channels, None, None]
    padded = F.pad(images, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    planes = _rounded(to_ycc(_rounded(padded * 255))) - middle  # the codec rounds colours as well
    tables = torch.stack([_tables(round(float(each)))[:channels] for each in quality])
    steps = tables[:, :, None, None].to(images)
    kept = _rounded(dct(to_blocks(planes)) / steps) * steps
    decoded = _rounded(from_blocks(inverse_dct(kept))) + middle
    decoded = decoded.clamp(middle - 128, middle + 127)
    return (_rounded(to_rgb(decoded)).clamp(0, 255) / 255)[..., :height, :width]


def _rounded(x: Tensor) -> Tensor:
    """To whole numbers, halves away from zero as in libjpeg, with the gradient of the identity."""
    magnitude = (x.abs() + (0.5 + 1e-4)).floor()  # halves are frequent among mean values, and float misses some
    return x + (magnitude.copysign(x) - x).detach()


@functools.lru_cache(maxsize=100)
def _tables(quality: int) -> Tensor:
    """libjpeg's steps for Y, Cb and Cr, (3, 8, 8): read from a file that it writes."""
    tables = _coded(Image.new("RGB", (BLOCK, BLOCK)), quality, "4:4:4").quantization
    return torch.tensor([tables[0], tables[1], tables[1]], dtype=torch.float64).view(3, BLOCK, BLOCK)
