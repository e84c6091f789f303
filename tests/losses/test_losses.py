"""Laws of every loss in the table."""

import pytest
import torch

from imagesmith.losses import LOSSES


@pytest.mark.parametrize("name", LOSSES)
def test_minimum_at_equality_and_gradient_to_the_prediction_only(name):
    """A loss that trains the target, or nothing, is the field's favourite silent bug."""
    target = torch.rand(2, 3, 8, 9, dtype=torch.float64, requires_grad=True)
    prediction = (target.detach() + 0.1 * torch.randn_like(target)).requires_grad_()
    loss = LOSSES[name](prediction, target)
    loss.backward()
    least = LOSSES[name](target.detach(), target).item()
    assert least == pytest.approx(0, abs=1e-12)
    assert loss.item() > least
    assert target.grad is None
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_independent_of_the_batch_split(name):
    """Two processes with half a batch each must see the gradient of one process with all of it."""
    a, b = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.rand(4, 3, 8, 8, dtype=torch.float64)
    halves = (LOSSES[name](a[:2], b[:2]) + LOSSES[name](a[2:], b[2:])) / 2
    assert LOSSES[name](a, b) == pytest.approx(float(halves), rel=1e-12)
