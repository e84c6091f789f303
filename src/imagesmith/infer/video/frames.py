"""Models for pictures on films: every frame for itself."""

from typing import Any

import torch
from torch import Tensor

from imagesmith.data.files import DEPTHS, Frame, ImageMeta
from imagesmith.infer.holes import check_wanted
from imagesmith.infer.network import Report
from imagesmith.infer.restore import Restorer

Memory = tuple[Tensor, ...]
"""What is remembered of the frames before; empty: nothing."""


class FrameByFrame:
    """Restores each frame as a picture of its own; `mask` is that of `Restorer`, one for the whole film."""

    looks_ahead = False

    def __init__(self, restorer: Restorer, mask: Any = None) -> None:
        check_wanted(restorer.card, mask)
        self.scale = restorer.scale
        self._restorer, self._mask = restorer, mask

    def __call__(self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report) -> tuple[Tensor, Memory]:
        """The restored frame (H * scale, W * scale, 3) of the dtype of `pixels` (H, W, 3); remembers nothing."""
        frame = Frame(pixels, DEPTHS[pixels.dtype], ImageMeta("png", "RGB"))
        restored = self._restorer.frame(frame, mask=self._mask)
        for note in restored.meta.notes:
            report(note)
        return restored.pixels, ()

    def kept_outside(self, changed: Tensor, result: Tensor) -> Tensor:
        """`changed` in the holes of the film's mask, if it has one, and outside `result`; both (1, 3, H, W)."""
        return torch.where(self._mask.to(result.device), changed, result) if isinstance(self._mask, Tensor) else changed
