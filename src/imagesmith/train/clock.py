"""The wall time of a run: when it ticks, validates and saves, and how a length in minutes becomes one in images."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imagesmith.configs import RunConfig
from imagesmith.runtime.dist import World
from imagesmith.runtime.log import RunLog
from imagesmith.train.state import TrainState

TICKS = 200
"""Log lines of a whole run, and how often a run of so many minutes is planned again."""
MOST_VALIDATING = 0.25
"""Share of the time that validations may take in a run of so many minutes, unless the last one alone takes more."""


def passed(before: float, after: float, marks: int) -> bool:
    """Whether progress passed one of `marks` evenly spread marks (the last is the end of the run)."""
    return int(before * marks) != int(after * marks)


class Clock:
    """Wall time of a run: its speed, its plan, its checkpoints. Never touches what is learnt."""

    def __init__(self, state: TrainState, run: RunConfig) -> None:
        self.state, self.run = state, run
        self.validating_seconds = 0.0
        self.earlier = state.seconds
        self.started = self.saved = time.monotonic()
        self.restart()

    def restart(self) -> None:
        """Measure the speed afresh from the images seen now."""
        self.ticked, self.ticked_images = time.monotonic(), self.state.images_seen
        self.steps, self.speed = 0, 0.0

    def stop(self) -> None:
        """Add this session's time to the run's."""
        self.state.seconds = self.earlier + time.monotonic() - self.started

    def wishes(self) -> tuple[bool, bool, bool]:
        """What the time on this process asks for: a tick of a run of minutes, no end to validations, a checkpoint."""
        now, minutes = time.monotonic(), self.run.minutes
        return (
            minutes is not None and now - self.ticked >= minutes * 60 / TICKS,
            minutes is None or self._can_validate(minutes * 60 - self.earlier, now - self.started),
            now - self.saved >= self.run.checkpoint_minutes * 60,
        )

    def _can_validate(self, session_seconds: float, passed_seconds: float) -> bool:
        """Whether one more validation leaves the last one its time, and training its share up to now."""
        this_one = self.state.validation_seconds
        with_this_one = self.validating_seconds + this_one
        return with_this_one + this_one <= MOST_VALIDATING * session_seconds and (
            with_this_one <= MOST_VALIDATING * (passed_seconds + this_one)
        )

    def tick_is_due(self, before: float, wished: bool) -> bool:
        """Once a step is over: whether its progress, from `before` on, passed a mark, or time was up for any process.

        A run of minutes ticks after its first two steps as well, because until then nothing is known of its speed.
        """
        self.steps += 1
        if self.run.minutes is None:
            return passed(before, self.state.progress, TICKS)
        return wished or self.steps <= 2 or self.state.progress == 1

    def plan_again(self, world: World) -> None:
        """Measure the speed since the last tick; where the length is given in minutes, aim the plan at their end."""
        self.stop()
        now = time.monotonic()
        speed = (self.state.images_seen - self.ticked_images) / max(1e-9, now - self.ticked)
        # the first step also starts workers and builds kernels: it counts until there is another one
        self.speed = speed if self.steps <= 2 or not self.speed else (self.speed + speed) / 2
        self.ticked, self.ticked_images = now, self.state.images_seen
        if self.run.minutes is None or self.state.progress == 1:
            return
        seconds = self.run.minutes * 60 - self.state.seconds
        last_one = self.state.validation_seconds
        coming = self.run.validations * (1 - self.state.progress) * last_one
        seconds -= max(last_one, min(coming, MOST_VALIDATING * seconds))
        left = world.agree(seconds * self.speed)
        worth_a_step = left >= self.state.choices["batch"] / 2
        self.state.plan = self.state.plan.again(self.state.images_seen, int(left) if worth_a_step else 0)

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Time that is planned for, and says nothing of the speed of training."""
        started = time.monotonic()
        yield
        took = self.state.validation_seconds = time.monotonic() - started
        self.validating_seconds += took
        self.ticked += took

    def saving(self) -> None:
        """A checkpoint is made now."""
        self.stop()
        self.saved = time.monotonic()

    def say(self, log: RunLog, row: dict[str, Any]) -> None:
        """One line of progress."""
        losses = " ".join(f"{name.removeprefix('loss/')} {row[name]:.5f}" for name in row if name.startswith("loss/"))
        left = max(0, self.state.plan.end_images - self.state.images_seen) / max(1e-9, self.speed) / 60
        log.say(
            f"{self.state.progress:6.1%} {self.state.images_seen:,} images {losses} rate {row['rate']:.1e} "
            f"{self.speed:.0f} images/s, {left:.0f} min left"
        )
