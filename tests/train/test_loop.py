"""The loop alone, on a network of one layer: where it goes back to, what it keeps, and whose time it counts."""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn

from imagesmith.configs import OptimConfig, RunConfig
from imagesmith.errors import TrainingError
from imagesmith.runtime.checkpoint import KEEP, load_newest
from imagesmith.runtime.dist import World
from imagesmith.runtime.guard import Guard, Verdict
from imagesmith.runtime.log import RunLog
from imagesmith.train import clock
from imagesmith.train.loop import IN_A_ROW, Flow, fit
from imagesmith.train.machine import Arithmetic
from imagesmith.train.run import UNPLANNED
from imagesmith.train.state import Plan, TrainState, new_state

BATCH = 4
OPTIM = OptimConfig(name="adam", warm_up=0, plateau=1)


def step(nets, batch) -> Iterator:
    loss = nets["net"](batch[0]).square().mean()
    yield "net", loss, {"loss/square": loss.detach()}


def fresh(images: int) -> TrainState:
    torch.manual_seed(0)
    return new_state({"net": nn.Linear(3, 1)}, OPTIM, Plan(images), {"batch": BATCH})


def train(
    state: TrainState,
    run: RunConfig,
    *,
    optim: OptimConfig = OPTIM,
    step=step,
    validate=lambda state: {},
    rehearse=None,
    watch=None,
    log=None,
    world=World(),
    went_back=lambda state: None,
    slows_down=True,
) -> None:
    def batches(start: int) -> Iterator[tuple[torch.Tensor, ...]]:
        while True:
            yield (torch.ones(BATCH, 3),)

    flow = Flow(batches, step, validate, watch, rehearse=rehearse, went_back=went_back, slows_down=slows_down)
    fit(state, flow, optim=optim, run=run, arithmetic=Arithmetic("cpu", "fp32", False), world=world, log=log)


def checkpoints(run: RunConfig) -> list[int]:
    return sorted(int(path.stem) for path in (Path(run.out) / "checkpoints").glob("*.safetensors"))


class Trouble:
    """A kind of training whose model was best at 12 images, healthy last at 8, and is named ill once, at 40."""

    def __init__(self, run: RunConfig) -> None:
        self.run, self.before = run, []

    def validate(self, state: TrainState) -> dict[str, float]:
        if state.images_seen == 8:
            state.extras["healthy_at"] = 8
        if state.images_seen == 12 and not state.roll_backs:
            state.best = {"score": 1.0, "images_seen": 12}
        return {}

    def watch(self, state: TrainState, values: dict[str, float]) -> tuple[Verdict, str]:
        if state.images_seen < 40 or state.roll_backs:
            return Verdict.ACCEPT, ""
        self.before = checkpoints(self.run)
        state.extras["back_to"] = 8
        return Verdict.ROLL_BACK, "it is ill"


def test_a_roll_back_goes_to_the_healthy_checkpoint_and_nothing_of_what_it_left_stays(tmp_path):
    """The healthy checkpoint had been pruned long ago, and new ones were pruned in favour of those left behind."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    trouble, state = Trouble(run), fresh(80)
    log = RunLog(tmp_path, quiet=True)
    train(state, run, validate=trouble.validate, watch=trouble.watch, log=log)
    log.close()
    assert trouble.before == [8, 32, 36, 40]
    assert (state.images_seen, state.roll_backs, state.extras) == (80, 1, {"healthy_at": 8, "went_back_to": 8})
    assert checkpoints(run)[-KEEP:] == [72, 76, 80]
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    rates = {row["images_seen"]: row["rate"] for row in rows if "rate" in row}
    assert rates[8] == OPTIM.learning_rate
    assert rates[12] == OPTIM.learning_rate / 2, "the rate that was used, not that of the plan"


def test_a_roll_back_does_not_forget_the_best_model(tmp_path):
    """The model file still held it, and the next, worse one replaced it as 'the best since'."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    trouble, state = Trouble(run), fresh(80)
    train(state, run, validate=trouble.validate, watch=trouble.watch)
    assert state.best == {"score": 1.0, "images_seen": 12}


class Poison:
    """Spoils the weights at 40 images, with finite numbers, so that the checkpoint made then is spoilt as well."""

    def __init__(self, healthy_at: int | None = None) -> None:
        self.healthy_at, self.went_back_to = healthy_at, []

    def validate(self, state: TrainState) -> dict[str, float]:
        if state.images_seen == self.healthy_at:
            state.extras["healthy_at"] = self.healthy_at
        return {}

    def watch(self, state: TrainState, values: dict[str, float]) -> tuple[Verdict, str]:
        if state.images_seen == 36 and not state.roll_backs:
            nn.init.constant_(state.nets["net"].get_parameter("weight"), 1e30)
        return Verdict.ACCEPT, ""

    def went_back(self, state: TrainState) -> None:
        self.went_back_to.append(state.images_seen)


