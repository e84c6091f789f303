"""Many files through one Restorer: reading, computing and writing overlap, and one bad file is only one bad file.

The calling thread computes. One thread reads ahead, another writes; strips of the result pass from computing to writing
through a short queue, so memory is bounded by a few strips wherever the format can be written row by row (PNG).
"""

import hashlib
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from torch import Tensor

from imagesmith import __version__
from imagesmith.atomic import replacing
from imagesmith.data.files import FORMATS, Frame, output_format, read_header, read_image, write_image
from imagesmith.data.png import PngWriter
from imagesmith.data.sources import list_items
from imagesmith.errors import OutputError
from imagesmith.infer.images import stacked
from imagesmith.infer.manifest import Manifest, settings_digest, sha256_of
from imagesmith.infer.outcome import FileOptions, ItemResult, Progress, Size, Summary, failed
from imagesmith.infer.plan import KEEP, Job, check_distinct, checked_format, plan_jobs
from imagesmith.runtime.device import available_memory
from imagesmith.runtime.interrupt import stop_on_request

if TYPE_CHECKING:
    from imagesmith.infer.restore import Restorer

_READ_AHEAD = 1  # pictures; each may have hundreds of megapixels
_STRIPS_AHEAD = 2
_WRITE_BEHIND = 2
_WHOLE_COPIES = 3  # of the result, at the worst moment of an encoder that cannot take strips


