"""What passes from thread to thread, and how either end learns of the other's."""

import threading

import pytest

from imagesmith.infer.channel import Channel


def test_things_arrive_in_order_and_an_error_after_them() -> None:
    """The accident: the frames before a damaged one are lost with it."""
    channel = Channel[int](3)
    for number in (1, 2):
        assert channel.put(number)
    channel.end(ValueError("damaged"))
    arrived = []
    with pytest.raises(ValueError, match="damaged"):
        for number in channel:
            arrived.append(number)
    assert arrived == [1, 2]


def test_only_so_many_wait() -> None:
    """The accident: a fast decoder fills the memory before a slow network has seen its second frame."""
    channel, put = Channel[int](2), list[int]()

    def produce() -> None:
        for number in range(10):
            if not channel.put(number):
                return
            put.append(number)

    producer = threading.Thread(target=produce)
    producer.start()
    producer.join(0.3)
    assert put == [0, 1]
    channel.close()
    producer.join(5)
    assert not producer.is_alive(), "whoever puts waits for ever for someone who has gone"
    assert put == [0, 1]
