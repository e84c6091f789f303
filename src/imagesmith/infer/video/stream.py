"""Films through one model, frame after frame: order and number kept, memory bounded, to be resumed at any frame."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from imagesmith.data.video import VideoInfo
from imagesmith.errors import UsageError
from imagesmith.infer.holes import check_wanted, mask_for_all
from imagesmith.infer.network import Report, weights_digest
from imagesmith.infer.restore import Restorer, parse_tile
from imagesmith.infer.video.cuts import Shot, marked
from imagesmith.infer.video.frames import FrameByFrame, Memory
from imagesmith.infer.video.recurrent import Remembering
from imagesmith.infer.video.smooth import Smoothed
from imagesmith.nets import VIDEO_RESTORERS
from imagesmith.runtime.device import Runtime, pick_runtime
from imagesmith.runtime.tiling import Tile
from imagesmith.zoo import Model, ModelCard, load_model


class Steps(Protocol):
    """How one frame is restored, given what is remembered of those before it in the scene."""

    scale: int
    looks_ahead: bool

    def of_film(self, info: VideoInfo) -> Self: ...

    def said(self) -> Iterator[str]: ...

    def __call__(
        self, pixels: Tensor, ahead: Tensor | None, memory: Memory, report: Report
    ) -> tuple[Tensor, Memory]: ...


@dataclass(frozen=True)
class Snapshot:
    """All that the frames after one frame need of those up to it; with it, going on gives the same bits.

    `scenes` counts those that have begun so far, `size` is the frame's (height, width).
    """

    memory: Memory
    sketch: Tensor
    size: tuple[int, int]
    scenes: int

    def tensors(self) -> dict[str, Tensor]:
        """The snapshot as tensors on the CPU by name, as safetensors files hold them."""
        own = {"sketch": self.sketch, "size": torch.tensor(self.size), "scenes": torch.tensor([self.scenes])}
        remembered = {f"memory.{place}": part for place, part in enumerate(self.memory)}
        return {name: value.cpu().contiguous() for name, value in (own | remembered).items()}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The snapshot that `tensors` came from."""
        count = sum(name.startswith("memory.") for name in tensors)
        height, width = tensors["size"].tolist()
        memory = tuple(tensors[f"memory.{place}"] for place in range(count))
        return cls(memory, tensors["sketch"], (height, width), int(tensors["scenes"].item()))


