"""Rows of a picture on their way from where they are computed to where they are written."""

from collections.abc import Callable, Iterator

from torch import Tensor

from imagesmith.infer.channel import Channel
from imagesmith.infer.outcome import Uncertainty

_STRIPS_AHEAD = 1


class Rows(Channel[Tensor]):
    """Strips on their way from where they are computed to where they are written."""

    def __init__(self, *, all_at_once: bool = False) -> None:
        """For two threads a few wait at a time, for one after the other all of them."""
        super().__init__(0 if all_at_once else _STRIPS_AHEAD)
        self.notes: list[str] = []
        self.uncertainty: Uncertainty | None = None


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
