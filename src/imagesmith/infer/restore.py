"""Restoring pictures with a network: one object for files, PIL images, arrays and tensors."""

import functools
import numbers
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from imagesmith.data.files import MAX_PIXELS, Frame
from imagesmith.data.scanlines import Picture
from imagesmith.errors import ModelError, UsageError
from imagesmith.infer import images
from imagesmith.infer.batch import restore_files
from imagesmith.infer.heat import expected_error
from imagesmith.infer.holes import (
    as_mask,
    blended,
    check_size,
    check_wanted,
    file_of,
    guessed,
    is_auto,
    mask_for_all,
    scratch_mask,
)
from imagesmith.infer.modes import opacity, turned
from imagesmith.infer.named import of_strength
from imagesmith.infer.network import Around, Network, Report, weights_digest
from imagesmith.infer.outcome import FileOptions, Progress, Summary
from imagesmith.infer.truth import agreeing_with_jpeg, agreeing_with_size, check_room, half_level
from imagesmith.nets import CLASSIFIERS, RESTORERS, VIDEO_RESTORERS
from imagesmith.runtime.device import Net, Runtime, pick_runtime
from imagesmith.runtime.memory import UNLIMITED, Limits
from imagesmith.runtime.tiling import Subpixels, Tile
from imagesmith.zoo import Model, ModelCard, load_model

_AGREEING_TASKS = ("sr", "jpeg", "inpaint")


