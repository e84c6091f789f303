"""Mending one changed byte by its checksum."""

import random
import zlib

import pytest

from imagesmith.data.checksum import mended

DATA = random.Random(1).randbytes(3000)


@pytest.mark.parametrize("at", [0, 1, 1500, 2998, 2999])
@pytest.mark.parametrize("change", [1, 0x80, 0xFF])
def test_one_changed_byte_is_found(at: int, change: int) -> None:
    """An off-by-one at either end would mend the wrong byte."""
    broken = bytearray(DATA)
    broken[at] ^= change
    assert mended(bytes(broken), zlib.crc32(DATA)) == DATA


def test_more_damage_is_not_mended() -> None:
    """The accident: a guess that passes for the truth."""
    broken = bytearray(DATA)
    broken[100:104] = bytes(4)
    assert mended(bytes(broken), zlib.crc32(DATA)) is None
