"""Frames through a network that remembers: motion on the whole frame, the trunk tile by tile, the same to rounding."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import DEPTHS
from imagesmith.data.video import VideoInfo
from imagesmith.errors import ImageError, ModelError
from imagesmith.infer.network import Report
from imagesmith.infer.video.frames import Memory
from imagesmith.nets.recurrent import State
from imagesmith.runtime.device import Net, Runtime, prepare
from imagesmith.runtime.tiling import SANE_RANGE, Tile, TilePlan, plan_for
from imagesmith.tensors import from_float, is_out_of_memory, to_float
from imagesmith.zoo import Model

_SMALLEST_TILE_PX = 16  # out of memory below this is not a matter of the tile

Span = tuple[int, int]
"""First pixel and the one after the last, along a side."""


class Remembering:
    """Restores frame after frame by a network of `imagesmith.nets.VIDEO_RESTORERS`; its memory is the net's `State`."""

    def __init__(self, model: Model, runtime: Runtime, *, tile: Tile, deep_exactly: bool) -> None:
        """`deep_exactly` computes frames of more than 8 bits in float32 even where `runtime` has less."""
        self.net: Net = prepare(model.net, runtime)
        self.scale, self.looks_ahead = self.net.scale, self.net.look_ahead > 0
        self._model_net, self._runtime = model.net, runtime
        self._tile: Tile = tile
        self._deep_exactly = deep_exactly

    @functools.cached_property
    def _exact(self) -> Net:
        if self._runtime.dtype == torch.float32:
            return self.net
        return prepare(self._model_net, replace(self._runtime, dtype=torch.float32))

    def of_film(self, info: VideoInfo) -> Self:
        """Itself, which takes no mask."""
        return self

    def said(self) -> Iterator[str]:
        """Nothing: a film's end brings nothing new to light."""
        return iter(())

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report) -> tuple[Tensor, Memory]:
        """The restored frame (H * scale, W * scale, 3) of the dtype of `pixels` (H, W, 3), and the memory after it."""
        depth = DEPTHS[pixels.dtype]
        # bf16 has 8 bits of mantissa: its noise would show in the lower bits of a deeper film
        exactly = self._deep_exactly and depth != "uint8"
        x, after = self._seen(pixels), None if ahead is None else self._seen(ahead)
        device = self._runtime.device
        state = State(*(part.to(device) for part in memory)) if memory else None
        result, hidden = self._computed(x, state, after, exactly, report)
        height, width = (side * self.scale for side in pixels.shape[:2])
        restored = from_float(result[0, :, :height, :width].permute(1, 2, 0), depth).contiguous().cpu()
        # one layout, so that what comes back from a file goes through the same kernels
        return restored, tuple(part.contiguous() for part in (x, hidden, result))

    def _seen(self, pixels: Tensor) -> Tensor:
        """The frame as the network takes it: (1, 3, H, W) in [0, 1], edges repeated up to its size multiple."""
        x = to_float(pixels.to(self._runtime.device), DEPTHS[pixels.dtype]).permute(2, 0, 1).unsqueeze(0)
        multiple = self.net.multiple_of
        x = F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), mode="replicate")
        return x.contiguous(memory_format=self._runtime.memory_format)

    def _computed(
        self, x: Tensor, state: State | None, ahead: Tensor | None, exactly: bool, report: Report
    ) -> tuple[Tensor, Tensor]:
        """Result and features in which no broken value goes on to the next frames."""
        low, high = SANE_RANGE
        if not exactly and self._runtime.dtype != torch.float32:
            result, hidden = self._in_tiles(self.net, x, state, ahead, report)
            if low <= result.amin() and result.amax() <= high and _is_finite(hidden):
                return result, hidden
            report(f"overflow in {self._runtime.dtype}: a frame was computed again in float32")
        result, hidden = self._in_tiles(self._exact, x, state, ahead, report)
        if not (_is_finite(result) and _is_finite(hidden)):
            raise ModelError("the model's result is not finite, even in float32; its weights do not fit this film")
        return result, hidden

    def _in_tiles(
        self, net: Net, x: Tensor, state: State | None, ahead: Tensor | None, report: Report
    ) -> tuple[Tensor, Tensor]:
        """Result and features of the whole frame; in smaller tiles from here on where memory does not suffice."""
        height, width = x.shape[-2:]
        try:
            aligned = net.aligned(x, state, ahead)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise ImageError(f"out of memory for the motion of a frame of {width}x{height}; free some") from error
            raise
        while True:
            plan = plan_for(net, height, width, self._tile)
            try:
                return _tiled(net, x, aligned, plan)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            side = max(last - first for cuts in (plan.rows, plan.columns) for first, last in itertools.pairwise(cuts))
            if side <= max(_SMALLEST_TILE_PX, net.multiple_of):
                raise ImageError(f"out of memory even for a tile of {side} pixels; free some memory")
            self._tile = math.ceil(side / 2)
            report(f"out of memory: from here on in tiles of {self._tile} pixels")


def _tiled(net: Net, x: Tensor, aligned: Tensor | None, plan: TilePlan) -> tuple[Tensor, Tensor]:
    """`net.trunk(x, aligned)`, tile by tile."""
    if len(plan) == 1:
        return net.trunk(x, aligned)
    fold, scale = net.multiple_of, net.scale
    height, width = x.shape[-2:]
    result, hidden = x.new_empty(1, x.shape[1], height * scale, width * scale), None
    for rows, columns in itertools.product(itertools.pairwise(plan.rows), itertools.pairwise(plan.columns)):
        outer = _grown(rows, plan.halo, height), _grown(columns, plan.halo, width)
        near = None if aligned is None else _cut(aligned, *outer, over=fold)
        y, features = net.trunk(_cut(x, *outer), near)
        inner = [
            (first - start, last - start) for (first, last), (start, _) in zip((rows, columns), outer, strict=True)
        ]
        _cut(result, rows, columns, times=scale).copy_(_cut(y, *inner, times=scale))
        if hidden is None:
            hidden = features.new_empty(1, features.shape[1], height // fold, width // fold)
        _cut(hidden, rows, columns, over=fold).copy_(_cut(features, *inner, over=fold))
    assert hidden is not None, "a plan has at least one tile"
    return result, hidden


def _grown(span: Span, halo: int, size: int) -> Span:
    return max(0, span[0] - halo), min(size, span[1] + halo)


def _cut(x: Tensor, rows: Span, columns: Span, *, times: int = 1, over: int = 1) -> Tensor:
    """The part of `x`, which is `times / over` times as large as the frame, that lies at these pixels of the frame."""
    (top, bottom), (left, right) = ((first * times // over, last * times // over) for first, last in (rows, columns))
    return x[..., top:bottom, left:right]


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x.amax() - x.amin()))  # NaN if any value is
