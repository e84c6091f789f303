"""Steps that are computed, and steps that are recorded: when each happens, and that nothing is learnt otherwise."""

import copy
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
from imagesmith.tensors import generator_for
from imagesmith.train import turns
from imagesmith.train.gan.augment import Augment, draw_augmentations
from imagesmith.train.machine import Arithmetic
from imagesmith.train.optim import set_rate
from imagesmith.train.state import Plan, new_state
from imagesmith.train.steps import GanTerms, Nets, gan_step, is_off
from imagesmith.train.turns import WARM_UP, Computed, Dials, Recorded, turns_of

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
