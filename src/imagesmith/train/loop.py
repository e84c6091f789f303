"""`fit`: the one loop.

It owns the learning rate, rejection, averages, the clock and the checkpoints; the turns of a step are `train/turns.py`.
A GPU is asked for steps ahead of what is heard of them; what tells or keeps how far the run is waits for all of them.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from imagesmith.configs import OptimConfig, RunConfig
from imagesmith.errors import TrainingError
from imagesmith.runtime.checkpoint import drop_checkpoints, load_newest, save_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.runtime.graphs import own_stream
from imagesmith.runtime.guard import Verdict
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.runtime.log import RunLog
from imagesmith.train.clock import Clock, passed
from imagesmith.train.ema import ema_share, update_ema
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import rate_at, set_rate
from imagesmith.train.state import TrainState
from imagesmith.train.steps import Step
from imagesmith.train.turns import Asked, Computed, Recorded, Wishes, steps_ahead, turns_of

Batch = tuple[Tensor, ...]
MOST_ROLL_BACKS = 3
IN_A_ROW = 10
"""Steps on a GPU between two moments in which all are heard of. They come by images seen alone, and checkpoints and
stops wait for one: what is heard of a step sooner because of these would make a resumed run another one.
"""


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
    rehearse: Callable[[TrainState], float] | None = None
    """Seconds that a validation will take, told by a small part of one; called on the leader, and learns nothing."""
    went_back: Callable[[TrainState], None] = lambda state: None
    """Called after a roll-back, to bring what the kind of training remembers in line with where the run is now."""
    slows_down: bool = True
    """Whether a roll-back halves the learning rate."""
    before: Callable[[], Hashable] = lambda: None
    """Called before each step; another value tells that the step's course is another than that of the step before."""


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

    `log` is None on processes that are not the leader. Ctrl-C finishes the step, on a GPU up to `IN_A_ROW`, saves a
    checkpoint and raises KeyboardInterrupt.
    """
    checkpoints = Path(run.out) / "checkpoints"
    clock = _started(state, flow, run, world)

    def save() -> None:
        clock.saving()
        spared = state.extras.get("healthy_at")
        world.lead(lambda: save_checkpoint(checkpoints, state.images_seen, state.tensors(), state.values(), spared))

    if state.images_seen == 0:
        save()
    computed = Computed(state, flow.step, arithmetic, world, run.accumulate)
    steps = _Steps(state, flow, optim, turns_of(computed, run.graphs, log.say if log else print), log)
    with stop_on_request() as stop, own_stream(arithmetic.device):
        batches = flow.batches(state.images_seen)
        while state.progress < 1 and not state.extras.get("ended"):
            before, tick, validation = state.progress, False, False
            batch = tuple(arithmetic.place(part) for part in next(batches))
            rate = rate_at(before, optim) * state.rate_factor
            steps.ask(batch, rate, wishes=lambda: (*clock.wishes(), stop.is_set()))
            outcome = steps.hear(_Outcome(), but=steps_ahead(arithmetic.device))
            if outcome.verdict is not Verdict.ROLL_BACK:
                state.images_seen += state.choices["batch"]
                tick = clock.tick_is_due(before, outcome.ticking)
                validation = passed(before, state.progress, run.validations)
                if tick or validation or state.images_seen // state.choices["batch"] % IN_A_ROW == 0:
                    steps.hear(outcome)
            if outcome.verdict is Verdict.ROLL_BACK:
                _roll_back(state, flow, outcome.reason, checkpoints=checkpoints, world=world, log=log)
                steps.forget()
                clock.restart()
                save()  # with what it remembers, so that a run that is killed now does not go back to the same fault
                batches = flow.batches(state.images_seen)
                continue
            # after a rejected step the weights themselves may be what is wrong
            sound = outcome.verdict is Verdict.ACCEPT and steps.all_are_heard
            if tick:
                clock.plan_again(world)
                if log:
                    clock.say(log, log.tick(state.images_seen, rate=rate, speed=clock.speed))
            # planning again may have ended the run here
            validation = (outcome.affordable and validation) or state.progress == 1
            improved = validation and _validate(state, flow, clock, world, log)
            healthy = state.extras.get("healthy_at") == state.images_seen  # the place to go back to, should it go wrong
            if sound and (outcome.checkpoint or outcome.stopping or healthy or improved):
                save()
            if outcome.stopping and sound:  # else after the next step that is; the guard ends what has none any more
                raise KeyboardInterrupt
    save()
    if log and optim.warm_up and state.images_seen <= state.choices["batch"]:
        log.say("a single batch teaches as good as nothing: the learning rate begins at zero; give more time or images")
    return state


def _started(state: TrainState, flow: Flow, run: RunConfig, world: World) -> Clock:
    """The clock, from now on; where the length is in minutes, what a validation takes is found out before."""
    if run.minutes is not None and flow.rehearse is not None and not state.validation_seconds:
        state.validation_seconds = world.lead(partial(flow.rehearse, state))
    return Clock(state, run)


def _validate(state: TrainState, flow: Flow, clock: Clock, world: World, log: RunLog | None) -> bool:
    """Let the leader score what there is; what that changes, changes on every process.

    True where the model file holds a better one now, which a run that is killed has to know of when it goes on.
    """
    best = state.best
    with clock.validating():
        scores, state.best, state.rate_factor, state.extras = world.lead(
            lambda: (flow.validate(state), state.best, state.rate_factor, state.extras)
        )
    if log:
        log.tick(state.images_seen, **scores)
    return state.best != best


@dataclass
class _Outcome:
    """What the steps that were heard of came to, the same on every process."""

    verdict: Verdict = Verdict.ACCEPT
    """On the newest of them."""
    reason: str = ""
    ticking: bool = False
    """This and the next three: whether any process wished it, so that all stop, save and plan after the same step."""
    affordable: bool = False
    checkpoint: bool = False
    stopping: bool = False

    def wish(self, ticking: bool, affordable: bool, checkpoint: bool, stopping: bool) -> None:
        """Add what was wished in another step; what could be afforded then is no longer of interest."""
        self.ticking |= ticking
        self.affordable = affordable
        self.checkpoint |= checkpoint
        self.stopping |= stopping


class _Steps:
    """The steps of a run: the device is asked for them, and later they are heard of, in their order."""

    def __init__(
        self, state: TrainState, flow: Flow, optim: OptimConfig, turns: Computed | Recorded, log: RunLog | None
    ) -> None:
        self.state, self.flow, self.optim, self.turns, self.log = state, flow, optim, turns, log
        self._asked: deque[Asked] = deque()

    @property
    def all_are_heard(self) -> bool:
        """Whether nothing is known to the device alone."""
        return not self._asked

    def forget(self) -> None:
        """What was asked for is of no interest any more, and what is kept for the coming steps has moved."""
        self._asked.clear()
        self.turns.forget()

    def ask(self, batch: Batch, rate: float, *, wishes: Wishes) -> None:
        """One step at this learning rate, averages included; nothing moves in one that the guards refuse."""
        state = self.state
        for name, optimizers in state.optimizers.items():
            for optimizer in optimizers:
                set_rate(optimizer, rate * self.flow.rate_factors.get(name, 1.0))
        with closing(self.turns.of(batch, wishes, self.flow.before())) as turns:
            step = Asked(turns)
        size = state.choices["batch"]
        share = ema_share(state.images_seen + size, size, self.optim.ema_half_life_images)
        for name, average in state.averages.items():
            update_ema(average, state.nets[name], share, step.refused)
        self._asked.append(step)

    def hear(self, outcome: _Outcome, *, but: int = 0) -> _Outcome:
        """Add to `outcome` what all steps but so many of the newest came to; none after one that asks for a roll-back.

        The device is waited for.
        """
        while len(self._asked) > but and outcome.verdict is not Verdict.ROLL_BACK:
            outcome.verdict, outcome.reason = self._verdict(self._asked.popleft(), outcome)
            if outcome.reason and self.log:
                self.log.say(f"{outcome.verdict.value} at {self.state.images_seen:,} images: {outcome.reason}")
        return outcome

    def _verdict(self, step: Asked, outcome: _Outcome) -> tuple[Verdict, str]:
        """The guards' on a step, or that of the kind of training on one which they accept; wishes go to `outcome`."""
        seen: dict[str, float] = {}
        for turn in step.heard():
            mean_loss, *means, length = turn.told.tolist()
            outcome.wish(*(share > 0 for share in turn.wished.tolist()))
            verdict, reason = self.state.guards[turn.name].inspect(mean_loss, length, turn.limits)
            if verdict is not Verdict.ACCEPT:
                return verdict, reason
            seen |= dict(zip(turn.scalars, means, strict=True)) | {f"norm/{turn.name}": length}
            if self.state.guards[turn.name].scale is not None:
                seen[f"scale/{turn.name}"] = turn.limits.scale
        if self.log:
            self.log.add(seen)
        return self.flow.watch(self.state, seen) if self.flow.watch is not None else (Verdict.ACCEPT, "")


