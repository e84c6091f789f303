"""A few things on their way from one thread to another."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Channel(Generic[Thing]):
    """At most `most` things wait in it, 0 for any number.

    One thread puts, one iterates, and either learns that the other has ended.
    """

    def __init__(self, most: int) -> None:
        self._queue: queue.Queue[Thing | _End] = queue.Queue(most)
        self._closed = threading.Event()

    def put(self, thing: Thing) -> bool:
        """Wait for room; False once nobody takes any more."""
        return self._put(thing)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come; `error` is raised where things are taken, after those that were put before."""
        self._put(_End(error))

    def close(self) -> None:
        """Nobody takes any more."""
        self._closed.set()

    def __iter__(self) -> Iterator[Thing]:
        while not isinstance(thing := self._queue.get(), _End):
            yield thing
        if thing.error is not None:
            raise thing.error

    def _put(self, thing: "Thing | _End") -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(thing, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class Cancelled(Exception):
    """Ends the taking of things for which the user no longer waits."""


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