def restore_files(
    restorer: "Restorer",
    sources: Sequence[str | Path],
    destination: str | Path | None,
    options: FileOptions,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore everything that `sources` name; see `Restorer.path`."""
    options = replace(options, format=checked_format(options.format))
    card = restorer.card
    tag = f".{card.task}{f'x{card.scale}' if card.scale > 1 else ''}"
    items = list_items(sources, recursive=options.recursive)
    jobs = plan_jobs(items, destination, format=options.format, suffix=options.suffix, tag=tag)
    roots = {job.root for job in jobs if job.root is not None}
    manifests = {root: Manifest(root) for root in roots} if options.resume or len(jobs) > 1 else {}
    # results of an earlier run that lie among the inputs are not pictures to enlarge once more
    jobs = [job for job in jobs if not any(manifest.owns(job.item.path) for manifest in manifests.values())]
    check_distinct(jobs)
    run = _Run(restorer, options, manifests, jobs)
    if options.dry_run:
        return Summary([run.planned(job) for job in jobs])
    with stop_on_request() as asked:
        return run.process(jobs, asked, on_progress)


@dataclass(frozen=True)
class _Loaded:
    """A picture that was read and is to be computed; `whole` if its format cannot be written strip by strip."""

    job: Job
    frame: Frame
    sha256: str
    seconds: float
    result: ItemResult
    whole: bool


class _Run:
    """One call of `restore_files`: what its reading, computing and writing share."""

    def __init__(
        self, restorer: "Restorer", options: FileOptions, manifests: dict[Path, Manifest], jobs: Sequence[Job]
    ) -> None:
        self._restorer, self._options, self._manifests = restorer, options, manifests
        self._inputs = {job.item.path.resolve() for job in jobs if job.item.path is not None}
        self._outputs = {job.output for job in jobs}
        self._settings = settings_digest(
            {
                "version": __version__,
                "weights": restorer.fingerprint,
                "format": options.format,
                "suffix": options.suffix,
                "partial": options.partial,
                "self_ensemble": options.self_ensemble,
            }
        )

    def process(self, jobs: Sequence[Job], asked: threading.Event, on_progress: Callable[[Progress], None]) -> Summary:
        """Read ahead, compute here, write behind; stops after the current tile row once `asked` is set."""
        finished: dict[Job, ItemResult] = {}
        todo, loading = deque(jobs), deque[tuple[Job, Future[_Loaded | ItemResult]]]()
        writing = deque[tuple[Job, Future[ItemResult | None]]]()

        def finish(job: Job, result: ItemResult | None) -> None:
            if result is not None:
                finished[job] = result
                on_progress(Progress(len(finished), len(jobs), str(job.item), 1.0, result))

        def collect(most: int) -> None:
            while writing and (len(writing) > most or writing[0][1].done()):
                job, future = writing.popleft()
                finish(job, future.result())

        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            try:
                while (todo or loading) and not asked.is_set():
                    while todo and len(loading) <= _READ_AHEAD:
                        job = todo.popleft()
                        loading.append((job, reader.submit(self._load, job)))
                    job, future = loading.popleft()
                    loaded = future.result()
                    if isinstance(loaded, ItemResult):
                        finish(job, loaded)
                        continue
                    rows = _Rows()
                    writing.append((job, writer.submit(self._write, loaded, rows)))
                    with closing(self._compute(loaded, rows, asked)) as fractions:
                        for fraction in fractions:
                            on_progress(Progress(len(finished), len(jobs), str(job.item), fraction))
                    collect(most=_WRITE_BEHIND)
                collect(most=0)
            finally:
                for _, future in loading:
                    future.cancel()
        results = [finished[job] for job in jobs if job in finished]
        return Summary(results, cancelled=asked.is_set() and len(results) < len(jobs))

    def planned(self, job: Job) -> ItemResult:
        """What would be done with a job, from its header alone."""
        blank = self._blank(job, "planned")
        try:
            source = job.item.read()
            if self._finished_before(job, self._digest(job, source)):
                return replace(blank, status="skipped")
            self._check_output(job)
            header = read_header(source, max_pixels=self._options.max_pixels)
            format = self._format(job, header.depth, header.channels)
            sized = replace(blank, output=_name(_renamed(job, format)), **self._sizes(header.width, header.height))
            if _is_whole(format, header.depth):
                bytes_needed = self._bytes_needed(header.height, header.width, header.channels, header.depth)
                sized = replace(sized, notes=(f"{format} is held as a whole: {bytes_needed / 1e9:.2f} GB",))
            return sized
        except Exception as error:
            return failed(blank, error)

    # --- the three stages ---

    def _load(self, job: Job) -> _Loaded | ItemResult:
        """In the reading thread: the picture, or the result that needs no computing."""
        start = time.perf_counter()
        result = self._blank(job, "done")
        try:
            source = job.item.read()
            digest = self._digest(job, source)
            if self._finished_before(job, digest):
                return replace(result, status="skipped")
            self._check_output(job)
            frame = read_image(source, max_pixels=self._options.max_pixels, partial=self._options.partial)
            height, width, channels = frame.pixels.shape
            result = replace(result, notes=frame.meta.notes, **self._sizes(width, height))
            format = self._format(job, frame.depth, channels)
            whole = _is_whole(format, frame.depth)
            if whole:
                self._check_memory(height, width, channels, frame.depth, format)
            job = _renamed(job, format)
            if job.output not in self._outputs:
                self._check_output(job)
            result = replace(result, output=_name(job))
            return _Loaded(job, frame, digest, time.perf_counter() - start, result, whole)
        except Exception as error:
            return failed(result, error)

    def _compute(self, loaded: _Loaded, rows: "_Rows", asked: threading.Event) -> Generator[float, None, None]:
        """In the calling thread: strip by strip into `rows`, yielding the fraction done."""
        height = loaded.frame.pixels.shape[0] * self._restorer.scale
        try:
            strips = self._restorer.strips(
                loaded.frame, self_ensemble=self._options.self_ensemble, report=rows.notes.append
            )
            for top, strip in strips:
                if asked.is_set():
                    raise _Cancelled
                if not rows.put(strip):
                    return
                yield (top + strip.shape[0]) / height
            rows.end(None)
        except Exception as error:
            rows.end(error)
        except BaseException:
            rows.end(_Cancelled())
            raise

    def _write(self, loaded: _Loaded, rows: "_Rows") -> ItemResult | None:
        """In the writing thread: the file under its final name, then its line in the manifest; None if cancelled."""
        start = time.perf_counter()
        job, result = loaded.job, loaded.result
        try:
            if job.output is None:
                notes = self._encode(loaded, rows, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                _make_folder(job.output.parent)
                replace_allowed = self._options.overwrite or self._is_own(job)
                with replacing(job.output, overwrite=replace_allowed) as stream:
                    notes = self._encode(loaded, rows, stream)
                notes += self._remember(loaded, job.output)
        except _Cancelled:
            return None
        except Exception as error:
            return failed(result, error)
        finally:
            rows.close()
        seconds = loaded.seconds + time.perf_counter() - start
        all_notes = dict.fromkeys((*result.notes, *rows.notes, *notes))
        return replace(result, seconds=round(seconds, 3), notes=tuple(all_notes))

    def _encode(self, loaded: _Loaded, rows: "_Rows", stream: BinaryIO) -> tuple[str, ...]:
        frame, scale = loaded.frame, self._restorer.scale
        height, width, channels = frame.pixels.shape
        if loaded.whole:
            result = replace(frame, pixels=stacked(rows, frame, scale))
            return write_image(result, stream, format=loaded.job.format)
        writer = PngWriter(stream, width * scale, height * scale, channels, depth=frame.depth, meta=frame.meta)
        try:
            for strip in rows:
                writer.write_rows(strip)
            writer.close()
        finally:
            writer.abandon()
        return ()

    def _remember(self, loaded: _Loaded, output: Path) -> tuple[str, ...]:
        """Note a finished result for `--resume`; a result is good even where this fails."""
        try:
            if manifest := self._manifest(loaded.job):
                manifest.record(loaded.job.name, loaded.sha256, self._settings, output)
        except OutputError as error:
            return (str(error),)
        return ()

    # --- decisions about one job ---

    def _blank(self, job: Job, status: Literal["done", "planned"]) -> ItemResult:
        return ItemResult(str(job.item), _name(job), status, self._restorer.card.name, self._restorer.scale)

    def _sizes(self, width: int, height: int) -> dict[str, Size]:
        scale = self._restorer.scale
        return {"in_size": (width, height), "out_size": (width * scale, height * scale)}

    def _manifest(self, job: Job) -> Manifest | None:
        return self._manifests.get(job.root) if job.root is not None else None

    def _digest(self, job: Job, source: Path | bytes) -> str:
        """The sha256 of an input, where a manifest wants it and it can be read twice."""
        if self._manifest(job) is None:
            return ""
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        return sha256_of(source) if source.is_file() else ""

    def _finished_before(self, job: Job, digest: str) -> bool:
        manifest = self._manifest(job)
        return self._options.resume and manifest is not None and manifest.has(job.name, digest, self._settings)

    def _is_own(self, job: Job) -> bool:
        manifest = self._manifest(job)
        return self._options.resume and manifest is not None and manifest.owns(job.output)

    def _check_output(self, job: Job) -> None:
        """OutputError before anything is computed if the result could not be put where it belongs."""
        if job.output is None:
            return
        if job.output.resolve() in self._inputs:
            raise OutputError(f"{job.output} is itself an input\nname another folder with -o, or a --suffix")
        if job.output.exists() and not (self._options.overwrite or self._is_own(job)):
            raise OutputError(f"{job.output} exists already\nuse -y (overwrite) to replace it, or name another output")

    def _format(self, job: Job, depth: Any, channels: int) -> str:
        """The format asked for, or the planned one as far as it can hold the picture."""
        return job.format if self._options.format != KEEP else output_format(job.format, depth, channels)

    def _bytes_needed(self, height: int, width: int, channels: int, depth: str) -> int:
        item_bytes = {"uint8": 1, "uint16": 2, "float32": 4}[depth]
        return height * width * self._restorer.scale**2 * channels * item_bytes * _WHOLE_COPIES

    def _check_memory(self, height: int, width: int, channels: int, depth: str, format: str) -> None:
        needed, free = self._bytes_needed(height, width, channels, depth), available_memory()
        if free is not None and needed > free:
            raise OutputError(
                f"the result needs {needed / 1e9:.1f} GB of memory as {format}, {free / 1e9:.1f} GB are free\n"
                "write it as png (-f png), which needs only a few rows at a time"
            )


class _Cancelled(Exception):
    """Ends the writing of a picture that the user no longer waits for."""


class _Rows:
    """Strips on their way from computing to writing, a few at a time."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._queue: queue.Queue[Tensor | Exception | None] = queue.Queue(_STRIPS_AHEAD)
        self._closed = threading.Event()

    def put(self, strip: Tensor | Exception | None) -> bool:
        """Wait for room; False once nobody reads any more."""
        while not self._closed.is_set():
            try:
                self._queue.put(strip, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def end(self, error: Exception | None) -> None:
        """No more strips: the picture is complete, or `error` is raised where it is being written."""
        self.put(error)

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed.set()

    def __iter__(self) -> Iterator[Tensor]:
        while (strip := self._queue.get()) is not None:
            if isinstance(strip, Exception):
                raise strip
            yield strip


def _renamed(job: Job, format: str) -> Job:
    """The job with the suffix of the format that its content turned out to need."""
    if job.format == format or job.output is None:
        return replace(job, format=format)
    return replace(job, format=format, output=job.output.with_suffix(FORMATS[format].suffixes[0]))


def _is_whole(format: str, depth: str) -> bool:
    return format != "png" or depth == "float32"


def _name(job: Job) -> str:
    return "-" if job.output is None else str(job.output)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
