"""A network on its device with all that surrounds it, for pictures of every kind, tile by tile."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from imagesmith.data.files import Frame
from imagesmith.infer.modes import (
    FLAT_PX,
    LOCK_PX,
    colour_locked,
    colour_range,
    for_colours,
    for_file,
    mixed,
    with_alpha,
)
from imagesmith.infer.planes import informed, planes_for
from imagesmith.runtime.device import Net, Runtime, prepare
from imagesmith.runtime.tiling import Subpixels, Tile, guarded, plan_for, run_strips
from imagesmith.tensors import Depth
from imagesmith.zoo import Model, ModelCard

Report = Callable[[str], None]
Around = Callable[[Subpixels], Subpixels]
"""What a network is put into: the self-ensemble, or nothing."""


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

    @functools.cached_property
    def _exact(self) -> Net:
        return prepare(self._model_net, replace(self._runtime, dtype=torch.float32))

    def strips(
        self,
        frame: Frame,
        mask: Tensor | None,
        around: Around,
        report: Report,
        *,
        depth: Depth | None = None,
        strength: float | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """What the network makes of the picture, in values of `depth` and at a `strength` if not the usual ones."""
        net = self.net
        pixels = frame.pixels
        if net.planes:
            pixels = torch.cat((pixels, planes_for(self._card, frame, mask)), dim=2)
        x = pixels.permute(2, 0, 1).unsqueeze(0)
        subpixels = self._subpixels(frame, around, report, self._strength if strength is None else strength)
        plan = plan_for(net, x.shape[2], x.shape[3], self._tile)
        if len(plan) > 1 and not getattr(net, "halo_is_exact", True):
            report(
                f"this network sees farther than tiles overlap ({net.halo} px): seams are possible; --tile off has none"
            )
        if self._colour_lock:
            plan = replace(plan, halo=plan.halo + math.ceil(LOCK_PX / net.multiple_of) * net.multiple_of)
        return run_strips(subpixels, x, plan, scale=net.scale, depth=depth or frame.depth, multiple_of=net.multiple_of)

    def _subpixels(self, frame: Frame, around: Around, report: Report, strength: float) -> Subpixels:
        """The network and all that surrounds it for this picture, as one function of a piece of its pixels."""
        runtime, net = self._runtime, self.net
        if self._deep_exactly and frame.depth != "uint8":
            # bf16 has 8 bits of mantissa: its noise would show in the lower bits of a deeper file
            runtime, net = replace(runtime, dtype=torch.float32), self._exact
        run = guarded(net, runtime, lambda: self._exact, report)
        if self._colour_lock:
            run = colour_locked(run, net.scale)
        run = around(run)
        channels, colours = frame.pixels.shape[2], frame.colours
        low, high = colour_range(frame.pixels[..., :colours], frame.depth, report)

        def mend(run: Subpixels) -> Subpixels:
            gray = for_colours(run, net.channels, 1)
            run = for_colours(run, net.channels, colours)
            if colours < channels:
                # what only mends colours leaves alpha alone: noise, JPEG and scratches are not in it
                alpha = gray if net.scale > 1 else lambda x: x
                run = with_alpha(run, alpha, min(FLAT_PX, net.halo))
            if strength < 1:
                run = mixed(run, strength)
            return for_file(run, frame.depth, runtime.device, colours=colours, low=low, high=high)

        return informed(run, mend, self._card, frame, net.planes) if net.planes else mend(run)


def weights_digest(card: ModelCard, net: nn.Module) -> str:
    """A sha256 of a model: two that give different pictures have different ones."""
    digest = hashlib.sha256(card.to_json().encode())
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