class VideoRestorer:
    """A model ready to restore films on one device: recurrent ones, and frame by frame those for pictures."""

    def __init__(self, steps: Steps, card: ModelCard, runtime: Runtime, fingerprint: str) -> None:
        self.card, self.runtime = card, runtime
        self.fingerprint = fingerprint
        """A sha256 of all that decides the results, but for the tiles: of weights, mask, smoothing and edges."""
        self._steps = steps

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tile: Tile | str = "auto",
        temporal: bool = False,
        mask: Any = None,
        strength: float = 1.0,
        runtime: Runtime | None = None,
    ) -> Self:
        """The VideoRestorer of a shipped name, a run folder or a weight file; the first options are those of Restorer.

        `temporal` steadies the results of models for pictures, see `smooth.py`; `mask` and `strength` are theirs, too,
        one for the whole film. `runtime` is that of an earlier run, which may not be found best again.
        """
        model = load_model(name_or_path)
        return cls.of(
            model,
            device=device,
            dtype=dtype,
            tile=tile,
            temporal=temporal,
            mask=mask,
            strength=strength,
            runtime=runtime,
        )

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tile: Tile | str = "auto",
        temporal: bool = False,
        mask: Any = None,
        strength: float = 1.0,
        runtime: Runtime | None = None,
    ) -> Self:
        """`load` for a model that is in memory."""
        card = model.card
        if card.net in VIDEO_RESTORERS:
            check_wanted(card, mask)
            _check_unasked(card, temporal=temporal, strength=strength)
            runtime = runtime or pick_runtime(model.net, device, dtype)
            steps = Remembering(model, runtime, tile=parse_tile(tile), deep_exactly=dtype == "auto")
            return cls(steps, card, runtime, weights_digest(card, model.net))
        restorer = Restorer.of(model, device=device, dtype=dtype, tile=tile, strength=strength, runtime=runtime)
        holes = mask_for_all(mask)
        steps = FrameByFrame(restorer, holes)
        digest = hashlib.sha256(f"{restorer.fingerprint} {strength} {temporal}".encode())
        digest.update(holes.numpy().tobytes() if isinstance(holes, Tensor) else str(holes).encode())
        digest.update(b"mirrored edges" if card.mirrors_edges else b"")  # earlier versions repeated them
        return cls(Smoothed(steps) if temporal else steps, restorer.card, restorer.runtime, digest.hexdigest())

    @property
    def scale(self) -> int:
        return self._steps.scale

    def of_film(self, info: VideoInfo) -> "VideoRestorer":
        """This restorer for one film; UsageError where its mask does not fit, see `FrameByFrame.of_film`."""
        return VideoRestorer(self._steps.of_film(info), self.card, self.runtime, self.fingerprint)

    def frames(
        self, frames: Iterable[Tensor], *, state: Snapshot | None = None, report: Report = lambda _: None
    ) -> Iterator[tuple[Tensor, Snapshot]]:
        """Each of `frames` restored, in order, and what going on after it needs; up to two frames late.

        Frames are (H, W, 3) uint8 or uint16; results (H * scale, W * scale, 3) of the same dtype. At a scene cut, and
        where the size changes, nothing is remembered. `state` is the snapshot of the frame before the first one.
        `report` is told what the user should know, such as a frame that was redone; each kind of sentence once.
        """
        report = _once(report)
        shots = marked(map(_checked, frames), None if state is None else state.sketch)
        for shot, following in _with_next(shots):
            height, width = shot.pixels.shape[:2]
            memory = () if state is None or shot.is_cut or state.size != (height, width) else state.memory
            restored, memory = self._steps(shot.pixels, self._ahead(shot, following), memory, report)
            scenes = (0 if state is None else state.scenes) + shot.is_cut
            state = Snapshot(memory, shot.sketch, (height, width), scenes)
            yield restored, state
        for sentence in self._steps.said():
            report(sentence)

    def _ahead(self, shot: Shot, following: Shot | None) -> Tensor | None:
        """The next frame of the same scene, for models that look ahead."""
        if not self._steps.looks_ahead or following is None or following.is_cut:
            return None
        return following.pixels if following.pixels.shape == shot.pixels.shape else None


def _with_next(shots: Iterator[Shot]) -> Iterator[tuple[Shot, Shot | None]]:
    shot = next(shots, None)
    while shot is not None:
        following = next(shots, None)
        yield shot, following
        shot = following


def _once(report: Report) -> Report:
    """Passes on the first of sentences that differ in numbers alone: a film has as many frames as a day has minutes."""
    told = set[str]()

    def tell(sentence: str) -> None:
        kind = re.sub(r"\d+", "", sentence)
        if kind not in told:
            told.add(kind)
            report(sentence)

    return tell


def _checked(pixels: Tensor) -> Tensor:
    assert pixels.shape[2:] == (3,), f"a frame is (H, W, 3), got {tuple(pixels.shape)}"
    assert pixels.dtype in (torch.uint8, torch.uint16), f"a frame is uint8 or uint16, got {pixels.dtype}"
    return pixels


def _check_unasked(card: ModelCard, *, temporal: bool, strength: float) -> None:
    """UsageError where a recurrent model is asked for what only models for pictures have."""
    if temporal:
        raise UsageError(f"model '{card.title}' remembers by itself; temporal smoothing is for models that do not")
    if strength != 1:
        raise UsageError(f"model '{card.title}' has only its full strength, got {strength:g}; leave --strength out")
