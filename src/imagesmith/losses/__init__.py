"""The losses: pure functions of (prediction, target), named in one table. Gradients reach the prediction only."""

from collections.abc import Callable

from torch import Tensor

from imagesmith.losses.pixel import charbonnier, l1, l2

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
}
