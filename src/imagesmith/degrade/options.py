"""Whether the options of a degradation, as a configuration gives them, can be: told before training, not in it."""

import math
from collections.abc import Callable
from typing import Any

from imagesmith.degrade.combine import Degradation, Parts
from imagesmith.degrade.draw import Names, Range
from imagesmith.errors import ConfigError

_LIMITS: dict[str, tuple[float, float]] = {
    "quality": (1, 100),
    "factor": (0.05, 20),
    "length": (1, 255),
    **dict.fromkeys(("radius", "sigma"), (0, 255)),
    **dict.fromkeys(("share", "kept", "fading", "yellowing", "salt", "scratches"), (0, 1)),
}
"""Least and most of the ranges that have limits besides being positive."""


def check_option(name: str, option: str, kind: Any, value: Any) -> None:
    """ConfigError unless `value` is of the annotated `kind` and within its limits; a plain float is a probability."""
    low, high = _LIMITS.get(option, (0, math.inf))
    limit = f"from {low} to {high}" if high < math.inf else "of 0 and more"
    checks: list[tuple[Any, Callable[[Any], bool], str]] = [
        (bool, lambda value: isinstance(value, bool), "true or false"),
        (float, lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
        (int, lambda value: type(value) is int and value >= 1, "a whole number of 1 and more"),
        (Range, lambda value: _is_range(value, low, high), f"two numbers {limit}, the lower first"),
        (Names, _are_names, "a list of names"),
        (Degradation, _is_degradation, "a degradation with its name and options"),
        (Parts, lambda value: isinstance(value, tuple) and all(map(_is_degradation, value)), "a list of degradations"),
    ]
    for known, holds, wanted in checks:
        if kind == known and not holds(value):
            raise ConfigError(f"expected option '{option}' of degradation '{name}' as {wanted}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(value: Any, low: float, high: float) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return low <= value[0] <= value[1] <= high and math.isfinite(value[1])


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_degradation(value: Any) -> bool:
    return hasattr(value, "context_px")
