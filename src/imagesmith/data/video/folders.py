"""Folders of numbered frames, read and written as if they were films."""

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.atomic import make_folder, part_beside
from imagesmith.data.files import read_image, write_image
from imagesmith.data.formats import SUFFIXES
from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.data.shapes import rgb_on_white
from imagesmith.data.video.info import USUAL_RATE, VideoFrame, VideoInfo, counted, resized_note
from imagesmith.errors import ImageError, OutputError, VideoError
from imagesmith.tensors import Depth, from_float, to_float

_MOST_GAPS = 5
_NUMBERED = re.compile(r"\d{6,}\.(png|tif|jpg)")  # as `frame_name` does, in any format


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order people count: 2 before 10."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(
        found, key=lambda path: [(word.isdigit() and int(word), word) for word in re.split(r"(\d+)", path.name)]
    )


def folder_info(folder: Path) -> VideoInfo:
    """A folder as a film of `USUAL_RATE`, with the size and depth of its first frame."""
    files = frame_files(folder)
    if not files:
        raise VideoError(f"{folder}: expected numbered frames (png, jpg, tif, ...), found no picture")
    first = read_image(files[0])
    height, width = first.pixels.shape[:2]
    notes = [f"a folder of frames has no times; {USUAL_RATE} frames a second are assumed"]
    if first.pixels.shape[2] in (2, 4):
        notes.append("transparency is laid on white")
    notes += _missing(files)
    return VideoInfo(
        path=folder,
        kind="folder",
        width=width,
        height=height,
        frames=len(files),
        duration_s=float(len(files) / USUAL_RATE),
        time_base=1 / USUAL_RATE,
        rate=USUAL_RATE,
        depth="uint8" if first.depth == "uint8" else "uint16",
        notes=tuple(notes),
    )


def _missing(files: Sequence[Path]) -> Iterator[str]:
    """A sentence about numbers that are missing among the last ones in names, where these do not go up in one step."""
    words = [re.findall(r"\d+", path.stem) for path in files]
    numbers = [int(found[-1]) for found in words if found]
    steps = [later - number for number, later in itertools.pairwise(numbers)]
    if len(numbers) < len(files) or not steps or min(steps) < 1 or len(set(steps)) == 1:
        return
    usual = min(steps)
    gaps = [(a + usual, b - usual) for a, b in itertools.pairwise(numbers) if b - a > usual]
    told = [f"{first}" if first >= last else f"{first} to {last}" for first, last in gaps[:_MOST_GAPS]]
    more = f" and {len(gaps) - _MOST_GAPS} more gaps" if len(gaps) > _MOST_GAPS else ""
    yield f"missing: frames {', '.join(told)}{more}; the others are shown one after the other"


def folder_frames(info: VideoInfo, notes: list[str]) -> Iterator[VideoFrame]:
    """The frames, all at the first one's size and depth; a damaged one is replaced by the last good one."""
    last, repeated, resized = None, 0, 0
    for number, path in enumerate(frame_files(info.path)):
        try:
            pixels = rgb_on_white(read_image(path), info.depth)
        except ImageError:
            if last is None:
                raise
            repeated += 1
            yield VideoFrame(last, number, True)
            continue
        scaled = pixels.shape[:2] != (info.height, info.width)
        if scaled:
            resized += 1
            pixels = _scaled(pixels, info)
        last = pixels
        yield VideoFrame(pixels, number, scaled=scaled)
    if repeated:
        notes.append(f"{counted(repeated, 'frame')} could not be read; the last good one is repeated instead")
    if resized:
        notes.append(resized_note(resized, info))


def _scaled(pixels: Tensor, info: VideoInfo) -> Tensor:
    x = to_float(pixels, info.depth).permute(2, 0, 1).unsqueeze(0)
    x = F.interpolate(x, (info.height, info.width), mode="bicubic", antialias=True)
    return from_float(x[0].permute(1, 2, 0), info.depth).contiguous()


def frame_name(number: int, format: str) -> str:
    """What the picture of a frame, counted from 1, is called."""
    return f"{number:06d}.{format}"


def write_folder(
    frames: Iterable[VideoFrame], output: Path, format: str, *, overwrite: bool, scratch: Path | None = None
) -> tuple[str, ...]:
    """One picture a frame, 000001.png and on, in a folder that appears when all are there.

    A folder that has something in it is only written to with `overwrite`, and then keeps its other files; returns a
    sentence about those that look like frames. Until all are there they lie in `scratch`, see `atomic.replacing`.
    """
    is_new = not output.is_dir() or not any(output.iterdir())
    if not is_new and not overwrite:
        raise OutputError(
            f"{output} exists and is not empty\nuse -y (overwrite) to write into it, or name another folder"
        )
    part = part_beside(output, scratch)
    make_folder(part)
    try:
        for number, frame in enumerate(frames, start=1):
            depth: Depth = "uint16" if frame.pixels.dtype == torch.uint16 else "uint8"
            picture = Frame(frame.pixels, depth, ImageMeta(format, "RGB"))
            write_image(picture, part / frame_name(number, format), quality=95)
        if is_new and _has_become(output, part):
            return ()
        make_folder(output)
        written = {path.name for path in part.iterdir()}
        for name in written:
            os.replace(part / name, output / name)
        return _left_behind(output, written)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _left_behind(output: Path, written: Set[str]) -> tuple[str, ...]:
    """A sentence about the pictures of an earlier run, of a longer film or in another format, if there are any."""
    others = sorted({path.name for path in output.iterdir() if _NUMBERED.fullmatch(path.name)} - written)
    if not others:
        return ()
    which = others[0] if len(others) == 1 else f"{others[0]} to {others[-1]}"
    return (
        f"{output.name}/ still holds {counted(len(others), 'numbered picture')} of an earlier run ({which}); "
        "remove them before it is read as a film",
    )


def _has_become(output: Path, part: Path) -> bool:
    """Whether the folder `part` could take the place of an empty or missing one: not of a link or a mounted disk."""
    try:
        with contextlib.suppress(FileNotFoundError):
            output.rmdir()
        os.rename(part, output)
    except OSError:
        return False
    return True
