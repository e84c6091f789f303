"""Models for pictures on films: every frame for itself."""

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from imagesmith.data.files import DEPTHS, Frame, ImageMeta
from imagesmith.data.video import VideoInfo
from imagesmith.data.video.film import stored, upright_size
from imagesmith.data.video.info import counted
from imagesmith.errors import UsageError
from imagesmith.infer.holes import check_wanted, is_auto, scratch_mask
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
        self._scratched = list[float]()

    def of_film(self, info: VideoInfo) -> Self:
        """These steps for one film, the mask turned as its frames are stored; UsageError where it does not fit.

        A mask is drawn on what players, pictures of a preview and frames show, upright.
        """
        if not isinstance(self._mask, Tensor):
            return type(self)(self._restorer, self._mask)
        (width, height), (rows, columns) = upright_size(info), self._mask.shape
        if (columns, rows) != (width, height):
            raise UsageError(
                f"expected a mask of the film's size as players show it, {width}x{height}, got {columns}x{rows}\n"
                "draw it on a picture that --preview makes; white is what will be invented"
            )
        return type(self)(self._restorer, stored(self._mask.unsqueeze(2), info.matrix).squeeze(2))

    def __call__(self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report) -> tuple[Tensor, Memory]:
        """The restored frame (H * scale, W * scale, 3) of the dtype of `pixels` (H, W, 3); remembers nothing."""
        frame, mask = Frame(pixels, DEPTHS[pixels.dtype], ImageMeta("png", "RGB")), self._mask
        if is_auto(mask):
            mask = scratch_mask(frame, lambda _: None)
            share = mask.float().mean().item()
            self._scratched.append(share)
            if not share:
                return pixels.clone(), ()
        restored = self._restorer.frame(frame, mask=mask)
        for note in restored.meta.notes:
            report(note)
        return restored.pixels, ()

    def said(self) -> Iterator[str]:
        """What is known of a film only at its end: in how many of its frames scratches were found."""
        frames, scratched = len(self._scratched), [share for share in self._scratched if share]
        if scratched:
            yield f"scratches in {len(scratched)} of {counted(frames, 'frame')}, at most {max(scratched):.1%} of one"
        elif frames:
            yield f"no scratches found in {counted(frames, 'frame')}"

    def kept_outside(self, changed: Tensor, result: Tensor) -> Tensor:
        """`changed` in the holes of the film's mask, if it has one, and outside `result`; both (1, 3, H, W)."""
        return torch.where(self._mask.to(result.device), changed, result) if isinstance(self._mask, Tensor) else changed
