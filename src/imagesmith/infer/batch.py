"""Many files through one Restorer: reading, computing and writing overlap, and one bad file is only one bad file.

The calling thread computes. One thread reads ahead, another writes; strips of the result pass from computing to writing
through a short queue, so memory is bounded by a few strips wherever the format can be written row by row (PNG).
"""

import functools
import hashlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from torch import Tensor

from imagesmith import __version__
from imagesmith.atomic import check_free, replacing
from imagesmith.data.files import Frame, Header, read_header, read_image, write_image
from imagesmith.data.formats import check_side
from imagesmith.data.png import PngWriter
from imagesmith.data.sources import list_items
from imagesmith.errors import NothingUsableError, OutputError, UsageError
from imagesmith.infer.heat import heat_map
from imagesmith.infer.images import result_meta, stacked
from imagesmith.infer.lost import fill, lost_pixels
from imagesmith.infer.manifest import Manifest, settings_digest, sha256_of
from imagesmith.infer.outcome import FileOptions, ItemResult, Progress, Size, Summary, Uncertainty, failed
from imagesmith.infer.plan import Job, check_distinct, checked_format, names_a_file, output_key, plan_jobs
from imagesmith.infer.rows import Cancelled, Rows
from imagesmith.runtime.device import available_memory
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.zoo import CARDS

if TYPE_CHECKING:
    from imagesmith.infer.chained import Auto, Chained
    from imagesmith.infer.restore import Restorer

AUTO_TASK = "auto"
"""Task of what chooses its models for each picture."""
_INPAINT = "inpaint"  # the shipped model that invents what did not survive
_READ_AHEAD = 1  # pictures; each may have hundreds of megapixels
_WRITE_BEHIND = 2
_WHOLE_COPIES = 3  # of the result, at the worst moment of an encoder that cannot take strips


