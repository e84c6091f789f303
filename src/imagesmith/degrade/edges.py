"""What lies beyond a picture's edge: its mirror image."""

import torch
from torch import Tensor


def mirrored(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """(..., H, W) lengthened by mirroring, the edge pixels not repeated; also by more than the picture's own size."""
    height, width = image.shape[-2:]
    rows, columns = _indices(height, top, bottom), _indices(width, left, right)
    return image.index_select(-2, rows).index_select(-1, columns)


def _indices(size: int, before: int, after: int) -> Tensor:
    period = max(1, 2 * (size - 1))
    index = torch.arange(-before, size + after) % period
    return torch.minimum(index, period - index)
