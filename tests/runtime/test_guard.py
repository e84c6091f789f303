"""The guard rejects what would spoil a run and asks for a roll-back when it goes on."""

import math

from imagesmith.runtime.guard import Guard, Verdict


def settled() -> Guard:
    guard = Guard(settle=20)
    for _ in range(30):
        assert guard.inspect(0.1, 1.0)[0] is Verdict.ACCEPT
    return guard


def test_not_finite_is_rejected_from_the_first_step():
    for loss, norm in ((math.nan, 1.0), (0.1, math.inf)):
        verdict, reason = Guard().inspect(loss, norm)
        assert verdict is Verdict.REJECT
        assert "not finite" in reason


def test_spike_is_rejected_but_slow_growth_is_not():
    guard = settled()
    assert guard.inspect(0.1, 1000.0)[0] is Verdict.REJECT
    norm = 1.0
    for _ in range(500):
        norm *= 1.01
        assert guard.inspect(0.1, norm)[0] is Verdict.ACCEPT


def test_loss_that_explodes_with_an_ordinary_gradient_is_rejected():
    """The gradient of an L1 loss is as long at an error of 1000 as at one of 0.1."""
    guard = settled()
    verdict, reason = guard.inspect(1000.0, 1.0)
    assert verdict is Verdict.REJECT
    assert "usual 0.1" in reason


def test_a_row_of_rejections_asks_for_a_roll_back_and_one_good_step_forgets():
    guard = settled()
    for _ in range(guard.patience - 1):
        assert guard.inspect(math.nan, 1.0)[0] is Verdict.REJECT
    guard.inspect(0.1, 1.0)
    for _ in range(guard.patience - 1):
        guard.inspect(math.nan, 1.0)
    assert guard.inspect(math.nan, 1.0)[0] is Verdict.ROLL_BACK


def test_an_infinite_spike_rejects_only_what_is_not_finite():
    """A discriminator that won so far that its loss was 1e-13 could never leave: each step back was a leap."""
    guard = Guard(spike=math.inf, settle=5)
    for _ in range(10):
        guard.inspect(0.0, 0.0)
    for loss, norm in ((10.0, 100.0), (0.0, 1e-12), (1e20, 1e30)):
        assert guard.inspect(loss, norm)[0] is Verdict.ACCEPT
    assert guard.inspect(math.inf, 1.0)[0] is Verdict.REJECT
