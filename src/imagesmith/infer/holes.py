"""Holes of a picture: masks from files and from memory, and what lies too far inside a hole for the network to see.

A mask is a bool tensor (H, W), True where the picture is to be invented.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import MAX_PIXELS, Frame, read_image
from imagesmith.errors import UsageError
from imagesmith.estimate.scratches import find_scratches
from imagesmith.infer import images
from imagesmith.infer.modes import shown_colours
from imagesmith.tensors import from_float, to_float
from imagesmith.zoo import ModelCard

AUTO = "auto"
"""Stands for the mask of the scratches that are found in a picture; a file of that name is './auto'."""
FARTHEST_PX = 16
"""A pixel deeper in its hole than this is guessed at a reduced size first: networks learn from holes hardly wider."""


@dataclass(frozen=True)
class MaskFile:
    """A mask that was read from a file, which no result may replace."""

    path: Path
    holes: Tensor


def as_mask(mask: Any, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The mask that a bool tensor or array, a file or a picture means; in pictures what is light and opaque is hole.

    UsageError where it leaves nothing to do, or nothing to see.
    """
    if isinstance(mask, MaskFile):
        return mask.holes
    holes = _holes_of(mask, max_pixels)
    if not holes.any():
        raise UsageError("the mask is empty: nothing is white\npaint white what is to be invented, black what stays")
    if holes.all():
        raise UsageError("the mask is full: no pixel is left to start from\nwhite is what will be invented; invert it")
    return holes


def mask_for_all(mask: Any, *, max_pixels: int = MAX_PIXELS) -> Tensor | Literal["auto"] | None:
    """`as_mask`, once for all pictures of a run; None and 'auto' stay."""
    return mask if mask is None or is_auto(mask) else as_mask(mask, max_pixels=max_pixels)


def file_of(mask: Any) -> Path | None:
    """The file that a mask is or was read from; None for what is in memory, or found in each picture."""
    if isinstance(mask, MaskFile):
        return mask.path
    return Path(mask) if isinstance(mask, str | Path) and not is_auto(mask) else None


def is_auto(mask: Any) -> bool:
    return isinstance(mask, str) and mask == AUTO


def _holes_of(mask: Any, max_pixels: int) -> Tensor:
    if isinstance(mask, np.ndarray) and mask.dtype == bool:
        mask = torch.from_numpy(np.ascontiguousarray(mask))
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim == 2:
        return mask.cpu()
    if isinstance(mask, str | Path):
        frame = read_image(mask, max_pixels=max_pixels)
    elif isinstance(mask, Image.Image) or (isinstance(mask, np.ndarray) and _holds_light(mask)):
        (frame, *_), _ = images.unwrap(mask)
    else:
        raise UsageError(
            f"expected a mask as a bool tensor or array (H, W), a picture or a path, got {_told(mask)}\n"
            "compare it with a threshold, such as mask > 0.5"
        )
    light = to_float(frame.pixels, frame.depth)
    alpha = light[..., -1] if light.shape[2] > frame.colours else 1.0
    return light[..., : frame.colours].mean(dim=2) * alpha >= 0.5


def _holds_light(mask: np.ndarray) -> bool:
    """Whether an array is a picture by its numbers; UsageError where they are rather the labels 0 and 1."""
    if mask.dtype.kind in "iu" and mask.size and mask.max() == 1:
        raise UsageError(f"expected bool or 0 to 255, got a {mask.dtype} mask of 0 and 1; pass mask > 0")
    return mask.dtype.kind == "f" or mask.dtype.newbyteorder("=") in (np.uint8, np.uint16)


def _told(mask: Any) -> str:
    """What a thing is, in an error."""
    if isinstance(mask, np.ndarray | Tensor):
        return f"{mask.dtype} of shape {tuple(mask.shape)}"
    return type(mask).__name__


def check_wanted(card: ModelCard, mask: Any) -> None:
    """UsageError for a mask that the model does not take, and for none where it fills holes."""
    if mask is not None and card.task != "inpaint":
        raise UsageError(f"model '{card.title}' (task {card.task}) takes no mask; 'inpaint' does")
    if mask is None and card.task == "inpaint":
        raise UsageError(
            f"model '{card.title}' fills holes, but no mask tells where they are\n"
            "name a picture of the same size that is white there (--mask FILE), or --mask auto"
        )


