"""Fakes beside their nearest real images: the picture in which a copied training image is seen at once."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.atomic import check_place
from imagesmith.data.files import Frame, write_image
from imagesmith.data.formats import format_named
from imagesmith.errors import FormatError, ImagesmithError, UsageError
from imagesmith.metrics.neighbours import nearest

SHOWN = 16
_NEIGHBOURS = 3
_BLOCK = 8  # rows below each other; more stand beside them
_GAP = 2
_LEAST_SIDE = 64


def nearest_training_images(real: Tensor, fake: Tensor, names: list[str]) -> list[dict[str, Any]]:
    """For each row of `fake` (N, F): the names of its three nearest reals, their indices and distances."""
    distances, indices = nearest(fake, real, min(_NEIGHBOURS, len(real)))
    return [
        {"names": [names[k] for k in row], "indices": row, "distances": apart}
        for row, apart in zip(indices.tolist(), distances.tolist(), strict=True)
    ]


def check_sheet(path: Path) -> None:
    """UsageError or OutputError where no picture of that name can be written: told before the measuring, not after."""
    try:
        format_named(path.suffix)
    except FormatError as error:
        raise UsageError(f"expected a picture for the nearest images, got '{path}': {error}") from None
    check_place(path, overwrite=True)


def write_sheet(path: str | Path, fakes: Tensor, reals: Tensor, found: list[dict[str, Any]]) -> str | None:
    """Write rows of: fake | its nearest reals, from uint8 (N, C, H, W); an existing file is replaced.

    Why it could not be written, if so: what was measured is not to be lost with it.
    """
    rows = [torch.stack([fake, *(reals[k] for k in item["indices"])]) for fake, item in zip(fakes, found, strict=True)]
    try:
        write_image(Frame.of(sheet(torch.stack(rows))), path, overwrite=True)
    except ImagesmithError as error:
        return str(error)


def sheet(images: Tensor) -> Tensor:
    """One picture (C, H', W') of (rows, columns, C, H, W) uint8; a wide white gap follows the first column.

    Eight rows make a block, and blocks stand side by side. Tiny images are enlarged by a whole factor, without
    smoothing.
    """
    factor = max(1, -(-_LEAST_SIDE // min(images.shape[-2:])))
    large = images.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    padded = F.pad(large, (_GAP, _GAP, _GAP, _GAP), value=255)
    first = F.pad(padded[:, 0], (0, 4 * _GAP), value=255)
    rows = torch.cat([first, *padded[:, 1:].unbind(dim=1)], dim=-1)
    rows = F.pad(rows, (0, 0, 0, 0, 0, 0, 0, -len(rows) % min(_BLOCK, len(rows))), value=255)
    blocks = [torch.cat(block.unbind(), dim=-2) for block in rows.split(_BLOCK)]
    return torch.cat([blocks[0], *(F.pad(block, (8 * _GAP, 0), value=255) for block in blocks[1:])], dim=-1)
