"""`imagesmith restore`: which model, what is said meanwhile, and how it ends."""

import functools
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imagesmith.apps.films import Wanted, check_options, film_run
from imagesmith.apps.progress import Bars, Lines, describe
from imagesmith.apps.terminal import plain
from imagesmith.data.sources import HIDDEN, in_words
from imagesmith.data.video.film import SUFFIXES as FILM_SUFFIXES
from imagesmith.data.video.info import counted
from imagesmith.errors import ImageError, OutputError, UsageError
from imagesmith.infer.bulk.process import dismiss_early
from imagesmith.infer.chained import Auto
from imagesmith.infer.holes import AUTO, MaskFile, as_mask
from imagesmith.infer.named import check_asked, model_for
from imagesmith.infer.outcome import ItemResult, Progress, Summary
from imagesmith.infer.plan import STANDARD_STREAM
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.inputs import films_in_archives, sort_inputs
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.zoo.cards import ModelCard


def run_restore(
    inputs: Sequence[str],
    out: str | None,
    *,
    task: str | None,
    model: str | None,
    scale: int | None,
    strength: float,
    device: str,
    dtype: str,
    tile: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    film: Mapping[str, Any],
    **options: Any,
) -> int:
    """Restore `inputs`; `options` are those of `Restorer.path`, `film` those of `FOR_FILMS`. The exit code."""
    to_stdout = out == STANDARD_STREAM or (out is None and list(inputs) == [STANDARD_STREAM])
    if to_stdout and as_json:
        raise UsageError("expected a picture or JSON on standard output, got both; name a file with -o")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("expected a file or pipe for the picture, got a terminal; redirect it, or name a file with -o")
    if debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("imagesmith").setLevel(logging.DEBUG)
    wanted = Wanted(task, model, scale, {"device": device, "dtype": dtype, "tile": tile})
    options["mask"] = _mask(options["mask"], options["max_pixels"])
    pictures, films = sort_inputs(inputs, out, recursive=options["recursive"])
    if (archived := films_in_archives(pictures)) and not quiet:
        print(f"{counted(archived, 'film')} passed over: none is read inside an archive; unpack it", file=sys.stderr)
    rehearses = options["dry_run"] = options["dry_run"] or film["preview"] is not None
    every = {**options, **film, "strength": strength}
    without = check_options(every, films=bool(films), pictures=bool(pictures))
    if without and not quiet:
        print(without, file=sys.stderr)
    runs = {}  # all is planned before anything is computed
    if not pictures:
        dismiss_early()
    if pictures:
        restorer = _for_pictures(wanted, strength, options["mask"])
        runs["pictures"] = restorer, functools.partial(restorer.path, pictures, out, **options)
    if films:
        is_one = len(inputs) == 1 and films[0].path == Path(inputs[0])
        runs["films"] = film_run(films, out, wanted, every, alone=is_one)
    results, summary = list[ItemResult](), Summary()
    for what, (restorer, run) in runs.items():
        started = time.monotonic()
        with _reporter(what, quiet, writes_lines=as_json or rehearses) as report:
            listener = _on_standard_output(as_json) if rehearses else _also_as_json(report) if as_json else report
            summary = run(on_progress=listener)
        if not quiet:
            _conclude(summary, restorer, time.monotonic() - started, wrote=not rehearses)
        results += summary.results
        if summary.cancelled:
            break
    return replace(summary, results=results).exit_code


def _for_pictures(wanted: Wanted, strength: float, mask: Any) -> Restorer | Auto:
    """The one model that is meant, or what chooses for each picture."""
    if wanted.is_open and mask is None:
        if strength != 1:
            raise UsageError("expected one model for --strength, got --task auto; name a task with --task, or -n")
        return Auto(wanted.scale, **wanted.place)
    name = wanted.model or model_for(wanted.task_with(mask), wanted.scale)
    restorer = Restorer.load(name, strength=strength, **wanted.place)
    check_asked(restorer.card, wanted.task, wanted.scale)
    return restorer


def _mask(named: str | None, max_pixels: int) -> MaskFile | str | None:
    """The mask for all inputs, read once; None and 'auto' stay. UsageError where its file cannot be used."""
    if named in (None, AUTO):
        return named
    try:
        return MaskFile(Path(named), as_mask(named, max_pixels=max_pixels))
    except ImageError as error:
        raise UsageError(f"expected a picture for --mask: {error}") from None


def _reporter(what: str, quiet: bool, writes_lines: bool) -> Bars | Lines:
    if quiet:
        return Lines(what, every_s=float("inf"))
    shares_terminal = writes_lines and sys.stdout.isatty()
    return Bars(what) if sys.stderr.isatty() and not shares_terminal else Lines(what)


def _also_as_json(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    told = _on_standard_output(as_json=True)

    def on_progress(event: Progress) -> None:
        report(event)
        told(event)

    return on_progress


def _on_standard_output(as_json: bool) -> Callable[[Progress], None]:
    def on_progress(event: Progress) -> None:
        if event.result:
            try:
                print(json.dumps(event.result.to_dict()) if as_json else describe(event.result), flush=True)
            except OSError as error:  # nobody would learn what becomes of the rest
                raise OutputError(f"stopped after {event.item}: its line cannot be written") from error

    return on_progress


def _conclude(summary: Summary, restorer: Restorer | Auto | VideoRestorer, seconds: float, *, wrote: bool) -> None:
    """The last words: what was passed over, how many, how long, how; a single failure has said everything already."""
    counts = Counter(result.status for result in summary.results)
    told = {kind: count for kind, count in summary.passed_over.items() if kind != HIDDEN and kind not in FILM_SUFFIXES}
    if told:
        print(plain(f"passed over: {in_words(told)}"), file=sys.stderr)
    done = ", ".join(
        f"{counts[status]} {status}" for status in ("done", "planned", "skipped", "failed") if counts[status]
    )
    if summary.found_disk_full:
        print(f"the disk is full; once there is room, the same command with --resume goes on ({done})", file=sys.stderr)
    elif summary.cancelled:
        kept = f"{counted(summary.kept_frames, 'frame')} of the unfinished film kept" if summary.kept_frames else ""
        so_far = ", ".join(filter(None, (done, kept))) or "nothing done"
        what_now = "the same command with --resume goes on" if wrote else "nothing was written"
        print(f"cancelled; {what_now} ({so_far})", file=sys.stderr)
    elif len(summary.results) > 1 or not counts["failed"]:
        how = f"with {_in_words(restorer.card)} on {restorer.runtime}"
        if isinstance(restorer, Auto):
            how = f"on {restorer.runtime.device.type}, each picture with the models that its line names"
        print(plain(f"{done} in {seconds:.1f} s {how}"), file=sys.stderr)


def _in_words(card: ModelCard) -> str:
    """What the model was called, and what it is."""
    own = "" if card.path is None else f"{card.name}, "
    return f"{card.title} ({own}task {card.task})"
