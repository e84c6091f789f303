"""The guard rejects what would spoil a run and asks for a roll-back when it goes on."""

import math

from imagesmith.runtime import guard as guards
from imagesmith.runtime.guard import MOST_SCALE, Guard, Verdict


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


def test_a_scale_that_is_too_large_for_fp16_is_halved_and_no_reason_to_go_back():
    """The accident: a run in fp16 begins with gradients beyond its range, and ends as diverged."""
    guard = Guard(scale=2.0**16, patience=2)
    for power in range(15, 5, -1):
        assert guard.inspect(0.1, math.inf) == (Verdict.REJECT, "")
        assert guard.limits().scale == 2.0**power
    assert (guard.rejected, guard.streak) == (10, 0)
    assert guard.inspect(0.1, 1.0)[0] is Verdict.ACCEPT


def test_steps_asked_for_with_one_scale_halve_it_once():
    """A GPU is asked for the next step before it is known that the one before was too much."""
    guard = Guard(scale=8.0)
    before = guard.limits()
    for _ in range(3):
        guard.inspect(0.1, math.nan, before)
    assert guard.scale == 4


def test_what_no_scale_mends_is_rejected_as_elsewhere():
    """The accident: weights that have gone astray are taken for a scale, and nothing ever goes back."""
    guard = Guard(scale=1.0)
    verdicts = [guard.inspect(0.1, math.inf)[0] for _ in range(guard.patience)]
    assert verdicts[-1] is Verdict.ROLL_BACK
    assert "not finite" in Guard(scale=2.0**16).inspect(math.nan, math.nan)[1]


def test_a_loss_that_leaps_is_no_matter_of_the_scale():
    """The accident: weights have gone astray, and the scale is halved to nothing, unsaid, before a run goes back."""
    guard = settled()
    guard.scale = 2.0**16
    verdicts = [guard.inspect(1e4, math.inf) for _ in range(guard.patience)]
    assert verdicts[-1][0] is Verdict.ROLL_BACK
    assert all(reason for _, reason in verdicts)
    assert guard.scale == 2.0**16


def test_the_scale_grows_while_the_gradients_fit(monkeypatch):
    monkeypatch.setattr(guards, "GROWS_AFTER", 3)
    guard = Guard(scale=4.0)
    scales = []
    for _ in range(7):
        scales.append(guard.scale)
        guard.inspect(0.1, 1.0)
    assert scales == [4, 4, 4, 8, 8, 8, 16]
    for _ in range(100):
        guard.inspect(0.1, 1.0)
    assert guard.scale == MOST_SCALE
    guard.inspect(0.1, math.inf)
    guard.inspect(0.1, 1.0)
    assert guard.scale == MOST_SCALE / 2, "the count begins anew"
