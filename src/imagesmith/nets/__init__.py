"""The networks: pure `nn.Module`s, one file per family, named in one table.

Every net has `scale`, `halo` (receptive radius in input pixels), `channels`, `multiple_of`, and `fused()`: its
inference form.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from imagesmith.errors import ConfigError, not_one_of
from imagesmith.nets.compact import Compact

NETS: dict[str, type[nn.Module]] = {
    "compact": Compact,
}


@dataclass(frozen=True)
class NetSpec:
    """A network by name and constructor options, as configurations and weight files carry it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def build_net(spec: NetSpec) -> nn.Module:
    """The freshly initialised network of `spec`; ConfigError with the nearest match for an unknown name or option."""
    if spec.name not in NETS:
        raise ConfigError(not_one_of("a network", spec.name, NETS))
    net_class = NETS[spec.name]
    known = [name for name in inspect.signature(net_class).parameters if name != "self"]
    for option in spec.options:
        if option not in known:
            raise ConfigError(not_one_of(f"an option of network '{spec.name}'", option, known))
    return net_class(**spec.options)
