"""What the machine allows: the rate of the network's own convolutions, and how fast memory is read and written."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timing import take_turns
from torch import Tensor, nn
from torch.nn import functional as F

_BANDWIDTH_BYTES = 256 << 20  # far more than any cache


@dataclass(frozen=True)
class Layer:
    """A convolution of a network with an input of the shape, layout and precision that it has there."""

    conv: nn.Conv2d
    x: Tensor
    out: torch.Size

    def __call__(self) -> Tensor:
        conv = self.conv
        return F.conv2d(self.x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @property
    def macs(self) -> int:
        """Multiplications of one call."""
        return self.out.numel() * self.conv.weight[0].numel()

    @property
    def bytes(self) -> int:
        """What has to be read and written at least."""
        return (self.x.numel() + self.conv.weight.numel() + self.out.numel()) * self.x.element_size()


def layers(net: nn.Module, x: Tensor) -> list[Layer]:
    """Every convolution that `net` does for `x`, in its order; those of one shape share their input."""
    found: list[Layer] = []
    inputs: dict[torch.Size, Tensor] = {}

    def remember(conv: nn.Module, arguments: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        kept = inputs.setdefault(arguments[0].shape, arguments[0].clone(memory_format=torch.preserve_format))
        found.append(Layer(conv, kept, out.shape))

    hooks = [layer.register_forward_hook(remember) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.inference_mode():
        net(x)
    for hook in hooks:
        hook.remove()
    return found


def bare_convolutions(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """A call of `F.conv2d` for every convolution that `net` does for `x`, and nothing between."""
    calls = layers(net, x)

    def run() -> None:
        for call in calls:
            call()

    return run


class Limits:
    """The rate of the fastest of a net's layers at the input `x`, and the bytes that memory copies, each in a second.

    `measure` is called in turns with what is to be compared; `facts` are by the medians of its best times.
    `finished` makes a call that ends when its last kernel has.
    """

    def __init__(self, net: nn.Module, x: Tensor, finished: Callable[[Callable[[], Any]], Callable[[], None]]) -> None:
        by_shape = {(layer.x.shape, layer.conv.weight.shape): layer for layer in layers(net, x)}
        source = torch.zeros(_BANDWIDTH_BYTES, dtype=torch.uint8, device=x.device)
        target = torch.ones_like(source)
        self._macs = {str(k): layer.macs for k, layer in enumerate(by_shape.values())}
        self._calls = {str(k): finished(layer) for k, layer in enumerate(by_shape.values())}
        self._calls["copy"] = finished(lambda: target.copy_(source))
        self._seconds: dict[str, list[float]] = {name: [] for name in self._calls}

    @torch.inference_mode()
    def measure(self) -> None:
        """The least of a few times of each."""
        for name, seconds in take_turns(self._calls, rounds=3, warm_up=1).items():
            self._seconds[name].append(min(seconds))

    def facts(self) -> dict[str, float]:
        seconds = {name: statistics.median(found) for name, found in self._seconds.items()}
        return {
            "best_layer_gmacs_per_second": round(max(macs / seconds[k] for k, macs in self._macs.items()) / 1e9, 1),
            "memory_gb_per_second": round(2 * _BANDWIDTH_BYTES / seconds["copy"] / 1e9, 2),
        }
