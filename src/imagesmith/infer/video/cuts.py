"""Where a new scene begins, found while the film goes by, with one frame of context on either side.

A frame is compared with the one before as an encoder would do it: block by block, which is cheaper, to predict the
block from anywhere near in the frame before, or from its own mean? At a cut the frame before is of no more use than
that. Pans, zooms and moving things are found by the search; what has not changed at all has no say, so that bars, logos
and split screens hide no cut; and a frame that the next one does not confirm is a flash, after which the scene goes on.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import DEPTHS
from imagesmith.tensors import to_float, to_gray

_HEIGHT, _WIDTH, _BLOCK = 40, 64, 8
_REACH = (10, 16)  # rows and columns: motions of up to a quarter of the frame from one frame to the next
_ABOUT = 4  # of so many times the sketch's size is what is averaged, so that sketching costs little in large frames
_LEVEL = 2 / 255  # differences that mean nothing, in blocks without contrast above all
_CHANGED = 0.25  # a block has changed from this share of its contrast on
_LEAST_CHANGED = 0.4  # share of the blocks: below, something moves in a scene that stays
_CUT = 0.72  # as many errors by the frame before as by the blocks' own means; photographs and pans lie on either side


class Shot(NamedTuple):
    """A frame, whether a new scene begins with it, and the sketch that the next frame is to be compared with."""

    pixels: Tensor
    is_cut: bool
    sketch: Tensor


def marked(frames: Iterable[Tensor], sketch: Tensor | None = None) -> Iterator[Shot]:
    """Each of `frames` (H, W, 3), one frame late; the first begins a scene unless the `sketch` before it is given."""
    waiting: tuple[Tensor, Tensor] | None = None
    for pixels in frames:
        drawn = sketched(pixels)
        if waiting is not None:
            shot = _judged(*waiting, sketch, drawn)
            sketch = shot.sketch
            yield shot
        waiting = pixels, drawn
    if waiting is not None:
        yield _judged(*waiting, sketch, None)


def sketched(pixels: Tensor) -> Tensor:
    """The brightness of a frame (H, W, 3) as float (40, 64) in [0, 1], whatever its size and shape."""
    height, width = pixels.shape[:2]
    coarse = pixels[:: max(1, height // (_ABOUT * _HEIGHT)), :: max(1, width // (_ABOUT * _WIDTH))]
    light = to_gray(to_float(coarse, DEPTHS[pixels.dtype]).permute(2, 0, 1).unsqueeze(0))
    return F.interpolate(light, (_HEIGHT, _WIDTH), mode="area")[0, 0]


def differ(before: Tensor, now: Tensor) -> bool:
    """Whether the sketch `now` shows another scene than the sketch `before`."""
    own = now.unfold(0, _BLOCK, _BLOCK).unfold(1, _BLOCK, _BLOCK)
    contrast = (own - own.mean((-2, -1), keepdim=True)).abs().mean((-2, -1))
    changed = F.avg_pool2d((before - now).abs()[None, None], _BLOCK)[0, 0] > _CHANGED * contrast + _LEVEL
    if changed.float().mean() < _LEAST_CHANGED:
        return False
    rows, columns = _REACH
    around = F.pad(before[None, None], (columns, columns, rows, rows), mode="replicate")[0, 0]
    moved = around.unfold(0, _HEIGHT, 1).unfold(1, _WIDTH, 1).flatten(0, 1)
    errors = F.avg_pool2d((moved - now).abs().unsqueeze(1), _BLOCK).amin((0, 1))
    return bool(errors[changed].sum() > _CUT * (contrast[changed] + _LEVEL).sum())


def _judged(pixels: Tensor, now: Tensor, before: Tensor | None, after: Tensor | None) -> Shot:
    """The frame with its verdict; after a flash the scene is still compared with what it was before."""
    if before is None:
        return Shot(pixels, True, now)
    if not differ(before, now):
        return Shot(pixels, False, now)
    is_flash = after is not None and not differ(before, after)
    return Shot(pixels, not is_flash, before if is_flash else now)
