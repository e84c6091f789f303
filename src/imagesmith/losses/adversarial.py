"""Adversarial objectives and gradient penalties: pure functions of logits and images, for GANs and restorers alike.

An objective is a pair of functions of (real logits, fake logits), each (N,) or a map (N, 1, h, w), giving a scalar to
minimise; penalties are scalars too, unweighted. All are means over the batch, so they do not depend on how it is split.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Objective:
    """What discriminator and generator minimise, as functions of (real_logits, fake_logits)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    pairs: bool = False
    """Whether the generator's part looks at the real logits; a restorer, whose turn comes first, asks for them."""


def _non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def _least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    return (fake - 1).square().mean() / 2


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _minus_fake_generator(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


def _relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(fake - real).mean()


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(real - fake).mean()


OBJECTIVES: dict[str, Objective] = {
    # Goodfellow et al. 2014, sec. 3: binary cross entropy, with the generator's loss that does not saturate
    "non_saturating": Objective(_non_saturating_discriminator, _non_saturating_generator),
    # Mao et al. 2017, eq. 9
    "least_squares": Objective(_least_squares_discriminator, _least_squares_generator),
    # Lim and Ye 2017; Miyato et al. 2018, eq. 16-17
    "hinge": Objective(_hinge_discriminator, _minus_fake_generator),
    # Arjovsky et al. 2017, eq. 2-3; wants `wasserstein_penalty`
    "wasserstein": Objective(_wasserstein_discriminator, _minus_fake_generator),
    # Jolicoeur-Martineau 2018 in the pairing form of Huang et al. 2024 (R3GAN), eq. 2; wants R1 and R2
    "relativistic": Objective(_relativistic_discriminator, _relativistic_generator, pairs=True),
}


def squared_gradient_norms(logits: Tensor, images: Tensor) -> Tensor:
    """(N,) squared norms of each logit's gradient by its image (N, C, H, W), themselves differentiable, in float32.

    Their mean is the zero-centred penalty (Mescheder et al. 2018, eq. 9): R1 on real images, R2 on fake ones. `images`
    must require gradients, and `logits` must have been computed from them.

    A map of logits counts as its sum over the root of their number, whose norm is that of one logit as long as each
    looks at pixels of its own: so gamma means the same for maps of any size.
    """
    sum_of_logits = logits.sum() * (len(logits) / logits.numel()) ** 0.5
    (gradient,) = torch.autograd.grad(sum_of_logits, images, create_graph=True)
    return gradient.to(logits.dtype).square().flatten(1).sum(1)


def wasserstein_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean of (gradient norm - 1)**2 between real and fake (Gulrajani et al. 2017, eq. 3).

    `share` (N,) in [0, 1] says where between fake (0) and real (1) each pair is looked at.
    """
    between = torch.lerp(fake.detach(), real.detach(), share.view(-1, 1, 1, 1)).requires_grad_()
    squares = squared_gradient_norms(discriminator(between), between)
    # the square root has no gradient at zero, where a discriminator that is constant would make it NaN
    return ((squares + 1e-12).sqrt() - 1).square().mean()