def restore_files(
    restorer: "Restorer | Auto",
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
    is_batch = len(jobs) > 1 or any(os.path.isdir(source) for source in sources)
    manifests = {root: Manifest(root) for root in roots} if options.resume or is_batch else {}
    # results of an earlier run that lie among the inputs are not pictures to enlarge once more
    jobs = [job for job in jobs if not any(manifest.owns(job.item.path) for manifest in manifests.values())]
    if not jobs:
        raise NothingUsableError(
            "expected pictures to restore, found only results of an earlier run\n"
            "name one by itself, or another folder with -o, to enlarge it once more"
        )
    check_distinct(jobs)
    if options.uncertainty is not None and names_a_file(options.uncertainty) and len(jobs) > 1:
        raise UsageError(f"expected a folder for {len(jobs)} heat maps, got '{options.uncertainty}'; name a folder")
    run = _Run(restorer, options, manifests, jobs)
    if options.dry_run:
        return run.rehearse(jobs, on_progress)
    with stop_on_request() as asked:
        return run.process(jobs, asked, on_progress)


@dataclass(frozen=True)
class _Loaded:
    """A picture that was read and is to be computed; `whole` if its format cannot be written strip by strip."""

    job: Job
    frame: Frame
    restorer: "Restorer | Chained"
    sha256: str
    seconds: float
    result: ItemResult
    whole: bool


class _Run:
    """One call of `restore_files`: what its reading, computing and writing share."""

    def __init__(
        self, restorer: "Restorer | Auto", options: FileOptions, manifests: dict[Path, Manifest], jobs: Sequence[Job]
    ) -> None:
        self._restorer, self._options, self._manifests = restorer, options, manifests
        self._inputs = {job.item.path.resolve() for job in jobs if job.item.path is not None}
        self._makers = {output_key(job.output): job.item for job in jobs if job.output is not None}
        is_inpainter = restorer.card.task == "inpaint"
        self._inventor = restorer.card.name if is_inpainter else _INPAINT if _INPAINT in CARDS else None
        self._settings = settings_digest(
            {
                "version": __version__,
                "weights": restorer.fingerprint,
                "dtype": restorer.runtime.dtype,
                "format": options.format,
                "suffix": options.suffix,
                "partial": options.partial,
                "self_ensemble": options.self_ensemble,
                "strength": restorer.strength,
                "consistency": options.consistency,
                "mask": options.mask.numpy().tobytes() if isinstance(options.mask, Tensor) else options.mask,
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
                    rows = Rows()
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

    def rehearse(self, jobs: Sequence[Job], on_progress: Callable[[Progress], None]) -> Summary:
        """What would be done with each job, told as soon as it is known: --task auto must read every picture for it."""
        results = list[ItemResult]()
        for job in jobs:
            results.append(self._planned(job))
            on_progress(Progress(len(results), len(jobs), str(job.item), 1.0, results[-1]))
        return Summary(results)

    def _planned(self, job: Job) -> ItemResult:
        """What would be done with a job, from its header alone where one model is for all pictures."""
        if self._restorer.card.task == AUTO_TASK:
            loaded = self._load(job)
            return replace(loaded.result, status="planned") if isinstance(loaded, _Loaded) else loaded
        blank = self._blank(job, "planned")
        try:
            source = job.item.read()
            if output := self._finished_before(job, self._digest(job, source)):
                return replace(blank, status="skipped", output=str(output))
            header = read_header(source, max_pixels=self._options.max_pixels)
            job, sizes = self._settle(job, header, self._restorer.scale)
            notes: tuple[str, ...] = ()
            if _is_whole(job.format, header.depth):
                needed = _bytes_needed(header, self._restorer.scale)
                notes = (f"{job.format} is held as a whole: {needed / 1e9:.2f} GB",)
            return replace(blank, output=_name(job), notes=notes, **sizes)
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
            if output := self._finished_before(job, digest):
                return replace(result, status="skipped", output=str(output))
            if not job.keeps:
                self._check_output(job)
            frame = read_image(source, max_pixels=self._options.max_pixels, partial=self._options.partial)
            height, width, channels = frame.pixels.shape
            result = replace(result, notes=frame.meta.notes)
            if frame.lost is not None:
                lost = lost_pixels(frame.lost, self._inventor)
                result = replace(result, notes=(*result.notes, str(lost)), lost=lost)
            restorer, decision = self._restorer.choose(frame)
            if decision is not None:
                notes = (*result.notes, str(decision))
                result = replace(result, model=decision.name, scale=restorer.scale, notes=notes, decision=decision)
                if not decision.chain and job.keeps and job.output is not None:
                    return replace(result, status="skipped", output=None, in_size=(width, height))
            header = Header(frame.meta.format, width, height, channels, frame.depth, frames=1)
            job, sizes = self._settle(job, header, restorer.scale)
            result = replace(result, output=_name(job), **sizes)
            whole = _is_whole(job.format, frame.depth)
            if whole:
                _check_memory(header, job.format, restorer.scale)
            return _Loaded(job, frame, restorer, digest, time.perf_counter() - start, result, whole)
        except Exception as error:
            return failed(result, error)

    def _compute(self, loaded: _Loaded, rows: Rows, asked: threading.Event) -> Generator[float, None, None]:
        """In the calling thread: strip by strip into `rows`, yielding the fraction done."""
        height = loaded.frame.pixels.shape[0] * loaded.restorer.scale
        try:
            frame = self._whole(loaded.frame)
            if self._options.uncertainty is not None:
                rows.uncertainty = self._doubted(loaded.job, frame, self._options.uncertainty)
            for top, strip in self._strips(loaded.restorer, frame, rows.notes.append):
                if asked.is_set():
                    raise Cancelled
                if not rows.put(strip):
                    return
                yield (top + strip.shape[0]) / height
            rows.end(None)
        except Exception as error:
            rows.end(error)
        except BaseException:
            rows.end(Cancelled())
            raise

    def _whole(self, frame: Frame) -> Frame:
        """The picture, in which what did not survive in the file is invented before anything else."""
        return fill(frame, self._inpainter) if frame.lost is not None and self._inventor is not None else frame

    def _strips(
        self, restorer: "Restorer | Chained", frame: Frame, report: Callable[[str], None]
    ) -> Iterator[tuple[int, Tensor]]:
        """The result from top to bottom."""
        options = self._options
        if options.partial and options.mask is None and restorer.card.task == "inpaint":
            return iter([(0, frame.pixels)])  # there was nothing else to invent
        return restorer.strips(
            frame,
            mask=options.mask,
            self_ensemble=options.self_ensemble,
            consistency=options.consistency,
            report=report,
        )

    def _doubted(self, job: Job, frame: Frame, place: Path) -> Uncertainty:
        """Write the heat map of a result at `place`, or into this folder under the input's name."""
        if not names_a_file(place):
            place = place / job.item.name.with_name(f"{job.item.name.name}.heat.png")
            _make_folder(place.parent)
        error = self._restorer.uncertainty(frame, mask=self._options.mask)
        write_image(heat_map(error), place, overwrite=self._options.overwrite)
        ordered = error.flatten().sort().values
        return Uncertainty(
            round(error.mean().item(), 3), round(ordered[int(0.95 * len(ordered))].item(), 3), str(place)
        )

    @functools.cached_property
    def _inpainter(self) -> "Restorer":
        """The model called `_inventor`, loaded for the first picture that needs it."""
        if self._restorer.card.task == "inpaint":
            return cast("Restorer", self._restorer)  # `Auto` has a task of its own
        assert self._inventor is not None, "there is no model to load"
        return self._restorer.load(self._inventor, device=self._restorer.runtime.device.type)

    def _write(self, loaded: _Loaded, rows: Rows) -> ItemResult | None:
        """In the writing thread: the file under its final name, then its line in the manifest; None if cancelled."""
        start = time.perf_counter()
        job, result = loaded.job, loaded.result
        try:
            if job.output is None:
                notes = self._to_standard_output(loaded, rows)
            else:
                _make_folder(job.output.parent)
                replace_allowed = self._options.overwrite or self._is_own(job)
                with replacing(job.output, overwrite=replace_allowed) as stream:
                    notes = self._encode(loaded, rows, stream)
                notes += self._remember(loaded, job.output)
        except Cancelled:
            return None
        except Exception as error:
            return failed(result, error)
        finally:
            rows.close()
        seconds = loaded.seconds + time.perf_counter() - start
        all_notes = dict.fromkeys((*result.notes, *rows.notes, *notes))
        return replace(result, seconds=round(seconds, 3), notes=tuple(all_notes), uncertainty=rows.uncertainty)

    def _to_standard_output(self, loaded: _Loaded, rows: Rows) -> tuple[str, ...]:
        try:
            notes = self._encode(loaded, rows, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        return notes

    def _encode(self, loaded: _Loaded, rows: Rows, stream: BinaryIO) -> tuple[str, ...]:
        frame, scale = loaded.frame, loaded.restorer.scale
        meta = result_meta(frame, scale)
        if loaded.whole:
            result = Frame(stacked(rows, frame, scale), frame.depth, meta)
            return write_image(result, stream, format=loaded.job.format)
        height, width, channels = frame.pixels.shape
        writer = PngWriter(stream, width * scale, height * scale, channels, depth=frame.depth, meta=meta)
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

    def _settle(self, job: Job, header: Header, scale: int) -> tuple[Job, dict[str, Size]]:
        """The job as the picture's content decides it, and the sizes; OutputError where the result has no place."""
        in_size = header.width, header.height
        out_size = header.width * scale, header.height * scale
        job = job.for_content(header.format, header.depth, header.channels, max(out_size))
        check_side(job.format, *out_size)
        self._check_output(job)
        return job, {"in_size": in_size, "out_size": out_size}

    def _manifest(self, job: Job) -> Manifest | None:
        return self._manifests.get(job.root) if job.root is not None else None

    def _digest(self, job: Job, source: Path | bytes | BinaryIO) -> str:
        """The sha256 of an input, where a manifest wants it and it can be read twice."""
        if self._manifest(job) is None:
            return ""
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        return sha256_of(source) if isinstance(source, Path) and os.path.isfile(source) else ""

    def _finished_before(self, job: Job, digest: str) -> Path | None:
        """The result that an earlier run made of the same input with the same settings."""
        manifest = self._manifest(job)
        if not self._options.resume or manifest is None or not digest:
            return None
        return manifest.finished(job.name, digest, self._settings)

    def _is_own(self, job: Job) -> bool:
        manifest = self._manifest(job)
        return self._options.resume and manifest is not None and manifest.owns(job.output)

    def _check_output(self, job: Job) -> None:
        """OutputError before anything is computed if the result could not be put where it belongs."""
        if job.output is None:
            return
        if job.output.resolve() in self._inputs:
            raise OutputError(f"{job.output} is itself an input\nname another folder with -o, or a --suffix")
        maker = self._makers.setdefault(output_key(job.output), job.item)
        if maker != job.item:
            raise OutputError(f"{job.output} is what '{maker}' becomes\nrename one of them, or restore them apart")
        check_free(job.output, overwrite=self._options.overwrite or self._is_own(job))


def _bytes_needed(header: Header, scale: int) -> int:
    item_bytes = {"uint8": 1, "uint16": 2, "float32": 4}[header.depth]
    return header.height * header.width * scale**2 * header.channels * item_bytes * _WHOLE_COPIES


def _check_memory(header: Header, format: str, scale: int) -> None:
    needed, free = _bytes_needed(header, scale), available_memory()
    if free is not None and needed > free:
        raise OutputError(
            f"the result needs {needed / 1e9:.1f} GB of memory as {format}, {free / 1e9:.1f} GB are free\n"
            "write it as png (-f png), which needs only a few rows at a time"
        )


def _is_whole(format: str, depth: str) -> bool:
    return format != "png" or depth == "float32"


def _name(job: Job) -> str:
    return "-" if job.output is None else str(job.output)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
