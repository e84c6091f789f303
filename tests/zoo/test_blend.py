"""The slider between a faithful and a sharp model."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from imagesmith.errors import ModelError, UsageError
from imagesmith.nets import NETS
from imagesmith.zoo import Model
from imagesmith.zoo.blend import blend


@pytest.fixture
def sharp(model: Model) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        net = NETS["toy"](**model.card.options)
    return Model(net, dataclasses.replace(model.card, name="sharp", faithful="tiny-x2"))


def test_the_ends_are_the_models_bit_for_bit(model: Model, sharp: Model):
    """The accident: a slider at 0 that is not the faithful model, so that its published numbers do not hold."""
    for strength, end in ((0, model), (1, sharp)):
        weights = blend(model, sharp, strength).net.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in end.net.state_dict().items())


def test_between_them_weights_lie_on_the_line_and_both_models_stay_as_they_are(model: Model, sharp: Model):
    before = [{name: value.clone() for name, value in each.net.state_dict().items()} for each in (model, sharp)]
    mixed = blend(model, sharp, 0.25)
    for name, value in mixed.net.state_dict().items():
        assert torch.allclose(value, 0.75 * before[0][name] + 0.25 * before[1][name])
    for each, values in zip((model, sharp), before, strict=True):
        assert all(torch.equal(each.net.state_dict()[name], value) for name, value in values.items())
    assert mixed.card.name == "sharp at strength 0.25"
    assert mixed.card.protocol == {}, "nobody has measured this one"
    assert mixed.card.faithful == "tiny-x2"


@pytest.mark.parametrize("strength", [-0.1, 1.01, math.nan, math.inf, "0.5"])
def test_a_strength_outside_0_to_1_is_refused(model: Model, sharp: Model, strength: Any):
    """The accident: beyond its ends the line leads to weights that nobody trained, and to noise."""
    with pytest.raises(UsageError, match="strength from 0"):
        blend(model, sharp, strength)


def test_different_networks_are_refused(model: Model):
    net = NETS["toy"](width=6)
    other = Model(net, dataclasses.replace(model.card, name="wide", options={"scale": 2, "width": 6, "blocks": 1}))
    with pytest.raises(ModelError, match=r"of one network to blend, got 'tiny-x2' .*width 4.* and 'wide' .*width 6"):
        blend(model, other, 0.5)
