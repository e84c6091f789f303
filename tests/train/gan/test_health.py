"""The state of a pair of networks is named right, in time, and only when it holds."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from imagesmith.losses.adversarial import OBJECTIVES, squared_gradient_norms
from imagesmith.tensors import generator_for
from imagesmith.train.gan.augment import AdaptiveStrength
from imagesmith.train.gan.health import (
    AIMED_GAP,
    CURES,
    Action,
    Diagnosis,
    Health,
    PairSigns,
    SetSigns,
    State,
    compare_sets,
    held_out_gap,
)

GOOD = PairSigns(pair_sign=0.6, gap=0.8, generator_norm=1.0, discriminator_norm=1.0, penalty=0.1)
VARIED = SetSigns(diversity=0.9, duplicates=0.0, precision=0.7, coverage=0.8)
ALIKE = replace(VARIED, diversity=0.1)


def grown(**options: object) -> Health:
    """A health that has seen a good start."""
    health = Health(**options)  # type: ignore[arg-type]
    for _ in range(150):
        assert health.observe_step(GOOD).state is State.HEALTHY
    assert health.observe_tick(VARIED, 150 * 32).state is State.HEALTHY
    return health


def after(health: Health, signs: PairSigns, steps: int) -> Diagnosis:
    """The last diagnosis of the same signs again and again."""
    return [health.observe_step(signs) for _ in range(steps)][-1]


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        (replace(GOOD, pair_sign=-0.95, gap=-2.0), State.DISCRIMINATOR_LOSING),
        (replace(GOOD, discriminator_norm=0.0), State.DISCRIMINATOR_LOSING),
        (replace(GOOD, generator_norm=1e-5), State.GENERATOR_VANISHING),
        (replace(GOOD, pair_sign=1.0, gap=25.0), State.DISCRIMINATOR_WINNING),
        (replace(GOOD, discriminator_norm=200.0), State.DIVERGING),
    ],
)
def test_what_lasts_is_named_within_200_steps_and_a_noisy_step_is_not(signs, state):
    """The accident: one odd batch lowers the learning rate of a healthy run, or a lost run goes on for days."""
    health = grown()
    assert health.observe_step(signs).state is State.HEALTHY
    assert after(health, GOOD, 60).state is State.HEALTHY
    found = [health.observe_step(signs) for _ in range(200)]
    named = [diagnosis for diagnosis in found if diagnosis.state is state]
    assert named
    assert str(named[0]).startswith(state.value)
    assert any(diagnosis.action is not Action.NONE for diagnosis in named)
    assert {diagnosis.state for diagnosis in found} <= {State.HEALTHY, state}
    assert after(health, GOOD, 1500).state is State.HEALTHY, "a state ends when its signs do"


def test_a_gan_may_start_with_a_discriminator_that_wins_and_fakes_that_are_all_alike():
    """The accident: every run is called collapsed before its generator has learnt to make two different images."""
    health = Health()
    for _ in range(health.settle):
        assert health.observe_step(replace(GOOD, pair_sign=1.0, gap=20.0, generator_norm=1e-6)).state is State.HEALTHY
    for tick in range(5):
        assert health.observe_tick(ALIKE, 1000 * tick).state is State.HEALTHY


def test_fakes_that_stay_or_become_alike_are_a_collapse():
    """The accident: the early exemption never ends, and a generator that never woke up passes for a young one."""
    for health, images in ((Health(), 20_000), (grown(), 6_000)):
        found = [health.observe_tick(ALIKE, images + 1000 * tick) for tick in range(3)]
        assert [diagnosis.state for diagnosis in found] == [State.HEALTHY, State.HEALTHY, State.MODE_COLLAPSE]
        assert "only 0.10 times as different" in found[-1].reason
        assert found[-1].action is CURES[State.MODE_COLLAPSE][0]


def test_few_kinds_of_right_looking_images_are_a_collapse_once_the_run_is_no_longer_young():
    """The accident: two of eight modes are far apart, so the mean distance looks fine while six are gone."""
    narrow = replace(VARIED, precision=0.9, coverage=0.25)
    health = grown()
    assert [health.observe_tick(narrow, 6_000).state for _ in range(5)] == [State.HEALTHY] * 5
    assert [health.observe_tick(narrow, 30_000).state for _ in range(3)][-1] is State.MODE_COLLAPSE


def test_fakes_that_still_spread_have_not_collapsed():
    """The accident: every GAN covers little at first, and the guard doubled gamma on one that covered more each time."""
    health = Health()
    for coverage in (0.2, 0.3, 0.4, 0.5, 0.55):
        signs = replace(VARIED, precision=0.95, coverage=coverage)
        assert health.observe_tick(signs, 50_000).state is State.HEALTHY
    assert [health.observe_tick(signs, 50_000).state for _ in range(3)][-1] is State.MODE_COLLAPSE


def test_fakes_that_come_nearer_as_a_whole_have_not_collapsed():
    """The accident: a small network covers half of CIFAR-10 for good, and the guard took back a third of a run whose
    distance had been the best so far at ten validations in a row."""
    health = Health()
    narrow = replace(VARIED, precision=0.93, coverage=0.56)
    health.observe_tick(replace(narrow, coverage=0.57), 50_000)
    assert {health.observe_tick(replace(narrow, nearer=True), 50_000).state for _ in range(6)} == {State.HEALTHY}
    assert [health.observe_tick(narrow, 50_000).state for _ in range(3)][-1] is State.MODE_COLLAPSE


def test_steps_that_are_not_finite_are_skipped_and_a_row_of_them_is_cured():
    """The accident: NaN enters the running means, and the guard itself is blind from then on."""
    for name in ("gap", "generator_norm", "penalty"):
        health = grown()
        broken = replace(GOOD, **{name: math.nan})
        assert health.observe_step(broken) == Diagnosis(
            State.DIVERGING, Action.SKIP_STEP, "a logit, gradient or penalty is not finite"
        )
        assert health.observe_step(GOOD).state is State.HEALTHY
        found = [health.observe_step(broken).action for _ in range(12)]
        assert found.count(Action.SKIP_STEP) == 11
        assert CURES[State.DIVERGING][0] in found


def test_cures_come_one_after_the_other_with_time_to_work_and_end_in_a_stop():
    """The accident: all cures within ten steps, so that nobody knows which one helped, or the same one for ever."""
    health = grown(cool_down=200)
    signs = replace(GOOD, pair_sign=-0.9)
    acted = [
        (step, found.action) for step in range(1000) if (found := health.observe_step(signs)).action is not Action.NONE
    ]
    assert tuple(action for _, action in acted[:3]) == CURES[State.DISCRIMINATOR_LOSING]
    assert acted[-1][1] is Action.STOP
    assert all(later - earlier >= 200 for (earlier, _), (later, _) in itertools.pairwise(acted))


def test_a_cure_that_held_is_forgotten():
    """The accident: a run of a week is stopped because it stumbled four times."""
    health = grown(cool_down=50)
    signs = replace(GOOD, pair_sign=-0.9)
    for _ in range(5):
        acted = {health.observe_step(signs).action for _ in range(140)}
        assert acted == {Action.NONE, CURES[State.DISCRIMINATOR_LOSING][0]}
        assert after(health, GOOD, 700).state is State.HEALTHY


def test_only_cures_that_the_run_has_are_asked_for():
    """The accident: 'raise gamma' for an objective without penalties: the guard believes it acted, nothing changed."""
    health = grown(cures=["raise augmentation", "stop"])
    found = [health.observe_tick(ALIKE, 30_000 + tick).action for tick in range(3)]
    assert found[-1] is Action.STOP
    health = grown(cures=[])
    assert {health.observe_tick(ALIKE, 30_000 + tick).action for tick in range(9)} == {Action.NONE}


def test_a_run_that_augmentation_regulates_is_left_alone():
    """The accident: the guard called ill what augmentation aims at: it raised that to its limit and doubled gamma."""
    rng, health = random.Random(0), Health()
    strength = AdaptiveStrength(target=AIMED_GAP, speed_images=100_000, strength=0.4)
    for _ in range(10_000):
        found = [health.observe_step(GOOD)]
        if health.steps % 16 == 0:
            gap = max(
                0.0, 0.8 - 0.6 * strength.strength + rng.gauss(0, 0.05)
            )  # as it is aimed at, at half the strength
            found.append(health.observe_held_out(gap))
            strength.observe(gap, 16 * 32)
        assert {diagnosis.action for diagnosis in found} == {Action.NONE}
    assert strength.strength == pytest.approx(0.5, abs=0.1)


def test_health_goes_on_from_its_fields_and_remembers_its_tries_after_a_roll_back():
    """The accident: a resumed run decides otherwise, or rolls back to the same fault for ever."""
    one = grown()
    after(one, replace(GOOD, pair_sign=-0.9), 180)
    assert one.tries
    other = Health(**json.loads(json.dumps(asdict(one))))
    assert one == other
    for k in range(300):
        signs = replace(GOOD, gap=math.sin(k), pair_sign=math.cos(k))
        assert one.observe_step(signs) == other.observe_step(signs)
    assert one == other
    back = one.rolled_back()
    assert back.tries == one.tries
    assert back.steps == 0
    assert not back.reasons


def test_sets_are_measured_against_real_ones():
    """The accident: a measure that is not relative calls low-contrast data collapsed, or never anything."""
    rng = generator_for(1)
    real, fake = torch.randn(200, 8, generator=rng), torch.randn(200, 8, generator=rng)
    for scale in (1e-3, 1.0, 1e3):
        same = compare_sets(real * scale, fake * scale)
        assert same.diversity == pytest.approx(1, abs=0.05)
        assert same.duplicates == 0
        assert same.precision > 0.85
        assert same.coverage > 0.85
    blob = compare_sets(real, fake * 0.01)
    assert blob.diversity < 0.02
    assert blob.duplicates == 1
    assert blob.coverage < 0.5
    repeated = compare_sets(real, fake[:20].repeat(10, 1))
    assert repeated.duplicates == 1
    far = compare_sets(real, fake + 100)
    assert far.precision == far.coverage == 0
    constant = compare_sets(torch.ones(4, 3), torch.ones(2, 3))
    assert all(math.isfinite(value) for value in asdict(constant).values() if value is not None)


def test_held_out_gap_needs_more_than_chance():
    """The accident: five held-out images that happen to look odd raise augmentation to its limit."""
    rng = generator_for(2)
    train, fake = torch.randn(64, generator=rng) + 3, torch.randn(64, generator=rng) - 3
    assert held_out_gap(train, torch.randn(64, generator=rng) + 0, fake) == pytest.approx(0.5, abs=0.1)
    assert held_out_gap(train, torch.randn(64, generator=rng) + 3, fake) == pytest.approx(0, abs=0.1)
    assert held_out_gap(train, train[:3] - 1.0, fake) == 0, "three images say nothing so slight"
    assert held_out_gap(train, train[:3] - 6.0, fake) > 0.8
    assert held_out_gap(train[:1], train[:1] - 6, fake) >= 0, "one image is no reason to divide by zero"
    assert held_out_gap(fake, train, train) == 0, "no lead, nothing to share"


class Generator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(16, 16 * 16), nn.LeakyReLU(0.2), nn.Unflatten(1, (16, 4, 4)), nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(16, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip


class Discriminator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32 * 16, 64), nn.LeakyReLU(0.2),
            nn.Linear(64, 1), nn.Flatten(0),
        )  # fmt: skip


def discs(count: int, rng: torch.Generator) -> Tensor:
    """Coloured discs on coloured ground, 8x8, in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    centre = torch.rand(count, 2, 1, 1, generator=rng) * 1.2 - 0.6
    inside = torch.sigmoid(8 * (0.5 - torch.hypot(x - centre[:, 0], y - centre[:, 1])))[:, None]
    disc, ground = torch.rand(2, count, 3, 1, 1, generator=rng) * 2 - 1
    return inside * disc + (1 - inside) * ground


