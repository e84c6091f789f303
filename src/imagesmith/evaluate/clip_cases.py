"""Clips and their frames: which films and folders there are, and what a recipe makes of each frame."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    both = [(folder, frame_files(folder)[:count]) for folder in (clip.target, clip.given)]
    numbers = [_numbers(files) for _, files in both]
    for place, (wanted, given) in enumerate(zip(*numbers, strict=False)):
        if wanted != given:
            folder, files = both[wanted > given]
            raise ImageError(
                f"expected the same frames in both folders of '{clip.name}', got {files[place].name} only in {folder}\n"
                "add its counterpart, or remove it"
            )


def _numbers(files: list[Path]) -> list[int]:
    """What counts the frames, from the first one on: the last number in their names that is not always the same."""
    columns = zip(*([int(word) for word in re.findall(r"\d+", path.stem)] for path in files), strict=False)
    counting = [column for column in columns if len(set(column)) > 1]
    return [number - counting[-1][0] for number in counting[-1]] if counting else []


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
