"""Schedules and Muon."""

import itertools
from copy import deepcopy

import pytest
import torch
from torch import nn

from imagesmith.configs import OptimConfig
from imagesmith.nets import NetSpec, build_net
from imagesmith.train.optim import Muon, build_optimizers, move, orthogonalise, rate_at


def test_learning_rate_rises_stays_and_falls():
    config = OptimConfig(learning_rate=1.0, warm_up=0.1, plateau=0.5, final=0.01)
    rates = [rate_at(k / 1000, config) for k in range(1001)]
    assert rates[0] == 0
    assert rates[50] == pytest.approx(0.5)
    assert rates[100:500] == [1.0] * 400
    assert rates[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[500:]))


def test_orthogonalise_evens_out_singular_values():
    """Muon's promise: every direction of an update is taken about equally far."""
    matrices = torch.randn(3, 24, 90) * torch.logspace(0, -2, 24)[:, None]
    for shape in (matrices, matrices.mT):
        singular = torch.linalg.svdvals(orthogonalise(shape))
        assert singular.min() > 0.3
        assert singular.max() < 1.3


def test_batched_update_equals_one_by_one():
    kernels = [nn.Parameter(torch.randn(16, 16, 3, 3)) for _ in range(3)]
    gradients = [torch.randn_like(kernel) for kernel in kernels]
    copies = [nn.Parameter(kernel.detach().clone()) for kernel in kernels]
    together = Muon(kernels, lr=0.1)
    apart = [Muon([copy], lr=0.1) for copy in copies]
    for _ in range(2):
        for kernel, copy, gradient in zip(kernels, copies, gradients, strict=True):
            kernel.grad, copy.grad = gradient.clone(), gradient.clone()
        together.step()
        for optimizer in apart:
            optimizer.step()
    for kernel, copy in zip(kernels, copies, strict=True):
        torch.testing.assert_close(kernel, copy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["muon", "adam"])
def test_every_parameter_has_exactly_one_optimiser(name):
    """A parameter without an optimiser stays at its random start, and nobody sees it in the loss."""
    net = build_net(NetSpec("compact", {"width": 16, "blocks": 2}))
    optimizers = build_optimizers(net, OptimConfig(name=name))
    covered = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("name", ["muon", "adam"])
def test_a_refused_step_moves_nothing_though_nobody_waits_for_the_verdict(name, on_gpu, like_on_a_gpu):
    """The accident: a gradient that is no number, multiplied by 0, is none, and spoils momentum and weights."""
    net = build_net(NetSpec("compact", {"width": 16, "blocks": 2}))
    other, start = deepcopy(net), [p.detach().clone() for p in net.parameters()]
    gradients = [[torch.randn_like(p) for p in net.parameters()] for _ in range(2)]
    gradients.insert(1, [torch.full_like(p, torch.nan) for p in net.parameters()])
    for each, refusals in ((net, [False, True, False]), (other, [False, None, False])):
        optimizers = build_optimizers(each, OptimConfig(name=name))
        for refused, gradient in zip(refusals, gradients, strict=True):
            for parameter, value in zip(each.parameters(), gradient, strict=True):
                parameter.grad = value.clone()
            if refused is not None:
                move(optimizers, on_gpu(refused))
    for mine, same, old in zip(net.parameters(), other.parameters(), start, strict=True):
        assert torch.equal(mine, same)
        assert mine.isfinite().all()
        assert not torch.equal(mine, old)
