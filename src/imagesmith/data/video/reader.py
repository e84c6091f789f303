"""Moving pictures read frame by frame: films, folders of numbered frames, animated GIF and WebP."""

import contextlib
import itertools
from collections.abc import Generator, Iterator
from pathlib import Path

from av.container import InputContainer

from imagesmith.data.video import animations, film, folders
from imagesmith.data.video.colour import ToRgb
from imagesmith.data.video.info import VideoFrame, VideoInfo, resized_note
from imagesmith.data.video.span import Span


class VideoReader:
    """Iterates once over the frames; `notes` begin with those of `info` and grow with what reading brings to light."""

    def __init__(self, info: VideoInfo, frames: Iterator[VideoFrame], notes: list[str]) -> None:
        self.info, self.notes, self._frames = info, notes, frames

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._frames


def is_video(path: Path | str) -> bool:
    """Whether a file's name is a film's, or it is an animated GIF or WebP; no frame is decoded."""
    path = Path(path)
    if path.suffix.lower() in film.SUFFIXES:
        return path.is_file()
    return path.suffix.lower() in animations.SUFFIXES and animations.moves(path)


def read_info(path: Path | str) -> VideoInfo:
    """What a film, an animation or a folder of frames is; VideoError where it is none or cannot be read."""
    path = Path(path)
    if path.is_dir():
        return folders.folder_info(path)
    if path.suffix.lower() in animations.SUFFIXES:
        return animations.animation_info(path)
    return film.film_info(path)


@contextlib.contextmanager
def open_video(
    path: Path | str, start_s: float | None = None, end_s: float | None = None, skip: int = 0
) -> Iterator[VideoReader]:
    """The frames between two moments (seconds from the first frame), without the first `skip` of them.

    What is skipped is decoded, unless it lies before `start_s`, but not converted: the same frames follow as without.
    """
    info, span, notes = read_info(path), Span(start_s, end_s), []
    span.check(info)
    notes += info.notes
    with contextlib.ExitStack() as stack:
        if info.kind == "folder":
            frames = _picked(folders.folder_frames(info, notes), info, span, skip)
        elif info.kind == "animation":
            frames = _picked(animations.animation_frames(info), info, span, skip)
        else:
            container = stack.enter_context(film.opened(info.path))
            frames = _film_frames(container, info, span, skip, notes)
        stack.enter_context(contextlib.closing(frames))  # before the container, and all notes are there then
        yield VideoReader(info, frames, notes)


def _film_frames(
    container: InputContainer, info: VideoInfo, span: Span, skip: int, notes: list[str]
) -> Generator[VideoFrame]:
    """The frames of a film in the span; those of another size are scaled to that of the first."""
    stream = film.shown_stream(container, info.path)
    first, stop = span.first(info), span.stop(info)
    to_rgb = ToRgb(info.colour, (info.width, info.height), deep=info.depth == "uint16")
    number = resized = 0
    if span.start_s:
        pictures = film.decoded_from(container, stream, info, first, notes)
    else:
        pictures = film.decoded(container, stream, notes)
    for frame, pts, repeated in pictures:
        if pts >= stop:
            break
        if pts < first:
            continue
        number += 1
        scaled = (frame.width, frame.height) != (info.width, info.height)
        resized += scaled
        if number > skip:
            yield VideoFrame(to_rgb(frame), pts, repeated, scaled)
    if resized:
        notes.append(resized_note(resized, info))


def _picked(frames: Iterator[VideoFrame], info: VideoInfo, span: Span, skip: int) -> Generator[VideoFrame]:
    first, stop = span.first(info), span.stop(info)
    inside = (frame for frame in frames if first <= frame.pts < stop)
    yield from itertools.islice(inside, skip, None)
