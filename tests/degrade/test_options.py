"""Options that cannot be are refused where they are written down."""

import dataclasses
import typing

import pytest

from imagesmith.degrade import DEGRADATIONS, build_degradation
from imagesmith.degrade.combine import Degradation, Parts
from imagesmith.degrade.draw import Names, Range
from imagesmith.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("gaussian_noise", "sigma", 25),
        ("gaussian_noise", "sigma", [25]),
        ("gaussian_noise", "sigma", [25, 5]),
        ("gaussian_noise", "sigma", [-5, 5]),
        ("gaussian_noise", "sigma", ["5", "6"]),
        ("gaussian_noise", "sigma", [0, float("inf")]),
        ("gaussian_noise", "sigma", [0, float("nan")]),
        ("gaussian_noise", "rounded", -0.1),
        ("gaussian_noise", "rounded", "often"),
        ("jpeg", "quality", [0, 50]),
        ("jpeg", "quality", [50, 101]),
        ("jpeg", "table_plane", 1),
        ("holes", "share", [0.5, 1.5]),
        ("holes", "kinds", []),
        ("holes", "kinds", "boxes"),
        ("resize", "filters", 3),
        ("bicubic", "scale", 0),
        ("bicubic", "scale", 2.5),
        ("bicubic", "scale", True),
        ("sometimes", "part", None),
    ],
)
def test_values_that_cannot_be_are_config_errors(name, option, value):
    """A traceback of a worker process, or worse: a training on other damage than the recipe seems to say."""
    with pytest.raises(ConfigError, match=option if option != "kinds" else "kind"):
        build_degradation(name, {option: value})


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_option_is_of_a_kind_that_is_checked(name):
    """A new option of another kind would pass unchecked; its default must pass."""
    kinds = typing.get_type_hints(DEGRADATIONS[name])
    for field in dataclasses.fields(DEGRADATIONS[name]):
        assert kinds[field.name] in (bool, float, int, Range, Degradation, Parts, Names)
        if field.default not in (dataclasses.MISSING, ()):
            needed = {"scale": 2} if name == "bicubic" else {"part": {"name": "jpeg"}} if name == "sometimes" else {}
            build_degradation(name, needed | {field.name: field.default})
