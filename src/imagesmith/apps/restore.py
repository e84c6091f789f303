"""`imagesmith restore`: which model, what is said meanwhile, and how it ends."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from imagesmith.apps.progress import Bars, Lines, describe
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.chained import Auto
from imagesmith.infer.named import check_asked, model_for
from imagesmith.infer.outcome import Progress, Summary
from imagesmith.infer.plan import STANDARD_STREAM
from imagesmith.infer.restore import Restorer


def run_restore(
    inputs: Sequence[str],
    out: str | None,
    *,
    task: str,
    model: str | None,
    scale: int | None,
    strength: float,
    device: str,
    dtype: str,
    tile: str,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: object,
) -> int:
    """Restore `inputs`; `options` are those of `Restorer.path`. The exit code, see `Summary`."""
    to_stdout = out == STANDARD_STREAM or (out is None and list(inputs) == [STANDARD_STREAM])
    if to_stdout and as_json:
        raise UsageError("expected a picture or JSON on standard output, got both; name a file with -o")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("expected a file or pipe for the picture, got a terminal; redirect it, or name a file with -o")
    if debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("imagesmith").setLevel(logging.DEBUG)
    place = {"device": device, "dtype": dtype, "tile": tile}
    if task == "auto" and model is None and scale in (None, 1) and options["mask"] is None:
        if strength != 1:
            raise UsageError("expected one model for --strength, got --task auto; name a task with --task, or -n")
        restorer = Auto(scale, **place)
    else:
        asked = task if task != "auto" else "inpaint" if options["mask"] is not None else "sr"
        restorer = Restorer.load(model or model_for(asked, scale), strength=strength, **place)
        check_asked(restorer.card, task, scale)
    started = time.monotonic()
    with _reporter(quiet, writes_lines=as_json or bool(options["dry_run"])) as report:
        listener = _on_standard_output(as_json) if options["dry_run"] else _also_as_json(report) if as_json else report
        summary = restorer.path(list(inputs), out, on_progress=listener, **options)  # type: ignore[arg-type]
    if not quiet:
        _conclude(summary, restorer, time.monotonic() - started)
    return summary.exit_code


def _reporter(quiet: bool, writes_lines: bool) -> Bars | Lines:
    if quiet:
        return Lines(every_s=float("inf"))
    shares_terminal = writes_lines and sys.stdout.isatty()
    return Bars() if sys.stderr.isatty() and not shares_terminal else Lines()


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


def _conclude(summary: Summary, restorer: Restorer | Auto, seconds: float) -> None:
    """The last words: how many, how long, how it was computed; a single failure has said everything already."""
    counts = Counter(result.status for result in summary.results)
    done = ", ".join(
        f"{counts[status]} {status}" for status in ("done", "planned", "skipped", "failed") if counts[status]
    )
    if summary.cancelled:
        print(f"cancelled; the same command with --resume goes on ({done or 'nothing done'})", file=sys.stderr)
    elif len(summary.results) > 1 or not counts["failed"]:
        how = f"with {restorer.card.name} (task {restorer.card.task}) on {restorer.runtime}"
        if isinstance(restorer, Auto):
            how = f"on {restorer.runtime.device.type}, each picture with the models that its line names"
        print(f"{done} in {seconds:.1f} s {how}", file=sys.stderr)
