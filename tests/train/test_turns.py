"""Steps that are computed, and steps that are recorded: when each happens, and that nothing is learnt otherwise."""

import copy
import math
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from imagesmith.configs import OptimConfig
from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.dist import World
from imagesmith.runtime.graphs import own_stream
from imagesmith.runtime.guard import Verdict
from imagesmith.tensors import generator_for
from imagesmith.train import turns
from imagesmith.train.gan.augment import Augment, draw_augmentations
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import set_rate
from imagesmith.train.state import Plan, new_state
from imagesmith.train.steps import GanTerms, Nets, gan_step, is_off
from imagesmith.train.turns import WARM_UP, Asked, Bounds, Computed, Dials, Recorded, turns_of

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def square_step(nets, batch):
    loss = nets["net"](batch[0]).square().mean()
    yield "net", loss, {"loss/square": loss.detach()}


class FakeGraph:
    """Stands for a CUDA graph on a machine without one: its replays are written down."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def replay(self) -> None:
        self.log.append("replay")


@pytest.fixture
def recorded(monkeypatch) -> tuple[Recorded, list[str], list[str]]:
    """Turns of a network of one layer, what was done with graphs, and what was said."""
    log: list[str] = []
    said: list[str] = []

    def captured(act: Callable[[], object], pool: object = None) -> tuple[object, FakeGraph]:
        log.append("capture")
        return act(), FakeGraph(log)

    monkeypatch.setattr(turns, "captured", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    net = nn.Linear(3, 1)
    state = new_state({"net": net}, OptimConfig(name="adam"), Plan(100), {"batch": 4})
    computed = Computed(state, square_step, Arithmetic("cpu", "fp32", False), World())
    return Recorded(computed, said.append), log, said


def one_step(source: Recorded, size: int = 4, course: object = None) -> None:
    for turn in source.of((torch.ones(size, 3),), tuple, course):
        assert turn.name == "net"
        assert turn.scalars == ("loss/square",)
        assert len(turn.told) == 3
        turn.update()


def test_a_step_is_recorded_once_it_is_warm_and_replayed_from_then_on(recorded):
    source, log, _ = recorded
    for _ in range(WARM_UP):
        one_step(source)
    assert not log
    one_step(source)
    assert log == ["capture", "capture", "replay", "replay"]  # gradients, then the update
    one_step(source)
    assert log[4:] == ["replay", "replay"]


def test_a_step_whose_update_never_came_is_not_warm(recorded):
    """The accident: the first steps are rejected, and the graph begins every update with an empty momentum."""
    source, log, _ = recorded
    for _ in range(WARM_UP):
        with closing(source.of((torch.ones(4, 3),), tuple)) as rejected:
            next(rejected)
    for _ in range(WARM_UP):
        one_step(source)
    assert not log
    one_step(source)
    assert log


@pytest.mark.parametrize("change", ["course", "size", "forgotten"])
def test_a_step_is_recorded_anew_when_it_would_do_something_else(recorded, change: str):
    """The accident: augmentation sets in, or a roll-back moves the optimiser's memory, and graphs go on as before."""
    source, log, _ = recorded
    for _ in range(WARM_UP + 1):
        one_step(source)
    log.clear()
    if change == "forgotten":
        source.forget()
    other = {"course": {"course": "with augmentation"}, "size": {"size": 2}, "forgotten": {}}[change]
    for _ in range(WARM_UP):
        one_step(source, **other)
    assert not log
    one_step(source, **other)
    assert log.count("capture") == 2


def test_a_step_that_cannot_be_recorded_is_computed_and_the_user_told_once(recorded, monkeypatch):
    """The accident: a loss that waits for the device stops a run that would have gone on without graphs."""
    source, _, said = recorded

    def refused(act: Callable[[], object], pool: object = None) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(turns, "captured", refused)
    for _ in range(WARM_UP + 3):
        one_step(source)
    assert len(said) == 1
    assert "not permitted when stream is capturing" in said[0]


def test_nothing_is_recorded_on_a_cpu_nor_where_the_user_does_not_want_it(recorded):
    computed = recorded[0].computed
    assert turns_of(computed, True, print) is computed
    assert Dials("cpu").set("r1", 0.5) == 0.5
    assert is_off(Dials("cuda").set("r1", 0.0))


