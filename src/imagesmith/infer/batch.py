"""Many files through one Restorer: reading, computing and writing overlap, and one bad file is only one bad file.

The calling thread computes. One thread reads ahead, another writes; strips of the result pass from computing to writing
through a short queue, so memory is bounded by a few strips wherever the format can be written row by row (PNG).
"""

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from imagesmith import __version__
from imagesmith.data.sources import list_items
from imagesmith.errors import UsageError
from imagesmith.infer.auto import AUTO_TASK
from imagesmith.infer.bulk.parcel import travels
from imagesmith.infer.bulk.plan import workers_for
from imagesmith.infer.bulk.pool import restore_in_processes
from imagesmith.infer.bulk.process import dismiss_early
from imagesmith.infer.bulk.ray_engine import restore_on_ray
from imagesmith.infer.manifest import open_manifests, settings_digest
from imagesmith.infer.outcome import FileOptions, ItemResult, Progress, Summary, UntilDiskIsFull
from imagesmith.infer.places import Places, tidy
from imagesmith.infer.plan import (
    Job,
    check_distinct,
    checked_format,
    heat_place,
    heat_root,
    names_a_file,
    plan_jobs,
    tag_of,
    told_apart,
)
from imagesmith.infer.rows import Rows
from imagesmith.infer.stages import Loaded, Stages
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.runtime.memory import check_above_held

if TYPE_CHECKING:
    from imagesmith.infer.chained import Auto
    from imagesmith.infer.restore import Restorer

_READ_AHEAD = 1  # pictures; each may have hundreds of megapixels
_WRITE_BEHIND = 2
_SMALL_PX = 1 << 18
"""Pixels of a lone result up to which a thread that writes costs more than it gains."""


