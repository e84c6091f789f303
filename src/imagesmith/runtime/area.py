"""How large tiles pay on this machine: measured once, when a picture is first large enough for it to matter.

Larger tiles compute fewer halo pixels; smaller ones stay in the processor's caches. Tiles are not put into batches: one
tile of their area does the same with fewer halos.
"""

import math
from functools import partial

import torch

from imagesmith.runtime.allocator import give_back
from imagesmith.runtime.device import Net, Runtime, net_shape
from imagesmith.runtime.remembered import Answer, found_once
from imagesmith.runtime.tiling import tile_px
from imagesmith.runtime.turns import least_seconds
from imagesmith.tensors import is_out_of_memory

PERCENTS = (100, 50, 25)
"""Areas that are tried, in percent of `tile_px`. None is larger, so no picture needs more memory than was planned."""
WORTH_TILES = 16
"""Measuring takes the time of two tiles, so a picture has to have many."""
_CLEAR_MARGIN = 1.05
_SMALLEST_SIDE = 32


def best_tile_px(net: Net, runtime: Runtime, height: int, width: int) -> int:
    """Pixels of a tile for a picture of this size: `tile_px`, or what was found faster for a prepared `net` here."""
    usual = tile_px(net)
    return usual if height * width < WORTH_TILES * usual else usual * measured_area(net, runtime)["percent"] // 100


def measured_area(net: Net, runtime: Runtime) -> Answer:
    """The 'percent' of `tile_px` that is fastest, and the 'reason' in a sentence; measured now if it never was."""
    return found_once(
        f"share of {tile_px(net)} pixels for tiles of {net_shape(net)} in {runtime.arithmetic}",
        runtime.device,
        partial(_measure, net, runtime),
        fits={"percent": list(PERCENTS), "reason": str},
    )


def _measure(net: Net, runtime: Runtime) -> Answer:
    _seconds_per_kept_px(net, runtime, min(PERCENTS))  # builds kernels
    per_px = {percent: _seconds_per_kept_px(net, runtime, percent) for percent in PERCENTS}
    give_back()
    usual, best = PERCENTS[0], min(PERCENTS, key=per_px.__getitem__)
    chosen = best if per_px[usual] >= _CLEAR_MARGIN * per_px[best] else usual
    found = ", ".join(
        f"{percent} % " + ("has no memory" if math.isinf(value) else f"{1e6 * value:.2f} us")
        for percent, value in per_px.items()
    )
    return {"percent": chosen, "reason": f"of the usual area; a pixel of a tile takes at {found}"}


def _seconds_per_kept_px(net: Net, runtime: Runtime, percent: int) -> float:
    """For each pixel of a square tile of so much of the usual area, halos cut off; infinity without memory for it."""
    cells = math.isqrt(tile_px(net) * percent // 100) // net.multiple_of
    side = max(_SMALLEST_SIDE // net.multiple_of, cells) * net.multiple_of
    try:
        x = torch.full((1, net.channels + net.planes, side, side), 0.5, device=runtime.device)
        run = partial(net.subpixels, x.to(memory_format=runtime.memory_format))
        seconds = least_seconds({percent: run}, runtime.device, rounds=1, enough=0)[percent]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return math.inf
    return seconds / max(1, side - 2 * net.halo) ** 2
