"""A toy with known modes: the objective that is the default covers them, the classic one collapses and is named.

Ring-8: Gaussians on a circle of radius 2, standard deviation 0.05. Of 2,500 samples of the
averaged generator those within three standard deviations of a mode count as good, and a mode is covered if 1 % of all
samples are good ones of its own. Five runs train side by side, as one batched network each for generator and
discriminator, so they share nothing but the clock.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.losses.adversarial import OBJECTIVES, zero_centred_penalty
from imagesmith.tensors import generator_for
from imagesmith.train.gan.health import Health, SetSigns, State, compare_sets

RUNS = 5
BATCH = 128
SPREAD = 0.05
LATENT = 8
LOOK_EVERY = 25
ANGLES = torch.arange(8) * (2 * math.pi / 8)
MODES = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
WIDTH = 64


class Perceptrons(nn.Module):
    """As many multilayer perceptrons as there are runs: (RUNS * N, in) -> (RUNS * N, out)."""

    def __init__(self, *sizes: int, rng: torch.Generator) -> None:
        super().__init__()
        first, last = sizes
        shapes = [(first, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, last)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in shapes:  # He et al. 2015; biases as in PyTorch's linear layer
            self.weights.append(torch.randn(RUNS, fan_in, fan_out, generator=rng) * (2 / fan_in) ** 0.5)
            self.biases.append((2 * torch.rand(RUNS, 1, fan_out, generator=rng) - 1) / fan_in**0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(0, (RUNS, -1))
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(bias, F.leaky_relu(y, 0.2) if k else y, weight)
        return y.flatten(0, 1)


def train(objective: str, gamma: float, steps: int, rate: float) -> tuple[Tensor, list]:
    """Samples (RUNS, 2500, 2) of the averaged generators, and for each run the states that were named."""
    rng = generator_for(8)
    generator = Perceptrons(LATENT, 2, rng=rng)
    discriminator = Perceptrons(2, 1, rng=rng)
    average = Perceptrons(LATENT, 2, rng=rng)
    optimizers = [torch.optim.Adam(net.parameters(), betas=(0.0, 0.99)) for net in (generator, discriminator)]
    losses = OBJECTIVES[objective]
    fixed = torch.randn(RUNS * 256, LATENT, generator=rng)
    health = [Health(grace_images=20_000) for _ in range(RUNS)]
    named: list[set[State]] = [set() for _ in range(RUNS)]

    def reals(count: int) -> Tensor:
        where = torch.randint(len(MODES), (count,), generator=rng)
        return MODES[where] + SPREAD * torch.randn(count, 2, generator=rng)

    def latents(count: int) -> Tensor:
        return torch.randn(count, LATENT, generator=rng)

    for step in range(steps):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * (0.52 + 0.5 * math.cos(math.pi * step / steps))
        real = reals(RUNS * BATCH).requires_grad_()
        fake = generator(latents(RUNS * BATCH)).detach().requires_grad_()
        real_logits, fake_logits = discriminator(real)[:, 0], discriminator(fake)[:, 0]
        loss = losses.discriminator(real_logits, fake_logits)
        if gamma:
            penalties = zero_centred_penalty(real_logits, real) + zero_centred_penalty(fake_logits, fake)
            loss = loss + gamma / 2 * penalties
        loss.backward()
        optimizers[1].step()
        discriminator.requires_grad_(False)
        fake_logits = discriminator(generator(latents(RUNS * BATCH)))[:, 0]
        losses.generator(discriminator(reals(RUNS * BATCH))[:, 0], fake_logits).backward()
        optimizers[0].step()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.02)
        for optimizer in optimizers:
            optimizer.zero_grad()
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            with torch.no_grad():
                shown = generator(fixed).unflatten(0, (RUNS, -1))
            for k in range(RUNS):
                signs: SetSigns = compare_sets(reals(256), shown[k])
                named[k].add(health[k].observe_tick(signs, step * BATCH).state)
    with torch.no_grad():
        return average(latents(RUNS * 2500)).unflatten(0, (RUNS, -1)), named


def covered(samples: Tensor) -> tuple[int, float]:
    """How many modes are covered, and the share of good samples; see above."""
    distance, mode = torch.cdist(samples, MODES).min(1)
    good = distance < 3 * SPREAD
    counts = torch.bincount(mode[good], minlength=len(MODES))
    return int((counts >= 0.01 * len(samples)).sum()), float(good.float().mean())


def test_the_relativistic_objective_with_both_penalties_covers_the_ring():
    """The accident: a sign or a weight is turned in objective or penalties, and trainings still look alive."""
    samples, named = train("relativistic", gamma=0.1, steps=1000, rate=0.012)
    results = [covered(run) for run in samples]
    assert [modes for modes, _ in results] == [8] * RUNS, results
    assert all(good > 0.25 for _, good in results), results
    assert named == [{State.HEALTHY}] * RUNS, "a guard that cries wolf"


def test_the_plain_loss_collapses_on_the_ring_and_is_named():
    """The accident: most modes are gone, every sample looks right, and nobody is told."""
    samples, named = train("non_saturating", gamma=0, steps=1200, rate=0.012)
    results = [covered(run) for run in samples]
    assert all(modes < 8 for modes, _ in results), results
    assert all(State.MODE_COLLAPSE in states for states in named), (named, results)
