"""What a bad line leaves of a picture: macroblocks lost in places, or everything after a point."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from imagesmith.degrade.draw import Range, chance, uniform

Fill = Literal["gray", "black", "repeated"]
"""What a decoder shows in place of what is lost: middle gray, black, or the blocks above once more."""
_FILLS: tuple[Fill, ...] = ("gray", "black", "repeated")


@dataclass(frozen=True)
class MissingBlocks:
    """Blocks of 8 or 16 pixels lost over about a `share` of the area: single ones, or, for a share `rows` of images,
    from some place to the end of a row of blocks, where a decoder finds its step again.

    The decoder fills them in one of the ways of `Fill`; with `mask_plane` they are 0.5 and a mask follows, 1 where
    lost, as after `Holes`.
    """

    share: Range = (0.01, 0.2)
    rows: float = 0.5
    mask_plane: bool = False
    scale: ClassVar[int] = 1
    context_px: ClassVar[int] = 0

    @property
    def planes(self) -> int:
        """1 with `mask_plane`."""
        return int(self.mask_plane)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        block = 8 if chance(0.5, rng) else 16
        down, across = (-(-size // block) for size in image.shape[-2:])
        share, draws = uniform(self.share, rng), torch.rand(down, across, generator=rng)
        if chance(self.rows, rng):
            starts = torch.rand(down, 1, generator=rng) * across  # half a row is lost on average
            lost = (torch.arange(across) >= starts.floor()) & (draws[:, :1] <= max(2 * share, float(draws[:, 0].min())))
        else:
            lost = draws <= max(share, float(draws.min()))
        return _received(image, lost, block, _drawn_fill(rng), self.mask_plane)


@dataclass(frozen=True)
class CutStream:
    """A stream that ends when a share `kept` of the 16-pixel blocks, row by row, has arrived.

    The rest is filled in one of the ways of `Fill`; with `mask_plane` it is 0.5 and a mask follows, 1 where lost.
    """

    kept: Range = (0.2, 0.95)
    mask_plane: bool = False
    scale: ClassVar[int] = 1
    context_px: ClassVar[int] = 0

    @property
    def planes(self) -> int:
        """1 with `mask_plane`."""
        return int(self.mask_plane)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        block = 16
        down, across = (-(-size // block) for size in image.shape[-2:])
        lost = torch.arange(down * across).view(down, across) >= uniform(self.kept, rng) * down * across
        return _received(image, lost, block, _drawn_fill(rng), self.mask_plane)


def _drawn_fill(rng: torch.Generator) -> Fill:
    return _FILLS[int(torch.randint(len(_FILLS), (), generator=rng))]


def _received(image: Tensor, lost_blocks: Tensor, block: int, fill: Fill, mask_plane: bool) -> Tensor:
    """The image with `lost_blocks`, bool (rows, columns), filled, or set to 0.5 and followed by their mask."""
    height, width = image.shape[-2:]
    lost = lost_blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)[:height, :width]
    if mask_plane:
        return torch.cat([image.masked_fill(lost, 0.5), lost[None].to(image.dtype)])
    received = image.masked_fill(lost, 0.0 if fill == "black" else 0.5)
    if fill == "repeated":
        for top in range(block, height, block):  # from above, so that what was repeated is repeated again
            here = slice(top, min(top + block, height))
            above = received[:, top - block : here.stop - block]
            received[:, here] = torch.where(lost[here], above, received[:, here])
    return received
