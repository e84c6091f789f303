"""What degradations draw."""

import pytest

from imagesmith.degrade.draw import chance, uniform
from imagesmith.tensors import generator_for


def test_draws_fill_their_range():
    """A draw that leaves out one end trains on half of the damages."""
    rng = generator_for(0)
    draws = [uniform([2, 6], rng) for _ in range(400)]
    assert 2 <= min(draws) < 2.1
    assert 5.9 < max(draws) <= 6
    assert uniform((3, 3), rng) == 3


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_chance_is_as_often_as_it_says(probability):
    rng = generator_for(1)
    assert sum(chance(probability, rng) for _ in range(1000)) / 1000 == pytest.approx(probability, abs=0.04)
