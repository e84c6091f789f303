"""Measuring in a moment: every way has its turn, hopeless ones only one, and nothing is left behind."""

import pytest
import torch

from imagesmith.runtime import turns
from imagesmith.runtime.turns import least_seconds

CPU = torch.device("cpu")


def test_the_least_of_all_rounds_counts_and_a_hopeless_way_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated arithmetic is fifty times slower: six rounds of it make a start-up of seconds."""
    times = {"good": iter((3.0, 1.0, 2.0)), "hopeless": iter((50.0,))}
    monkeypatch.setattr(turns, "_seconds", lambda run, device: next(times[run()]))
    ways = {name: (lambda name=name: name) for name in times}
    assert least_seconds(ways, CPU, rounds=3, enough=60) == {"good": 1.0, "hopeless": 50.0}


def test_it_ends_when_it_is_enough() -> None:
    """On a slow machine the probe itself would become the longest part of a short command; one round is due to each."""
    calls = []
    least_seconds({k: (lambda k=k: calls.append(k)) for k in range(3)}, CPU, rounds=1000, enough=0)
    assert calls == [0, 1, 2]


def test_threads_and_gradients_are_as_before_even_after_an_error() -> None:
    """One thread left behind halves the speed of all that follows."""
    threads = torch.get_num_threads()

    def fail() -> None:
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        least_seconds({"": fail}, CPU, rounds=1, enough=1)
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()
