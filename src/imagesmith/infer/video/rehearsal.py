"""A film tried out before days are spent on it: three short moments, and the time and room that all would take."""

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from imagesmith.atomic import check_free, check_writable, make_folder
from imagesmith.data.files import Frame, write_image
from imagesmith.data.frame import ImageMeta
from imagesmith.data.video import (
    Encoding,
    VideoFrame,
    VideoInfo,
    left_out,
    lost_by,
    open_video,
    segment_writer,
)
from imagesmith.data.video.film import upright
from imagesmith.data.video.info import counted
from imagesmith.errors import OutputError
from imagesmith.infer.channel import Cancelled
from imagesmith.infer.outcome import Estimate, ItemResult
from imagesmith.infer.video.plan import (
    MOMENTS,
    FilmJob,
    FilmOptions,
    check_place,
    checked_info,
    encoding_of,
    expected_frames,
    is_estimated,
    no_frame,
    preview_places,
    told_sizes,
)
from imagesmith.infer.video.segments import parts_folder, segment_length
from imagesmith.infer.video.stream import VideoRestorer

Thing = TypeVar("Thing")

_FRAMES = 6  # of a moment: the first is a key frame, the others tell what those between key frames need
_ENOUGH_S = 5.0  # of measuring in a moment, once there are two frames; a minute a frame would take 18 of them


class _Moment(NamedTuple):
    """The last frame of a short moment and what became of it; what its frames took, on average but for the first.

    `key_bytes` is the size of the first frame once encoded, `bytes` that of the others on average.
    """

    before: Tensor
    after: Tensor
    seconds: float
    key_bytes: float
    bytes: float


def rehearse(
    restorer: VideoRestorer, job: FilmJob, options: FilmOptions, asked: threading.Event | None = None
) -> ItemResult | None:
    """What restoring a film would take, by three of its moments; nothing is written but pictures for `preview`.

    None where `asked` stopped it.
    """
    started, taken = time.perf_counter(), _taken(job, options)
    pictures = preview_places(job, options.preview)
    for place in pictures:
        check_free(place, overwrite=options.overwrite)
    info = checked_info(job, options)
    restorer = restorer.of_film(info)
    size = info.width * restorer.scale, info.height * restorer.scale
    encoding = encoding_of(job, info, options, size)
    asked = asked or threading.Event()
    try:
        if not _some_frames(info, options.start_s, asked, end_s=options.end_s, most=1):
            raise no_frame(info, options)
        for place in pictures:
            make_folder(place.parent)
        moments = [_tried(restorer, info, encoding, start_s, asked) for start_s in _starts(info, options).values()]
    except Cancelled:
        return None
    if pictures:
        _show(moments, info, pictures, overwrite=options.overwrite)
    total = expected_frames(info, options.start_s, options.end_s)
    is_guess = total is not None and is_estimated(info, options)
    estimate = _estimated(moments, total, segment_length(info.rate), job.output)
    in_size, out_size = told_sizes(info, restorer.scale, job.output)
    return ItemResult(
        input=str(job.item),
        output=str(job.output),
        status="planned",
        model=restorer.card.title,
        scale=restorer.scale,
        in_size=in_size,
        out_size=out_size,
        seconds=round(time.perf_counter() - started, 3),
        notes=(
            *(*taken, *job.notes, *info.notes),
            *lost_by(encoding, info, restorer.scale, job.output),
            *left_out(info, job.output, start_s=options.start_s, end_s=options.end_s),
            _told(estimate, total, is_guess=is_guess),
        ),
        frames=total,
        frames_estimated=is_guess,
        estimate=estimate,
    )


def _taken(job: FilmJob, options: FilmOptions) -> tuple[str, ...]:
    """What keeps the result from its place, which must not keep anyone from looking at a `preview`."""
    try:
        check_place(job, options)
        check_writable(parts_folder(job.output) / "part")
    except OutputError as error:
        if options.preview is None:
            raise
        return (str(error).replace("\n", "; "),)
    return ()


def _starts(info: VideoInfo, options: FilmOptions) -> dict[str, float]:
    """When the moments begin, in seconds."""
    first = options.start_s or 0.0
    last = info.duration_s if options.end_s is None else min(options.end_s, info.duration_s)
    return {name: first + share * max(0.0, last - first) for name, share in MOMENTS.items()}


