"""What is measured: a network on one device, or a plain baseline that every network has to beat."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.errors import UsageError
from imagesmith.evaluate.cases import Made, colour
from imagesmith.infer.manifest import sha256_of
from imagesmith.infer.restore import Restorer
from imagesmith.infer.shake import busiest_piece, kernel_of
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.nets import VIDEO_RESTORERS
from imagesmith.nets.deconvolved import DeconvolvedUNet
from imagesmith.runtime.device import Net, pick_runtime, prepare
from imagesmith.runtime.tiling import plan_for, run_tiled
from imagesmith.tensors import from_float, imresize, to_float, to_gray
from imagesmith.tensors.deconvolution import deconvolution_planes
from imagesmith.zoo import load_model
from imagesmith.zoo.cards import is_foreign, read_header
from imagesmith.zoo.weights import find_weights


@dataclass(frozen=True)
class Subject:
    """What restores pictures; `scale` is None where only the pairs can tell it."""

    name: str
    scale: int | None
    restore: Callable[[Frame | Made, int], Tensor]
    facts: dict[str, Any]


def subject_of(restorer: Restorer | str | Path, scale: int | None, device: str, dtype: str) -> Subject:
    """A Restorer, what `Restorer.load` takes, or a name of `BASELINES`; UsageError where it has another scale."""
    if isinstance(restorer, str) and restorer in BASELINES:
        enlarge = BASELINES[restorer]
        return Subject(restorer, scale, lambda given, factor: _baseline(given, factor, enlarge), {})
    facts = {}
    if not isinstance(restorer, Restorer):
        facts["weights_sha256"] = weights_sha256(restorer)
        restorer = Restorer.load(restorer, device=device, dtype=dtype)
    _refuse_other_scale(restorer.card.title, restorer.scale, scale)
    facts["runtime"] = str(restorer.runtime)
    if restorer.tile != "off" and not getattr(restorer.net, "halo_is_exact", True):
        facts["tiles"] = f"large pictures in tiles that overlap by {restorer.net.halo} px, less than the network sees"
    chosen = restorer
    return Subject(chosen.card.title, chosen.scale, lambda given, _: _restored(chosen, given), facts)


def weights_sha256(name_or_path: str | Path) -> str:
    """What tells these weights from all others."""
    weights = find_weights(name_or_path)
    return sha256_of(weights) if is_foreign(weights) else read_header(weights).sha256


def _restored(restorer: Restorer, given: Frame | Made) -> Tensor:
    """A file by the path of users; what a recipe made by the network alone, which sees it unclipped.

    Planes that the recipe does not tell are 0, as for a file of which nothing is known.
    """
    if isinstance(given, Frame):
        return colour(restorer.frame(given))
    net, picture = restorer.net, given.picture
    if isinstance(net, DeconvolvedUNet):
        return _deblurred(restorer, picture)
    told = given.planes.new_zeros(1, net.planes, *picture.shape[2:])
    known = min(net.planes, given.planes.shape[1])
    told[:, :known] = given.planes[:, :known]
    if net.channels == 1:  # one colour after the other
        one_by_one = torch.cat([picture.transpose(0, 1), told.expand(picture.shape[1], -1, -1, -1)], dim=1)
        return _in_tiles(restorer, one_by_one).transpose(0, 1)
    restored = _in_tiles(restorer, torch.cat([picture.expand(-1, net.channels, -1, -1), told], dim=1))
    if picture.shape[1] == 1:
        return to_gray(restored)
    return restored


def _in_tiles(restorer: Restorer, x: Tensor) -> Tensor:
    """What the network alone makes of (N, C + planes, H, W), in the tiles of the restorer."""
    plan = plan_for(restorer.net, *x.shape[-2:], tile=restorer.tile, mirrored=restorer.card.mirrors_edges)
    return run_tiled(restorer.net, x.to(restorer.runtime.device), plan)


def _deblurred(restorer: Restorer, picture: Tensor) -> Tensor:
    """With the kernel found as for a file."""

    def mended(x: Tensor, kernel: Tensor) -> Tensor:
        return _in_tiles(restorer, torch.cat([x, deconvolution_planes(x[0], kernel)[None]], dim=1))

    x = picture.expand(-1, restorer.net.channels, -1, -1)
    piece = busiest_piece(Frame(x[0].permute(1, 2, 0), "float32", ImageMeta("png", "RGB")))
    restored = mended(x, kernel_of(piece, lambda part, kernel: mended(piece[..., *part], kernel)))
    return restored if picture.shape[1] == restorer.net.channels else to_gray(restored)


def _nearest(x: Tensor, scale: int) -> Tensor:
    return x.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


BASELINES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "none": lambda x, _: x,
    "bicubic": imresize,
    "nearest": _nearest,
}
"""What every restorer has to beat: the degraded image itself, and plain enlargements of uint8 or float images."""


def _baseline(given: Frame | Made, scale: int, enlarge: Callable[[Tensor, int], Tensor]) -> Tensor:
    if isinstance(given, Made):
        return enlarge(given.picture, scale)
    pixels = from_float(to_float(given.pixels, given.depth), "uint8")
    enlarged = enlarge(pixels.permute(2, 0, 1), scale).permute(1, 2, 0)
    return colour(Frame(enlarged, "uint8", given.meta))


# --- clips ---


@dataclass(frozen=True)
class ClipSubject:
    """What restores clips, frames (1, 3, h, w) nominally in [0, 1] in order; `scale` is None where anything goes."""

    name: str
    scale: int | None
    restore: Callable[[Iterator[Tensor], int], Iterator[Tensor]]
    facts: dict[str, Any]


def is_recurrent(restorer: Any) -> bool:
    """Whether `restorer` is made for films alone, by the card of its weights."""
    if isinstance(restorer, VideoRestorer):
        return True
    if isinstance(restorer, Restorer) or restorer in BASELINES:
        return False
    weights = find_weights(restorer)
    return not is_foreign(weights) and read_header(weights).card.net in VIDEO_RESTORERS


def clip_subject_of(
    restorer: VideoRestorer | Restorer | str | Path,
    scale: int | None,
    *,
    state: bool,
    temporal: bool,
    device: str,
    dtype: str,
) -> ClipSubject:
    """`subject_of` for clips: recurrent networks as they are, with their state unless that is off; others by frames.

    With `temporal` smoothing, and as a VideoRestorer, frames are given and taken at 8 bits, by the path of users.
    """
    if not state and (temporal or isinstance(restorer, VideoRestorer) or not is_recurrent(restorer)):
        raise UsageError("a state that is off (--state off) needs a recurrent model by its name; leave it out")
    if temporal or isinstance(restorer, VideoRestorer):
        return _film_subject(restorer, scale, device, dtype)
    if is_recurrent(restorer):
        assert not isinstance(restorer, Restorer), "a Restorer holds no recurrent network"
        return _recurrent_subject(restorer, scale, state, device, dtype)
    single = subject_of(restorer, scale, device, dtype)

    def restore(given: Iterator[Tensor], factor: int) -> Iterator[Tensor]:
        for frame in given:
            yield single.restore(Made(frame, frame.new_zeros(1, 0, *frame.shape[2:])), factor)

    return ClipSubject(single.name, single.scale, restore, {**single.facts, "order": "every frame by itself"})


def _film_subject(restorer: Any, scale: int | None, device: str, dtype: str) -> ClipSubject:
    facts: dict[str, Any] = {"order": "by the path of files, 8 bits in and out, scene cuts found"}
    if isinstance(restorer, Restorer) or (isinstance(restorer, str) and restorer in BASELINES):
        raise UsageError("temporal smoothing needs a model by its name or file, got another; pass the name")
    if not isinstance(restorer, VideoRestorer):
        facts["weights_sha256"] = weights_sha256(restorer)
        restorer = VideoRestorer.load(restorer, device=device, dtype=dtype, temporal=True)
        facts["order"] += ", smoothed in time"
    _refuse_other_scale(restorer.card.title, restorer.scale, scale)
    facts["runtime"] = str(restorer.runtime)
    film = restorer

    def restore(given: Iterator[Tensor], _: int) -> Iterator[Tensor]:
        pixels = (from_float(frame[0], "uint8").permute(1, 2, 0).contiguous() for frame in given)
        for restored, _snapshot in film.frames(pixels):
            yield to_float(restored, "uint8").permute(2, 0, 1).unsqueeze(0)

    return ClipSubject(restorer.card.title, restorer.scale, restore, facts)


def _recurrent_subject(name: str | Path, scale: int | None, state: bool, device: str, dtype: str) -> ClipSubject:
    model = load_model(name)
    _refuse_other_scale(model.card.title, model.card.scale, scale)
    runtime = pick_runtime(model.net, device, dtype)
    net = prepare(model.net, runtime)
    facts = {
        "weights_sha256": weights_sha256(name),
        "runtime": str(runtime),
        "state": "kept over the whole clip" if state else "off: every frame as if it were the first and the last",
    }
    called = model.card.title if state else f"{model.card.title}, state off"
    return ClipSubject(
        called, model.card.scale, lambda given, _: _remembering(net, given, runtime.device, keep=state), facts
    )


@torch.inference_mode()
def _remembering(net: Net, given: Iterator[Tensor], device: torch.device, *, keep: bool) -> Iterator[Tensor]:
    """The bare network frame after frame; no scene cut is looked for."""
    state, frame = None, next(given, None)
    while frame is not None:
        following = next(given, None)
        x = _fitting(frame, net).to(device)
        ahead = _fitting(following, net).to(device) if following is not None and net.look_ahead and keep else None
        result, remembered = net(x, state, ahead)
        state = remembered if keep else None
        height, width = (side * net.scale for side in frame.shape[-2:])
        yield result[..., :height, :width].cpu()
        frame = following


def _fitting(frame: Tensor, net: Net) -> Tensor:
    """Edges repeated up to a multiple of what the network needs."""
    height, width = frame.shape[-2:]
    return F.pad(frame, (0, -width % net.multiple_of, 0, -height % net.multiple_of), mode="replicate")


def _refuse_other_scale(name: str, own: int, asked: int | None) -> None:
    if asked not in (None, own):
        raise UsageError(f"'{name}' enlarges by {own}, got scale={asked}; leave the scale out")
