"""Results that agree with what was measured: moved as little as it takes, as a whole and not in strips.

Both ways feed back what the file will hold - clipped and rounded to its depth - so that agreement survives writing.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.frame import Frame, JpegTables
from imagesmith.data.metadata import turn_upright
from imagesmith.errors import ImageError, TooLargeError
from imagesmith.infer.intervals import Intervals
from imagesmith.runtime.memory import room_within
from imagesmith.tensors import DEPTH_MAX, from_float, imresize, to_float

HALF_LEVEL = 0.5 / 255
_BYTES_OF_SIZE, _BYTES_OF_JPEG = 60, 92  # that the two ways take at most for a sample of the result: measured
_ALMOST = 0.1 / 255
_ROUNDS = 60
_PATIENCE = 5  # rounds without progress, after which what no picture can have is given up
_PROGRESS = 0.99  # of what was left to change is less
_QUIET = 0.9  # of the tolerance: what lies within is left alone, or rounding would keep all pixels in motion
_STEP, _MOMENTUM = 1.8, 0.7  # heavy ball (Polyak 1964): without it contrasts of neighbouring pixels take 100 rounds
_MARGIN_LEVELS = 1.0  # coefficients are moved so deep into their interval that rounding does not bring them out again

Correction = Callable[[Tensor], tuple[Tensor, float]]
"""What to add to a picture (C, H, W) so that it agrees, and how many grey levels beyond tolerance it now is."""


def check_room(frame: Frame, scale: int, limit: int | None) -> None:
    """TooLargeError where the work on a result as a whole does not fit, into `limit` resident bytes if given."""
    each = _BYTES_OF_SIZE if scale > 1 else _BYTES_OF_JPEG
    needed, room = each * frame.pixels.numel() * scale**2, room_within(limit)
    if room is not None and needed > room:
        raise TooLargeError(
            f"consistency needs {needed / 1e9:.1f} GB for all of the result at once, {max(0, room) / 1e9:.1f} GB are "
            "free; leave --consistency out"
        )


def half_level(frame: Frame) -> str:
    """How near `agreeing_with_size` comes, in words; deeper files have other units than grey levels of 8 bits."""
    if frame.depth == "uint8":
        return "half a grey level"
    header = frame.meta.dicom
    top = header.high - header.low if header and frame.depth == "float32" else DEPTH_MAX[frame.depth]
    return f"half a grey level of 8 bits, {HALF_LEVEL * top:.4g} in values of this file"


def agreeing_with_size(result: Tensor, frame: Frame, scale: int) -> tuple[Tensor, float]:
    """`result` (C, H * scale, W * scale), so that down-scaled by MATLAB's bicubic it is the picture of `frame`.

    Within half a grey level of 8 bits, after rounding to the frame's depth: iterative back-projection (Irani and Peleg
    1991). Also how many grey levels the farthest pixel still lacks, 0.0 where all agree; only contrasts that no larger
    picture can have, such as a chessboard of pixels, make it positive. Nothing is asked where alpha is not
    opaque or a value not finite.
    """
    given = to_float(frame.pixels, frame.depth).permute(2, 0, 1)
    whole = given[: frame.colours].isfinite().all(dim=0)
    if len(given) > frame.colours:
        whole &= given[-1] == 1
        given = given[:-1]
    asked = -F.max_pool2d(-whole.float()[None], 7, stride=1, padding=3)[0] == 1
    given = given.nan_to_num(0, 0, 0)

    def correction(seen: Tensor) -> tuple[Tensor, float]:
        error = torch.where(asked, given - imresize(seen[: len(given)], 1 / scale), 0.0)
        change = torch.zeros_like(seen)
        change[: len(given)] = imresize(torch.where(error.abs() > quiet, error, 0.0), scale)
        return change, max(0.0, (error.abs().max().item() - HALF_LEVEL) * 255)

    # first without rounding, whose noise momentum would amplify
    quiet, velocity, left = 0.0, torch.zeros_like(result), list[float]()
    for _ in range(_ROUNDS):
        change, _ = correction(result)
        if change.abs().max() < _ALMOST or _is_stuck(left, change):
            break
        velocity = _MOMENTUM * velocity + _STEP * change
        result = (result + velocity).clamp(*_limits(frame))
    quiet = _QUIET * HALF_LEVEL
    return _fed_back(result, frame, correction)


def tables_of(frame: Frame) -> JpegTables:
    """The quantisation tables of the file; ImageError where it is no JPEG that stores luma and chroma."""
    tables = frame.meta.jpeg
    if tables is None or not tables.is_ycbcr:
        found = "a picture without quantisation tables" if tables is None else "a JPEG that stores RGB or CMYK"
        raise ImageError(f"consistency needs the JPEG file itself, got {found}; leave --consistency out")
    return tables


def agreeing_with_jpeg(result: Tensor, frame: Frame) -> tuple[Tensor, float]:
    """`result` (C, H, W), so that the file of `frame` could be its JPEG: every coefficient within its interval.

    Also how many grey levels the farthest coefficient lies outside; see `Intervals` for what is bound. ImageError where
    the frame does not come from a JPEG that stores luma and chroma.
    """
    tables = tables_of(frame)
    stored = turn_upright(frame.pixels.numpy(), _BACK.get(tables.turn, tables.turn))
    decoded = to_float(torch.from_numpy(stored), frame.depth).permute(2, 0, 1)
    intervals = Intervals(decoded, tables)
    turned = _turned(result, _BACK.get(tables.turn, tables.turn))
    agreed, lacking = _fed_back(turned, frame, lambda seen: intervals.correction(seen, _MARGIN_LEVELS))
    return _turned(agreed, tables.turn), lacking


_BACK = {6: 8, 8: 6}
"""The orientation that undoes another one; the six others undo themselves."""


def _turned(x: Tensor, orientation: int) -> Tensor:
    """(C, H, W) turned as EXIF asks."""
    return torch.from_numpy(turn_upright(x.permute(1, 2, 0).numpy(), orientation)).permute(2, 0, 1)


def _limits(frame: Frame) -> tuple[float, float]:
    """What the file of a picture can hold."""
    if frame.depth != "float32":
        return 0.0, 1.0
    header = frame.meta.dicom
    if header is None:
        return -math.inf, math.inf
    span = header.high - header.low
    return (header.least - header.low) / span, (header.most - header.low) / span


def _held(x: Tensor, frame: Frame) -> Tensor:
    """What is left of values in the file of a picture."""
    if frame.meta.dicom is not None and frame.depth == "float32":
        return frame.meta.dicom.kept(x)
    return to_float(from_float(x, frame.depth), frame.depth)


def _fed_back(x: Tensor, frame: Frame, correction: Correction) -> tuple[Tensor, float]:
    """Values for the file of `frame` that agree, and how far the nearest found is from agreeing."""
    best, least, left = x, math.inf, list[float]()
    for _ in range(_ROUNDS):
        seen = _held(x, frame)
        change, lacking = correction(seen)
        if lacking < least:
            best, least = seen, lacking
        if lacking == 0.0 or _is_stuck(left, change):
            break
        x = (x + change).clamp(*_limits(frame))
    return from_float(best, frame.depth), least


def _is_stuck(left: list[float], change: Tensor) -> bool:
    """Whether rounds bring nothing more: the mean of `change`, put at the end of `left`, has not fallen for a while.

    The mean, because the farthest pixel may be stuck for ever while all others still come to agree.
    """
    left.append(change.abs().mean().item())
    return len(left) > _PATIENCE and min(left[-_PATIENCE:]) > _PROGRESS * min(left[:-_PATIENCE])
