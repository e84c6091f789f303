"""What lies beyond a picture's edge: its mirror image."""

import torch
from torch import Tensor


def mirrored(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """(..., H, W) lengthened by mirroring, the edge pixels not repeated; also by more than the picture's own size."""
    height, width = image.shape[-2:]
    rows = mirrored_indices(height, -top, top + height + bottom)
    columns = mirrored_indices(width, -left, left + width + right)
    return image.index_select(-2, rows.to(image.device)).index_select(-1, columns.to(image.device))


def mirrored_indices(size: int, start: int, count: int) -> Tensor:
    """`count` indices from `start` on, folded back into [0, size) wherever they leave it."""
    period = max(1, 2 * (size - 1))
    index = torch.arange(start, start + count) % period
    return torch.minimum(index, period - index)
