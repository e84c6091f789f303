"""`fit`: the one loop.

It owns backward, gradient averaging, rejection, optimisers, averages, the clock and the checkpoints.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import OptimConfig, RunConfig
from imagesmith.errors import TrainingError
from imagesmith.runtime.checkpoint import drop_checkpoints, load_newest, save_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.runtime.guard import Verdict
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.runtime.log import RunLog
from imagesmith.train.ema import update_ema
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import rate_at
from imagesmith.train.state import TrainState
from imagesmith.train.steps import Nets, Step, Turn

Batch = tuple[Tensor, ...]
TICKS = 200
"""Log lines of a whole run, and how often a run of so many minutes is planned again."""
MOST_ROLL_BACKS = 3
MOST_VALIDATING = 0.25
"""Share of the time that validations may take in a run of so many minutes; the last one always takes place."""


@dataclass(frozen=True)
class Flow:
    """What a kind of training brings to the loop."""

    batches: Callable[[int], Iterator[Batch]]
    """The endless batches from an image number on."""
    step: Step
    """One batch's turns, see `train/steps.py`."""
    validate: Callable[[TrainState], dict[str, float]]
    """Score the averages, keep the best model and draw samples; called on the leader only."""
    watch: Callable[[TrainState, dict[str, float]], tuple[Verdict, str]] | None = None
    """Look at an accepted step's scalars, the same on every process; may change `state.extras` and rate factor.

    Its verdict says whether to go on or back; it raises TrainingError to stop.
    """
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    """Learning rate of a network as a multiple of the plan's, where it is another."""


def fit(
    state: TrainState,
    flow: Flow,
    *,
    optim: OptimConfig,
    run: RunConfig,
    arithmetic: Arithmetic,
    world: World,
    log: RunLog | None,
) -> TrainState:
    """Train until the plan is fulfilled; resumable at any moment, exact on one device.

    `log` is None on processes that are not the leader. Ctrl-C finishes the step, saves a checkpoint and raises
    KeyboardInterrupt.
    """
    checkpoints = Path(run.out) / "checkpoints"
    clock = _Clock(state, run)

    def save() -> None:
        clock.saving()
        spared = state.extras.get("healthy_at")
        world.lead(lambda: save_checkpoint(checkpoints, state.images_seen, state.tensors(), state.values(), spared))

    if state.images_seen == 0:
        save()
    with stop_on_request() as stop:
        batches = flow.batches(state.images_seen)
        while state.progress < 1 and not state.extras.get("ended"):
            before = state.progress
            batch = tuple(arithmetic.place(part) for part in next(batches))
            rate = rate_at(before, optim) * state.rate_factor
            verdict, reason = _turns(
                state, batch, flow=flow, rate=rate, parts=run.accumulate, arithmetic=arithmetic, world=world, log=log
            )
            if verdict is not Verdict.ACCEPT and log:
                log.say(f"{verdict.value} at {state.images_seen:,} images: {reason}")
            if verdict is Verdict.ROLL_BACK:
                _roll_back(state, checkpoints, reason, world, log)
                clock.restart()
                save()  # with what it remembers, so that a run that is killed now does not go back to the same fault
                batches = flow.batches(state.images_seen)
                continue
            size = state.choices["batch"]
            state.images_seen += size
            sound = verdict is Verdict.ACCEPT  # after a rejected step the weights themselves may be what is wrong
            if sound:
                for name, average in state.averages.items():
                    update_ema(average, state.nets[name], state.images_seen, size, optim.ema_half_life_images)
            tick, validation, checkpoint, stopping = world.any(
                clock.tick_is_due(before), clock.validation_is_due(before), clock.checkpoint_is_due(), stop.is_set()
            )
            if tick:
                clock.plan_again(world)
                if log:
                    clock.say(log, log.tick(state.images_seen, rate=rate, speed=clock.speed))
            if validation or state.progress == 1:  # planning again may have ended the run here
                with clock.validating():
                    scores, state.best, state.rate_factor, state.extras = world.lead(
                        lambda: (flow.validate(state), state.best, state.rate_factor, state.extras)
                    )
                if log:
                    log.tick(state.images_seen, **scores)
            healthy = state.extras.get("healthy_at") == state.images_seen  # the place to go back to, should it go wrong
            if sound and (checkpoint or stopping or healthy):
                save()
            if stopping:
                raise KeyboardInterrupt
    save()
    return state