def test_a_strength_that_comes_and_goes_does_not_have_the_step_recorded_anew():
    """The accident: adaptive augmentation wavers about 0 and a GPU records a graph every few dozen steps."""
    dials = Dials("meta", ("strength",))
    assert not is_off(dials.set("strength", 0.0))
    assert is_off(dials.set("r1", 0.0))
    assert dials.set("strength", 0.0) is dials.set("strength", 0.3)
    assert is_off(Dials("cpu", ("strength",)).set("strength", 0.0))


def test_a_dial_tells_the_newest_value_where_a_recorded_step_finds_it():
    dials = Dials("cpu:0")  # which is not 'cpu', and so stands for a GPU
    place = dials.set("r1", 0.5)
    for value in (0.5, 0.25, 0.25, 0.5):
        assert dials.set("r1", value) is place
        assert float(place) == value


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_bounds_are_those_of_the_guards_now(device: str):
    state = new_state({"net": nn.Linear(3, 1)}, OptimConfig(name="adam"), Plan(100), {"batch": 4})
    guard, bounds = state.guards["net"], Bounds(state, device)
    guard.settle = 5

    def refused(loss: float, norm: float) -> bool:
        bounds.set()
        beyond = bool(bounds.beyond("net", torch.tensor(loss), torch.tensor(norm)))
        verdict, _ = copy.copy(guard).inspect(loss, norm, bounds.now["net"])
        assert beyond is (verdict is not Verdict.ACCEPT), "both judge alike"
        return beyond

    assert not refused(1e30, 1e30)
    assert refused(math.nan, 1.0)
    assert refused(1.0, math.inf)
    for _ in range(5):
        guard.inspect(0.1, 1.0)
    assert not refused(-4.9, 49.0)
    assert refused(-5.1, 1.0)
    assert refused(0.1, 51.0)
    assert refused(0.1, math.nan)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_what_float32_holds_is_judged_alike_at_the_very_limit(steps: int):
    """The accident: the device compares with the limit as float32, the host with that of float64, and they differ."""
    state = new_state({"net": nn.Linear(3, 1)}, OptimConfig(name="adam"), Plan(100), {"batch": 4})
    guard, bounds = state.guards["net"], Bounds(state, "cpu:0")
    guard.settle = 1
    for k in range(steps):
        guard.inspect(0.1 + k / 7, 1 + k / 3)
    bounds.set()
    limit = torch.tensor(bounds.now["net"].norm)
    for norm in (limit, limit.nextafter(torch.tensor(math.inf)), limit.nextafter(torch.tensor(0.0))):
        verdict, _ = copy.copy(guard).inspect(0.1, norm.item(), bounds.now["net"])
        assert bool(bounds.beyond("net", torch.tensor(0.1), norm)) is (verdict is not Verdict.ACCEPT)
        assert (verdict is not Verdict.ACCEPT) is bool(norm > limit)


@pytest.mark.parametrize("fixture", ["like_on_a_gpu", None])
def test_a_turn_after_one_that_was_refused_is_refused_as_well(request, fixture: str | None):
    """The accident: the generator learns from a discriminator whose own turn was no number."""
    if fixture:
        request.getfixturevalue(fixture)

    def step(nets, batch):
        for name, factor in (("first", torch.nan), ("second", 1.0)):
            loss = nets[name](batch[0]).square().mean() * factor
            yield name, loss, {}

    nets: Nets = {name: nn.Linear(3, 1) for name in ("first", "second")}
    state = new_state(nets, OptimConfig(name="adam"), Plan(100), {"batch": 4})
    before = copy.deepcopy(state.tensors())
    computed = Computed(state, step, Arithmetic("cpu", "fp32", False), World())
    with closing(computed.of((torch.ones(4, 3),), tuple)) as turns:
        asked = Asked(turns)
    assert next(iter(asked.heard())).name == "first"
    for name, tensor in before.items():
        assert torch.equal(state.tensors()[name], tensor)


def rpgan_step(weight: float | Tensor):
    augment = None if is_off(weight) else (lambda images, draws: Augment().apply(images, weight, draws))
    return partial(gan_step, terms=GanTerms(OBJECTIVES["relativistic"], r1=weight, r2=0.5, augment=augment))


