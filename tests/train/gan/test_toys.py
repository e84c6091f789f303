"""Toys with known modes: the objective that is the default covers them, the classic one collapses and is named.

Gaussians of standard deviation 0.05: Ring-8 on a circle of radius 2, Grid-25 at distances of 2 on a square of 8. Of
2,500 samples of the averaged generator those within three standard deviations of a mode count as good. A mode of the
grid is covered, as published (Srivastava et al. 2017, VEEGAN), if a sample is a good one of its own, one of the ring
only if 1 % of all samples are. Several runs train side by side, as one batched network each for generator and
discriminator, so they share nothing but the clock.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.losses.adversarial import OBJECTIVES, squared_gradient_norms
from imagesmith.tensors import generator_for
from imagesmith.train.gan.health import Health, SetSigns, State, compare_sets

BATCH = 128
SPREAD = 0.05
LOOK_EVERY = 25


@dataclass(frozen=True)
class Toy:
    """Where the modes are, and what learns them."""

    modes: Tensor
    latent: Callable[[int, torch.Generator], Tensor]
    """(count, rng) -> (count, size)"""
    width: int
    runs: int
    scale: float = 1.0
    """Networks count in units of so much."""
    waves: int = 0
    """The discriminator sees sines and cosines of the coordinates as well, each octave up to this one."""

    def seen(self, points: Tensor) -> Tensor:
        """(N, 2) as the discriminator sees them."""
        octaves = [points * (math.pi * 2**k) for k in range(self.waves)]
        return torch.cat([points, *(wave for x in octaves for wave in (x.sin(), x.cos()))], dim=1)


ANGLES = torch.arange(8) * (2 * math.pi / 8)
RING = Toy(
    modes=2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1),
    latent=lambda count, rng: torch.randn(count, 8, generator=rng),
    width=64,
    runs=3,
)
SIDE = torch.arange(5) * 2.0 - 4
GRID = Toy(
    modes=torch.cartesian_prod(SIDE, SIDE),
    latent=lambda count, rng: 2 * torch.rand(count, 2, generator=rng) - 1,
    width=96,
    runs=5,
    scale=4.0,
    waves=2,
)


class Perceptrons(nn.Module):
    """As many multilayer perceptrons as there are runs: (runs * N, in) -> (runs * N, out)."""

    def __init__(self, runs: int, first: int, last: int, width: int, *, rng: torch.Generator) -> None:
        super().__init__()
        self.runs = runs
        shapes = [(first, width), (width, width), (width, width), (width, last)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in shapes:  # He et al. 2015; biases as in PyTorch's linear layer
            self.weights.append(torch.randn(runs, fan_in, fan_out, generator=rng) * (2 / fan_in) ** 0.5)
            self.biases.append((2 * torch.rand(runs, 1, fan_out, generator=rng) - 1) / fan_in**0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(0, (self.runs, -1))
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(bias, F.leaky_relu(y, 0.2) if k else y, weight)
        return y.flatten(0, 1)


def train(
    toy: Toy,
    objective: str,
    gammas: tuple[float, float],
    steps: int,
    rate: float,
    until: State | None = None,
    seed: int = 8,
) -> tuple[Tensor, list]:
    """Samples (runs, 2500, 2) of the averaged generators, and for each run the states that were named.

    Gamma goes from the first of `gammas` to the second, in equal factors, and is there after 70 % of the steps. Once
    every run has been called `until` nothing more is trained.
    """
    rng, runs = generator_for(seed), toy.runs
    size = toy.latent(1, generator_for(0)).shape[1]
    generator = Perceptrons(runs, size, 2, toy.width, rng=rng)
    discriminator = Perceptrons(runs, 2 + 4 * toy.waves, 1, toy.width, rng=rng)
    average = Perceptrons(runs, size, 2, toy.width, rng=rng)
    optimizers = [torch.optim.Adam(net.parameters(), betas=(0.0, 0.99)) for net in (generator, discriminator)]
    losses = OBJECTIVES[objective]
    fixed = toy.latent(runs * 256, rng)
    health = [Health(grace_images=20_000) for _ in range(runs)]
    named: list[set[State]] = [set() for _ in range(runs)]

    def reals(count: int) -> Tensor:
        where = torch.randint(len(toy.modes), (count,), generator=rng)
        return (toy.modes[where] + SPREAD * torch.randn(count, 2, generator=rng)) / toy.scale

    def latents(count: int) -> Tensor:
        return toy.latent(count, rng)

    def judge(points: Tensor) -> Tensor:
        return discriminator(toy.seen(points))[:, 0]

    first, last = gammas
    for step in range(steps):
        gamma = first and first * (last / first) ** min(1.0, step / steps / 0.7)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * (0.52 + 0.5 * math.cos(math.pi * step / steps))
        real = reals(runs * BATCH).requires_grad_()
        fake = generator(latents(runs * BATCH)).detach().requires_grad_()
        real_logits, fake_logits = judge(real), judge(fake)
        loss = losses.discriminator(real_logits, fake_logits)
        if gamma:
            penalties = (
                squared_gradient_norms(real_logits, real).mean() + squared_gradient_norms(fake_logits, fake).mean()
            )
            loss = loss + gamma / 2 * penalties
        loss.backward()
        optimizers[1].step()
        discriminator.requires_grad_(False)
        fake_logits = judge(generator(latents(runs * BATCH)))
        losses.generator(judge(reals(runs * BATCH)), fake_logits).backward()
        optimizers[0].step()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.02)
        for optimizer in optimizers:
            optimizer.zero_grad()
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            with torch.no_grad():
                shown = generator(fixed).unflatten(0, (runs, -1))
            for k in range(runs):
                signs: SetSigns = compare_sets(reals(256), shown[k])
                named[k].add(health[k].observe_tick(signs, step * BATCH).state)
            if all(until in states for states in named):
                break
    with torch.no_grad():
        return average(latents(runs * 2500)).unflatten(0, (runs, -1)) * toy.scale, named


def covered(samples: Tensor, modes: Tensor, least: int) -> tuple[int, float]:
    """How many modes have at least so many good samples, and the share of good ones; see above."""
    distance, mode = torch.cdist(samples, modes).min(1)
    good = distance < 3 * SPREAD
    counts = torch.bincount(mode[good], minlength=len(modes))
    return int((counts >= least).sum()), float(good.float().mean())


def test_the_relativistic_objective_with_both_penalties_covers_the_ring():
    """The accident: a sign or a weight is turned in objective or penalties, and trainings still look alive."""
    samples, named = train(RING, "relativistic", gammas=(0.1, 0.1), steps=1000, rate=0.012)
    results = [covered(run, RING.modes, least=25) for run in samples]
    assert [modes for modes, _ in results] == [8] * RING.runs, results
    assert all(good > 0.25 for _, good in results), results
    assert named == [{State.HEALTHY}] * RING.runs, "a guard that cries wolf"


def test_the_plain_loss_collapses_on_the_ring_and_is_named():
    """The accident: most modes are gone, every sample looks right, and nobody is told."""
    samples, named = train(RING, "non_saturating", gammas=(0, 0), steps=1200, rate=0.012, until=State.MODE_COLLAPSE)
    results = [covered(run, RING.modes, least=25) for run in samples]
    assert all(modes < 8 for modes, _ in results), results
    assert all(State.MODE_COLLAPSE in states for states in named), (named, results)


@pytest.mark.slow
def test_the_relativistic_objective_with_both_penalties_covers_the_grid():
    """Half a minute of a core: penalties that are strong first, for coverage, and a hundredth of it last, for spots."""
    samples, _ = train(GRID, "relativistic", gammas=(1.0, 0.01), steps=3000, rate=0.005)
    results = [covered(run, GRID.modes, least=1) for run in samples]
    assert [modes for modes, _ in results] == [25] * GRID.runs, results
    assert all(good > 0.25 for _, good in results), results


@pytest.mark.slow
def test_the_plain_loss_collapses_on_the_grid_and_is_named():
    samples, named = train(GRID, "non_saturating", gammas=(0, 0), steps=1500, rate=0.005)
    results = [covered(run, GRID.modes, least=1) for run in samples]
    assert all(modes < 25 for modes, _ in results), results
    assert all(State.MODE_COLLAPSE in states for states in named), (named, results)