def restore_files(
    restorer: "Restorer | Auto",
    sources: Sequence[str | Path],
    destination: str | Path | None,
    options: FileOptions,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore everything that `sources` name; see `Restorer.path`."""
    options = replace(options, format=checked_format(options.format))
    items = list_items(sources, recursive=options.recursive)
    exact, tag = options.consistency or options.mask is not None, tag_of(restorer.card)
    jobs = plan_jobs(items, destination, format=options.format, suffix=options.suffix, tag=tag, exact=exact)
    is_batch = len(jobs) > 1 or any(os.path.isdir(source) for source in sources)
    manifests, unread = open_manifests(_roots(jobs, options, is_batch=is_batch), strictly=options.resume)
    jobs = told_apart(jobs)
    if options.uncertainty is not None and names_a_file(options.uncertainty) and len(jobs) > 1:
        raise UsageError(f"expected a folder for {len(jobs)} heat maps, got '{options.uncertainty}'; name a folder")
    maps = options.uncertainty
    check_distinct(jobs, lambda job: () if maps is None else (heat_place(job, maps),))
    if options.max_ram is not None:
        check_above_held(options.max_ram)
    stages = Stages(restorer, options, Places(jobs, options, manifests, _settings(restorer, options), unread))
    run = _rehearse if options.dry_run else functools.partial(_restore, restorer, options)
    return replace(run(stages, jobs, on_progress), passed_over=items.passed_over)


def _roots(jobs: Sequence[Job], options: FileOptions, *, is_batch: bool) -> set[Path]:
    """The folders in which is noted what was made: by a batch, for `--resume`, or beside the inputs."""
    notes_all, maps = options.resume or is_batch, options.uncertainty
    roots = {job.root for job in jobs if job.root is not None and (notes_all or job.lies_beside)}
    if maps is not None and (notes_all or any(job.has_beside(heat_place(job, maps)) for job in jobs)):
        roots.add(heat_root(maps))
    return roots


def _restore(
    restorer: "Restorer | Auto",
    options: FileOptions,
    stages: Stages,
    jobs: Sequence[Job],
    on_progress: Callable[[Progress], None],
) -> Summary:
    """In one process, in many, or on Ray, as the options say."""
    if options.resume:
        tidy(jobs, options.uncertainty)
    if options.engine == "ray":
        return restore_on_ray(stages, jobs, options.workers, restorer.runtime.device, on_progress)
    if options.max_ram is not None and options.workers not in ("auto", 1):
        raise UsageError("expected --max-ram or --workers, got both: the limit is that of one process")
    workers = 1 if options.max_ram is not None else workers_for(jobs, options, restorer.runtime.device)
    if workers > 1 and options.workers == "auto" and not travels(stages):
        workers = 1  # nobody asked for more
    with stop_on_request() as asked:
        watch = UntilDiskIsFull(asked, on_progress)
        if workers > 1:
            return watch.concluded(restore_in_processes(stages, jobs, workers, asked, watch))
        dismiss_early()
        return watch.concluded(_process(stages, jobs, asked, watch))


def _process(
    stages: Stages, jobs: Sequence[Job], asked: threading.Event, on_progress: Callable[[Progress], None]
) -> Summary:
    """Read ahead, compute here, write behind; stops after the current tile row once `asked` is set."""
    finished: dict[Job, ItemResult] = {}
    todo, loading = deque(jobs), deque[tuple[Job, Future[Loaded | ItemResult]]]()
    writing = deque[tuple[Job, Future[ItemResult | None]]]()

    def finish(job: Job, result: ItemResult | None) -> None:
        if result is not None:
            finished[job] = result
            on_progress(Progress(len(finished), len(jobs), str(job.item), 1.0, result))

    def collect(most: int) -> None:
        while writing and (len(writing) > most or writing[0][1].done()):
            job, future = writing.popleft()
            finish(job, future.result())

    is_alone = len(jobs) == 1  # nothing is there to be done meanwhile
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        try:
            while (todo or loading) and not asked.is_set():
                while todo and len(loading) <= _READ_AHEAD:
                    job = todo.popleft()
                    loading.append((job, _done(stages.load(job)) if is_alone else reader.submit(stages.load, job)))
                job, future = loading.popleft()
                loaded = future.result()
                if isinstance(loaded, ItemResult):
                    finish(job, loaded)
                    continue
                written_here = is_alone and loaded.pixels <= _SMALL_PX
                rows, start = Rows(all_at_once=written_here), time.perf_counter()
                if not written_here:
                    writing.append((job, writer.submit(stages.write, loaded, rows)))
                with closing(stages.compute(loaded, rows, asked)) as fractions:
                    for fraction in fractions:
                        on_progress(Progress(len(finished), len(jobs), str(job.item), fraction))
                if written_here:
                    loaded = replace(loaded, seconds=loaded.seconds + time.perf_counter() - start)
                    finish(job, stages.write(loaded, rows))
                collect(most=_WRITE_BEHIND)
            collect(most=0)
        finally:
            for _, future in loading:
                future.cancel()
    results = [finished[job] for job in jobs if job in finished]
    return Summary(results, cancelled=asked.is_set() and len(results) < len(jobs))


def _done(loaded: Loaded | ItemResult) -> Future[Loaded | ItemResult]:
    future: Future[Loaded | ItemResult] = Future()
    future.set_result(loaded)
    return future


def _rehearse(stages: Stages, jobs: Sequence[Job], on_progress: Callable[[Progress], None]) -> Summary:
    """What would be done with each job, told as soon as it is known: --task auto must read every picture for it."""
    results = list[ItemResult]()
    for job in jobs:
        results.append(stages.planned(job))
        on_progress(Progress(len(results), len(jobs), str(job.item), 1.0, results[-1]))
    return Summary(results)


def _settings(restorer: "Restorer | Auto", options: FileOptions) -> str:
    """A digest of all that decides the results of the same inputs."""
    with_maps = {} if options.uncertainty is None else {"uncertainty": True}
    may_mirror = restorer.card.mirrors_edges or restorer.card.task == AUTO_TASK  # in whose chain is any model
    edges = {"edges": "mirrored"} if may_mirror else {}  # earlier versions repeated them
    return settings_digest(
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
            **with_maps,
            **edges,
        }
    )
