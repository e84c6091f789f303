"""Restoring pictures with a network: one object for files, PIL images, arrays and tensors."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from imagesmith.data.files import MAX_PIXELS, Frame, read_image
from imagesmith.errors import ModelError, UsageError
from imagesmith.infer import images
from imagesmith.infer.batch import restore_files
from imagesmith.infer.holes import as_mask, blended, check_mask, guessed
from imagesmith.infer.modes import FLAT_PX, for_colours, for_file, turned, with_alpha
from imagesmith.infer.outcome import FileOptions, Progress, Summary
from imagesmith.infer.planes import informed, planes_for
from imagesmith.nets import RESTORERS
from imagesmith.runtime.device import Net, Runtime, pick_runtime, prepare
from imagesmith.runtime.tiling import Subpixels, Tile, guarded, plan_for, run_strips
from imagesmith.tensors import Depth
from imagesmith.zoo import Model, ModelCard, load_model

Image = TypeVar("Image")
Report = Callable[[str], None]


class Restorer:
    """A model ready to restore pictures of any kind on one device.

    Calls of one Restorer may come from several threads, but gain nothing from it: the arithmetic uses all cores.
    """

    def __init__(self, model: Model, runtime: Runtime, *, tile: Tile = "auto", deep_exactly: bool = True) -> None:
        """`deep_exactly` computes pictures of more than 8 bits in float32 even where `runtime` has less."""
        self.card: ModelCard = model.card
        self.runtime = runtime
        self.tile: Tile = tile
        self._model_net = model.net
        self._net: Net = prepare(model.net, runtime)
        self._deep_exactly = deep_exactly

    @classmethod
    def load(
        cls, name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto", tile: Tile | str = "auto"
    ) -> Self:
        """The Restorer of a shipped name, a run folder or a weight file, see `imagesmith.load_model`.

        `device` is auto, cpu, cuda or mps; `dtype` auto, fp32, bf16 or fp16; `tile` auto, off or a side in pixels.
        """
        model = load_model(name_or_path)
        if model.card.net not in RESTORERS:
            raise ModelError(
                f"expected a restorer, got '{model.card.name}', a network '{model.card.net}' for the task "
                f"{model.card.task}\n`imagesmith generate` makes images with generators"
            )
        runtime = pick_runtime(model.net, device, dtype)
        return cls(model, runtime, tile=_parse_tile(tile), deep_exactly=dtype == "auto")

    @property
    def scale(self) -> int:
        return self._net.scale

    @property
    def net(self) -> Net:
        """The network as it runs here, for those who measure it on tensors."""
        return self._net

    def __call__(self, image: Image, *, mask: Any = None, self_ensemble: bool = False) -> Image | Any:
        """The restored picture, of the same kind: PIL image, array, tensor or Frame; a path gives a PIL image.

        Arrays are (H, W) or (H, W, C), uint8, uint16 or float in [0, 1]; tensors float (N, C, H, W) or (C, H, W) in
        [0, 1]; C = 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA. Sizes grow by `scale`, dtype, mode and device stay.
        `mask`, for models that fill holes, is a bool tensor or array (H, W), True where the picture is to be invented,
        or a path or picture whose white means that; all else stays bit by bit.
        """
        if isinstance(image, str | Path):
            frame = self.frame(read_image(image), mask=mask, self_ensemble=self_ensemble)
            return images.to_pil(frame)
        if isinstance(image, Frame):
            return self.frame(image, mask=mask, self_ensemble=self_ensemble)
        frames, rebuild = images.unwrap(image)
        return rebuild([self.frame(frame, mask=mask, self_ensemble=self_ensemble) for frame in frames])

    def frame(self, frame: Frame, *, mask: Any = None, self_ensemble: bool = False) -> Frame:
        """The restored frame, `scale` times as large; what was done besides is added to its notes."""
        notes: list[str] = []
        strips = self.strips(frame, mask=mask, self_ensemble=self_ensemble, report=notes.append)
        pixels = images.stacked((rows for _, rows in strips), frame, self.scale)
        return Frame(pixels, frame.depth, images.result_meta(frame, self.scale, notes))

    def strips(
        self, frame: Frame, *, mask: Any = None, self_ensemble: bool = False, report: Report = lambda _: None
    ) -> Iterator[tuple[int, Tensor]]:
        """The restored picture from top to bottom: the first row and the rows (h, W * scale, C) of each strip.

        Only one strip is held at a time. `report` is told what the user should know, such as a tile that was redone.
        """
        holes = self._holes(frame, mask)
        if holes is None:
            return self._network_strips(frame, None, self_ensemble, report)
        frame, within_reach = guessed(frame, holes, self._filled)
        strips = self._network_strips(frame, within_reach, self_ensemble, report)
        return blended(strips, frame, within_reach)

    def path(
        self,
        source: str | Path | Sequence[str | Path],
        destination: str | Path | None = None,
        *,
        recursive: bool = False,
        resume: bool = False,
        overwrite: bool = False,
        suffix: str | None = None,
        format: str = "keep",
        partial: bool = False,
        max_pixels: int = MAX_PIXELS,
        self_ensemble: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Summary:
        """Restore files, folders, patterns, zip archives or `-` into files; never an exception for a single bad file.

        Without `destination` results lie beside their inputs as `<stem>.<task>x<scale>.<ext>`; a folder mirrors the
        tree, a file name takes one picture, `-` is standard output. `resume` skips what an earlier run finished with
        the same input and settings. `on_progress` is called from the calling thread. The first Ctrl-C ends it after the
        current row of tiles with a summary that says so, the second raises KeyboardInterrupt. Raises UsageError before
        anything is done where the request contradicts itself.
        """
        options = FileOptions(
            recursive=recursive,
            resume=resume,
            overwrite=overwrite,
            suffix=suffix,
            format=format,
            partial=partial,
            max_pixels=max_pixels,
            self_ensemble=self_ensemble,
            dry_run=dry_run,
        )
        sources = [source] if isinstance(source, str | Path) else list(source)
        return restore_files(self, sources, destination, options, on_progress)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A sha256 of the weights: two models that give different pictures have different ones."""
        digest = hashlib.sha256(self.card.to_json().encode())
        for name, value in self._model_net.state_dict().items():
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _exact_net(self) -> Net:
        return prepare(self._model_net, replace(self.runtime, dtype=torch.float32))

    def _holes(self, frame: Frame, mask: Any) -> Tensor | None:
        """The checked mask of a model that fills holes; UsageError for a mask without such a model, and the reverse."""
        if self.card.task != "inpaint":
            if mask is not None:
                raise UsageError(f"model '{self.card.name}' (task {self.card.task}) takes no mask; 'inpaint' does")
            return None
        if mask is None:
            raise UsageError(
                f"model '{self.card.name}' fills holes, but no mask tells where they are\n"
                "name a picture of the same size that is white there (--mask FILE), or --mask auto"
            )
        holes = as_mask(mask)
        check_mask(holes, frame)
        return holes

    def _filled(self, frame: Frame, mask: Tensor) -> Frame:
        return self.frame(frame, mask=mask)

    def _network_strips(
        self, frame: Frame, mask: Tensor | None, self_ensemble: bool, report: Report
    ) -> Iterator[tuple[int, Tensor]]:
        net = self._net
        pixels = frame.pixels
        if net.planes:
            pixels = torch.cat((pixels, planes_for(self.card, frame, mask)), dim=2)
        x = pixels.permute(2, 0, 1).unsqueeze(0)
        subpixels = self._subpixels(frame, self_ensemble, report)
        plan = plan_for(net, x.shape[2], x.shape[3], self.tile)
        return run_strips(subpixels, x, plan, scale=net.scale, depth=frame.depth, multiple_of=net.multiple_of)

    def _subpixels(self, frame: Frame, self_ensemble: bool, report: Report) -> Callable[[Tensor], Tensor]:
        """The network and all that surrounds it for this picture, as one function of a piece of its pixels."""
        runtime, net = self.runtime, self._net
        if self._deep_exactly and frame.depth != "uint8":
            # bf16 has 8 bits of mantissa: its noise would show in the lower bits of a deeper file
            runtime, net = replace(runtime, dtype=torch.float32), self._exact_net
        run = guarded(net, runtime, lambda: self._exact_net, report)
        if self_ensemble:
            run = turned(run, self.scale)
        channels = frame.pixels.shape[2]
        colours = channels - (channels in (2, 4))
        low, high = _colour_range(frame.pixels[..., :colours], frame.depth, report)

        def mend(run: Subpixels) -> Subpixels:
            gray = for_colours(run, net.channels, 1)
            run = for_colours(run, net.channels, colours)
            if colours < channels:
                # what only mends colours leaves alpha alone: noise, JPEG and scratches are not in it
                alpha = gray if net.scale > 1 else lambda x: x
                run = with_alpha(run, alpha, min(FLAT_PX, net.halo))
            return for_file(run, frame.depth, runtime.device, colours=colours, low=low, high=high)

        return informed(run, mend, self.card, frame, net.planes) if net.planes else mend(run)


