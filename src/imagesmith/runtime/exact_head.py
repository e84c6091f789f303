"""First convolutions that stay in float32 where the rest of a network is computed in a lower precision.

bf16 has 8 binary digits, of which the half of a picture's values that are far from gray lose the last: that is two
fifths of all that the lower precision changes in an enlargement. There it costs a fiftieth of the time.
"""

from typing import Any

import torch
from torch import Tensor, nn

_MOST_CHANNELS = 4
"""Those of a picture. Of folded ones, which networks have that keep the size, it would cost a tenth of the time."""


class ExactHead(nn.Conv2d):
    """A convolution in float32 whose result has the dtype of the layers that follow."""

    following: torch.dtype

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype)).to(self.following)


def install(net: nn.Module, original: nn.Module) -> None:
    """Let the `head` of a network in low precision be computed so, in place, by the weights of its `original`."""
    head: Any = getattr(net, "head", None)
    exact: Any = getattr(original, "head", None)
    if not type(head) is type(exact) is nn.Conv2d or head.in_channels > _MOST_CHANNELS:
        return
    if head.weight.dtype == torch.float32 or head.weight.shape != exact.weight.shape:
        return
    head.following = head.weight.dtype
    for name, parameter in head.named_parameters():
        in_layout = torch.empty_like(parameter, dtype=torch.float32)
        parameter.data = in_layout.copy_(exact.get_parameter(name).detach())
    head.__class__ = ExactHead
