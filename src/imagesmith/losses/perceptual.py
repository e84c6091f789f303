"""Perceptual loss: how different two pictures are to a network that was trained to see."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class FeatureNet(Protocol):
    """A frozen network that describes pictures at several resolutions."""

    heads: Sequence[Tensor] | None
    """What each feature of each stage counts, (F,) a stage; None where all count the same."""

    def stages(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features (N, F, h, w) of each stage."""
        ...


def perceptual(net: FeatureNet, restored: Tensor, target: Tensor) -> Tensor:
    """Mean over stages and places of the squared distance between unit features: LPIPS (Zhang et al. 2018, eq. 1).

    In [0, 2] for features that are never negative, whatever the network; gradients reach `restored` only.
    """
    with torch.no_grad():
        wanted = net.stages(target)
    stages = list(zip(net.stages(restored), wanted, strict=True))
    heads: Sequence[Tensor | None] = net.heads or [None] * len(stages)
    distances = [_distance(a, b, head) for (a, b), head in zip(stages, heads, strict=True)]
    return torch.stack(distances).mean()


def _distance(a: Tensor, b: Tensor, head: Tensor | None) -> Tensor:
    squares = (_unit(a) - _unit(b)).square()
    return (squares if head is None else squares * head[:, None, None]).sum(dim=1).mean()


def _unit(features: Tensor) -> Tensor:
    """Each place's features at length 1, in at least float32."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # where nothing is seen the length is 0, and its root has no gradient there
    return features * (features.square().sum(dim=1, keepdim=True) + 1e-10).rsqrt()