def _roll_back(
    state: TrainState, flow: Flow, reason: str, *, checkpoints: Path, world: World, log: RunLog | None
) -> None:
    """Go back to the checkpoint of `_place_to_go_back_to`, with half the learning rate where the flow `slows_down`.

    What the kind of training remembers stays, so that it knows what it has tried, and so do the length asked for and
    the best model, which is still there. TrainingError after too many times.
    """
    if state.roll_backs >= MOST_ROLL_BACKS:
        kept = f"; the best model was at {state.best['images_seen']:,.0f} images" if state.best else ""
        raise TrainingError(f"stopped after {state.roll_backs} roll-backs: {reason}{kept}; try a lower learning rate")
    rate_factor = state.rate_factor / 2 if flow.slows_down else state.rate_factor
    roll_backs, best, extras, end = state.roll_backs + 1, state.best, state.extras, state.plan.end_images
    place = world.lead(lambda: _place_to_go_back_to(checkpoints, extras, log.say if log else print))
    if place is None:
        raise TrainingError(f"no checkpoint to go back to in {checkpoints}: {reason}")
    left = state.images_seen
    state.load(*place)
    world.lead(lambda: drop_checkpoints(checkpoints, state.images_seen))
    extras.pop("back_to", None)
    extras["went_back_to"] = state.images_seen
    state.roll_backs, state.rate_factor, state.best, state.extras = roll_backs, rate_factor, best, extras
    flow.went_back(state)
    if state.plan.end_images != end:  # the run went on with another length after that checkpoint
        state.plan = state.plan.again(state.images_seen, end - state.images_seen)
    if log:
        log.rewind(state.images_seen)
        # only now, as TensorBoard drops all notes beyond this place, that of the kind of training among them
        log.note(f"went back here from {left:,} images: {reason}", state.images_seen)
        log.say(f"back at {state.images_seen:,} images with the learning rate at {rate_factor:g} of the plan")


def _place_to_go_back_to(
    checkpoints: Path, extras: Mapping[str, Any], warn: Callable[[str], None]
) -> tuple[dict[str, Tensor], Any] | None:
    """The checkpoint of at most `extras["back_to"]` images, or without that the newest one; None where there is none.

    If the last roll-back led to the newest one too, its weights are what is wrong: then the healthy one before it, or
    just the one before where none was called healthy.
    """
    place = load_newest(checkpoints, warn, extras.get("back_to"))
    if "back_to" in extras or place is None or place[1]["images_seen"] != extras.get("went_back_to"):
        return place
    before = extras["went_back_to"] - 1
    return load_newest(checkpoints, warn, min(before, extras.get("healthy_at") or before))