@pytest.mark.parametrize(
    ("kind", "step", "said"),
    [
        (Trouble, 8, "went back here from 40 images: it is ill"),
        (lambda run: Poison(), 36, "went back here from 76 images: diverging: 10 steps in a row rejected"),
    ],
)
def test_tensorboard_tells_of_a_roll_back_where_the_run_goes_on(tmp_path, monkeypatch, kind, step, said):
    """The accident: curves broke off and began anew without a word, as the note lay in the part that was dropped."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    # files of one second are read in the order of their numbers as text, and 10 comes before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))
    trouble, log = kind(run), RunLog(tmp_path, quiet=True)
    train(fresh(80), run, validate=trouble.validate, watch=trouble.watch, log=log)
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (note,) = board.Tensors("notes/text_summary")
    assert note.step == step
    assert note.tensor_proto.string_val[0].decode().startswith(said)


@pytest.mark.parametrize(("healthy_at", "then"), [(8, 8), (40, 36), (None, 36)])
def test_a_checkpoint_that_is_spoilt_itself_is_gone_back_to_only_once(tmp_path, healthy_at, then):
    """The accident: three roll-backs to the same spoilt weights ended the run, beside a healthy checkpoint kept for it."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    poison, state = Poison(healthy_at), fresh(80)
    train(state, run, validate=poison.validate, watch=poison.watch, went_back=poison.went_back)
    assert poison.went_back_to == [40, then]
    assert (state.images_seen, state.rate_factor) == (80, 0.25)