def noise(count: int, rng: torch.Generator) -> Tensor:
    """Images without anything in common, which a discriminator can only know by heart."""
    return torch.rand(count, 3, 8, 8, generator=rng) * 2 - 1


def play(
    steps: int,
    *,
    draw: Callable[[int, torch.Generator], Tensor] = discs,
    images: int = 2000,
    rate: float = 1e-3,
    gamma: float = 1.0,
    fault: str = "",
    at: int = 100,
) -> Iterator[tuple[int, Diagnosis]]:
    """(step, diagnosis) of a small GAN with the relativistic objective, where `fault` sets in at step `at`."""
    rng = generator_for(3)
    torch.manual_seed(0)
    generator, discriminator = Generator(), Discriminator()
    optimizers = [torch.optim.Adam(net.parameters(), rate, betas=(0.0, 0.99)) for net in (generator, discriminator)]
    training, held_out = draw(images, rng), draw(32 if images > 100 else 10, rng)
    fixed, health, batch = torch.randn(64, 16, generator=rng), Health(), 16
    losses = OBJECTIVES["relativistic"]

    def reals() -> Tensor:
        return training[torch.randint(len(training), (batch,), generator=rng)]

    def fakes() -> Tensor:
        return generator(torch.randn(batch, 16, generator=rng))

    for step in range(steps):
        if fault == "rate" and step == at:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = 30 * rate
        real, fake = reals().requires_grad_(), fakes().detach().requires_grad_()
        real_logits, fake_logits = discriminator(real), discriminator(fake)
        penalty = squared_gradient_norms(real_logits, real).mean() + squared_gradient_norms(fake_logits, fake).mean()
        loss = losses.discriminator(real_logits, fake_logits) + gamma / 2 * penalty
        norms = []
        for net, optimizer in zip((discriminator, generator), optimizers[::-1], strict=True):
            if net is generator:
                loss = losses.generator(discriminator(reals()), discriminator(fakes()))
            for parameter in net.parameters():
                parameter.grad = None
            loss.backward(inputs=list(net.parameters()))
            if fault == "nan" and step >= at and net is discriminator:
                next(net.parameters()).grad.view(-1)[0] = math.nan  # type: ignore[union-attr]
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])))  # type: ignore[misc]
            if math.isfinite(norms[-1]) and not (fault == "frozen" and step >= at and net is discriminator):
                optimizer.step()
        gap = (real_logits - fake_logits).detach()
        yield (
            step,
            health.observe_step(
                PairSigns(float(gap.sign().mean()), float(gap.mean()), norms[1], norms[0], penalty.item())
            ),
        )
        if step % 16 == 15:
            with torch.no_grad():
                shown = generator(fixed)
                signs = compare_sets(training[:64].flatten(1), shown.flatten(1))
                known = held_out_gap(discriminator(training[:64]), discriminator(held_out), discriminator(shown))
            yield step, health.observe_tick(replace(signs, held_out_gap=known), step * batch)


def first_ill(run: Iterator[tuple[int, Diagnosis]]) -> tuple[int, State]:
    """The step at which a run is first called something else than healthy, which ends it, and what it is called."""
    return next(((step, found.state) for step, found in run if found.state is not State.HEALTHY), (-1, State.HEALTHY))


@pytest.mark.parametrize(
    ("fault", "state"),
    [("nan", State.DIVERGING), ("rate", State.DIVERGING), ("frozen", State.DISCRIMINATOR_LOSING)],
)
def test_a_fault_in_a_small_gan_is_recognised_within_200_steps(fault, state):
    """The accident: thresholds that fit invented numbers and no training."""
    step, found = first_ill(play(300, fault=fault))
    assert step >= 100, "healthy before the fault"
    assert found is state


def test_fifty_images_are_recognised_as_too_few_within_200_steps():
    """The accident: the discriminator learns fifty images by heart, and the user waits for better ones."""
    assert first_ill(play(200, draw=noise, images=40, rate=2e-3, gamma=0.0))[1] is State.OVERFITTING
