"""Clips and their frames: which films and folders there are, and what a recipe makes of each frame."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.data.files import DEPTHS
from imagesmith.data.video import is_video, open_video
from imagesmith.data.video.folders import frame_files
from imagesmith.degrade import Chain, degrade_clip
from imagesmith.errors import ImageError, NothingUsableError, UsageError, VideoError
from imagesmith.tensors import from_float, generator_for, to_float

CHUNK = 32
"""So many frames are degraded together and held in memory."""


@dataclass(frozen=True)
class Clip:
    """A film or folder of frames that is the target, and the degraded one where there is one."""

    name: str
    number: int
    target: Path
    given: Path | None


def holds_clips(targets: Path) -> bool:
    """Whether `targets` is a film, or a folder of films or of folders of frames; a folder of frames may be pictures."""
    try:
        return is_video(targets) or (targets.is_dir() and not frame_files(targets) and bool(_inside(targets)))
    except (OSError, VideoError):
        return False  # whoever reads the folder says why it cannot be read


def find_clips(targets: Path) -> dict[str, Path]:
    """A film, a folder of frames, or the films and folders of frames inside a folder, by name without ending.

    NothingUsableError where there is none, UsageError where two share a name.
    """
    if is_video(targets) or (targets.is_dir() and frame_files(targets)):
        return {_name(targets): targets}
    found = _inside(targets) if targets.is_dir() else []
    clips = {_name(path): path for path in found}
    if not clips:
        raise NothingUsableError(f"expected films or folders of frames in '{targets}', found none; pass their folder")
    if len(clips) < len(found):
        raise UsageError(f"expected one clip for each name in '{targets}', got several; rename or move them")
    return clips


def _inside(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if is_video(path) or (path.is_dir() and frame_files(path))]


def _name(path: Path) -> str:
    """A folder has no ending: what follows a dot belongs to its name."""
    return path.name if path.is_dir() else path.stem


def find_pairs(targets: Path, degraded: Path | None) -> list[Clip]:
    """The clips with their degraded ones, by name; two single ones need not be called alike."""
    wanted = find_clips(targets)
    given = find_clips(degraded) if degraded else {}
    if len(wanted) == len(given) == 1:
        given = dict(zip(wanted, given.values(), strict=True))
    if degraded and (missing := sorted(wanted.keys() ^ given.keys())):
        raise UsageError(f"expected a degraded clip for every target and none besides, got '{missing[0]}' only once")
    return [Clip(name, number, path, given.get(name)) for number, (name, path) in enumerate(wanted.items())]


def degraded_frames(
    clip: Clip, chain: Chain, scale: int, count: int | None, said: list[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """(degraded, target) of the first `count` frames, (1, 3, ., .) in [0, 1], targets cut to a multiple of the scale.

    `said` grows with what the readers have to say. ImageError where frames do not fit, or cannot be read.
    """
    _refuse_other_frames(clip, count)
    wanted = (_cut(frame, scale, clip) for frame in _frames(clip.target, count, said))
    if clip.given is not None:
        for small, large in itertools.zip_longest(_frames(clip.given, count, said), wanted):
            if small is None or large is None or [side * scale for side in small.shape[1:]] != [*large.shape[1:]]:
                raise ImageError(
                    f"expected a target {scale} times its degraded clip, frame by frame; "
                    f"'{clip.target.name}' and '{clip.given.name}' differ in frames or size"
                )
            yield to_float(small, "uint8").unsqueeze(0), to_float(large, "uint8").unsqueeze(0)
        return
    for start in itertools.count():
        chunk = list(itertools.islice(wanted, CHUNK))
        if not chunk:
            return
        clean = to_float(torch.stack(chunk), "uint8")
        degraded = degrade_clip(chain, clean, generator_for(clip.number, start))
        yield from zip(degraded.split(1), clean.split(1), strict=True)


def _refuse_other_frames(clip: Clip, count: int | None) -> None:
    """ImageError where the frames of two folders are numbered differently: one that is missing shifts all others."""
    if clip.given is None or not (clip.given.is_dir() and clip.target.is_dir()):
        return
    folders = clip.target, clip.given
    both = [frame_files(folder) for folder in folders]
    as_many = len(both[0]) == len(both[1])
    wanted, given = (_counters(files, divided=as_many) for files in both)
    if not (wanted and given):
        if as_many:
            return  # nothing but their order tells
        wanted, given = ([[path.stem for path in files]] for files in both)
    apart = [_difference(one[:count], other[:count]) for one in wanted for other in given]
    if all(apart):
        place = apart[-1][0]
        side = wanted[-1][place] > given[-1][place]
        raise ImageError(
            f"expected the same frames in both folders of '{clip.name}', "
            f"got {both[side][place].name} only in {folders[side]}\nadd its counterpart, or remove it"
        )


def _counters(files: list[Path], *, divided: bool) -> list[list[Any]]:
    """What may count the frames, from the first one on: all numbers in their names that rise from frame to frame.

    `divided` by what their steps have in common, such as 0, 4, 8 of a film's every fourth frame.
    """
    counters = []
    for column in zip(*([int(word) for word in re.findall(r"\d+", path.stem)] for path in files), strict=False):
        steps = [after - before for before, after in itertools.pairwise(column)]
        if min(steps, default=1) > 0:
            unit = math.gcd(*steps) or 1 if divided else 1
            counters.append([(number - column[0]) // unit for number in column])
    return counters


def _difference(one: list[Any], other: list[Any]) -> list[int]:
    """The places where two lists differ, as far as both go."""
    return [place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]]


def _frames(path: Path, count: int | None, said: list[str]) -> Iterator[Tensor]:
    """The first `count` frames (3, H, W), rounded to 8 bits where they have more; ImageError for one made up."""
    with open_video(path) as reader:
        for number, frame in enumerate(itertools.islice(reader, count), start=1):
            if frame.repeated or frame.scaled:
                problem = "cannot be read" if frame.repeated else "has another size than the first"
                raise ImageError(f"'{path.name}': frame {number} {problem}; repair it, or leave the clip out")
            pixels = frame.pixels.permute(2, 0, 1)
            depth = DEPTHS[pixels.dtype]
            yield pixels if depth == "uint8" else from_float(to_float(pixels, depth), "uint8")
        said += [note for note in reader.notes if note not in said]


def _cut(frame: Tensor, scale: int, clip: Clip) -> Tensor:
    height, width = (side // scale * scale for side in frame.shape[-2:])
    if min(height, width) == 0:
        raise ImageError(f"'{clip.name}' is smaller than the scale {scale}; leave it out")
    return frame[:, :height, :width]