@NEEDS_GPU
def test_recorded_steps_learn_what_computed_ones_learn():
    """The accident: a weight, a rate or a batch of the step that was recorded is used for ever."""
    rng = generator_for(1)
    widths = {"size": [16, 16], "widths": [16, 8], "classes": 3}
    torch.manual_seed(0)
    nets: Nets = {name: build_net(NetSpec(f"rpgan-{name}", widths)) for name in ("generator", "discriminator")}
    batches = [
        (
            torch.randint(256, (8, 3, 16, 16), generator=rng).byte(),
            torch.randint(3, (8,), generator=rng),
            torch.randn(8, 64, generator=rng),
            torch.stack([draw_augmentations(8, rng) for _ in range(2)], dim=1),
            torch.rand(8, generator=rng),
        )
        for _ in range(3)
    ]

    def learnt(graphs: bool) -> tuple[Tensor, Tensor]:
        arithmetic, dials = Arithmetic("cuda", "fp32", True), Dials("cuda")
        own = {name: arithmetic.prepare(copy.deepcopy(net)) for name, net in nets.items()}
        state = new_state(own, OptimConfig(name="adam"), Plan(1000), {"batch": 8})
        weight: float | Tensor = 0.0

        def step(nets, batch):
            return rpgan_step(weight)(nets, batch)

        computed = Computed(state, step, arithmetic, World())
        source = turns_of(computed, graphs, pytest.fail)
        told: list[float] = []
        with own_stream("cuda"):
            for k in range(16):
                weight = dials.set("weight", max(0.0, (k - 6) / 20))
                for optimizers in state.optimizers.values():
                    for optimizer in optimizers:
                        set_rate(optimizer, 1e-3 * (1 + k % 3))
                batch = tuple(arithmetic.place(part) for part in batches[k % 3])
                for turn in source.of(batch, tuple, is_off(weight)):
                    told += turn.told.tolist()
                    turn.update()
        return torch.tensor(told), torch.cat(
            [p.detach().flatten().cpu() for net in own.values() for p in net.parameters()]
        )

    (computed, weights), (replayed, others) = learnt(False), learnt(True)
    assert torch.allclose(computed, replayed, rtol=0.02, atol=1e-3)
    assert torch.allclose(weights, others, atol=2e-3)


def small_loss_step(nets: Nets, batch: tuple[Tensor, ...]):
    loss = 1e-7 * nets["net"](batch[0]).float().square().mean()
    yield "net", loss, {"loss/square": loss.detach()}


def gradients_in(dtype: str, scale: float | None = None, parts: int = 1) -> tuple[Tensor, Tensor]:
    """The gradients of a small loss in a number format, and whether the turn was refused."""
    torch.manual_seed(0)
    net = nn.Conv2d(3, 8, 3)
    arithmetic = Arithmetic("cpu", dtype, True)
    choices = {"batch": 4, "arithmetic": {"device": "cpu", "dtype": dtype, "channels_last": True}}
    state = new_state({"net": net}, OptimConfig(name="adam"), Plan(100), choices)
    if scale is not None:
        state.guards["net"].scale = scale
    batch = (torch.rand(4, 3, 8, 8, generator=generator_for(1)),)
    with closing(Computed(state, small_loss_step, arithmetic, World(), parts).of(batch, tuple)) as source:
        turn = next(source)
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert 1e-9 < turn.told[0] < 1e-7, "the loss is told as it is"
    return gradient, turn.refused


@pytest.mark.parametrize("parts", [1, 2])
def test_small_gradients_do_not_vanish_in_fp16(parts: int):
    """The accident: what is below 6e-8 is 0 in fp16, and a run stands still."""
    exact, _ = gradients_in("fp32", parts=parts)
    scaled, refused = gradients_in("fp16", parts=parts)
    assert not refused
    torch.testing.assert_close(scaled, exact, rtol=0.02, atol=1e-10)
    vanished, _ = gradients_in("fp16", scale=1.0, parts=parts)
    assert not torch.allclose(vanished, exact, rtol=0.5, atol=1e-10)


def test_gradients_beyond_fp16_are_refused():
    assert gradients_in("fp16", scale=2.0**45)[1]
