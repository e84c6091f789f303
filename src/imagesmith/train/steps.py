"""The steps: what one batch asks of which network. They know mathematics; the loop knows time, the runtime machines.

A step is a generator function over (nets, batch) that yields (net name, loss, scalars to log) once per turn; the loop
runs the backward pass and the optimiser of that network before it asks for the next turn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.losses import LOSSES
from imagesmith.losses.adversarial import Objective, squared_gradient_norms, wasserstein_penalty
from imagesmith.losses.perceptual import FeatureNet, perceptual
from imagesmith.runtime.device import differentiates_twice_in_bf16
from imagesmith.tensors.warping import stays_inside

Nets = dict[str, nn.Module]
Turn = tuple[str, Tensor, dict[str, Tensor]]
Step = Callable[[Nets, tuple[Tensor, ...]], Iterator[Turn]]
Weight = float | Tensor
"""Of a term of a loss; a tensor where it changes from step to step, see `Dials` in `train/turns.py`."""

FLOW_POWER = 0.5
"""See `flow_error`."""


def restore_step(nets: Nets, batch: tuple[Tensor, ...], losses: dict[str, float]) -> Iterator[Turn]:
    """One turn of the network 'restorer' on (degraded, target), with the weighted sum of `losses`."""
    degraded, target = batch
    total, scalars = _pixel_losses(nets["restorer"](degraded), target, losses)
    yield "restorer", total, scalars


def _pixel_losses(restored: Tensor, target: Tensor, losses: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of `losses`, and each of them to log."""
    terms = {name: LOSSES[name](restored, target) for name in losses}
    total = sum(weight * terms[name] for name, weight in losses.items())
    assert isinstance(total, Tensor), "a step needs at least one loss"
    return total, {f"loss/{name}": term.detach() for name, term in terms.items()}


@dataclass(frozen=True)
class SharpTerms:
    """What a restorer that is trained against a discriminator weighs besides its pixel losses."""

    objective: Objective
    weight: float
    """Weight of the objective in the restorer's turn."""
    r1: float = 0.0
    """Weight gamma of R1, which adds gamma / 2 times the mean squared gradient norm on targets."""
    r2: float = 0.0
    """The same on restored images."""
    penalty_share: float = 1.0
    """Share of the batch on which the penalties are computed, at least one image."""
    perceptual: float = 0.0
    """Weight of the perceptual loss, which looks through `features`."""
    perceptual_share: float = 1.0
    """Share of the batch on which it is computed, at least one image."""
    features: FeatureNet | None = None


def restore_gan_step(
    nets: Nets, batch: tuple[Tensor, ...], losses: dict[str, float], terms: SharpTerms
) -> Iterator[Turn]:
    """A turn of the restorer, then one of the discriminator, on (degraded, target).

    The restorer comes first, so that its activations are gone before those of the penalties are needed.
    """
    degraded, target = batch
    restored = nets["restorer"](degraded)
    loss, scalars = _pixel_losses(restored, target, losses)
    yield from _against(
        nets["discriminator"], restored=restored, target=target, terms=terms, loss=loss, scalars=scalars
    )


def _against(
    discriminator: nn.Module,
    *,
    restored: Tensor,
    target: Tensor,
    loss: Tensor,
    scalars: dict[str, Tensor],
    terms: SharpTerms,
) -> Iterator[Turn]:
    """The restorer's turn, with `loss` and what the discriminator thinks of its pictures, and the discriminator's."""
    if terms.features is not None and terms.perceptual > 0:
        some = _first(len(target), terms.perceptual_share)
        distance = perceptual(terms.features, restored[some], target[some])
        loss = loss + terms.perceptual * distance
        scalars["loss/perceptual"] = distance.detach()
    with frozen(discriminator):
        with torch.no_grad():
            real_logits = discriminator(target) if terms.objective.pairs else target.new_zeros(())
        adversarial = terms.objective.generator(real_logits, discriminator(restored))
        scalars["loss/adversarial"] = adversarial.detach()
        yield "restorer", loss + terms.weight * adversarial, scalars

    def judge(part: slice, images: Tensor) -> Tensor:
        return discriminator(images)

    ((real_logits, r1),) = _judge_penalised(judge, target[:, None], terms.r1, terms.penalty_share)
    ((fake_logits, r2),) = _judge_penalised(judge, restored.detach()[:, None], terms.r2, terms.penalty_share)
    loss = terms.objective.discriminator(real_logits, fake_logits)
    scalars = _discriminator_scalars(loss, real_logits, fake_logits)
    yield "discriminator", _add_penalties(loss, scalars, {"r1": (terms.r1, r1), "r2": (terms.r2, r2)}), scalars


