"""Rows of a picture on their way from the thread that computes them to the one that writes them."""

import queue
import threading
from collections.abc import Iterator

from torch import Tensor

from imagesmith.infer.outcome import Uncertainty

_STRIPS_AHEAD = 2


class Cancelled(Exception):
    """Ends the writing of a picture that the user no longer waits for."""


class Rows:
    """Strips on their way from computing to writing, a few at a time."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.uncertainty: Uncertainty | None = None
        self._queue: queue.Queue[Tensor | Exception | None] = queue.Queue(_STRIPS_AHEAD)
        self._closed = threading.Event()

    def put(self, strip: Tensor | Exception | None) -> bool:
        """Wait for room; False once nobody reads any more."""
        while not self._closed.is_set():
            try:
                self._queue.put(strip, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def end(self, error: Exception | None) -> None:
        """No more strips: the picture is complete, or `error` is raised where it is being written."""
        self.put(error)

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed.set()

    def __iter__(self) -> Iterator[Tensor]:
        while (strip := self._queue.get()) is not None:
            if isinstance(strip, Exception):
                raise strip
            yield strip
