"""The one exact tiler: an image through a network in pieces, with the result of the whole image.

A piece is computed with `halo` more pixels on each side, the network's receptive radius, and these are cut off again;
at an edge of the image the piece ends there too, so the network's own padding stays where the whole image has it.
The result leaves as rows of file values, strip by strip: sub-pixels are turned into integers first and shuffled then,
so the `scale**2` times larger picture is only ever touched as bytes, and never held as a whole.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.errors import ImageError, ModelError, UsageError
from imagesmith.runtime import winograd
from imagesmith.runtime.allocator import LARGEST_KEPT_BYTES
from imagesmith.runtime.device import Net, Runtime
from imagesmith.tensors import Depth, from_float, is_out_of_memory
from imagesmith.tensors.edges import mirrored_crop

Tile = int | Literal["auto", "off"]
Subpixels = Callable[[Tensor], Tensor]
"""(N, C, h, w) of any dtype -> (N, C' * scale**2, h, w) float, unclamped; sees `halo` pixels far."""
Read = Callable[[int, int], Tensor]
"""(1, C, bottom - top, W): the rows of a picture from `top` to `bottom`, which never decrease from call to call."""

TILE_BYTES = {"cpu": LARGEST_KEPT_BYTES, "cuda": 512 << 20, "mps": 256 << 20}
"""Size of the largest tensor while a tile is computed. On CPUs: what the C library still keeps, for the kernel clears
fresh memory for each larger tensor, which costs as much as a quarter of the arithmetic; the sweep in
`tests/runtime/test_tiling.py` (marked slow) shows where the best size lies."""
_IN_PLACE = 2
"""So many times that where most layers take no memory of their own (`winograd.py`): fewer halos are worth more then."""
STRIP_BYTES = 40 << 20
"""Size of a strip of the result, of which a few are on their way to the file at the same time."""

SANE_RANGE = (-4.0, 5.0)  # a network's result far outside [0, 1] in low precision is an overflow, not a picture
_SMALLEST_TILE_PX = 16  # out of memory below this is not a matter of the tile


@dataclass(frozen=True)
class TilePlan:
    """Where an image is cut, in input pixels: `rows` and `columns` are the cuts, from 0 to the image's size.

    That size is rounded up to what the network needs, by rows and columns that are `mirrored`, or repeat the last one.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    halo: int
    mirrored: bool = False

    def __len__(self) -> int:
        return (len(self.rows) - 1) * (len(self.columns) - 1)

    @property
    def tallest(self) -> int:
        """Rows of the highest strip, without halo."""
        return max(bottom - top for top, bottom in itertools.pairwise(self.rows))

    @property
    def largest_px(self) -> int:
        """Pixels of the largest tile, halo included."""
        high, wide = (
            max(min(end + self.halo, cuts[-1]) - max(start - self.halo, 0) for start, end in itertools.pairwise(cuts))
            for cuts in (self.rows, self.columns)
        )
        return high * wide

    @property
    def tile_size(self) -> str:
        """Width and height of the largest tile, without halo, for people."""
        return f"{max(right - left for left, right in itertools.pairwise(self.columns))}x{self.tallest} pixels"


@dataclass(frozen=True)
class _Box:
    top: int
    left: int
    bottom: int
    right: int

    def grown(self, halo: int, height: int, width: int) -> "_Box":
        """With the halo around it, as far as the image reaches."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        return _Box(top, left, min(height, self.bottom + halo), min(width, self.right + halo))

    def halves(self, multiple: int) -> "list[_Box]":
        """Cut across its longer side at a multiple of `multiple`."""
        high, wide = self.bottom - self.top, self.right - self.left
        if high >= wide:
            cut = self.top + math.ceil(high / 2 / multiple) * multiple
            return [_Box(self.top, self.left, cut, self.right), _Box(cut, self.left, self.bottom, self.right)]
        cut = self.left + math.ceil(wide / 2 / multiple) * multiple
        return [_Box(self.top, self.left, self.bottom, cut), _Box(self.top, cut, self.bottom, self.right)]

    def within(self, outer: "_Box") -> "_Box":
        """The same pixels counted from the corner of `outer`."""
        top, left = outer.top, outer.left
        return _Box(self.top - top, self.left - left, self.bottom - top, self.right - left)

    def cut(self, x: Tensor) -> Tensor:
        return x[..., self.top : self.bottom, self.left : self.right]

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def plan_tiles(
    height: int,
    width: int,
    halo: int,
    tile: Tile = "auto",
    *,
    area_px: int = 1 << 17,
    most_rows: int | None = None,
    multiple_of: int = 1,
) -> TilePlan:
    """Cuts into tiles of equal size, to a pixel.

    'auto' takes the cuts that compute the fewest pixels, halos counted, with no tile (halo included) over `area_px` and
    none (without halo) over `most_rows`: full-width strips for a narrow image, near squares for a wide one. An integer
    is the side of a tile in input pixels without its halo, 'off' is one tile. Cuts lie at multiples of `multiple_of`,
    and so does the halo.
    """
    halo = math.ceil(halo / multiple_of) * multiple_of
    if tile == "off":
        down, across = 1, 1
    elif tile == "auto":
        down, across = _cheapest_cuts(height, width, halo, area_px, most_rows or height)
    elif isinstance(tile, int) and tile > 0:
        down, across = math.ceil(height / tile), math.ceil(width / tile)
    else:
        raise UsageError(f"expected a tile of auto, off or a number of pixels above 0, got '{tile}'")
    return TilePlan(_cuts(height, down, multiple_of), _cuts(width, across, multiple_of), halo)


def tile_px(net: Net) -> int:
    """Pixels of a tile of a prepared net whose largest tensor takes `TILE_BYTES` of its device.

    A net that computes at lower resolutions says how many `features_per_px` of its input its largest tensor has.
    """
    parameters = list(net.parameters())
    widest = getattr(net, "features_per_px", None)
    if widest is None:
        widest = max((parameter.shape[0] for parameter in parameters if parameter.ndim == 4), default=1)
    feature_bytes = min(parameter.element_size() for parameter in parameters)  # a first layer may be more exact
    bytes_per_px = max(widest * feature_bytes, net.channels * net.scale**2 * 4)
    times = _IN_PLACE if winograd.is_in_place(net) else 1
    return int(times * TILE_BYTES[parameters[0].device.type] / bytes_per_px)


def plan_for(
    net: Net,
    height: int,
    width: int,
    tile: Tile = "auto",
    *,
    area_px: int | None = None,
    row_bytes: int | None = None,
    strip_bytes: int = STRIP_BYTES,
    farther: int = 0,
    mirrored: bool = False,
) -> TilePlan:
    """`plan_tiles` for a prepared net: its halo, tiles of `tile_px` if no other area, strips of `strip_bytes` at most.

    `row_bytes` is what a row of the input takes in the result; strips are not made lower than twice the halo for it.
    What surrounds the net sees so many pixels `farther`: tiles grow by them beyond the area, for within it they would
    be so small that up to two fifths more pixels are computed.
    """
    if row_bytes is None:
        row_bytes = int(width * net.channels * net.scale**2)
    most_rows = max(strip_bytes // row_bytes, 2 * net.halo, _SMALLEST_TILE_PX)
    area_px, multiple = area_px or tile_px(net), net.multiple_of
    plan = plan_tiles(height, width, net.halo, tile, area_px=area_px, most_rows=most_rows, multiple_of=multiple)
    return replace(plan, halo=plan.halo + math.ceil(farther / multiple) * multiple, mirrored=mirrored)


def guarded(
    net: Net, runtime: Runtime, exact: Callable[[], Net], report: Callable[[str], None] = lambda _: None
) -> Subpixels:
    """`net.subpixels` on the runtime's device, in which no broken value passes.

    A result of low precision that is not finite or far outside [0, 1] is computed again by `exact()`, the same net in
    float32, and `report` is told so. Not finite in float32 either is a ModelError.
    """
    low, high = SANE_RANGE

    def subpixels(x: Tensor) -> Tensor:
        x = x.to(device=runtime.device, memory_format=runtime.memory_format)
        y = net.subpixels(x)
        least, most = _range(y)
        if runtime.dtype != torch.float32 and not (low <= least and most <= high):
            report(f"overflow in {runtime.dtype}: a tile was computed again in float32")
            y = exact().subpixels(x)
            least, most = _range(y)
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ModelError("the model's result is not finite, even in float32; its weights do not fit this image")
        return y

    return subpixels


def run_strips(
    subpixels: Subpixels, x: Tensor, plan: TilePlan, *, scale: int, depth: Depth, multiple_of: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """`run_rows` for a picture that is in memory, `x` (1, C, H, W)."""
    height, width = x.shape[-2:]

    def read(top: int, bottom: int) -> Tensor:
        return x[..., top:bottom, :]

    return run_rows(subpixels, read, (height, width), plan, scale=scale, depth=depth, multiple_of=multiple_of)


def run_rows(
    subpixels: Subpixels,
    read: Read,
    size: tuple[int, int],
    plan: TilePlan,
    *,
    scale: int,
    depth: Depth,
    multiple_of: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """The result for a picture of `size` (H, W) strip by strip: its first row, and (rows, W * scale, C') of `depth`.

    Of the picture only the rows of one strip and its halo are asked for at a time. A tile that does not fit into memory
    is cut in halves and computed again, and later tiles are cut alike; only when the smallest tile does not fit it is
    an ImageError. Every other error of `subpixels` passes through.
    """
    height, width = size
    fits_px = math.inf
    for top, bottom in itertools.pairwise(plan.rows):
        first, last = max(0, top - plan.halo), min(plan.rows[-1], bottom + plan.halo)
        x = _padded(read(first, min(last, height)), last - first, plan.columns[-1], mirrored=plan.mirrored)
        across = itertools.pairwise(plan.columns)
        boxes = [_Box(top - first, left, bottom - first, right) for left, right in across][::-1]
        strip = None
        while boxes:
            box = boxes.pop()
            grown = box.grown(plan.halo, *x.shape[-2:])
            values = None
            if grown.area < fits_px:
                values = _compute(subpixels, grown.cut(x), box.within(grown), scale, depth)
            if values is None:
                fits_px = min(fits_px, grown.area)
                if max(box.bottom - box.top, box.right - box.left) <= max(_SMALLEST_TILE_PX, multiple_of):
                    raise ImageError(f"out of memory even for a tile of {_SMALLEST_TILE_PX} pixels; free some memory")
                boxes.extend(reversed(box.halves(multiple_of)))
                continue
            if strip is None:
                strip = values.new_empty(((bottom - top) * scale, plan.columns[-1] * scale, values.shape[-1]))
            strip[(first + box.top - top) * scale :, box.left * scale :][: values.shape[0], : values.shape[1]] = values
        assert strip is not None, "a plan has at least one tile in each row"
        del x  # before the next rows are read
        yield top * scale, strip[: (height - top) * scale, : width * scale]


def run_tiled(net: Net, x: Tensor, plan: TilePlan | None = None, *, subpixels: Subpixels | None = None) -> Tensor:
    """`net(x)` for float (N, C, H, W), unclamped float32 on the CPU, computed tile by tile; the same to rounding.

    `subpixels` stands for `net.subpixels` where that is to be watched (`guarded`) or extended.
    """
    plan = plan or plan_for(net, *x.shape[-2:])
    run = subpixels or net.subpixels
    images = []
    for image in x.split(1):
        strips = run_strips(run, image, plan, scale=net.scale, depth="float32", multiple_of=net.multiple_of)
        images.append(torch.cat([rows for _, rows in strips]))
    return torch.stack(images).permute(0, 3, 1, 2)


def _cheapest_cuts(height: int, width: int, halo: int, area_px: int, most_rows: int) -> tuple[int, int]:
    """(tiles down, tiles across) of least computed pixels: each inner cut costs twice the halo over its length."""
    best = None
    for across in range(1, width + 1):
        tile_width = min(width, math.ceil(width / across) + 2 * halo)
        room = min(area_px // tile_width - 2 * halo, most_rows)
        is_whole = area_px // tile_width >= height <= most_rows
        if room < 1 and not is_whole:
            continue
        down = 1 if is_whole else math.ceil(height / room)
        cost = (height + 2 * halo * (down - 1)) * (width + 2 * halo * (across - 1))
        if best is not None and width + 2 * halo * (across - 1) > best[0] / height:
            break  # more columns alone cost more than the best found
        if best is None or cost < best[0]:
            best = (cost, down, across)
    if best is None:  # the halo alone is over the area: tiles as large as the halo keep the waste bounded
        side = max(2 * halo, _SMALLEST_TILE_PX)
        return math.ceil(height / min(side, most_rows)), math.ceil(width / side)
    return best[1:]


def _cuts(length: int, pieces: int, multiple_of: int) -> tuple[int, ...]:
    units = math.ceil(length / multiple_of)
    pieces = max(1, min(pieces, units))
    return tuple(i * units // pieces * multiple_of for i in range(pieces + 1))


def _padded(x: Tensor, height: int, width: int, *, mirrored: bool) -> Tensor:
    """`x` with its last rows and columns mirrored, or the last one repeated, up to this size; itself if it has it."""
    if mirrored:
        return mirrored_crop(x, 0, 0, height, width)
    rows, columns = torch.arange(height).clamp_(max=x.shape[-2] - 1), torch.arange(width).clamp_(max=x.shape[-1] - 1)
    return x if x.shape[-2:] == (height, width) else x[..., rows[:, None], columns]


def _range(y: Tensor) -> list[float]:
    """Least and greatest value, both NaN if any value is; a GPU is waited for once."""
    return torch.stack([y.amin(), y.amax()]).tolist()


def _on_cpu(x: Tensor) -> Tensor:
    """`x` in the CPU's memory; from a GPU into pinned memory, to which it copies several times faster."""
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x) if x.is_cuda else x.cpu()


@torch.inference_mode()
def _compute(subpixels: Subpixels, x: Tensor, inner: _Box, scale: int, depth: Depth) -> Tensor | None:
    """The `inner` part of a tile `x` as (h * scale, w * scale, C') file values on the CPU; None if out of memory."""
    try:
        values = from_float(inner.cut(subpixels(x)), depth)
        if scale > 1:
            # two-byte integers are shuffled as signed ones, for which the kernel exists
            is_wide = depth == "uint16"
            values = F.pixel_shuffle(values.view(torch.int16) if is_wide else values, scale)
            values = values.view(torch.uint16) if is_wide else values
        return _on_cpu(values[0].permute(1, 2, 0))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