class Restorer:
    """A model ready to restore pictures of any kind on one device.

    Calls of one Restorer may come from several threads, but gain nothing from it: the arithmetic uses all cores.
    """

    def __init__(
        self,
        model: Model,
        runtime: Runtime,
        *,
        tile: Tile = "auto",
        deep_exactly: bool = True,
        strength: float = 1.0,
        colour_lock: bool | None = None,
    ) -> None:
        """`deep_exactly` computes pictures of more than 8 bits in float32 even where `runtime` has less.

        `strength` below 1 leaves so much of the picture as it was, for models that keep the size. `colour_lock` keeps
        what is broader than a few pixels as it was in the picture; None: for models that invent detail.
        """
        assert strength == 1 or model.card.scale == 1, "a picture and its enlargement cannot be mixed"
        self.card: ModelCard = model.card
        self.runtime = runtime
        self.tile: Tile = tile
        self.strength = strength
        self.network = Network(
            model,
            runtime,
            tile=tile,
            deep_exactly=deep_exactly,
            strength=strength,
            colour_lock=model.card.faithful is not None if colour_lock is None else colour_lock,
        )
        self._model_net, self._net = model.net, self.network.net

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tile: Tile | str = "auto",
        strength: float = 1.0,
    ) -> Self:
        """The Restorer of a shipped name, a run folder or a weight file, also of others, see `imagesmith.load_model`.

        `device` is auto, cpu, cuda or mps; `dtype` auto, fp32, bf16 or fp16; `tile` auto, off or a side in pixels.
        `strength` from 0 to 1 goes from the faithful partner of a model to the model itself where the card names one;
        otherwise from the picture as it was to the whole result.
        """
        return cls.of(load_model(name_or_path), device=device, dtype=dtype, tile=tile, strength=strength)

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tile: Tile | str = "auto",
        strength: float = 1.0,
        runtime: Runtime | None = None,
    ) -> Self:
        """`load` for a model that is in memory; `runtime` instead of the one that is found best now."""
        name = model.card.title
        if model.card.net in VIDEO_RESTORERS:
            raise ModelError(
                f"expected a model for pictures, got '{name}'\nit is for films: imagesmith restore clip.mp4 -n {name}"
            )
        is_own = model.card.net in RESTORERS
        if not is_own and not hasattr(model.net, "halo"):
            is_classifier = model.card.net in CLASSIFIERS
            use = "evaluate generator` measures with classifiers" if is_classifier else "generate` is for generators"
            raise ModelError(
                f"expected a restorer, got '{name}', a network '{model.card.net}' for the task "
                f"{model.card.task}\n`imagesmith {use}"
            )
        model, strength = of_strength(model, strength)
        # networks of others were never tried in low precision
        runtime = runtime or pick_runtime(model.net, device, dtype if is_own or dtype != "auto" else "fp32")
        return cls(model, runtime, tile=parse_tile(tile), deep_exactly=dtype == "auto", strength=strength)

    @property
    def scale(self) -> int:
        return self._net.scale

    @property
    def made_by(self) -> str:
        """What results say that they were made by."""
        return self.card.name + (f" at strength {self.strength:g}" if self.strength < 1 else "")

    @property
    def net(self) -> Net:
        """The network as it runs here, for those who measure it on tensors."""
        return self._net

    def __call__(self, image: Any, *, mask: Any = None, self_ensemble: bool = False, consistency: bool = False) -> Any:
        """The restored picture, of the same kind: PIL image, array, tensor or Frame; a path gives a PIL image.

        Colour of a PIL image has 8 bits; a warning tells where the file has more, which `imagesmith.read_image` keeps.
        `imagesmith.write_image` saves it with profile, EXIF and XMP, which PIL's own `save` leaves out of a JPEG.
        Arrays are (H, W) or (H, W, C), uint8, uint16 or float in [0, 1]; tensors float (N, C, H, W) or (C, H, W) in
        [0, 1]; C = 1 gray, 2 gray+alpha, 3 RGB, 4 RGBA. Sizes grow by `scale`, dtype, mode and device stay.
        `mask`, for models that fill holes, is a bool tensor or array (H, W), True where the picture is to be invented,
        or a path or picture whose white means that, or 'auto' for scratches; all else stays bit by bit.
        `consistency` moves the result until it agrees with the picture: super-resolution down-scaled again is the
        picture within half a grey level, and every coefficient of a repaired JPEG stays in the interval of its file.
        """
        restored = functools.partial(self.frame, mask=mask, self_ensemble=self_ensemble, consistency=consistency)
        return images.through(restored, image)

    def frame(
        self,
        frame: Frame,
        *,
        mask: Any = None,
        self_ensemble: bool = False,
        consistency: bool = False,
        limits: Limits = UNLIMITED,
        deep: bool | None = None,
    ) -> Frame:
        """The restored frame, `scale` times as large; what was done besides is added to its notes. See `strips`."""
        notes: list[str] = []
        strips = self.strips(
            frame,
            mask=mask,
            self_ensemble=self_ensemble,
            consistency=consistency,
            report=notes.append,
            limits=limits,
            deep=deep,
        )
        pixels = images.stacked((rows for _, rows in strips), frame, self.scale)
        return Frame(pixels, frame.depth, images.result_meta(frame, self.scale, self.made_by, notes))

    def strips(
        self,
        frame: Picture,
        *,
        mask: Any = None,
        self_ensemble: bool = False,
        consistency: bool = False,
        report: Report = lambda _: None,
        limits: Limits = UNLIMITED,
        deep: bool | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """The restored picture from top to bottom: the first row and the rows (h, W * scale, C) of each strip.

        Only one strip is held at a time, unless `consistency` needs the whole. `report` is told what the user should
        know, such as a tile that was redone. Of `Scanlines`, which only models without holes and without `consistency`
        take, a few rows are held at a time as well. `deep` is whether the file has more than 8 bits, where that is not
        told by the frame, such as the result of another model.
        """
        self._check(mask, consistency)
        around = self._around(self_ensemble)
        run = functools.partial(self.network.strips, around=around, report=report, limits=limits, deep=deep)
        if not isinstance(frame, Frame):
            assert not consistency, "the whole has to agree"
            assert self.card.task != "inpaint", "holes are filled from all around them"
            return run(frame, None)
        holes = self._holes(frame, mask, report)
        if holes is not None:
            if not holes.any():
                return iter([(0, frame.pixels)])
            fill = functools.partial(self.frame, limits=limits, deep=deep)
            frame, within_reach = guessed(frame, holes, lambda small, left: fill(small, mask=left))
            return blended(run(frame, within_reach), frame, within_reach)
        if consistency:
            return self._agreeing(frame, run, report, limits)
        return run(frame, None)

    def check_limits(self, picture: Picture, *, self_ensemble: bool, report: Report, limits: Limits) -> None:
        """ImageError where `strips` could not keep `limits`, of which only the size of the picture decides."""
        self.network.check_limits(picture, self._around(self_ensemble), report, limits)

    def _around(self, self_ensemble: bool) -> Around:
        return functools.partial(turned, scale=self.scale) if self_ensemble else _as_it_is

    def choose(self, frame: Picture) -> tuple[Self, None]:
        """Who restores this picture, and the decision: itself, whatever the picture."""
        return self, None

    def uncertainty(self, frame: Frame, *, mask: Any = None, limits: Limits = UNLIMITED) -> Tensor:
        """How wrong each pixel of the result is expected to be: float32 (H * scale, W * scale), grey levels of 8 bits.

        From how far the 8 turns of the self-ensemble disagree and, where the card names a faithful partner, how far the
        model departs from it; translated into an expected absolute error as found on photographs (`heat.py`).
        Takes the time of 8 or 10 restorations, and memory for the whole.
        """
        self._check(mask, consistency=False)
        return expected_error(self, frame, self._holes(frame, mask, lambda _: None), limits)

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
        mask: Any = None,
        consistency: bool = False,
        uncertainty: str | Path | None = None,
        dry_run: bool = False,
        workers: int | Literal["auto"] = "auto",
        engine: Literal["local", "ray"] = "local",
        max_ram: int | None = None,
        max_vram: int | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Summary:
        """Restore files, folders, patterns, zip archives or `-` into files; never an exception for a single bad file.

        Without `destination` results lie beside their inputs as `<stem>.<task>x<scale>.<ext>`; a folder mirrors the
        tree, a file name takes one picture, `-` is standard output. `resume` skips what an earlier run finished with
        the same input and settings. `on_progress` is called from the calling thread. The first Ctrl-C ends it after the
        current row of tiles with a summary that says so, the second raises KeyboardInterrupt. `mask` and `consistency`
        are those of a call; a heat map of the expected error goes to the file, or for several inputs the folder,
        `uncertainty`. Raises UsageError before anything is done where the request contradicts itself.
        `workers` processes share the pictures ('auto': one for each core where they are many and small); the engine
        'ray' shares them among the machines of a Ray cluster. Results are then those of one thread.
        PNG and TIFF that are large are read row by row. `max_ram` bytes are the most that this process shall hold,
        `max_vram` those on the accelerator: tiles are cut for it, and a picture that cannot keep a limit is refused.
        """
        self._check(mask, consistency)
        if not partial:
            check_wanted(self.card, mask)
        options = FileOptions(
            recursive=recursive,
            resume=resume,
            overwrite=overwrite,
            suffix=suffix,
            format=format,
            partial=partial,
            max_pixels=max_pixels,
            self_ensemble=self_ensemble,
            consistency=consistency,
            mask=mask_for_all(mask, max_pixels=max_pixels),
            mask_file=file_of(mask),
            uncertainty=None if uncertainty is None else Path(uncertainty),
            dry_run=dry_run,
            workers=workers,
            engine=engine,
            max_ram=max_ram,
            max_vram=max_vram,
        )
        sources = [source] if isinstance(source, str | Path) else list(source)
        return restore_files(self, sources, destination, options, on_progress)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A sha256 of the weights: two models that give different pictures have different ones."""
        return weights_digest(self.card, self._model_net)

    @functools.cached_property
    def partner(self) -> "Restorer | None":
        """The faithful model that the card names, on the same device."""
        if self.card.faithful is None:
            return None
        return type(self)(load_model(self.card.faithful), self.runtime, tile=self.tile, colour_lock=False)

    def _check(self, mask: Any, consistency: bool) -> None:
        """UsageError for a mask that the model does not take, and for a consistency that its task does not have."""
        name, task = self.card.title, self.card.task
        if mask is not None:
            check_wanted(self.card, mask)
        if consistency and task not in _AGREEING_TASKS:
            raise UsageError(
                f"consistency is for the tasks {', '.join(_AGREEING_TASKS)}, model '{name}' has the task {task}\n"
                "what it takes away must not come back; leave --consistency out"
            )

    def _holes(self, frame: Frame, mask: Any, report: Report) -> Tensor | None:
        """The checked mask of a model that fills holes, None for others."""
        if self.card.task != "inpaint":
            return None
        check_wanted(self.card, mask)
        if is_auto(mask):
            return scratch_mask(frame, report)
        holes = as_mask(mask)
        check_size(holes, frame)
        return holes

    def _agreeing(
        self, frame: Frame, run: Callable[..., Iterator[tuple[int, Tensor]]], report: Report, limits: Limits
    ) -> Iterator[tuple[int, Tensor]]:
        """The whole result of `run`, the network's strips, as one, moved until it agrees with the picture."""
        check_room(frame, self.scale, limits.ram)
        result = torch.cat([rows for _, rows in run(frame, None, depth="float32")]).permute(2, 0, 1)
        if self.card.task == "jpeg":
            agreed, lacking = agreeing_with_jpeg(result, frame)
            what = "every JPEG coefficient lies in the interval of the file"
        else:
            agreed, lacking = agreeing_with_size(result, frame, self.scale)
            what = f"down-scaled, the result is the picture within {half_level(frame)}"
            if bool((opacity(frame) < 1).any()):
                what += ", in its colours and 3 pixels from all that is not opaque"
        report(what if lacking == 0 else f"{what}, but for up to {lacking:.2g} grey levels more in places")
        yield 0, agreed.permute(1, 2, 0)


def _as_it_is(run: Subpixels) -> Subpixels:
    return run


def parse_tile(tile: Tile | str) -> Tile:
    """Text such as '512' and numbers of NumPy are pixels; what is impossible is told by `plan_tiles`."""
    is_number = isinstance(tile, numbers.Integral) or (isinstance(tile, str) and tile.isdecimal())
    return int(tile) if is_number else tile  # type: ignore[return-value]
