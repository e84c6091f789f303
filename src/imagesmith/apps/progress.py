"""What a person sees while pictures or films are restored: bars on a terminal, elsewhere a line every ten seconds.

All of it goes to standard error, since standard output may carry JSON lines or a picture. Each class is a context whose
object is an `on_progress` for `Restorer.path`.
"""

import sys
import time
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from imagesmith.apps.terminal import plain
from imagesmith.data.video import Audit
from imagesmith.data.video.info import counted
from imagesmith.infer.outcome import Frames, ItemResult
from imagesmith.infer.outcome import Progress as Event

PLAIN_EVERY_S = 10.0
_NAME_COLUMNS = 32


def describe(result: ItemResult) -> str:
    """What became of one picture, in one line; an error keeps its own lines."""
    if result.status == "failed":
        error = result.error or ""
        told = error if error.startswith(result.input) else f"{result.input}: {error}"
        return plain(told.replace(result.input, plain(result.input, keep="")))
    sizes = " -> ".join(f"{width} x {height}" for width, height in filter(None, (result.in_size, result.out_size)))
    time_taken = f"{result.seconds:.1f} s" if result.status == "done" else result.status
    frames = counted(result.frames, "frame") if result.frames is not None else None
    frames = f"about {frames}" if result.frames_estimated else frames
    facts = ", ".join(filter(None, (sizes, frames, time_taken)))
    doubt = [str(result.uncertainty)] if result.uncertainty else []
    doubt += [_audited(result.audit)] if result.audit else []
    where = f"{result.input} -> {result.output}" if result.output else result.input
    return plain("; ".join([f"{where} ({facts})", *result.notes, *doubt]), keep="")


class Bars:
    """A bar for all pictures, or `what` they are, and one for that at work; what is finished scrolls by above them."""

    def __init__(self, what: str = "pictures") -> None:
        self._what = what
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._all = self._bars.add_task(what, total=None)
        self._one = self._bars.add_task("", total=1.0)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        finished = f"{event.done}/{event.total} {self._what}"
        self._bars.update(self._all, description=finished, total=event.total, completed=_completed(event))
        name = plain(event.item, keep="")
        name = name if len(name) <= _NAME_COLUMNS else f"…{name[1 - _NAME_COLUMNS :]}"
        said = f"{name}, {_said(event.frames)}" if event.frames else name
        self._bars.update(self._one, description=said, completed=event.fraction)
        if event.result:
            self._console.print(describe(event.result), style="red" if event.result.status == "failed" else None)


class Lines:
    """Failures and notes at once, otherwise a line every ten seconds; `every_s` = infinity leaves only failures."""

    def __init__(self, what: str = "pictures", every_s: float = PLAIN_EVERY_S) -> None:
        self._what, self._every_s = what, every_s
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        result = event.result
        if result and (result.status == "failed" or self._is_worth_a_line(event, result)):
            print(describe(result), file=sys.stderr, flush=True)
        elif now - self._said >= self._every_s:
            self._said = now
            place = f"{event.done}/{event.total} {self._what}, {plain(event.item, keep='')}"
            if event.frames:
                place += f", {_said(event.frames)}"
            print(f"{place}, {self._left(event, now)} left", file=sys.stderr, flush=True)

    def _left(self, event: Event, now: float) -> timedelta | str:
        """Of the film at work where there is only one, which may have begun in an earlier run; else of all."""
        if event.frames and event.total == 1:
            seconds = event.frames.seconds_left
            return "unknown time" if seconds is None else timedelta(seconds=round(seconds))
        progress = _completed(event) / event.total
        return timedelta(seconds=round((now - self._started) * (1 / progress - 1))) if progress else "unknown time"

    def _is_worth_a_line(self, event: Event, result: ItemResult) -> bool:
        return self._every_s != float("inf") and (event.total == 1 or bool(result.notes))


def _completed(event: Event) -> float:
    """Pictures finished, with the finished part of the one at work."""
    return event.done if event.result else event.done + event.fraction


def _audited(audit: Audit) -> str:
    """What the closing look at a good film found, in a few words."""
    late = audit.timestamp_error_s
    times = {None: "", 0: ", each at its time"}.get(late, f", times at most {(late or 0) * 1000:.3g} ms off")
    sound = ", sound as it was" if audit.has_sound else ""
    return f"checked: {audit.frames_out} of {counted(audit.frames_in, 'frame')}{times}{sound}, none black"


def _said(frames: Frames) -> str:
    total = "" if frames.total is None else f"/{'about ' * frames.is_estimated}{frames.total}"
    return f"frame {frames.done}{total}, {frames.per_second:.2g} a second"
