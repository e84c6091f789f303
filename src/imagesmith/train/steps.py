"""The steps: what one batch asks of which network. They know mathematics; the loop knows time, the runtime machines.

A step is a generator function over (nets, batch) that yields (net name, loss, scalars to log) once per turn; the loop
runs the backward pass and the optimiser of that network before it asks for the next turn.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.losses import LOSSES
from imagesmith.losses.adversarial import Objective, wasserstein_penalty, zero_centred_penalty

Nets = dict[str, nn.Module]
Turn = tuple[str, Tensor, dict[str, Tensor]]
Step = Callable[[Nets, tuple[Tensor, ...]], Iterator[Turn]]


def restore_step(nets: Nets, batch: tuple[Tensor, ...], losses: dict[str, float]) -> Iterator[Turn]:
    """One turn of the network 'restorer' on (degraded, target), with the weighted sum of `losses`."""
    degraded, target = batch
    restored = nets["restorer"](degraded)
    terms = {name: LOSSES[name](restored, target) for name in losses}
    total = sum(weight * terms[name] for name, weight in losses.items())
    assert isinstance(total, Tensor), "a step needs at least one loss"
    yield "restorer", total, {f"loss/{name}": term.detach() for name, term in terms.items()}


def classify_step(nets: Nets, batch: tuple[Tensor, ...], label_smoothing: float) -> Iterator[Turn]:
    """One turn of the network 'classifier' on (uint8 images (N, C, H, W), int64 labels (N,)), by cross entropy."""
    pixels, label = batch
    classifier = nets["classifier"]
    logits = classifier(pixels.to(next(classifier.parameters()).dtype) / 255)
    loss = F.cross_entropy(logits, label, label_smoothing=label_smoothing)
    right = (logits.detach().argmax(dim=1) == label).float().mean()
    yield "classifier", loss, {"loss/cross_entropy": loss.detach(), "accuracy/training": right}


_ALL = slice(None)


@dataclass(frozen=True)
class GanTerms:
    """What a step of a GAN weighs, at one moment of its run."""

    objective: Objective
    r1: float = 0.0
    """Weight gamma of R1, which adds gamma / 2 times the mean squared gradient norm on reals."""
    r2: float = 0.0
    """The same on fakes."""
    wasserstein: float = 0.0
    """Weight of the one-centred penalty between reals and fakes."""
    penalty_share: float = 1.0
    """Share of the batch on which the penalties are computed, at least one image."""
    augment: Callable[[Tensor, Tensor], Tensor] | None = None
    """(images, draws) -> what the discriminator sees of them, see `train/gan/augment.py`."""
    fresh_fakes: bool = False
    """Whether the generator's turn computes its fakes anew, which costs a pass and keeps no activations meanwhile."""


def gan_step(nets: Nets, batch: tuple[Tensor, ...], terms: GanTerms) -> Iterator[Turn]:
    """A turn of the discriminator, then one of the generator, on (reals, labels, latents, draws, shares).

    Reals are uint8 (N, C, H, W), labels int64 (N,), latents (N, latent_size), draws (N, 2, ...) the augmentations of
    reals and fakes, shares (N,) the places of the Wasserstein penalty. Both turns use the same latents.
    """
    pixels, label, latent, draws, shares = batch
    generator, discriminator = nets["generator"], nets["discriminator"]
    label = label if has_classes(generator) else None
    real = as_reals(pixels, latent.dtype)

    def judge(images: Tensor, which: int, part: slice = _ALL) -> Tensor:
        """The logits of the images of one part of the batch; `which` is 0 for reals, 1 for fakes."""
        seen = terms.augment(images, draws[part, which]) if terms.augment else images
        return discriminator(seen, None if label is None else label[part])

    def judge_penalised(images: Tensor, which: int, weight: float) -> tuple[Tensor, Tensor | None]:
        """The logits of the whole batch, and the penalty on the first of them."""
        if weight == 0:
            return judge(images, which), None
        count = max(1, round(len(images) * terms.penalty_share))
        first, rest = slice(count), slice(count, None)
        penalised = images[first].requires_grad_()
        logits = judge(penalised, which, first)
        penalty = zero_centred_penalty(logits, penalised)
        return torch.cat([logits, judge(images[rest], which, rest)]) if count < len(images) else logits, penalty

    with torch.set_grad_enabled(not terms.fresh_fakes):
        fake = generator(latent, label)
    real_logits, r1 = judge_penalised(real, 0, terms.r1)
    fake_logits, r2 = judge_penalised(fake.detach(), 1, terms.r2)
    loss = terms.objective.discriminator(real_logits, fake_logits)
    scalars = {
        "loss/discriminator": loss.detach(),
        "logits/real": real_logits.detach().mean(),
        "logits/fake": fake_logits.detach().mean(),
        "logits/sign": (real_logits - fake_logits).detach().sign().mean(),
    }
    for name, weight, penalty in (("r1", terms.r1 / 2, r1), ("r2", terms.r2 / 2, r2)):
        if penalty is not None:
            loss = loss + weight * penalty
            scalars[f"penalty/{name}"] = penalty.detach()
    if terms.wasserstein > 0:
        penalty = wasserstein_penalty(lambda between: judge(between, 1), real, fake, shares)
        loss = loss + terms.wasserstein * penalty
        scalars["penalty/wasserstein"] = penalty.detach()
    yield "discriminator", loss, scalars

    with frozen(discriminator):
        if terms.fresh_fakes:
            fake = generator(latent, label)
        with torch.no_grad():
            real_logits = judge(real, 0) if terms.objective.pairs else real_logits
        loss = terms.objective.generator(real_logits.detach(), judge(fake, 1))
        yield "generator", loss, {"loss/generator": loss.detach()}


def has_classes(net: Any) -> bool:
    """Whether a generator or discriminator takes labels."""
    return net.classes > 0


def latent_size(net: Any) -> int:
    """How many numbers a generator makes one image from."""
    return net.latent_size


def as_reals(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 pixels as a discriminator sees them: in [-1, 1]."""
    return pixels.to(dtype) / 127.5 - 1


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of `net`: what passes through it costs half as much and leaves it alone."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)
