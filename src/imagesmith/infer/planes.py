"""What a network is told besides the picture: where the holes are, how strongly a file was compressed."""

from collections.abc import Callable

import torch
from torch import Tensor

from imagesmith.data.scanlines import Picture
from imagesmith.degrade.jpeg import table_level
from imagesmith.errors import ModelError
from imagesmith.runtime.tiling import Subpixels
from imagesmith.tensors import Depth, from_float, to_float
from imagesmith.zoo import ModelCard

HOLE = 0.5
"""What the network sees where the picture is not known."""


def planes_for(card: ModelCard, picture: Picture, mask: Tensor | None, top: int, bottom: int) -> Tensor:
    """What the model of `card` is told with rows of this picture: (bottom - top, W, planes), file values of its depth.

    `mask` (H, W) is for models that fill holes.
    """
    if card.task == "inpaint":
        assert mask is not None, "whoever restores holes has checked the mask"
        plane = mask[top:bottom].to(torch.float32)
    elif card.task == "jpeg":
        tables = picture.meta.jpeg
        plane = torch.full((bottom - top, picture.width), table_level(tables.luma) if tables else 0.0)
    else:
        raise ModelError(
            f"model '{card.title}' wants to be told more than the picture, and for the task {card.task} this "
            "imagesmith does not know what; upgrade it"
        )
    return from_float(plane.unsqueeze(2), picture.depth)


def informed(
    run: Subpixels, mend: Callable[[Subpixels], Subpixels], card: ModelCard, depth: Depth, planes: int
) -> Subpixels:
    """Takes the picture with its planes as the last channels; `mend` is all that surrounds the network.

    The planes go around what `mend` does to the picture - expanding gray, multiplying with alpha - and reach the
    network unchanged.
    """

    def subpixels(x: Tensor) -> Tensor:
        told = to_float(x[:, -planes:], depth)
        if card.task == "inpaint" and not told.any():
            return to_float(x[:, :-planes], depth)  # nothing to invent in this tile

        def ask(y: Tensor) -> Tensor:
            told_each = told.to(y.device).expand(len(y), -1, -1, -1)
            if card.task == "inpaint":
                y = y.masked_fill(told_each > HOLE, HOLE)
            return run(torch.cat((y, told_each), dim=1))

        return mend(ask)(x[:, :-planes])

    return subpixels