@dataclass(frozen=True)
class ClipTerms:
    """What a step on clips weighs."""

    losses: dict[str, float]
    """Of frames."""
    change: float = 0.0
    """Weight of the mean error of the change from frame to frame."""
    flow: float = 0.0
    """Weight of the mean error of the flow, where it is known."""
    sharp: SharpTerms | None = None
    """Against a discriminator of frames."""


def clip_step(nets: Nets, batch: tuple[Tensor, ...], terms: ClipTerms) -> Iterator[Turn]:
    """A turn of the restorer of films, and one of the discriminator if there is one, on a batch of clips.

    Degraded (N, T, 3, h, w), target (N, T, 3, H, W), flow (N, T - 1, 2, ., .), see `imagesmith.data.clips`, and known
    (N,), how often an error of each clip's flow counts, see `flow_error`.
    """
    degraded, target, flow, known = batch
    net: Any = nets["restorer"]
    restored = net.clip(degraded)
    loss, scalars = _pixel_losses(restored, target, terms.losses)
    if terms.change > 0:
        change = (restored.diff(dim=1) - target.diff(dim=1)).abs().mean()
        loss = loss + terms.change * change
        scalars["loss/change"] = change.detach()
    if terms.flow > 0:
        small = net.small(degraded.flatten(0, 1)).unflatten(0, degraded.shape[:2])
        error = flow_error(net.flow, small, flow, known, FLOW_POWER)
        loss = loss + terms.flow * error
        scalars["loss/flow"] = error.detach()
    if terms.sharp is None:
        yield "restorer", loss, scalars
    else:
        yield from _against(
            nets["discriminator"],
            restored=restored.flatten(0, 1),
            target=target.flatten(0, 1),
            terms=terms.sharp,
            loss=loss,
            scalars=scalars,
        )


def flow_step(nets: Nets, batch: tuple[Tensor, ...]) -> Iterator[Turn]:
    """One turn of a flow network by itself, on the frames of `clip_step`'s batch."""
    degraded, _, flow, known = batch
    error = flow_error(nets["flow"], degraded, flow, known, FLOW_POWER)
    yield "flow", error, {"loss/flow": error.detach()}


def flow_error(net: nn.Module, frames: Tensor, flow: Tensor, known: Tensor, power: float = 1.0) -> Tensor:
    """Mean length of the error of the flow between neighbouring frames, in pixels, counted `known` (N,) times.

    `known` is 0 for clips whose flow is not known, for the others 1 / `known_share` of the whole batch: the mean over
    the parts of a batch is then that over all places of the whole one that count.
    A `power` below 1 asks for fractions of pixels where the flow is nearly right, rather than for lost motions.
    """
    now, before = frames[:, 1:].flatten(0, 1), frames[:, :-1].flatten(0, 1)
    wanted = flow.flatten(0, 1).float()
    error = (net(now, before).float() - wanted).square().sum(dim=1).add(1e-4).sqrt().pow(power)
    return (error * _counts(wanted, known.float())).mean()


def known_share(flow: Tensor, known: Tensor) -> Tensor:
    """The share of places of a batch whose flow (N, T - 1, 2, h, w) is `known` (N,), 1 or 0, and could be seen."""
    return _counts(flow.flatten(0, 1), known).mean()