def _tried(
    restorer: VideoRestorer, info: VideoInfo, encoding: Encoding, start_s: float, asked: threading.Event
) -> _Moment:
    """A few frames from `start_s` on, decoded, restored and encoded; Cancelled once `asked` is set."""
    # the last one may be shown long before the end
    frames = _some_frames(info, start_s, asked) or _some_frames(info, None, asked)
    restored, times = list[Tensor](), [time.perf_counter()]
    results = restorer.frames((frame.pixels for frame in frames), report=lambda _: None)
    for after, _ in _until_asked(results, asked):
        restored.append(after)
        times.append(time.perf_counter())
        if len(restored) > 1 and times[-1] - times[0] > _ENOUGH_S:
            break
    others = max(1, len(restored) - 1)
    key_bytes, all_bytes, encoding_s = _encoded(restored, frames, info, encoding, asked)
    seconds = (times[-1] - times[len(times) > 2]) / others + encoding_s / len(restored)  # the first pass warms up
    return _Moment(frames[len(restored) - 1].pixels, restored[-1], seconds, key_bytes, (all_bytes - key_bytes) / others)


def _until_asked(things: Iterable[Thing], asked: threading.Event) -> Iterator[Thing]:
    """Each of `things`; Cancelled in place of the first that comes when `asked` is set."""
    for thing in things:
        if asked.is_set():
            raise Cancelled
        yield thing


def _encoded(
    restored: list[Tensor], frames: list[VideoFrame], info: VideoInfo, encoding: Encoding, asked: threading.Event
) -> tuple[int, int, float]:
    """The bytes of the first frame as a film, those of all, and the seconds that encoding all took."""
    size, sizes, began = (restored[0].shape[1], restored[0].shape[0]), list[int](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, len(restored)):
            began, path = time.perf_counter(), Path(folder) / str(count)
            with segment_writer(path, info, encoding, size=size) as write:
                for pixels, frame in _until_asked(zip(restored[:count], frames, strict=False), asked):
                    write(pixels, frame.pts)
            sizes.append(path.stat().st_size)
        return sizes[0], sizes[1], time.perf_counter() - began


def _some_frames(
    info: VideoInfo, start_s: float | None, asked: threading.Event, *, end_s: float | None = None, most: int = _FRAMES
) -> list[VideoFrame]:
    with open_video(info.path, start_s=start_s, end_s=end_s) as reader:
        return list(itertools.islice(_until_asked(reader, asked), most))


def _estimated(moments: list[_Moment], total: int | None, length: int, output: Path) -> Estimate:
    key_bytes, between, seconds = (
        sum(getattr(moment, name) for moment in moments) / len(moments) for name in ("key_bytes", "bytes", "seconds")
    )
    near = next(folder for folder in output.absolute().parents if folder.exists())
    free = shutil.disk_usage(near).free
    if total is None:
        return Estimate(None, None, free, 1 / seconds)
    keys = -(-total // length)
    return Estimate(total * seconds, round(keys * key_bytes + (total - keys) * between), free, 1 / seconds)


def _told(estimate: Estimate, total: int | None, *, is_guess: bool) -> str:
    speed = f"{estimate.frames_per_second:.2g} frames a second"
    free = f"{estimate.free_bytes / 1e9:.1f} GB are free"
    if estimate.seconds is None or estimate.bytes is None:
        return f"the film does not say how many frames it has; {speed}, {free}"
    took, size = timedelta(seconds=round(estimate.seconds)), estimate.bytes / 1e6
    room = f"about {took} and {size:.1f} MB besides sound, twice that while it is made"
    enough = "" if 2 * estimate.bytes < estimate.free_bytes else ", which will not do"
    frames = f"about {total} frames, if they come at the usual rate" if is_guess else counted(total or 0, "frame")
    return f"{frames}, {speed}: {room}; {free}{enough}"


def _show(moments: list[_Moment], info: VideoInfo, pictures: list[Path], *, overwrite: bool) -> None:
    """Before and after of each moment, upright, as the files `pictures`."""
    shown = [pixels for moment in moments for pixels in (moment.before, moment.after)]
    for pixels, path in zip(shown, pictures, strict=True):
        write_image(Frame(upright(pixels, info.matrix), info.depth, ImageMeta("png", "RGB")), path, overwrite=overwrite)
