"""Many films one after the other, and one bad film is only one bad film."""

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imagesmith.data.sources import Item
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.holes import file_of
from imagesmith.infer.manifest import Manifest, open_manifests, settings_digest
from imagesmith.infer.named import check_asked
from imagesmith.infer.outcome import Frames, ItemResult, Progress, Summary, failed
from imagesmith.infer.plan import check_distinct, tag_of
from imagesmith.infer.video.job import begun_runtime, film_settings, restore_film
from imagesmith.infer.video.plan import (
    FilmJob,
    FilmOptions,
    check_no_input,
    checked_info,
    damage,
    plan_films,
    preview_places,
)
from imagesmith.infer.video.rehearsal import rehearse
from imagesmith.infer.video.segments import source_digest, unfinished_frames
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.runtime.interrupt import stop_on_request

_NOTHING_TO_MEND = "nothing to mend; -s 2 or -s 4 enlarges it"


def planned(
    films: Sequence[Item],
    destination: str | Path | None,
    name_or_path: str | Path,
    *,
    task: str | None,
    scale: int | None,
    resume: bool,
    suffix: str | None = None,
    alone: bool = True,
    preview: Path | None = None,
    **place: Any,
) -> tuple[VideoRestorer, list[FilmJob]]:
    """The model, checked against what was asked, and what becomes which; see `VideoRestorer.load` and `plan_films`.

    What is gone on with runs in the arithmetic it began in. `preview` is the folder for pictures of three moments.
    """
    restorer = VideoRestorer.load(name_or_path, **place)
    check_asked(restorer.card, task, scale)
    jobs = plan_films(films, destination, tag=tag_of(restorer.card), suffix=suffix, alone=alone)
    check_distinct(jobs, functools.partial(preview_places, folder=preview))
    check_no_input(jobs, file_of(place.get("mask")), preview)
    for job in jobs if resume else ():
        runtime = begun_runtime(job, restorer.runtime)
        if runtime is not restorer.runtime:
            return VideoRestorer.load(name_or_path, **place, runtime=runtime), jobs
    return restorer, jobs


def restore_films(
    restorer: VideoRestorer,
    jobs: Sequence[FilmJob],
    options: FilmOptions,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Restore films; never an exception for a single bad one.

    The first Ctrl-C ends it after the current frame with a summary that says so, the second raises KeyboardInterrupt.
    """
    beside = [] if options.dry_run else [job for job in jobs if job.lies_beside]
    remembered = jobs if options.resume or options.remembers else beside
    manifests, unread = open_manifests({job.root for job in remembered}, strictly=options.resume)
    jobs = [replace(job, notes=(*job.notes, unread[job.root])) if job.root in unread else job for job in jobs]
    results, kept = list[ItemResult](), 0
    with stop_on_request() as asked:
        for job in jobs:
            event = Progress(len(results), len(jobs), str(job.item), 0.0)
            on_progress(event)
            try:
                report = functools.partial(_tell, on_progress, event)
                manifest = manifests.get(job.root)
                result = settled(restorer, job, options, manifest=manifest, asked=asked, report=report)
            except Exception as error:
                if isinstance(error, UsageError) and len(jobs) == 1:
                    raise
                result = failed(_blank(restorer, job), error)
            if result is None:
                kept = unfinished_frames(job.output)
                break
            results.append(result)
            on_progress(Progress(len(results), len(jobs), str(job.item), 1.0, result))
            if asked.is_set():
                break
    return Summary(results, cancelled=asked.is_set() and len(results) < len(jobs), kept_frames=kept)


def _tell(on_progress: Callable[[Progress], None], event: Progress, frames: Frames) -> None:
    on_progress(replace(event, fraction=frames.fraction, frames=frames))


def _blank(restorer: VideoRestorer, job: FilmJob) -> ItemResult:
    return ItemResult(str(job.item), str(job.output), "skipped", restorer.card.title, restorer.scale)


def settled(
    restorer: VideoRestorer,
    job: FilmJob,
    options: FilmOptions,
    *,
    manifest: Manifest | None,
    asked: threading.Event,
    report: Callable[[Frames], None],
) -> ItemResult | None:
    """What becomes of one film: it was finished before, needs nothing, is only tried out, or is restored.

    None where `asked` stopped it; `manifest` is what remembers finished films, if anything does.
    """
    digest = source_digest(job.source) if manifest else ""
    settings = settings_digest(dict(film_settings(restorer, options)))
    if manifest and options.resume:
        if manifest.finished(job.name, digest, settings):
            return _blank(restorer, job)
        options = replace(options, overwrite=options.overwrite or manifest.may_replace(job.output, job.source_path))
    if options.if_damaged:
        is_damaged, found = damage(checked_info(job, options))
        if not is_damaged:
            return replace(_blank(restorer, job), output=None, notes=(f"{found}: {_NOTHING_TO_MEND}",))
        job = replace(job, notes=(*job.notes, f"{found}: {restorer.card.title}"))
    if options.dry_run:
        return rehearse(restorer, job, options, asked)

    def remember() -> tuple[str, ...]:
        try:
            if manifest:
                manifest.record(job.name, digest, settings, job.output, source=job.source_path)
        except OutputError as error:  # the film is good even so
            return (str(error),)
        return ()

    return restore_film(restorer, job, options, asked, report, remember=remember)