def _counts(flow: Tensor, known: Tensor) -> Tensor:
    """How often each place of a flow (N * (T - 1), 2, h, w) counts, by how often its clip (N,) does.

    A place that was out of the frame before has a flow too, but none that could be seen: it does not count.
    """
    return stays_inside(flow)[:, 0] * known.repeat_interleave(len(flow) // len(known))[:, None, None]


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
    r1: Weight = 0.0
    """Weight gamma of R1, which adds gamma / 2 times the mean squared gradient norm on reals."""
    r2: Weight = 0.0
    """The same on fakes."""
    wasserstein: Weight = 0.0
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

    def judge(which: int | slice, part: slice, images: Tensor) -> Tensor:
        """The logits of images of one part of the batch: reals (`which` 0), fakes (1), or each real and its fake."""
        drawn = draws[part, which].reshape(len(images), *draws.shape[2:])
        seen = terms.augment(images, drawn) if terms.augment else images
        labels = None if label is None else label[part].repeat_interleave(len(images) // len(real[part]))
        return discriminator(seen, labels)

    with torch.set_grad_enabled(not terms.fresh_fakes):
        fake = generator(latent, label)
    both, weights = (real, fake.detach()), (terms.r1, terms.r2)
    if is_off(terms.r1) == is_off(terms.r2) and not mixes_batch(discriminator):
        judged = _judge_penalised(partial(judge, _ALL), torch.stack(both, dim=1), terms.r1, terms.penalty_share)
    else:
        judged = [
            _judge_penalised(partial(judge, which), both[which][:, None], weights[which], terms.penalty_share)[0]
            for which in (0, 1)
        ]
    (real_logits, r1), (fake_logits, r2) = judged
    loss = terms.objective.discriminator(real_logits, fake_logits)
    scalars = _discriminator_scalars(loss, real_logits, fake_logits)
    loss = _add_penalties(loss, scalars, {"r1": (terms.r1, r1), "r2": (terms.r2, r2)})
    if not is_off(terms.wasserstein):
        some = _first(len(real), terms.penalty_share)
        with _twice_differentiable():
            penalty = wasserstein_penalty(partial(judge, 1, some), real[some], fake[some], shares[some])
        loss = loss + terms.wasserstein * penalty
        scalars["penalty/wasserstein"] = penalty.detach()
    yield "discriminator", loss, scalars

    with frozen(discriminator):
        if terms.fresh_fakes:
            fake = generator(latent, label)
        # what the discriminator said of the reals before its update: to ask again costs a pass and changes little
        loss = terms.objective.generator(real_logits.detach(), judge(1, _ALL, fake))
        yield "generator", loss, {"loss/generator": loss.detach()}


def _judge_penalised(
    judge: Callable[[slice, Tensor], Tensor], images: Tensor, weight: Weight, share: float
) -> list[tuple[Tensor, Tensor | None]]:
    """For each kind of images (N, kinds, C, H, W) the logits, and the penalty on the first `share` of them.

    `judge(part of N, its images (n * kinds, C, H, W))` sees all kinds in one pass.
    """
    count, kinds = images.shape[:2]
    first = slice(0) if is_off(weight) else _first(count, share)
    rest = slice(first.stop, None)
    logits: list[Tensor] = []
    penalties: Sequence[Tensor | None] = [None] * kinds
    if first.stop:
        penalised = images[first].flatten(0, 1).requires_grad_()
        with _twice_differentiable():
            logits.append(judge(first, penalised))
            penalties = squared_gradient_norms(logits[0], penalised).view(-1, kinds).mean(dim=0).unbind()
    if first.stop < count:
        logits.append(judge(rest, images[rest].flatten(0, 1)))
    return list(zip(torch.cat(logits).unflatten(0, (count, kinds)).unbind(dim=1), penalties, strict=True))


def _twice_differentiable() -> AbstractContextManager[object]:
    """Arithmetic whose slopes can be differentiated: float32 in place of what gets them wrong.

    That is bf16 on some CPUs, and fp16: no scale keeps the slopes by a picture's values from vanishing in it.
    """
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
            return torch.autocast(device, enabled=False)
    return torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and differentiates_twice_in_bf16())


def mixes_batch(net: nn.Module) -> bool:
    """Whether what a network in training says of an image depends on the others of its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def is_off(weight: Weight) -> bool:
    """Whether it is the number 0; a tensor is not looked into, which would wait for the device."""
    return not isinstance(weight, Tensor) and weight == 0


def _first(count: int, share: float) -> slice:
    """The first `share` of `count` images, at least one."""
    return slice(max(1, round(count * share)))


def _discriminator_scalars(loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    return {
        "loss/discriminator": loss.detach(),
        "logits/real": real_logits.detach().mean(),
        "logits/fake": fake_logits.detach().mean(),
        "logits/sign": (real_logits - fake_logits).detach().sign().mean(),
    }


def _add_penalties(
    loss: Tensor, scalars: dict[str, Tensor], penalties: dict[str, tuple[Weight, Tensor | None]]
) -> Tensor:
    """`loss` and half of gamma times each (gamma, penalty) that there is, which are logged as well."""
    for name, (gamma, penalty) in penalties.items():
        if penalty is not None:
            loss = loss + gamma / 2 * penalty
            scalars[f"penalty/{name}"] = penalty.detach()
    return loss


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
