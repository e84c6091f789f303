"""A network on its device with all that surrounds it, for pictures of every kind, tile by tile."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from imagesmith.data.frame import SAMPLE_BYTES
from imagesmith.data.scanlines import Picture, Scanlines
from imagesmith.estimate.blur import BLURRED_PX, edge_blur
from imagesmith.infer.modes import (
    FLAT_PX,
    LOCK_PX,
    colour_locked,
    colour_range,
    for_colours,
    for_file,
    in_range,
    mixed,
    opacity_of,
    with_alpha,
)
from imagesmith.infer.planes import informed, planes_for
from imagesmith.infer.shake import WHOLE, Part, busiest_piece, deconvolving, kernel_of
from imagesmith.nets.deconvolved import DeconvolvedUNet
from imagesmith.runtime.allocator import give_back
from imagesmith.runtime.area import best_tile_px
from imagesmith.runtime.device import Net, Runtime, prepare
from imagesmith.runtime.memory import UNLIMITED, Demand, Limits, held_per_px, plan_within
from imagesmith.runtime.tiling import Subpixels, Tile, TilePlan, guarded, plan_for, run_rows, run_tiled, tile_px
from imagesmith.tensors import Depth, from_float, to_float
from imagesmith.tensors.deconvolution import FILTER_REACH_PX
from imagesmith.zoo import Model, ModelCard

Report = Callable[[str], None]
Around = Callable[[Subpixels], Subpixels]
"""What a network is put into: the self-ensemble, or nothing."""
_SAMPLE_PX = 64
_POINT = torch.ones(1, 1)
"""The kernel of no blur, which takes the memory of any other."""


@dataclass(frozen=True)
class _Way:
    """How a picture is computed: by which form of the network, where, and which of its values are 0 and 1 to it."""

    net: Net
    runtime: Runtime
    low: float
    high: float


class Network:
    """A model prepared for one device; the options are those of `Restorer`."""

    def __init__(
        self, model: Model, runtime: Runtime, *, tile: Tile, deep_exactly: bool, strength: float, colour_lock: bool
    ) -> None:
        self._card, self._runtime = model.card, runtime
        self._tile: Tile = tile
        self._deep_exactly, self._strength, self._colour_lock = deep_exactly, strength, colour_lock
        self._model_net = model.net
        self.net: Net = prepare(model.net, runtime)
        self._finds_kernel = isinstance(model.net, DeconvolvedUNet)
        self._told: int = 0 if self._finds_kernel else self.net.planes
        self._farther = LOCK_PX * colour_lock + FILTER_REACH_PX * self._finds_kernel

    @functools.cached_property
    def _exact(self) -> Net:
        if self._runtime.dtype == torch.float32:
            return self.net
        return prepare(self._model_net, replace(self._runtime, dtype=torch.float32))

    def strips(
        self,
        picture: Picture,
        mask: Tensor | None,
        around: Around,
        report: Report,
        *,
        depth: Depth | None = None,
        strength: float | None = None,
        limits: Limits = UNLIMITED,
        deep: bool | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """What the network makes of the picture, in values of `depth` and at a `strength` if not the usual ones.

        Tiles are cut so that `limits` are kept; ImageError where they cannot be. `deep` is whether the file has more
        than 8 bits; None: as the picture has.
        """
        depth = depth or picture.depth
        strength = self._strength if strength is None else strength
        way = self._way(picture, picture.depth != "uint8" if deep is None else deep, report)
        net = way.net

        is_large = isinstance(picture, Scanlines)

        def read(top: int, bottom: int) -> Tensor:
            if is_large and top > 0:
                give_back()
            rows = picture.rows(top, bottom)
            if self._told:
                rows = torch.cat((rows, planes_for(self._card, picture, mask, top, bottom)), dim=2)
            return rows.permute(2, 0, 1).unsqueeze(0)

        subpixels = functools.partial(self._subpixels, picture, way, around, report, strength=strength)
        plan = self._plan(picture, way, subpixels, depth, limits=limits, report=report)
        if len(plan) > 1 and not getattr(net, "halo_is_exact", True):
            report(
                f"this network sees farther than tiles overlap ({net.halo} px): seams are possible; --tile off has none"
            )
        run = subpixels(kernel=self._kernel(picture, way, report) if self._finds_kernel else None)
        size = picture.height, picture.width
        return run_rows(run, read, size, plan, scale=net.scale, depth=depth, multiple_of=net.multiple_of)

    def check_limits(self, picture: Picture, around: Around, report: Report, limits: Limits) -> None:
        """ImageError where the `strips` of a picture cannot be made within `limits`; `report` is told of smaller tiles.

        Only the size of the picture and its depth count; what a Frame on the device 'meta' has is not held yet.
        """
        way = self._way_for(picture.depth != "uint8", 0.0, 1.0)
        subpixels = functools.partial(self._subpixels, picture, way, around, report, strength=self._strength)
        self._plan(picture, way, subpixels, picture.depth, limits=limits, report=report)

    def _way(self, picture: Picture, deep: bool, report: Report) -> _Way:
        """How to compute the picture of a file that is `deep`, or not."""
        return self._way_for(deep, *colour_range(picture.parts(), picture.colours, picture.depth, report))

    def _way_for(self, deep: bool, low: float, high: float) -> _Way:
        net, runtime = self.net, self._runtime
        if self._deep_exactly and deep:
            # bf16 has 8 bits of mantissa: its noise would show in the lower bits of a deeper file
            net, runtime = self._exact, replace(runtime, dtype=torch.float32)
        return _Way(net, runtime, low, high)

    def _plan(
        self,
        picture: Picture,
        way: _Way,
        subpixels: Callable[..., Subpixels],
        depth: Depth,
        *,
        limits: Limits,
        report: Report,
    ) -> TilePlan:
        """The usual tiles, or the largest that keep within `limits`; `subpixels(kernel=...)` is what runs in them."""
        net, runtime = way.net, way.runtime
        row_samples = picture.width * picture.channels
        row_bytes = row_samples * net.scale**2 * SAMPLE_BYTES[depth]
        size = picture.height, picture.width
        cut = functools.partial(
            plan_for,
            net,
            *size,
            self._tile,
            row_bytes=row_bytes,
            farther=self._farther,
            mirrored=self._card.mirrors_edges,
        )
        if limits == UNLIMITED:
            is_free = self._tile == "auto"
            return cut(area_px=best_tile_px(net, runtime, *size) if is_free else None)
        side = math.ceil(_SAMPLE_PX / net.multiple_of) * net.multiple_of
        sample = from_float(torch.rand(1, picture.channels + self._told, side, side), picture.depth)
        run = subpixels(kernel=_POINT if self._finds_kernel else None)
        held = held_per_px(lambda x: from_float(run(x), depth), sample, runtime.device)
        demand = Demand(runtime.device, held, strip_row=row_bytes)
        if isinstance(picture, Scanlines):
            read_row = row_samples * SAMPLE_BYTES[picture.depth]
            demand = replace(demand, read_row=read_row, decoding=picture.decoding_bytes)
        elif picture.pixels.is_meta:
            demand = replace(demand, held=picture.pixels.nbytes)
        # from the usual area: finding a better one takes a tile of it, which may be over the limit itself
        return plan_within(limits, cut, tile_px(net), demand, report)

    def _kernel(self, picture: Picture, way: _Way, report: Report) -> Tensor:
        """The kernel of the picture's blur, found with the network's help, the same however its tiles are cut.

        `report` is told if the picture is sharp as it is.
        """
        piece, colours = busiest_piece(picture), picture.colours
        values = to_float(piece, picture.depth)
        alpha = opacity_of(values, colours)

        def seen(values: Tensor, part: Part = WHOLE) -> Tensor:
            """As the network sees them: hidden colours are black."""
            return in_range(values[:, :colours], way.low, way.high) * alpha[..., *part]

        def mended(part: Part, kernel: Tensor) -> Tensor:
            run = self._subpixels(picture, way, lambda run: run, lambda _: None, strength=1.0, kernel=kernel)
            given = piece[..., *part]
            plan = plan_for(way.net, *given.shape[-2:], farther=self._farther)
            return seen(run_tiled(way.net, given, plan, subpixels=run).cpu(), part)

        blurred = seen(values)
        if (blur := edge_blur(blurred[0])) is not None and blur.widest < BLURRED_PX:
            report(f"sharp already: {blur.widest:.1f} px across its edges, blurred from {BLURRED_PX} px on")
        return kernel_of(blurred, mended)

    def _subpixels(
        self, picture: Picture, way: _Way, around: Around, report: Report, *, strength: float, kernel: Tensor | None
    ) -> Subpixels:
        """The network and all that surrounds it for this picture, as one function of a piece of its pixels."""
        net = way.net
        run = guarded(net, way.runtime, lambda: self._exact, report)
        if self._colour_lock:
            run = colour_locked(run, net.scale, net.channels)
        run = around(run)
        if kernel is not None:
            run = deconvolving(run, kernel)
        channels, colours = picture.channels, picture.colours

        def mend(run: Subpixels) -> Subpixels:
            gray = for_colours(run, net.channels, 1)
            run = for_colours(run, net.channels, colours)
            if colours < channels:
                # what only mends colours leaves alpha alone: noise, JPEG and scratches are not in it
                alpha = gray if net.scale > 1 else lambda x: x
                # the colours around a pixel bound nothing in a hole, where they are what has to go
                run = with_alpha(run, alpha, min(FLAT_PX, net.halo), is_bounded=self._card.task != "inpaint")
            if strength < 1:
                run = mixed(run, strength)
            return for_file(run, picture.depth, way.runtime.device, colours=colours, low=way.low, high=way.high)

        return informed(run, mend, self._card, picture.depth, self._told) if self._told else mend(run)


def weights_digest(card: ModelCard, net: nn.Module) -> str:
    """A sha256 of a model: two that give different pictures have different ones."""
    digest = hashlib.sha256(card.to_json().encode())
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
