"""The moving average of the weights that is validated and shipped."""

import torch
from torch import Tensor, nn


def ema_share(images_seen: int, batch: int, half_life_images: int) -> float:
    """How far a step moves the average so that a weight's influence halves every `half_life_images`.

    Until the run has seen ten half-lives, the half-life is a tenth of the images seen, so that the random start is
    forgotten (the ramp-up of StyleGAN2, Karras et al. 2020, ours in the constant).
    """
    half_life = min(half_life_images, max(images_seen, batch) / 10)
    return 1 - 0.5 ** (batch / half_life)


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, share: float, refused: Tensor) -> None:
    """Move `average` towards `net` by `share`, unless the step was `refused`: one truth, on a GPU not waited for."""
    kept, current = list(average.parameters()), list(net.parameters())
    buffers = list(zip(average.buffers(), net.buffers(), strict=True))
    if not refused.is_cpu:
        way = torch._foreach_sub(current, kept)  # type: ignore[attr-defined]
        torch._foreach_mul_(way, refused.logical_not() * share)  # type: ignore[attr-defined]
        torch._foreach_add_(kept, way)  # type: ignore[attr-defined]
        for old, new in buffers:
            old.copy_(torch.where(refused, old, new))
    elif not refused:
        torch._foreach_lerp_(kept, current, share)  # type: ignore[attr-defined]
        for old, new in buffers:
            old.copy_(new)
