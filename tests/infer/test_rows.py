"""The queue between computing and writing: in order, bounded, and never a thread that waits for ever."""

import threading

import pytest
import torch

from imagesmith.infer.channel import Cancelled
from imagesmith.infer.rows import Rows


def test_strips_arrive_in_order_and_end() -> None:
    """A strip lost or swapped is a torn picture with exit code 0."""
    rows = Rows()
    strips = [torch.full((1,), value) for value in range(9)]

    def compute() -> None:
        for strip in strips:
            assert rows.put(strip)
        rows.end(None)

    thread = threading.Thread(target=compute)
    thread.start()
    assert torch.cat(list(rows)).tolist() == list(range(9))
    thread.join(5)
    assert not thread.is_alive()


def test_an_error_of_one_side_reaches_the_other() -> None:
    """Computing that fails must not leave half a picture as a whole one, nor writing that fails a computer waiting."""
    rows = Rows()
    thread = threading.Thread(target=lambda: (rows.put(torch.zeros(1)), rows.end(Cancelled())))
    thread.start()
    with pytest.raises(Cancelled):
        list(rows)
    thread.join(5)
    assert not thread.is_alive()
    rows = Rows()
    rows.close()
    assert not rows.put(torch.zeros(1))
