"""Pixels whose data did not survive in the file: what is said of them, and how a network invents them."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagesmith.data.files import Frame
from imagesmith.infer.outcome import Lost
from imagesmith.runtime.memory import UNLIMITED, Limits

if TYPE_CHECKING:
    from imagesmith.infer.restore import Restorer


def lost_pixels(mask: Tensor, inventor: str | None) -> Lost:
    """How many pixels of a `mask` (H, W) there are, and where; `inventor` names the model that will fill them."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    count = int(mask.sum())
    return Lost(count, round(count / mask.numel(), 6), box, inventor)


def fill(frame: Frame, inpainter: "Restorer", limits: Limits = UNLIMITED) -> Frame:
    """The frame with its lost pixels invented, opaque where it has alpha; all others stay bit by bit."""
    assert frame.lost is not None, "nothing is lost of this frame"
    if frame.pixels.shape[2] > frame.colours:
        pixels = frame.pixels.clone()
        opaque = 1.0 if frame.depth == "float32" else torch.iinfo(pixels.dtype).max
        pixels[..., -1] = torch.where(frame.lost, torch.full_like(pixels[..., -1], opaque), pixels[..., -1])
        frame = replace(frame, pixels=pixels)
    return replace(frame, pixels=inpainter.frame(frame, mask=frame.lost, limits=limits).pixels, lost=None)