def test_a_run_killed_between_two_roll_backs_knows_the_spoilt_checkpoint(tmp_path):
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    poison, state = Poison(healthy_at=8), fresh(80)

    def dying(nets, batch) -> Iterator:
        if state.roll_backs:
            raise RuntimeError("power cut")
        yield from step(nets, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(state, run, step=dying, validate=poison.validate, watch=poison.watch, went_back=poison.went_back)
    newest, state = load_newest(tmp_path / "checkpoints", pytest.fail), fresh(80)
    assert newest is not None
    state.load(*newest)
    train(state, run, validate=poison.validate, watch=poison.watch, went_back=poison.went_back)
    assert poison.went_back_to == [40, 8]


def test_a_run_whose_guard_only_watches_keeps_its_rate_at_a_roll_back(tmp_path):
    """The accident: `guard=watch`, which changes nothing of the classic as it is, trained it at half its rate."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    poison, state = Poison(), fresh(80)
    train(state, run, watch=poison.watch, went_back=poison.went_back, slows_down=False)
    assert (state.roll_backs, state.rate_factor) == (2, 1.0)


def test_a_run_killed_after_a_roll_back_remembers_it(tmp_path):
    """It went on from the newest checkpoint, the ill one, with the full learning rate, and rolled back for ever."""
    run = RunConfig(out=str(tmp_path), images=80, validations=20, checkpoint_minutes=1e-9)
    trouble, state = Trouble(run), fresh(80)

    def dying(nets, batch) -> Iterator:
        if state.roll_backs:
            raise RuntimeError("power cut")
        yield from step(nets, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(state, run, step=dying, validate=trouble.validate, watch=trouble.watch)
    newest = load_newest(tmp_path / "checkpoints", pytest.fail)
    assert newest is not None
    values = newest[1]
    assert (values["images_seen"], values["roll_backs"], values["rate_factor"]) == (8, 1, 0.5)
    assert values["best"] == {"score": 1.0, "images_seen": 12}


def test_a_run_killed_after_a_better_model_was_kept_knows_of_it(tmp_path):
    """The model file was new, the checkpoint older: the run went on, and a worse model replaced it as 'the best'."""
    run, state = RunConfig(out=str(tmp_path), images=80, validations=20), fresh(80)

    def validate(state: TrainState) -> dict[str, float]:
        if state.images_seen == 12:
            state.best = {"score": 1.0, "images_seen": 12}
        return {}

    def dying(nets, batch) -> Iterator:
        if state.images_seen == 20:
            raise RuntimeError("power cut")
        yield from step(nets, batch)

    with pytest.raises(RuntimeError, match="power cut"):
        train(state, run, step=dying, validate=validate)
    newest = load_newest(tmp_path / "checkpoints", pytest.fail)
    assert newest is not None
    assert newest[1]["best"] == state.best == {"score": 1.0, "images_seen": 12}
    assert checkpoints(run) == [0, 12], "and nothing is saved where nothing got better"


def test_a_roll_back_does_not_forget_the_length_asked_for(tmp_path):
    """Begun with 80 images, gone on with 160, it went back to before that, and ended at 80 without a word."""
    run = RunConfig(out=str(tmp_path), images=160, validations=20, checkpoint_minutes=1e-9)
    trouble, state = Trouble(run), fresh(80)

    def validate(state: TrainState) -> dict[str, float]:
        if state.images_seen == 20 and not state.roll_backs:
            state.plan = state.plan.again(20, 140)  # as a resumption does
        return trouble.validate(state)

    train(state, run, validate=validate, watch=trouble.watch)
    assert (state.images_seen, state.roll_backs) == (160, 1)


@pytest.mark.parametrize(("rejected", "saved", "roll_backs"), [(1, 12, 0), (12, 12, 1)])
def test_who_asks_to_stop_at_a_step_that_is_rejected_loses_nothing(tmp_path, rejected, saved, roll_backs):
    """Nothing is saved after a rejected step, and Ctrl-C in just that one threw away all since the last checkpoint."""
    run, state, steps = RunConfig(out=str(tmp_path), images=80), fresh(80), 0

    def spoilt(nets, batch) -> Iterator:
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(signal.SIGINT)
        yield from step(nets, (batch[0] * (torch.nan if 2 <= steps < 2 + rejected else 1),))

    with pytest.raises(KeyboardInterrupt):
        train(state, run, step=spoilt)
    assert (max(checkpoints(run)), state.roll_backs) == (saved, roll_backs)


def test_who_asks_to_stop_a_run_that_is_spoilt_for_good_is_not_kept_waiting(tmp_path):
    run, state, steps = RunConfig(out=str(tmp_path), images=8000), fresh(8000), 0

    def spoilt(nets, batch) -> Iterator:
        nonlocal steps
        steps += 1
        if steps == 1:
            signal.raise_signal(signal.SIGINT)
        yield from step(nets, (batch[0] * torch.nan,))

    with pytest.raises(TrainingError, match="stopped after 3 roll-backs"):
        train(state, run, step=spoilt)
    assert steps == 4 * Guard.patience


@pytest.mark.parametrize("seconds", [0.05, 1.0, 4.0, 20.0])
def test_minutes_hold_whatever_validations_take(tmp_path, monkeypatch, seconds):
    """One minute of training took seven: the time of twenty validations was in nobody's plan."""
    now, validated = 0.0, []

    def slow(nets, batch) -> Iterator:
        nonlocal now
        now += 0.2
        yield from step(nets, batch)

    def validate(state: TrainState) -> dict[str, float]:
        nonlocal now
        now += seconds
        validated.append(state.progress)
        return {}

    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    run = RunConfig(out=str(tmp_path), minutes=1, validations=20, checkpoint_minutes=100)
    train(fresh(UNPLANNED), run, step=slow, validate=validate)
    assert 57 <= now <= 61.5
    assert validated[-1] == 1
    assert seconds * len(validated) <= max(2 * seconds, clock.MOST_VALIDATING * 60)  # no rehearsal told of the first
    assert len(validated) == 20 or seconds > 0.5


@pytest.mark.parametrize("known_from", ["a rehearsal", "the session before"])
def test_a_validation_that_is_too_long_falls_out_before_it_was_ever_held(tmp_path, monkeypatch, known_from):
    """The accident: of half a minute 23 seconds went into validations, the first for free, and three steps were made."""
    now, validated, rehearsed, state = 0.0, [], [], fresh(UNPLANNED)

    def slow(nets, batch) -> Iterator:
        nonlocal now
        now += 0.2
        yield from step(nets, batch)

    def validate(state: TrainState) -> dict[str, float]:
        nonlocal now
        now += 11
        validated.append(now)
        return {}

    def rehearse(state: TrainState) -> float:
        rehearsed.append(now)
        return 10.0

    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    run = RunConfig(out=str(tmp_path), minutes=0.5, validations=20, checkpoint_minutes=100)
    if known_from == "the session before":
        state.validation_seconds = 10.0
    train(state, run, step=slow, validate=validate, rehearse=rehearse)
    assert rehearsed == ([0.0] if known_from == "a rehearsal" else [])
    assert validated == [pytest.approx(31, abs=0.5)]
    assert state.images_seen >= 98 * BATCH
    newest = load_newest(tmp_path / "checkpoints", pytest.fail)
    assert newest is not None
    assert newest[1]["validation_seconds"] == pytest.approx(11)


def test_a_run_of_so_many_images_rehearses_nothing(tmp_path):
    """What the time decides may not be in a run that is the same on every machine."""
    train(fresh(8), RunConfig(out=str(tmp_path), images=8), rehearse=pytest.fail)


@pytest.mark.parametrize(
    ("images", "warm_up", "is_told"), [(BATCH, 0.02, True), (2 * BATCH, 0.02, False), (BATCH, 0.0, False)]
)
def test_a_run_of_one_batch_is_told_to_have_learnt_nothing(tmp_path, images, warm_up, is_told):
    """The accident: nine seconds sufficed for one step at a rate of zero, and a generator of noise was reported done."""
    log = RunLog(tmp_path, quiet=True)
    optim = OPTIM.model_copy(update={"warm_up": warm_up})
    train(fresh(images), RunConfig(out=str(tmp_path), images=images), log=log, optim=optim)
    log.close()
    assert ("a single batch teaches as good as nothing" in (tmp_path / "console.log").read_text()) is is_told


def test_a_run_of_minutes_ticks_by_its_minutes_alone(tmp_path, monkeypatch):
    """Marks of progress came a second after those of time: every line stood there twice, its speed measured on one step."""
    now = 0.0

    def steady(nets, batch) -> Iterator:
        nonlocal now
        now += 0.013
        yield from step(nets, batch)

    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    run = RunConfig(out=str(tmp_path), minutes=0.1, validations=1, checkpoint_minutes=100)
    log = RunLog(tmp_path, quiet=True)
    train(fresh(UNPLANNED), run, step=steady, log=log)
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    ticks = [row["images_seen"] for row in rows if "rate" in row]
    assert len(ticks) > 100
    assert {(after - before) // BATCH for before, after in pairwise(ticks[1:-1])} == {3}


@dataclass(frozen=True)
class Crowd(World):
    """One of two processes, of which the other asks to stop in its third step and has twice the loss of this one."""

    messages: list[int] = field(default_factory=list)

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        self.messages.append(sum(tensor.numel() for tensor in tensors))
        *_, told, wishes = tensors
        told *= 1.5
        wishes[-1] = 0.5 if len(self.messages) == 3 else 0.0


def test_who_asks_to_stop_anywhere_stops_everyone(tmp_path):
    """One process that saves or stops alone leaves the others in the middle of a message."""
    state, crowd = fresh(80), Crowd()
    with pytest.raises(KeyboardInterrupt):
        train(state, RunConfig(out=str(tmp_path), images=80), world=crowd)
    assert checkpoints(RunConfig(out=str(tmp_path), images=80)) == [0, 12]
    assert len(crowd.messages) == 3, "gradients, losses and wishes of a turn go in one message"


def test_guard_and_watch_hear_the_mean_of_all_processes(tmp_path):
    """Processes that judge by their own losses disagree on whether a step counts, and wait for each other for ever."""
    heard: list[float] = []

    def watch(state: TrainState, values: dict[str, float]) -> tuple[Verdict, str]:
        heard.append(values["loss/square"])
        return Verdict.ACCEPT, ""

    own = torch.nn.functional.mse_loss(fresh(4).nets["net"](torch.ones(BATCH, 3)), torch.zeros(BATCH, 1)).item()
    state = fresh(4)
    train(state, RunConfig(out=str(tmp_path), images=4), watch=watch, world=Crowd())
    assert heard == [pytest.approx(1.5 * own)]
    assert state.guards["net"].mean_loss == pytest.approx(1.5 * own)


LONG = 1000 * BATCH
"""Images of a run in which there is something to tell or to keep only after every fifth step."""


def spoilt(factors: Mapping[int, float]):
    """A step whose batch is multiplied by another factor in some of its calls."""
    calls = count()

    def spoilt_step(nets, batch) -> Iterator:
        yield from step(nets, (batch[0] * factors.get(next(calls), 1),))

    return spoilt_step


def test_steps_asked_for_ahead_learn_what_steps_that_are_waited_for_learn(tmp_path, request):
    """The accident: a gradient that is no number moves weights, averages or the guard's memory before it is heard of."""
    states, rejected = [], []
    for way in ("waited", "ahead"):
        if way == "ahead":
            request.getfixturevalue("like_on_a_gpu")
        state, log = fresh(LONG), RunLog(tmp_path / way, quiet=True)
        state.guards["net"].settle = 8
        run = RunConfig(out=str(tmp_path / way), images=LONG, validations=1)
        train(state, run, step=spoilt(dict.fromkeys((3, 4, 17, 39), torch.nan) | {20: 1e4}), log=log)
        log.close()
        states.append(state)
        rejected.append((tmp_path / way / "console.log").read_text().count("reject at"))
    waited, ahead = states
    assert rejected == [5, 5]
    for state in states:
        assert (state.guards["net"].accepted, state.guards["net"].rejected) == (LONG // BATCH - 5, 5)
    assert ahead.guards["net"].mean_loss == pytest.approx(waited.guards["net"].mean_loss)
    torch.testing.assert_close(ahead.tensors(), waited.tensors(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("like_on_a_gpu")
def test_a_run_that_is_asked_ahead_goes_back_where_it_diverges(tmp_path):
    state = fresh(LONG)
    run = RunConfig(out=str(tmp_path), images=LONG, validations=1)
    train(state, run, step=spoilt(dict.fromkeys(range(12, 12 + Guard.patience), torch.nan)))
    assert (state.images_seen, state.roll_backs, state.rate_factor) == (LONG, 1, 0.5)
    assert all(value.isfinite().all() for value in state.tensors().values())
    assert state.guards["net"].streak == 0
    with pytest.raises(TrainingError, match="stopped after 3 roll-backs"):
        train(
            fresh(8000),
            run.model_copy(update={"out": str(tmp_path / "b")}),
            step=spoilt(dict.fromkeys(range(1000), torch.nan)),
        )


@pytest.mark.usefixtures("like_on_a_gpu")
@pytest.mark.parametrize("calls", [6, 10])
def test_a_run_that_is_asked_ahead_and_stopped_goes_on_as_if_it_had_not_been(tmp_path, calls):
    """The accident: the checkpoint tells of fewer steps than its weights took, or a step in it was never judged.

    Or what a step told has its effect a step sooner than without a stop, as on the strength of augmentation.
    """
    whole, stopped, left = fresh(LONG), fresh(LONG), count(calls, -1)

    def stopping(nets, batch) -> Iterator:
        if next(left) == 0:
            signal.raise_signal(signal.SIGINT)
        yield from step(nets, batch)

    def watch(state: TrainState, scalars: dict[str, float]) -> tuple[Verdict, str]:
        state.rate_factor = 1 / (1 + state.guards["net"].accepted % 3)
        return Verdict.ACCEPT, ""

    run = RunConfig(out=str(tmp_path / "stopped"), images=LONG, validations=1)
    train(whole, run.model_copy(update={"out": str(tmp_path / "whole")}), watch=watch)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, run, step=stopping, watch=watch)
    assert stopped.guards["net"].accepted * BATCH == stopped.images_seen == max(checkpoints(run)) <= (calls + 6) * BATCH
    resumed, newest = fresh(LONG), load_newest(tmp_path / "stopped" / "checkpoints", pytest.fail)
    assert newest is not None
    resumed.load(*newest)
    train(resumed, run, watch=watch)
    torch.testing.assert_close(resumed.tensors(), whole.tensors(), rtol=0, atol=0)
    assert resumed.guards == whole.guards


@pytest.mark.usefixtures("like_on_a_gpu")
def test_the_longest_run_that_is_asked_ahead_stops_after_a_few_steps(tmp_path):
    """The accident: it stops where the next tick is due, which is a two hundredth of the run away."""
    state, run = fresh(UNPLANNED), RunConfig(out=str(tmp_path), images=UNPLANNED)

    def stopping(nets, batch) -> Iterator:
        if state.images_seen == BATCH:
            signal.raise_signal(signal.SIGINT)
        yield from step(nets, batch)

    with pytest.raises(KeyboardInterrupt):
        train(state, run, step=stopping)
    assert checkpoints(run) == [0, IN_A_ROW * BATCH]


def test_a_scale_too_large_for_fp16_is_lowered_in_silence(tmp_path: Path):
    """The accident: the first steps of a run in fp16 are told as faults, or their weights are kept as sound."""
    run = RunConfig(out=str(tmp_path), images=400, checkpoint_minutes=1e-9)
    state = fresh(400)
    state.guards["net"].scale = 2.0**20
    limit, weights = 2.0**18, []
    hooks = []

    def too_much(nets, batch):
        weights.append(nets["net"].weight.detach().clone())
        for hook in hooks:
            hook.remove()
        scale = state.guards["net"].scale
        hooks[:] = [nets["net"].weight.register_hook(lambda g: g * (torch.inf if scale > limit else 1))]
        yield from step(nets, batch)

    log = RunLog(tmp_path, quiet=True)
    train(state, run, step=too_much, log=log)
    log.close()
    assert state.guards["net"].scale == limit
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert "reject" not in (tmp_path / "console.log").read_text()
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert {row["scale/net"] for row in rows if "scale/net" in row} == {limit}
