"""Ctrl-C without losing anything: once asks to stop at the next safe moment, twice stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_request() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the handlers before are back after it, or after the block.

    Outside the main thread, where Python allows no handlers, the event is simply never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        asked.set()
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
