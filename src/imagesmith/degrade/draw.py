"""What degradations draw from their generator."""

import torch

Range = tuple[float, float] | list[float]
"""Lowest and highest value of a uniform draw; a list when it comes from JSON."""
Names = tuple[str, ...] | list[str]
"""Names out of a table, one of which is drawn."""


def uniform(between: Range, rng: torch.Generator) -> float:
    """One number, uniform in the range."""
    low, high = between
    return low + (high - low) * float(torch.rand((), generator=rng, dtype=torch.float64))


def chance(probability: float, rng: torch.Generator) -> bool:
    """True as often as `probability` says."""
    return float(torch.rand((), generator=rng, dtype=torch.float64)) < probability