def _turns(
    state: TrainState,
    batch: Batch,
    *,
    flow: Flow,
    rate: float,
    parts: int,
    arithmetic: Arithmetic,
    world: World,
    log: RunLog | None,
) -> tuple[Verdict, str]:
    """Run every turn of one step at this learning rate; stops at the first that the guard does not accept.

    The batch is divided into `parts` of equal size, and each turn adds up the gradients of all of them.
    """
    divided = zip(*(part.chunk(parts) for part in batch), strict=True)
    with ExitStack() as open_steps:
        steps = [arithmetic.turns(flow.step(state.nets, part)) for part in divided]
        for turns in steps:
            open_steps.enter_context(closing(turns))
        seen: dict[str, Tensor] = {}
        while (turn := _add_gradients(state.nets, steps)) is not None:
            name, loss, scalars = turn
            net = state.nets[name]
            world.average_gradients(net.parameters())
            norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
            verdict, reason = state.guards[name].inspect(float(world.mean(loss)), float(norm))
            if verdict is not Verdict.ACCEPT:
                return verdict, reason
            for optimizer in state.optimizers[name]:
                for group in optimizer.param_groups:
                    group["lr"] = rate * flow.rate_factors.get(name, 1.0)
                optimizer.step()
            seen |= scalars | {f"norm/{name}": norm}
    if log:
        log.add(seen)
    if flow.watch is None:
        return Verdict.ACCEPT, ""
    values = world.mean(torch.stack([value.detach().float().cpu() for value in seen.values()]))
    return flow.watch(state, dict(zip(seen, values.tolist(), strict=True)))


def _add_gradients(nets: Nets, steps: Sequence[Iterator[Turn]]) -> Turn | None:
    """The next turn of all parts of a batch, with the means of their losses, scalars and gradients; None at the end."""
    turns: list[Turn] = []
    for step in steps:
        turn = next(step, None)
        if turn is None:
            return None
        name, loss, scalars = turn
        if not turns:
            nets[name].zero_grad(set_to_none=True)
        (loss / len(steps)).backward()
        turns.append((name, loss.detach(), scalars))
    name, _, scalars = turns[0]
    mean_loss = torch.stack([loss for _, loss, _ in turns]).mean()
    return name, mean_loss, {key: torch.stack([s[key] for _, _, s in turns]).mean() for key in scalars}


def _roll_back(state: TrainState, checkpoints: Path, reason: str, world: World, log: RunLog | None) -> None:
    """Go back to the newest checkpoint, or that of `state.extras["back_to"]` images, with half the learning rate.

    What the kind of training remembers stays, so that it knows what it has tried, and so does the best model, which is
    still there. TrainingError after too many times.
    """
    if state.roll_backs >= MOST_ROLL_BACKS:
        kept = f"; the best model was at {state.best['images_seen']:,.0f} images" if state.best else ""
        raise TrainingError(f"stopped after {state.roll_backs} roll-backs: {reason}{kept}; try a lower learning rate")
    roll_backs, rate_factor, best, extras = state.roll_backs + 1, state.rate_factor / 2, state.best, state.extras
    most_images = extras.pop("back_to", None)
    newest = world.lead(lambda: load_newest(checkpoints, log.say if log else print, most_images))
    if newest is None:
        raise TrainingError(f"no checkpoint to go back to in {checkpoints}: {reason}")
    state.load(*newest)
    world.lead(lambda: drop_checkpoints(checkpoints, state.images_seen))
    state.roll_backs, state.rate_factor, state.best, state.extras = roll_backs, rate_factor, best, extras
    if log:
        log.rewind(state.images_seen)
        log.say(f"back at {state.images_seen:,} images with the learning rate at {rate_factor:g} of the plan")


def _passed(before: float, after: float, marks: int) -> bool:
    """Whether progress passed one of `marks` evenly spread marks (the last is the end of the run)."""
    return int(before * marks) != int(after * marks)


class _Clock:
    """Wall time of a run: its speed, its plan, its checkpoints. Never touches what is learnt."""

    def __init__(self, state: TrainState, run: RunConfig) -> None:
        self.state, self.run = state, run
        self.validating_seconds, self.last_validation = 0.0, 0.0
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

    def tick_is_due(self, before: float) -> bool:
        """Once a step is over: whether its progress, from `before` on, passed a mark, or so much of the minutes.

        A run of minutes ticks after its first two steps as well, because until then nothing is known of its speed.
        """
        self.steps += 1
        if self.run.minutes is None:
            return _passed(before, self.state.progress, TICKS)
        waited = time.monotonic() - self.ticked >= self.run.minutes * 60 / TICKS
        return waited or self.steps <= 2 or self.state.progress == 1

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
        coming = self.run.validations * (1 - self.state.progress) * self.last_validation
        seconds -= max(self.last_validation, min(coming, MOST_VALIDATING * seconds))
        left = world.agree(seconds * self.speed)
        worth_a_step = left >= self.state.choices["batch"] / 2
        self.state.plan = self.state.plan.again(self.state.images_seen, int(left) if worth_a_step else 0)

    def validation_is_due(self, before: float) -> bool:
        """Whether progress passed a mark; a run of minutes leaves out what would take too much of its time."""
        if self.run.minutes is None or not _passed(before, self.state.progress, self.run.validations):
            return _passed(before, self.state.progress, self.run.validations)
        with_this_one = self.validating_seconds + self.last_validation
        return with_this_one <= MOST_VALIDATING * (time.monotonic() - self.started + self.last_validation)

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Time that is planned for, and says nothing of the speed of training."""
        started = time.monotonic()
        yield
        self.last_validation = time.monotonic() - started
        self.validating_seconds += self.last_validation
        self.ticked += self.last_validation

    def checkpoint_is_due(self) -> bool:
        """True once every `checkpoint_minutes`."""
        return time.monotonic() - self.saved >= self.run.checkpoint_minutes * 60

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
