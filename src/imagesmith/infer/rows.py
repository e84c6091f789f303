"""Rows of a picture on their way from where they are computed to where they are written."""

import queue
import threading
from collections.abc import Callable, Iterator

from torch import Tensor

from imagesmith.infer.outcome import Uncertainty

_STRIPS_AHEAD = 2


class Cancelled(Exception):
    """Ends the writing of a picture that the user no longer waits for."""


class Rows:
    """Strips on their way from the thread that computes to the one that writes, a few at a time."""

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


class Drawn:
    """Strips that the thread which writes computes as well, each when it is its turn."""

    def __init__(self, compute: "Callable[[Drawn], Iterator[Tensor]]") -> None:
        """`compute` gives the strips, and leaves in these rows what else there is to say."""
        self.notes: list[str] = []
        self.uncertainty: Uncertainty | None = None
        self._compute = compute

    def close(self) -> None:
        """Nothing waits."""

    def __iter__(self) -> Iterator[Tensor]:
        return self._compute(self)