def restore(
    image: Image,
    scale: int = 4,
    *,
    model: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    tile: Tile | str = "auto",
    self_ensemble: bool = False,
) -> Image | Any:
    """`image` enlarged `scale` times by the shipped `sr-x<scale>`, or restored by `model`; kinds as for `Restorer`."""
    restorer = _loaded(str(model or f"sr-x{scale}"), device, dtype, tile)
    return restorer(image, self_ensemble=self_ensemble)


@functools.lru_cache(maxsize=4)
def _loaded(name: str, device: str, dtype: str, tile: Tile | str) -> Restorer:
    return Restorer.load(name, device=device, dtype=dtype, tile=tile)


def _parse_tile(tile: Tile | str) -> Tile:
    """Text such as '512' is a number of pixels; what is impossible is told by `plan_tiles`."""
    return int(tile) if isinstance(tile, str) and tile.isdecimal() else tile  # type: ignore[return-value]


def _colour_range(colour: Tensor, depth: Depth, report: Report) -> tuple[float, float]:
    """What the network is to see as 0 and 1: these, unless a float picture reaches beyond.

    Float files declare no range, so the values tell: [0, 1] is widened just as far as needed, and every brightness
    within keeps its place. Networks are made for [0, 1] and do not know brighter than white.
    """
    if depth != "float32":
        return 0.0, 1.0
    finite = colour[torch.isfinite(colour)]
    if finite.numel() < colour.numel():
        report("values that are not finite were taken for the darkest")
    if not finite.numel():
        return 0.0, 1.0
    low, high = min(0.0, finite.min().item()), max(1.0, finite.max().item())
    if (low, high) != (0.0, 1.0):
        report(f"float values from {low:.4g} to {high:.4g} were scaled into [0, 1] for the network, and back")
    return low, high
