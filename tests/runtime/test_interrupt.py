"""Ctrl-C once asks, twice stops, and afterwards everything is as before."""

import signal
import threading

import pytest

from imagesmith.runtime.interrupt import stop_on_request


def test_once_asks_twice_stops():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_request() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_polite_kill_asks_too():
    with stop_on_request() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()


def test_works_in_a_thread_without_handlers():
    """A restorer inside a web server lives in a thread, where Python forbids handlers."""
    states: list[bool] = []

    def work() -> None:
        with stop_on_request() as stop:
            states.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert states == [False]
