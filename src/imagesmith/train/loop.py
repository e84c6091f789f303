"""`fit`: the one loop.

It owns backward, gradient averaging, rejection, optimisers, averages, the clock and the checkpoints.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from imagesmith.configs import OptimConfig, RunConfig
from imagesmith.errors import TrainingError
from imagesmith.runtime.checkpoint import drop_checkpoints, load_newest, save_checkpoint
from imagesmith.runtime.dist import World
from imagesmith.runtime.guard import Verdict
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.runtime.log import RunLog
from imagesmith.train.clock import Clock, passed
from imagesmith.train.ema import update_ema
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import rate_at
from imagesmith.train.state import TrainState
from imagesmith.train.steps import Nets, Step, Turn

Batch = tuple[Tensor, ...]
MOST_ROLL_BACKS = 3


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
    clock = Clock(state, run)

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
            outcome = _turns(
                state,
                batch,
                flow=flow,
                rate=rate,
                parts=run.accumulate,
                arithmetic=arithmetic,
                world=world,
                log=log,
                wishes=lambda: (*clock.wishes(), stop.is_set()),
            )
            verdict, reason = outcome.verdict, outcome.reason
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
            ticking, affordable, checkpoint, stopping = outcome.wishes
            validation = affordable and passed(before, state.progress, run.validations)
            if clock.tick_is_due(before, ticking):
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


@dataclass
class _Outcome:
    """What one step came to, the same on every process."""

    verdict: Verdict = Verdict.ACCEPT
    reason: str = ""
    wishes: list[bool] = field(default_factory=list)
    """For each wish, whether any process had it: all of them stop, save and plan after the same step."""


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
    wishes: Callable[[], Iterable[bool]],
) -> _Outcome:
    """Run every turn of one step at this learning rate; stops at the first that the guard does not accept.

    The batch is divided into `parts` of equal size, and each turn adds up the gradients of all of them. The processes
    exchange one message in each turn, and the device is waited for once: the guard has to judge before weights move.
    """
    divided = zip(*(part.chunk(parts) for part in batch), strict=True)
    done = _Outcome()
    with ExitStack() as open_steps:
        steps = [arithmetic.turns(flow.step(state.nets, part)) for part in divided]
        for turns in steps:
            open_steps.enter_context(closing(turns))
        seen: dict[str, float] = {}
        while (turn := _add_gradients(state.nets, steps)) is not None:
            name, loss, scalars = turn
            gradients = [p.grad for p in state.nets[name].parameters() if p.grad is not None]
            told = torch.stack([value.detach().to(gradients[0]) for value in (loss, *scalars.values())])
            wished = torch.tensor([float(wish) for wish in wishes()])
            world.average([*gradients, told, wished])
            norm = torch.nn.utils.get_total_norm(gradients)
            mean_loss, *means, length = torch.cat([told, norm.view(1)]).tolist()
            done.wishes = [share > 0 for share in wished.tolist()]
            done.verdict, done.reason = state.guards[name].inspect(mean_loss, length)
            if done.verdict is not Verdict.ACCEPT:
                return done
            for optimizer in state.optimizers[name]:
                for group in optimizer.param_groups:
                    group["lr"] = rate * flow.rate_factors.get(name, 1.0)
                optimizer.step()
            seen |= dict(zip(scalars, means, strict=True)) | {f"norm/{name}": length}
    if log:
        log.add(seen)
    if flow.watch is not None:
        done.verdict, done.reason = flow.watch(state, seen)
    return done


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
