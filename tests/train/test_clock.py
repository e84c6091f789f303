"""What the wall time of a run asks for; how a plan in minutes comes out is tested with the loop."""

import pytest

from imagesmith.configs import OptimConfig, RunConfig
from imagesmith.train import clock
from imagesmith.train.clock import MOST_VALIDATING, TICKS, Clock, passed
from imagesmith.train.state import Plan, new_state


def test_every_mark_is_passed_once_and_the_last_is_the_end():
    """A run whose last validation falls out ends with the model before the last."""
    marks = [passed(k / 7, (k + 1) / 7, 3) for k in range(7)]
    assert sum(marks) == 3
    assert marks[-1]


def started(monkeypatch: pytest.MonkeyPatch, **length: float) -> tuple[Clock, list[float]]:
    """A clock that has just started, and what it reads, to be changed."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    run = RunConfig.model_validate({"out": "", "checkpoint_minutes": 2} | length)
    return Clock(new_state({}, OptimConfig(), Plan(100), {"batch": 4}), run), now


def test_a_checkpoint_is_asked_for_until_it_is_made(monkeypatch):
    """A wish that is forgotten once told is lost with a step that the guard rejects, and two minutes of work with it."""
    run, now = started(monkeypatch, images=100)
    now[0] += 119
    assert run.wishes() == (False, True, False)
    now[0] += 1
    assert run.wishes() == run.wishes() == (False, True, True)
    run.saving()
    assert run.wishes() == (False, True, False)


def test_time_alone_makes_a_run_of_minutes_tick_and_leave_validations_out(monkeypatch):
    """A run of so many images is the same on every machine: there the time may ask for nothing but a checkpoint."""
    for length, ticks in (({"images": 100}, False), ({"minutes": 1}, True)):
        run, now = started(monkeypatch, **length)
        now[0] += 60 / TICKS
        assert run.wishes()[:2] == (ticks, True)
        with run.validating():
            now[0] += 2 * MOST_VALIDATING * 60
        assert run.wishes()[1] is not ticks


def test_a_validation_leaves_the_last_one_its_time(monkeypatch):
    """The accident: two of 14 seconds in a run of one minute, one at a quarter of the time and the last on top of it."""
    for took, earlier, is_due in ((14, 0, False), (7, 0, True), (7, 30, False)):
        run, now = started(monkeypatch, minutes=1)
        run.earlier = earlier  # a run that goes on has a quarter of what is left
        run.state.validation_seconds = took
        now[0] += 45
        assert run.wishes()[1] is is_due
