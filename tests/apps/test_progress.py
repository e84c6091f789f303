"""What is said while pictures are restored."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from imagesmith.apps import progress
from imagesmith.apps.progress import Bars, Lines, describe
from imagesmith.data.video import Audit
from imagesmith.infer.outcome import Frames, ItemResult, Progress

DONE = ItemResult("a.png", "b.png", "done", "m", 2, (3, 4), (6, 8), 1.25, ())
NOTED = ItemResult("a.gif", "b.png", "done", "m", 2, (3, 4), (6, 8), 1.25, ("first of 3 frames",))
FAILED = ItemResult(
    "zip/[x].png", None, "failed", "m", 2, error="cut short\ncopy it again", error_kind="TruncatedError"
)


def test_each_outcome_in_one_line() -> None:
    """The accident: 'failed' without which file, or a file named twice."""
    assert describe(DONE) == "a.png -> b.png (3 x 4 -> 6 x 8, 1.2 s)"
    assert describe(NOTED).endswith("1.2 s); first of 3 frames")
    assert describe(FAILED) == "zip/[x].png: cut short\ncopy it again"
    named = ItemResult("a.png", None, "failed", "m", 2, error="a.png: cut short")
    assert describe(named) == "a.png: cut short"


def test_names_give_no_orders_to_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The accident: a picture in a downloaded zip renames the window, hides what follows, or forges a line."""
    evil = "box.zip/\x1b]0;owned\x07\x9b2J\n0 failed.png"
    shown = r"box.zip/\x1b]0;owned\x07\x9b2J\x0a0 failed.png"
    for result, said in ((DONE, f"{shown} -> b.png (3 x 4 -> 6 x 8, 1.2 s)"), (FAILED, f"{shown}: cut short\ncopy")):
        assert describe(dataclasses.replace(result, input=evil)).startswith(said)
    assert describe(dataclasses.replace(FAILED, input=evil, error=f"{evil}: no\x07")) == rf"{shown}: no\x07"
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, highlight=False, markup=False)
    monkeypatch.setattr(progress, "Console", lambda **options: console)
    with Lines(every_s=0.0) as lines, Bars() as bars:
        for report in (lines, bars):
            report(Progress(0, 1, evil, 0.5))
        bars._bars.refresh()
    assert f"0/1 pictures, {shown}" in capsys.readouterr().err
    assert r"\x9b2J\x0a0 failed.png" in screen.getvalue()


def test_off_a_terminal_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The accident: a log file of a million lines, or of none in an hour."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Lines() as report:
        for second in range(41):
            clock[0] = second
            report(Progress(second // 20, 4, "a.png", second % 20 / 20))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "0/4 pictures, a.png, 0:01:10 left"


def test_failures_and_notes_are_said_at_once_and_quiet_says_failures_only(capsys) -> None:
    """The accident: an error that appears when the night is over."""
    for report, said in ((Lines(), ["first of 3", "cut short"]), (Lines(every_s=float("inf")), ["cut short"])):
        for result in (DONE, NOTED, FAILED):
            report(Progress(1, 3, result.input, 1.0, result))
        err = capsys.readouterr().err
        assert [word for word in ("6 x 8, 1.2 s)\n", "first of 3", "cut short") if word in err] == said


def test_bars_show_items_and_the_picture_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a file called [red] that paints the terminal, or a bar on standard output."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, highlight=False, markup=False)
    monkeypatch.setattr(progress, "Console", lambda **options: console if options["stderr"] else None)
    with Bars() as report:
        report(Progress(1, 4, "a/very/long/path/that/does/not/fit/[red].png", 0.5))
        report(Progress(2, 4, FAILED.input, 1.0, FAILED))
        report._bars.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "2/4 pictures" in text
    assert "50%" in text
    assert "zip/[x].png: cut short" in text


def test_films_are_told_in_frames_with_or_without_a_known_end(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The accident: a division by a number of frames that the container does not tell, or an end in an hour for ever."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Lines("films") as report:
        for total in (200, None):
            clock[0] += 11
            frames = Frames(120, total, 4.0)
            report(Progress(0, 1, "a.mp4", frames.fraction, frames=frames))
        clock[0] += 11
        report(Progress(0, 1, "a.mkv", 0.6, frames=Frames(120, 200, 4.0, is_estimated=True)))
    assert capsys.readouterr().err.splitlines() == [
        "0/1 films, a.mp4, frame 120/200, 4 a second, 0:00:20 left",
        "0/1 films, a.mp4, frame 120, 4 a second, unknown time left",
        "0/1 films, a.mkv, frame 120/about 200, 4 a second, 0:00:20 left",
    ]


def test_what_the_closing_look_found_stands_in_the_line() -> None:
    """The accident: an audit that nobody reads because it is in a file."""
    audit = Audit(
        5, 5, 0.0, 0.0, has_sound=True, audio_packets_equal=True, tags_kept=True, black_frames=0, sentences=()
    )
    film = ItemResult("a.mp4", "b.mp4", "done", "m", 2, (3, 4), (6, 8), 1.25, frames=5, audit=audit)
    assert describe(film) == (
        "a.mp4 -> b.mp4 (3 x 4 -> 6 x 8, 5 frames, 1.2 s); "
        "checked: 5 of 5 frames, each at its time, sound as it was, none black"
    )
    late = dataclasses.replace(film, audit=dataclasses.replace(audit, timestamp_error_s=0.0004))
    assert "times at most 0.4 ms off" in describe(late)
    single = dataclasses.replace(film, frames=1, audit=dataclasses.replace(audit, frames_in=1, frames_out=1))
    assert "1 frame, 1.2 s); checked: 1 of 1 frame, each" in describe(single)
    planned = dataclasses.replace(film, status="planned", frames=52, frames_estimated=True)
    assert "about 52 frames, planned" in describe(planned)
    silent = dataclasses.replace(film, audit=dataclasses.replace(audit, has_sound=False))
    assert "sound" not in describe(silent), "nobody kept a sound that was not there"
