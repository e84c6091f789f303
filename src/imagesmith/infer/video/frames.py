"""Models for pictures on films: every frame for itself."""

from typing import Any, Self

import torch
from torch import Tensor

from imagesmith.data.files import DEPTHS, Frame, ImageMeta
from imagesmith.data.video import VideoInfo
from imagesmith.data.video.film import stored, upright_size
from imagesmith.errors import UsageError
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

    def of_film(self, info: VideoInfo) -> Self:
        """These steps for one film, the mask turned as its frames are stored; UsageError where it does not fit.

        A mask is drawn on what players, pictures of a preview and frames show, upright.
        """
        if not isinstance(self._mask, Tensor):
            return self
        (width, height), (rows, columns) = upright_size(info), self._mask.shape
        if (columns, rows) != (width, height):
            raise UsageError(
                f"expected a mask of the film's size as players show it, {width}x{height}, got {columns}x{rows}\n"
                "draw it on a picture that --preview makes; white is what will be invented"
            )
        return type(self)(self._restorer, stored(self._mask.unsqueeze(2), info.matrix).squeeze(2))

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