def check_size(mask: Tensor, frame: Frame) -> None:
    """UsageError where the mask does not belong to the picture."""
    height, width = frame.pixels.shape[:2]
    if mask.shape != (height, width):
        raise UsageError(
            f"expected a mask of the picture's size, {width}x{height}, got {mask.shape[1]}x{mask.shape[0]}\n"
            "cut or scale the mask to the picture; white is what will be invented"
        )


def scratch_mask(frame: Frame, report: Callable[[str], None]) -> Tensor:
    """Where the picture is scratched, which may be nowhere; `report` is told how much that is."""
    mask = find_scratches(shown_colours(frame), asked=True)
    found = int(mask.sum())
    report(
        f"scratches: {found} pixels ({found / mask.numel():.1%})"
        if found
        else "no scratches found, nothing was changed"
    )
    return mask


def guessed(frame: Frame, mask: Tensor, fill: Callable[[Frame, Tensor], Frame]) -> tuple[Frame, Tensor]:
    """The picture and the part of `mask` within reach of what is known, once the rest of it has been guessed.

    What lies deeper than FARTHEST_PX is taken from the picture at half the size, where `fill` fills the same hole: it
    is half as deep there, and calls this function again if it must. Only the surroundings of deep holes are looked at.
    """
    deep = mask & ~near(~mask, FARTHEST_PX)
    if not deep.any():
        return frame, mask
    rows, columns = (_around(deep.any(dim=1 - axis), margin=8 * FARTHEST_PX) for axis in (0, 1))
    part, holes = frame.pixels[rows, columns], mask[rows, columns]
    small, small_holes = _halved(replace(frame, pixels=part), holes)
    if small_holes.all():  # nothing is known nearby; the whole picture has something, as `as_mask` saw
        rows, columns = slice(0, mask.shape[0]), slice(0, mask.shape[1])
        part, holes = frame.pixels, mask
        small, small_holes = _halved(frame, holes)
    if small_holes.any():
        small = fill(small, small_holes)
    coarse = to_float(small.pixels, frame.depth).permute(2, 0, 1).unsqueeze(0)
    doubled = F.interpolate(coarse, scale_factor=2, mode="bilinear")[0, :, : part.shape[0], : part.shape[1]]
    colours = frame.colours
    pixels = frame.pixels.clone()
    guess = from_float(doubled.permute(1, 2, 0), frame.depth)[..., :colours]
    pixels[rows, columns, :colours] = torch.where(holes.unsqueeze(2), guess, part[..., :colours])
    return replace(frame, pixels=pixels), mask & ~deep


def blended(strips: Iterator[tuple[int, Tensor]], frame: Frame, mask: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The strips inside `mask`, and outside of it the picture's own values, bit by bit."""
    for top, rows in strips:
        inside = mask[top : top + len(rows)].unsqueeze(2)
        yield top, _chosen(inside, rows, frame.pixels[top : top + len(rows)])


def near(known: Tensor, radius: int) -> Tensor:
    """Whether a pixel (H, W) has a known one within `radius` rows and columns."""
    return highest_near(known.to(torch.float32), radius) > 0


def highest_near(values: Tensor, radius: int) -> Tensor:
    """The highest of the float `values` (H, W) within `radius` rows and columns of each pixel."""
    x = F.max_pool2d(values[None, None], (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(x, (1, 2 * radius + 1), stride=1, padding=(0, radius))[0, 0]


def _chosen(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where`, also for uint16, for which torch has no kernel."""
    if yes.dtype != torch.uint16:
        return torch.where(mask, yes, no)
    return torch.where(mask, yes.view(torch.int16), no.view(torch.int16)).view(torch.uint16)


def _around(hit: Tensor, margin: int) -> slice:
    """The range of the True entries, and `margin` more on each side; it begins at an even number."""
    (places,) = hit.nonzero(as_tuple=True)
    first = max(0, int(places[0]) - margin) // 2 * 2
    return slice(first, min(len(hit), int(places[-1]) + 1 + margin))


def _halved(frame: Frame, mask: Tensor) -> tuple[Frame, Tensor]:
    """The picture at half the size, of known pixels only, and its holes: where none of four is known."""
    x = torch.nan_to_num(to_float(frame.pixels, frame.depth)).permute(2, 0, 1).unsqueeze(0)
    known = (~mask).to(torch.float32)[None, None]
    odd = (0, x.shape[3] % 2, 0, x.shape[2] % 2)
    x, known = (F.pad(part, odd, mode="replicate") for part in (x, known))
    share = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(x * known, 2) / share.clamp(min=0.25)
    pixels = from_float(mean[0].permute(1, 2, 0), frame.depth)
    return replace(frame, pixels=pixels.contiguous()), share[0, 0] == 0
