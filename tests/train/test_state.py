"""Plans and averages."""

import copy

import pytest
import torch
from torch import nn

from imagesmith.configs import OptimConfig
from imagesmith.train.ema import ema_share, update_ema
from imagesmith.train.state import Plan, new_state

ACCEPTED = torch.tensor(False)


def test_planning_again_keeps_progress_and_reaches_the_new_end():
    """A plan that jumps moves the learning rate, and a schedule that never ends leaves it high."""
    plan = Plan(1000)
    assert plan.progress(250) == 0.25
    again = plan.again(250, 1500)
    assert again.progress(250) == 0.25
    assert again.progress(1000) == pytest.approx(0.625)
    assert again.progress(1750) == 1.0
    assert again.again(1000, 1).progress(1001) == 1.0
    assert again.again(1000, 0).progress(1000) == 1.0


def test_half_life_is_what_it_says():
    average, net = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    nn.init.ones_(net.weight)
    for step in range(64):
        update_ema(average, net, ema_share(1_000_000 + step * 16, 16, 1024), ACCEPTED)
    assert average.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_young_average_forgets_the_random_start():
    average, net = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(average.weight, 100.0)
    nn.init.ones_(net.weight)
    for step in range(1, 200):
        update_ema(average, net, ema_share(step * 16, 16, 10**9), ACCEPTED)
    assert average.weight.item() == pytest.approx(1, abs=1e-2)


def test_a_refused_step_moves_no_average_though_nobody_waits_for_the_verdict(on_gpu):
    nets = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2)]
    nets[1](torch.randn(8, 2))  # moves its statistics
    averages = [copy.deepcopy(nets[0]) for _ in range(3)]
    update_ema(averages[0], nets[1], 0.25, on_gpu(True))
    update_ema(averages[1], nets[1], 0.25, on_gpu(False))
    update_ema(averages[2], nets[1], 0.25, ACCEPTED)
    torch.testing.assert_close(averages[0].state_dict(), nets[0].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(averages[1].state_dict(), averages[2].state_dict())


def test_state_round_trip_is_exact():
    """What is not in the checkpoint is what a resumed run forgets."""

    def trained(steps: int):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)).to(memory_format=torch.channels_last)
        state = new_state({"restorer": net}, OptimConfig(), Plan(100), {"batch": 4})
        for _ in range(steps):
            net(torch.ones(1, 3, 8, 8)).square().mean().backward()
            for optimizer in state.optimizers["restorer"]:
                optimizer.step()
            state.guards["restorer"].inspect(1.0, 2.0)
            state.images_seen += 4
            state.validation_seconds += 1.5
        return state

    first, second = trained(3), trained(0)
    second.load(first.tensors(), first.values())
    assert second.values() == first.values()
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


def test_what_optimisers_remember_lies_in_memory_as_the_weights_do():
    """The accident: checkpoints know one layout, and Adam on a GPU refuses to go on where weights have the other."""
    net = nn.Conv2d(3, 16, 3).to(memory_format=torch.channels_last)
    state = new_state({"restorer": net}, OptimConfig(name="adam"), Plan(100), {"batch": 4})
    net(torch.ones(1, 3, 8, 8)).square().mean().backward()
    (adam,) = state.optimizers["restorer"]
    adam.step()
    state.load({name: tensor.contiguous() for name, tensor in state.tensors().items()}, state.values())
    assert adam.state[net.weight]["exp_avg"].stride() == net.weight.stride() != net.weight.contiguous().stride()
