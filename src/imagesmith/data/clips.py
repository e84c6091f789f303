"""Training clips: pieces of real films, and photographs set in motion, with what a degradation makes of them.

Clip k of a run depends on the seed and k alone, as patches do (`data/datasets.py`).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from imagesmith.data.datasets import flip_and_rotate, load_photos
from imagesmith.data.motion import moving_clip
from imagesmith.data.sources import outside_runs
from imagesmith.data.video import is_video, open_video
from imagesmith.degrade import Chain, degrade_clip
from imagesmith.errors import ImagesmithError, NothingUsableError
from imagesmith.tensors import from_float, generator_for, imresize, to_float

Clip = tuple[Tensor, Tensor, Tensor, Tensor]
"""(degraded (T, 3, h, w), target (T, 3, h * scale, w * scale), flow (T - 1, 2, ., .), whether the flow is known)."""

VALIDATION_FRAMES = 8
"""The length of clips that are validated on."""


@dataclass(frozen=True)
class ClipFolder:
    """Films and photographs, decoded: uint8 (T, 3, H, W) and (3, H, W), split once and for all."""

    films: list[Tensor]
    photos: list[Tensor]
    kept_films: list[Tensor]
    """The last tenth of each film, at least `VALIDATION_FRAMES`, kept apart for validation."""
    kept_photos: list[Tensor]
    skipped: list[str]
    unit: ClassVar[str] = "films and photographs"


def load_clips(
    photos: str | Path,
    films: str | Path | None,
    validation_photos: int,
    *,
    least_px: int,
    short_side_px: int,
    least_film_px: int | None = None,
    least_frames: int = 1,
    memory_bytes: float = math.inf,
) -> ClipFolder:
    """Decode the photographs below one folder and the films below another; what cannot be used is listed, not fatal.

    Films whose shorter side is over `short_side_px` are shrunk to that, which hides what their codec did. Films that do
    not fit half of `memory_bytes` are cut short. Photographs are of `least_px` a side, films of `least_film_px` and of
    `least_frames` to train on. NothingUsableError without photographs.
    """
    still = load_photos(photos, validation_photos, least_px=least_px, memory_bytes=memory_bytes / 2)
    paths = [] if films is None else [path for path in outside_runs(Path(films)) if is_video(path)]
    if films is not None and not paths:
        raise NothingUsableError(f"expected films below {films}, got none; leave data.films out, or name their folder")
    budget = memory_bytes / 2 / max(1, len(paths))
    with ThreadPoolExecutor(2) as pool:
        decoded = list(
            pool.map(lambda path: _decoded(path, least_film_px or least_px, least_frames, short_side_px, budget), paths)
        )
    usable = [film for film in decoded if isinstance(film, Tensor)]
    kept = [_kept_frames(len(film)) for film in usable]
    return ClipFolder(
        films=[film[:-count] for film, count in zip(usable, kept, strict=True)],
        photos=still.training,
        kept_films=[film[-count:] for film, count in zip(usable, kept, strict=True)],
        kept_photos=still.validation,
        skipped=still.skipped + [reason for reason in decoded if isinstance(reason, str)],
    )


def _kept_frames(frames: int) -> int:
    return max(VALIDATION_FRAMES, frames // 10)


def _decoded(path: Path, least_px: int, least_frames: int, short_side_px: int, budget: float) -> Tensor | str:
    """The frames of a film as uint8 (T, 3, H, W), as many as the budget of bytes holds; or why it cannot be used."""
    frames: list[Tensor] = []
    try:
        with open_video(path) as film:
            for frame in film:
                frames.append(_shrunk(frame.pixels.permute(2, 0, 1), short_side_px))
                if (len(frames) + 1) * frames[0].numel() > budget:
                    break
    except (ImagesmithError, OSError) as error:
        return f"{path.name}: {error}"
    if len(frames) - _kept_frames(len(frames)) < max(VALIDATION_FRAMES, least_frames):
        return f"{path.name}: {len(frames)} frames are too few"
    height, width = frames[0].shape[1:]
    if min(height, width) < least_px:
        return f"{path.name}: {width}x{height} is smaller than {least_px} pixels a side"
    return torch.stack(frames)


def _shrunk(frame: Tensor, short_side_px: int) -> Tensor:
    factor = short_side_px / min(frame.shape[1:])
    frame = frame if frame.dtype == torch.uint8 else from_float(to_float(frame, "uint16"), "uint8")
    return imresize(frame, factor) if factor < 1 else frame


def crop_px(patch_px: int, chain: Chain) -> int:
    """The side of the piece of a film that a degraded patch of so many pixels is made from."""
    return patch_px * chain.scale + 2 * chain.context_px


class DegradedClips(Dataset[Clip]):
    """Endless clips of `frames` frames: item k as `Clip` says, float32 in [0, 1], degraded frames `patch_px` a side.

    A share `real` is cut from films, some of them backwards or skipping every other frame; the rest are photographs
    set in motion, whose flow is told in units of `unit` pixels of the target.
    """

    def __init__(
        self, folder: ClipFolder, chain: Chain, *, patch_px: int, frames: int, unit: int, real: float, seed: int
    ) -> None:
        self.chain, self.frames, self.unit, self.seed = chain, frames, unit, seed
        self.target_px = patch_px * chain.scale
        self.crop_px = crop_px(patch_px, chain)
        self.films = [film for film in folder.films if len(film) >= frames and min(film.shape[2:]) >= self.crop_px]
        self.photos, self.real = folder.photos, real if self.films else 0.0
        self._sizes = torch.tensor([float(film[:, 0].numel()) for film in self.films]).cumsum(0)

    def __getitem__(self, index: int) -> Clip:
        rng = generator_for(self.seed, index)
        if float(torch.rand((), generator=rng)) < self.real:
            return self._degraded(self._cut(rng), None, rng)
        count = 1 + (2 * torch.rand((), generator=rng).square()).round().int().item()
        return self._degraded(*self._set_in_motion(int(count), rng), rng)

    def _cut(self, rng: torch.Generator) -> Tensor:
        """A piece of a film, drawn in proportion to its pixels."""
        which = int(torch.searchsorted(self._sizes, torch.rand((), generator=rng) * self._sizes[-1]))
        film = self.films[which]
        step = 2 if len(film) >= 2 * self.frames and _draw(3, rng) == 0 else 1
        span = (self.frames - 1) * step + 1
        first, top, left = (
            _draw(size - need + 1, rng)
            for size, need in zip((len(film), *film.shape[2:]), (span, self.crop_px, self.crop_px), strict=True)
        )
        piece = film[first : first + span : step, :, top : top + self.crop_px, left : left + self.crop_px]
        return flip_and_rotate(to_float(piece.flip(0) if _draw(2, rng) else piece, "uint8"), _draw(8, rng))

    def _set_in_motion(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frames with their context, and the flow inside it."""
        photos = [self.photos[_draw(len(self.photos), rng)] for _ in range(count)]
        turned = [flip_and_rotate(photo, _draw(8, rng)) for photo in photos]
        border = math.ceil(self.chain.context_px / self.unit)
        clip, flow = moving_clip(turned, self.frames, self.target_px + 2 * border * self.unit, self.unit, rng)
        trim = border * self.unit - self.chain.context_px
        inside = flow[..., border : flow.shape[2] - border, border : flow.shape[3] - border]
        return _trimmed(clip, trim), inside

    def _degraded(self, clean: Tensor, flow: Tensor | None, rng: torch.Generator) -> Clip:
        context = self.chain.context_px
        degraded = degrade_clip(self.chain, clean, rng)
        side = self.target_px // self.unit
        known = flow is not None
        return (
            _trimmed(degraded, context // self.chain.scale).contiguous(),
            _trimmed(clean, context).contiguous(),
            flow.contiguous() if flow is not None else torch.zeros(self.frames - 1, 2, side, side),
            torch.tensor(float(known)),
        )


def validation_clips(folder: ClipFolder, chain: Chain, unit: int, most_px: int) -> list[Clip]:
    """What a run is scored on: the middles of what was kept apart, (1, T, ...) each, the same in every run."""
    side = most_px // (unit * chain.scale) * (unit * chain.scale)
    clips = []
    for k, photo in enumerate(folder.kept_photos):
        rng = generator_for(k)
        frames, flow = moving_clip([photo], VALIDATION_FRAMES, side, unit, rng)
        clips.append((degrade_clip(chain, frames, rng), frames, flow, torch.tensor(1.0)))
    for k, film in enumerate(folder.kept_films):
        height, width = (min(size, side) // (unit * chain.scale) * (unit * chain.scale) for size in film.shape[2:])
        top, left = (film.shape[2] - height) // 2, (film.shape[3] - width) // 2
        frames = to_float(film[:VALIDATION_FRAMES, :, top : top + height, left : left + width], "uint8")
        flow = torch.zeros(VALIDATION_FRAMES - 1, 2, height // unit, width // unit)
        clips.append((degrade_clip(chain, frames, generator_for(k, 1)), frames, flow, torch.tensor(0.0)))
    return [tuple(part.unsqueeze(0) for part in clip) for clip in clips]  # type: ignore[misc]


def _trimmed(clip: Tensor, border: int) -> Tensor:
    return clip[..., border : clip.shape[-2] - border, border : clip.shape[-1] - border]


def _draw(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
