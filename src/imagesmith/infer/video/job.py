"""One film from file to file: one thread decodes, the calling one computes, a third encodes; a killed run goes on."""

import contextlib
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from torch import Tensor

from imagesmith import __version__
from imagesmith.data.video import Encoding, VideoFrame, VideoInfo, audit, join, open_video
from imagesmith.errors import OutputError
from imagesmith.infer.channel import Cancelled, Channel
from imagesmith.infer.outcome import Frames, ItemResult, Size
from imagesmith.infer.video.plan import (
    FilmJob,
    FilmOptions,
    check_place,
    checked_info,
    encoding_of,
    expected_frames,
    is_estimated,
    no_frame,
    told_sizes,
)
from imagesmith.infer.video.segments import (
    Parts,
    Restored,
    drop_parts,
    open_parts,
    segment_length,
    source_digest,
    unfinished_facts,
)
from imagesmith.infer.video.stream import Snapshot, VideoRestorer
from imagesmith.runtime.device import DTYPES, Runtime

_DECODED, _RESTORED = 4, 2  # frames that wait; a restored one may be sixteen times as large
_LOOK_AT_IT = "the result is kept: compare it with its source, and please report this"


def restore_film(
    restorer: VideoRestorer,
    job: FilmJob,
    options: FilmOptions,
    asked: threading.Event,
    report: Callable[[Frames], None],
    *,
    remember: Callable[[], tuple[str, ...]] = tuple,
) -> ItemResult | None:
    """Restore one film; None where `asked` stopped it, and its parts lie beside the output for `resume`.

    `remember` is called when the film is whole and good, and before its parts go; it returns what has to be said.

    Raises an ImagesmithError where the film cannot be read or written; nothing lies under the output's name then. A
    result that its audit finds to lack something has the status 'failed', and is left where it is.
    """
    started = time.perf_counter()
    may_replace = check_place(job, options)
    info = checked_info(job, options)
    restorer = restorer.of_film(info)
    size = info.width * restorer.scale, info.height * restorer.scale
    options = replace(options, encoding=encoding_of(job, info, options, size))
    facts = {
        "source": source_digest(job.source),
        "runtime": restorer.runtime.arithmetic,
        **film_settings(restorer, options),
    }
    length = segment_length(info.rate)
    with open_parts(job.output, length, facts, resume=options.resume, anew=options.overwrite) as parts:
        notes = [*job.notes, *info.notes, *([f"went on after frame {parts.frames}"] if parts.frames else [])]
        is_whole, said = _compute(restorer, parts, info, options, asked=asked, report=report)
        if not is_whole:
            return None
        notes += [*said, *_join(parts, info, job, options, may_replace=may_replace)]
        found = audit(info, job.output, start_s=options.start_s, end_s=options.end_s, frames=parts.frames)
    notes += remember() if found.ok else ()
    drop_parts(job.output)
    in_size, out_size = told_sizes(info, restorer.scale, job.output)
    return ItemResult(
        input=str(job.source),
        output=str(job.output),
        status="done" if found.ok else "failed",
        model=restorer.card.title,
        scale=restorer.scale,
        in_size=in_size,
        out_size=out_size,
        seconds=round(time.perf_counter() - started, 3),
        notes=tuple(dict.fromkeys(notes)),
        frames=parts.frames,
        audit=found,
        error=None if found.ok else f"{job.output}: {'; '.join(found.sentences)}\n{_LOOK_AT_IT}",
        error_kind=None if found.ok else OutputError.__name__,
    )


def film_settings(restorer: VideoRestorer, options: FilmOptions) -> dict[str, str]:
    """All that decides the results of the same films, under the words in which it is told what changed."""
    return {
        "version of imagesmith": __version__,
        "model": restorer.fingerprint,
        "encoding": json.dumps(asdict(options.encoding)),
        "start or end": f"{options.start_s}, {options.end_s}",
    }


def begun_runtime(job: FilmJob, runtime: Runtime) -> Runtime:
    """The runtime in which an unfinished run of this job began, on the device of `runtime`, which is its without one.

    What is found fastest may be another one tomorrow, with other last bits.
    """
    began = unfinished_facts(job.output).get("runtime")
    known = itertools.product(DTYPES.values(), (False, True), (False, True))
    why = "as the unfinished run began"
    others = (Runtime(runtime.device, dtype, layout, why, winograd) for dtype, layout, winograd in known)
    return next((other for other in others if other.arithmetic == began != runtime.arithmetic), runtime)


def _join(parts: Parts, info: VideoInfo, job: FilmJob, options: FilmOptions, *, may_replace: bool) -> tuple[str, ...]:
    """The film of all parts under its name; what could not be kept."""
    if not parts.frames:
        raise no_frame(info, options)
    notes = join(
        parts.segments,
        info,
        job.output,
        options.encoding,
        overwrite=may_replace,
        start_s=options.start_s,
        end_s=options.end_s,
        scratch=parts.folder,
    )
    parts.note_joined(job.output)
    return notes


def _compute(
    restorer: VideoRestorer,
    parts: Parts,
    info: VideoInfo,
    options: FilmOptions,
    *,
    asked: threading.Event,
    report: Callable[[Frames], None],
) -> tuple[bool, list[str]]:
    """Restore the frames that `parts` lacks: whether that was all of them, and what has to be said."""
    decoded, restored = Channel[VideoFrame](_DECODED), Channel[Restored](_RESTORED)
    times, notes = deque[int](), list[str]()
    before = done = parts.frames
    total, started = expected_frames(info, options.start_s, options.end_s), time.monotonic()
    is_guess = total is not None and is_estimated(info, options)

    def pixels() -> Iterator[Tensor]:
        for frame in decoded:
            times.append(frame.pts)
            yield frame.pixels

    state = None if parts.state is None else Snapshot.load(parts.state)
    size = info.width * restorer.scale, info.height * restorer.scale
    with ThreadPoolExecutor(2, "film") as threads:
        threads.submit(_decode, decoded, info, options, before, notes)
        encoding = threads.submit(_encode, restored, parts, info, options.encoding, size)
        try:
            for frame, snapshot in restorer.frames(pixels(), state=state, report=notes.append):
                done += 1
                remembered = snapshot.tensors() if done % parts.length == 0 else None
                if not restored.put(Restored(frame, times.popleft(), remembered)):
                    break
                report(Frames(done, total, (done - before) / max(time.monotonic() - started, 1e-9), is_guess))
                if asked.is_set():
                    restored.end(Cancelled())
                    break
            else:
                restored.end()
        except BaseException:
            restored.end(Cancelled())
            raise
        finally:
            decoded.close()
    with contextlib.suppress(Cancelled):
        encoding.result()
        return True, notes
    return False, notes


def _decode(decoded: Channel[VideoFrame], info: VideoInfo, options: FilmOptions, skip: int, notes: list[str]) -> None:
    """In the decoding thread: all frames but the first `skip`, and what the reader had to say."""
    try:
        with open_video(info.path, start_s=options.start_s, end_s=options.end_s, skip=skip) as reader:
            for frame in reader:
                if not decoded.put(frame):
                    return
            notes.extend(reader.notes)
        decoded.end()
    except BaseException as error:
        decoded.end(error)


def _encode(restored: Channel[Restored], parts: Parts, info: VideoInfo, encoding: Encoding, size: Size) -> None:
    """In the encoding thread: segment after segment."""
    frames = iter(restored)
    try:
        for first in frames:
            parts.add(itertools.chain([first], itertools.islice(frames, parts.length - 1)), info, encoding, size)
    finally:
        restored.close()
