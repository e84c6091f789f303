"""Running what `infer/auto.py` decides: for each picture of a run its own chain of models."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from imagesmith.data.files import Frame
from imagesmith.data.scanlines import Picture
from imagesmith.errors import UsageError
from imagesmith.infer import images
from imagesmith.infer.auto import AUTO_TASK, Decision, examine, plan_chain
from imagesmith.infer.batch import restore_files
from imagesmith.infer.network import Report
from imagesmith.infer.outcome import FileOptions, Progress, Summary
from imagesmith.infer.restore import Restorer
from imagesmith.nets import RESTORERS
from imagesmith.runtime.memory import UNLIMITED, Limits
from imagesmith.runtime.tiling import Tile
from imagesmith.tensors import from_float, to_float
from imagesmith.zoo import CARDS, ModelCard
from imagesmith.zoo.cards import read_header, shipped_path

_ANY_MODEL = "sr-x2"
"""Which model's runtime is told as that of a run before the first picture is known."""


class Chained:
    """Models one after the other, on values that are not rounded in between."""

    def __init__(self, restorers: Sequence[Restorer]) -> None:
        self._restorers = tuple(restorers)
        self.scale = math.prod(restorer.scale for restorer in restorers)
        self.card = Auto.card
        self.made_by = ", ".join(restorer.made_by for restorer in self._restorers)

    def strips(
        self,
        frame: Picture,
        *,
        self_ensemble: bool = False,
        report: Report = lambda _: None,
        limits: Limits = UNLIMITED,
        **unused: Any,
    ) -> Iterator[tuple[int, Tensor]]:
        """The mended picture from top to bottom, in the frame's own depth; the last model works strip by strip."""
        assert not any(unused.values()), f"a chain has none of {', '.join(unused)}"
        assert isinstance(frame, Frame), "each model but the last takes all of it"
        if not self._restorers:
            return iter([(0, frame.pixels)])
        *before, last = self._restorers
        if not before:
            return last.strips(frame, mask=_mask_for(last), self_ensemble=self_ensemble, report=report, limits=limits)
        deep = frame.depth != "uint8"  # between them the floats of an 8-bit file are no more exact than it is
        between = replace(frame, pixels=to_float(frame.pixels, frame.depth), depth="float32")
        for restorer in before:
            mask = _mask_for(restorer)
            between = restorer.frame(between, mask=mask, self_ensemble=self_ensemble, limits=limits, deep=deep)
            if frame.depth != "float32":
                between = replace(between, pixels=between.pixels.clamp(0, 1))  # what no file of this depth can hold
        mask = _mask_for(last)
        strips = last.strips(between, mask=mask, self_ensemble=self_ensemble, report=report, limits=limits, deep=deep)
        return ((top, from_float(rows, frame.depth)) for top, rows in strips)


class Auto:
    """Stands where a Restorer stands in a run over files; chooses among the shipped models for each picture."""

    strength = 1.0
    scale = 1
    card = ModelCard(name="auto", net="", params=0, channels=3, task=AUTO_TASK)
    load = staticmethod(Restorer.load)

    def __init__(
        self, scale: int | None = None, *, device: str = "auto", dtype: str = "auto", tile: Tile | str = "auto"
    ) -> None:
        """`scale` is the enlargement that is wished; None enlarges small pictures, 1 none."""
        self._scale = scale
        self._models = tuple(name for name, card in CARDS.items() if card.net in RESTORERS)
        self._how = {"device": device, "dtype": dtype, "tile": tile}
        self._loaded: dict[str, Restorer] = {}
        self.runtime = self._load(_ANY_MODEL).runtime

    def __getstate__(self) -> dict[str, Any]:
        """For another process: with all models as they are best computed here, so that it finds nothing else best."""
        for name in self._models:
            self._load(name)
        return self.__dict__

    def _load(self, name: str) -> Restorer:
        if name not in self._loaded:
            self._loaded[name] = Restorer.load(name, **self._how)
        return self._loaded[name]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A sha256 of all that decides the results: the models and the wished scale."""
        digests = [read_header(shipped_path(name)).sha256 for name in self._models]
        return hashlib.sha256(":".join([*digests, str(self._scale)]).encode()).hexdigest()

    def choose(self, frame: Picture) -> tuple[Chained, Decision]:
        """The chain for this picture, and why."""
        assert isinstance(frame, Frame), "all of it is looked at"
        findings = examine(frame)
        decision = Decision(findings, plan_chain(findings, self._models, self._scale))
        return Chained([self._load(link.model) for link in decision.chain]), decision

    def __call__(self, image: Any, *, self_ensemble: bool = False) -> Any:
        """The mended picture, of the same kind; see `Restorer`. A Frame's notes say what was found and done."""
        return images.through(functools.partial(self.frame, self_ensemble=self_ensemble), image)

    def frame(self, frame: Frame, *, self_ensemble: bool = False) -> Frame:
        """The mended frame; its notes say what was found and done."""
        chain, decision = self.choose(frame)
        notes = [str(decision)]
        strips = chain.strips(frame, self_ensemble=self_ensemble, report=notes.append)
        pixels = images.stacked((rows for _, rows in strips), frame, chain.scale)
        return Frame(pixels, frame.depth, images.result_meta(frame, chain.scale, chain.made_by, notes))

    def uncertainty(self, frame: Frame, *, mask: Any = None, limits: Limits = UNLIMITED) -> Tensor:
        raise AssertionError("refused by `path`")

    def path(
        self,
        source: str | Path | Sequence[str | Path],
        destination: str | Path | None,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        **options: Any,
    ) -> Summary:
        """`Restorer.path` with a chain of its own for each file; `options` are its."""
        for name in ("mask", "consistency", "uncertainty"):
            if options.get(name):
                raise UsageError(
                    f"expected one model for --{name}, got --task auto, which may choose several\n"
                    "name a task with --task or a model with -n"
                )
        sources = [source] if isinstance(source, str | Path) else list(source)
        return restore_files(self, sources, destination, FileOptions(**options), on_progress)


def _mask_for(restorer: Restorer) -> str | None:
    return "auto" if restorer.card.task == "inpaint" else None
