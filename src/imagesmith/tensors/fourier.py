"""Fourier transforms of pictures: the sizes for which they are fast."""

from collections.abc import Sequence


def fast_size(size: Sequence[int]) -> list[int]:
    """The smallest lengths from those of `size` on that have no prime factor above 5.

    Others take up to five times as long, primes most of all.
    """
    return [_fast_length(length) for length in size]


def _fast_length(least: int) -> int:
    rest = least
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return least if rest == 1 else _fast_length(least + 1)
