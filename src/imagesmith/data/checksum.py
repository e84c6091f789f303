"""One changed byte, found and mended by the CRC-32 that was written for the right ones."""

import zlib

_POLYNOMIAL = 0xEDB88320  # of CRC-32 (ISO 3309, as PNG has it), bits reversed
_MOST_BYTES = 4 << 20  # the search takes seconds for that


def mended(data: bytes, checksum: int) -> bytes | None:
    """`data` with the one byte changed that makes its CRC-32 `checksum`; None if no single change does.

    For a megabyte of other damage the chance of a wrong answer is 6 %: check the result by what it should be.
    """
    if len(data) > _MOST_BYTES:
        return None
    # The CRC of a difference is linear: shift what is wrong with the checksum back, byte by byte from the end, until it
    # is what a difference in that byte alone makes.
    wrong = zlib.crc32(data) ^ checksum
    for at in range(len(data) - 1, -1, -1):
        if wrong in _DIFFERENCE:
            return data[:at] + bytes((data[at] ^ _DIFFERENCE[wrong],)) + data[at + 1 :]
        wrong = (wrong ^ _TABLE[_BY_TOP[wrong >> 24]]) << 8 & 0xFFFFFFFF | _BY_TOP[wrong >> 24]
    return None


def _shifted(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_shifted(byte) for byte in range(256)]
_DIFFERENCE = {value: byte for byte, value in enumerate(_TABLE) if byte}
_BY_TOP = {value >> 24: byte for byte, value in enumerate(_TABLE)}  # the top bytes are all different
