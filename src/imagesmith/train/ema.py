"""The moving average of the weights that is validated and shipped."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, images_seen: int, batch: int, half_life_images: int) -> None:
    """Move `average` towards `net` so that a weight's influence halves every `half_life_images`.

    Until the run has seen ten half-lives, the half-life is a tenth of the images seen, so that the random start is
    forgotten (the ramp-up of StyleGAN2, Karras et al. 2020, ours in the constant).
    """
    half_life = min(half_life_images, max(images_seen, batch) / 10)
    share = 1 - 0.5 ** (batch / half_life)
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), share)  # type: ignore[attr-defined]
    for kept, current in zip(average.buffers(), net.buffers(), strict=True):
        kept.copy_(current)
