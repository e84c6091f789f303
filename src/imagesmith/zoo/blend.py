"""One slider between a network that keeps to what is there and one that invents detail."""

import copy
import dataclasses
import numbers

import torch

from imagesmith.errors import ModelError, UsageError
from imagesmith.zoo.weights import Model

AT_STRENGTH = " at strength "
"""What stands in the name of a blend, between that of the sharp model and the number."""


def blend(faithful: Model, sharp: Model, strength: float) -> Model:
    """The model whose weights lie `strength` of the way from `faithful` (0) to `sharp` (1): Wang et al. 2018, sec. 3.4.

    The ends are the models themselves, bit for bit. UsageError for a strength outside 0 to 1, ModelError where the two
    are not one and the same network.
    """
    if not isinstance(strength, numbers.Real) or not 0 <= strength <= 1:
        raise UsageError(f"expected a strength from 0 (faithful) to 1 (sharp), got {strength!r}")
    ours, theirs = ((model.card.net, model.card.options) for model in (faithful, sharp))
    if ours != theirs:
        raise ModelError(
            f"expected two models of one network to blend, got '{faithful.card.title}' {_told(faithful)} "
            f"and '{sharp.card.title}' {_told(sharp)}"
        )
    net = copy.deepcopy(sharp.net)
    weights, given = net.state_dict(), faithful.net.state_dict()
    net.load_state_dict({name: torch.lerp(given[name], value, strength) for name, value in weights.items()})
    name = f"{sharp.card.name}{AT_STRENGTH}{strength:g}"
    return Model(net, dataclasses.replace(sharp.card, name=name, protocol={}))


def _told(model: Model) -> str:
    return f"({model.card.net}, {', '.join(f'{key} {value}' for key, value in model.card.options.items())})"
