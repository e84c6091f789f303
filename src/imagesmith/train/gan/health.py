"""The health of a pair of networks: what state their game is in, in plain words, and what to do about it.

`runtime.guard.Guard` watches one network and rejects single steps; this watches how two play against each other. It
only decides: the loop measures, acts and writes down why.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor


class State(Enum):
    """How the game of generator and discriminator stands; the first of several that hold is the one named."""

    DIVERGING = "diverging"
    DISCRIMINATOR_LOSING = "discriminator losing"
    MODE_COLLAPSE = "mode collapse"
    GENERATOR_VANISHING = "generator gradient vanishing"
    OVERFITTING = "overfitting"
    DISCRIMINATOR_WINNING = "discriminator winning"
    HEALTHY = "healthy"


class Action(Enum):
    """What the loop is asked to do."""

    NONE = "none"
    SKIP_STEP = "skip step"
    LOWER_RATE = "lower learning rate"
    RAISE_GAMMA = "raise gamma"
    RAISE_AUGMENTATION = "raise augmentation"
    ROLL_BACK = "roll back"
    STOP = "stop"


CURES: dict[State, tuple[Action, ...]] = {
    State.DIVERGING: (Action.LOWER_RATE, Action.ROLL_BACK, Action.ROLL_BACK, Action.STOP),
    State.DISCRIMINATOR_LOSING: (Action.ROLL_BACK, Action.ROLL_BACK, Action.STOP),
    State.MODE_COLLAPSE: (Action.RAISE_GAMMA, Action.ROLL_BACK, Action.ROLL_BACK, Action.STOP),
    State.GENERATOR_VANISHING: (Action.RAISE_GAMMA, Action.LOWER_RATE, Action.ROLL_BACK, Action.STOP),
    State.OVERFITTING: (*[Action.RAISE_AUGMENTATION] * 4, Action.RAISE_GAMMA, Action.NONE),
    State.DISCRIMINATOR_WINNING: (Action.RAISE_GAMMA, Action.LOWER_RATE, Action.RAISE_AUGMENTATION, Action.NONE),
}
"""What is tried against each state, one after the other; the last stays. Actions a run cannot take are left out."""


LOSING_SIGN = 0.5
WINNING_SIGN = 0.98
WINNING_GAP = 10.0
VANISHING = 1e-3
LEAP = 3.0
MOST_LEAPS = 2.5
SPIKE = 10.0
MOST_NOT_FINITE = 10
ALIKE = 0.3
GROWN = 0.5
REPEATING = 0.5
PRECISE = 0.5
NARROW = 2 / 3
AIMED_GAP = 0.5
"""Held-out gap that adaptive augmentation regulates to (see `AdaptiveStrength`); no fault, therefore."""
OVERFIT = AIMED_GAP + 0.15
CURED = 10
"""Where signs turn bad, from runs of small GANs that went well and ill; ours."""


@dataclass(frozen=True)
class PairSigns:
    """What one step tells, means over the batch and over all processes; not finite where the step went wrong."""

    pair_sign: float
    """Mean sign of real logit - fake logit: 1 where the discriminator tells every pair apart, 0 where it guesses."""
    gap: float
    """Mean of real logit - fake logit."""
    generator_norm: float
    discriminator_norm: float
    """Lengths of the two gradients."""
    penalty: float = 0.0
    """R1 + R2, unweighted."""


@dataclass(frozen=True)
class SetSigns:
    """What a tick tells of the set of images of fixed latents against a set of real ones; see `compare_sets`."""

    diversity: float
    """Mean distance between two fakes, as a share of that between two real images."""
    duplicates: float
    """Share of fakes that nearly repeat another one."""
    precision: float
    """Share of fakes that lie among the real images."""
    coverage: float
    """Share of real images that have a fake near them."""
    held_out_gap: float | None = None
    """How much of its lead the discriminator owes to knowing its training images by heart, where it was measured."""
    nearer: bool = False
    """Whether the fakes are as a whole nearer to the real images than ever before."""


@dataclass(frozen=True)
class Diagnosis:
    """The state, what to do, and why, in words."""

    state: State
    action: Action
    reason: str

    def __str__(self) -> str:
        return f"{self.state.value}: {self.reason}" if self.reason else self.state.value


@torch.no_grad()
def compare_sets(real: Tensor, fake: Tensor) -> SetSigns:
    """Diversity and coverage of fake features (M, F) measured by real ones (N, F); neither less than two.

    Precision and coverage are those of Naeem et al. 2020 over the distance to the fifth neighbour; two fakes count as
    duplicates within a quarter of the usual distance of a real image to its nearest neighbour.
    """
    assert min(len(real), len(fake)) > 1, f"expected at least two features on each side, got {len(real)}, {len(fake)}"
    real, fake = real.float(), fake.float()
    among_real, among_fake = _distances(real, real), _distances(fake, fake)
    across = torch.cdist(real, fake)
    neighbours = among_real.topk(min(5, len(real) - 1), dim=1, largest=False).values
    near = across <= neighbours[:, -1:]
    others_real, others_fake = (d[d.isfinite()].mean() for d in (among_real, among_fake))
    repeats = among_fake.amin(1) < neighbours[:, 0].median() / 4
    measured = torch.stack([
        others_fake / others_real.clamp_min(1e-12), repeats.float().mean(), near.any(0).float().mean(),
        near.any(1).float().mean(),
    ])  # fmt: skip
    return SetSigns(*measured.tolist())


def held_out_gap(train_logits: Tensor, held_out_logits: Tensor, fake_logits: Tensor) -> float:
    """Share of the discriminator's lead that it has on training images only (r_v of Karras et al. 2020, eq. 1).

    0 where it judges new real images like those it trains on, 1 where it takes them for fakes. 0 as well while the
    difference is within two standard errors, so that a handful of held-out images cannot cry wolf.
    """
    train, held_out, fake = (part.detach().double().flatten() for part in (train_logits, held_out_logits, fake_logits))
    difference, lead = float(train.mean() - held_out.mean()), float(train.mean() - fake.mean())
    spread = float(torch.cat([train - train.mean(), held_out - held_out.mean()]).std())
    error = spread * math.sqrt(1 / len(train) + 1 / len(held_out))
    return difference / lead if lead > 0 and difference > 2 * error else 0.0


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b).fill_diagonal_(math.inf)


@dataclass
class Health:
    """Names the state of a GAN from its signs; all its memory is in its fields, as plain values, so it resumes exactly.

    A sign has to be bad for `patience` steps, or `patience_ticks` ticks, in a row before a state is named, and again as
    long, and `cool_down` steps, before the next cure is tried. The first `settle` steps and `grace_images` images are
    left alone, because every GAN starts with a discriminator that wins against fakes that are all alike.
    """

    cures: list[str] = field(default_factory=lambda: [action.value for action in Action])
    """Values of the actions that this run can take."""
    patience: int = 50
    patience_ticks: int = 3
    settle: int = 100
    grace_images: int = 20_000
    """Images until a generator whose images were never different is called collapsed."""
    cool_down: int = 200
    steps: int = 0
    sign: float = 0.0
    """Running mean of the pair sign over some 50 steps."""
    gap: float = 0.0
    """Running mean of the logits' gap."""
    ratio: float = 0.0
    """Running mean logarithm of generator norm / discriminator norm."""
    norm: float = 0.0
    usual_norm: float = 0.0
    """Quick and slow running mean logarithm of the discriminator norm."""
    leaps: float = 0.0
    """How many of the last `patience` steps, older ones counting less, threw real images far behind fakes or back."""
    last_gap: float = 0.0
    not_finite: int = 0
    """Steps in a row with a number that is not finite."""
    best_diversity: float = 0.0
    best_coverage: float = 0.0
    streaks: dict[str, int] = field(default_factory=dict)
    """For each state how many observations in a row have spoken for it."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The states that are named now, each with its reason."""
    tries: dict[str, int] = field(default_factory=dict)
    """For each state how many actions were asked for; forgotten once none was for ten times `cool_down` steps."""
    next_try: int = 0
    """Step before which no further cure is tried."""

    def observe_step(self, signs: PairSigns) -> Diagnosis:
        """The diagnosis after one step of both networks."""
        self.steps += 1
        if not all(math.isfinite(value) for value in asdict(signs).values()):
            return self._skip()
        self.not_finite = 0
        self._average(signs)
        self._note(State.DIVERGING, self._turmoil())
        self._note(State.DISCRIMINATOR_LOSING, self._loss_of_discriminator(signs))
        self._note(State.GENERATOR_VANISHING, self._vanishing())
        self._note(State.DISCRIMINATOR_WINNING, self._win_of_discriminator())
        return self._diagnose()

    def observe_tick(self, signs: SetSigns, images_seen: int) -> Diagnosis:
        """The diagnosis after a look at the images of the fixed latents."""
        self.best_diversity = max(self.best_diversity, signs.diversity)
        growing = signs.coverage > self.best_coverage or signs.nearer
        self.best_coverage = max(self.best_coverage, signs.coverage)
        young = images_seen < self.grace_images
        asleep = young and self.best_diversity < GROWN
        narrowness = "" if young or growing else _narrowness(signs)  # what still spreads has not collapsed
        self._note(State.MODE_COLLAPSE, ("" if asleep else _sameness(signs)) or narrowness)
        return self._diagnose() if signs.held_out_gap is None else self.observe_held_out(signs.held_out_gap)

    def observe_held_out(self, gap: float) -> Diagnosis:
        """The diagnosis after a look at held-out images (see `held_out_gap`), which may come between ticks as well."""
        known = f"{gap:.0%} of the discriminator's lead exists only on the images it trains on: it knows them by heart"
        self._note(State.OVERFITTING, known if gap > OVERFIT else "")
        return self._diagnose()

    def rolled_back(self) -> "Health":
        """The health to go on with after a roll-back: what was observed of the lost weights is forgotten, no try is."""
        settings = ("cures", "patience", "patience_ticks", "settle", "grace_images", "cool_down")
        memories = ("best_diversity", "best_coverage", "tries")
        return Health(**{name: getattr(self, name) for name in (*settings, *memories)}, next_try=self.cool_down)

    def _skip(self) -> Diagnosis:
        """A step with a number that is not finite: skipped, or cured when it is one of a row."""
        self.not_finite += 1
        reason = "a logit, gradient or penalty is not finite"
        if self.not_finite < MOST_NOT_FINITE:
            return Diagnosis(State.DIVERGING, Action.SKIP_STEP, reason)
        self._note(State.DIVERGING, f"in {self.not_finite} steps in a row {reason}")
        diagnosis = self._diagnose()
        return replace(diagnosis, action=Action.SKIP_STEP) if diagnosis.action is Action.NONE else diagnosis

    def _average(self, signs: PairSigns) -> None:
        """Move the running means; while they are young they are plain means."""
        slow, quick, usual = (max(1 / n, 1 / self.steps) for n in (self.patience, 10, 20 * self.patience))
        norm = math.log(max(signs.discriminator_norm, 1e-12))
        self.sign += slow * (signs.pair_sign - self.sign)
        self.gap += slow * (signs.gap - self.gap)
        self.ratio += slow * (math.log(max(signs.generator_norm, 1e-12)) - norm - self.ratio)
        self.norm += quick * (norm - self.norm)
        self.usual_norm += usual * (norm - self.usual_norm)
        leapt = abs(signs.gap - self.last_gap) > LEAP and min(signs.gap, self.last_gap) < 0
        self.leaps += leapt - self.leaps / self.patience
        self.last_gap = signs.gap

    # each gives the reason to name a state, '' where there is none

    def _turmoil(self) -> str:
        if self.leaps > MOST_LEAPS:
            return (
                f"in {self.leaps:.0f} of the last {self.patience} steps the lead of real over fake images leapt by "
                f"over {LEAP:g} and changed sides: the networks jump past each other"
            )
        if self.steps > self.settle and self.norm > self.usual_norm + math.log(SPIKE):
            now, usual = math.exp(self.norm), math.exp(self.usual_norm)
            return f"the discriminator's gradient is {now:.2g} long, {now / usual:.0f} times its usual {usual:.2g}"
        return ""

    def _loss_of_discriminator(self, signs: PairSigns) -> str:
        if signs.discriminator_norm == 0:
            return "the discriminator gets no gradient, so it cannot learn"
        if self.sign < -LOSING_SIGN:
            return (
                f"the discriminator takes fakes for more real than real images (mean sign of pairs {self.sign:.2f}), "
                "as if it had stopped learning"
            )
        return ""

    def _vanishing(self) -> str:
        if self.steps > self.settle and self.ratio < math.log(VANISHING):
            share = math.exp(self.ratio)
            return f"the generator's gradient is only {share:.1g} times as long as the discriminator's"
        return ""

    def _win_of_discriminator(self) -> str:
        if self.steps > self.settle and self.sign > WINNING_SIGN and self.gap > WINNING_GAP:
            return (
                f"the discriminator tells {(1 + self.sign) / 2:.1%} of all pairs apart, and so surely (by "
                f"{self.gap:.1f} between logits) that the generator learns little from it"
            )
        return ""

    def _patience(self, state: State) -> int:
        """How many observations in a row name a state; the signs of diverging look back over many steps themselves."""
        if state is State.DIVERGING:
            return 1
        return self.patience_ticks if state in (State.MODE_COLLAPSE, State.OVERFITTING) else self.patience

    def _note(self, state: State, reason: str) -> None:
        """Count one observation for (a reason) or against ('') a state."""
        self.streaks[state.value] = self.streaks.get(state.value, 0) + 1 if reason else 0
        if not reason:
            self.reasons.pop(state.value, None)
        elif self.streaks[state.value] >= self._patience(state):
            self.reasons[state.value] = reason

    def _diagnose(self) -> Diagnosis:
        """The first state that is named, and the next thing to try against it, if it is time."""
        state = next((state for state in State if state.value in self.reasons), State.HEALTHY)
        if state is State.HEALTHY:
            return Diagnosis(state, Action.NONE, "")
        if self.steps > self.next_try + CURED * self.cool_down:
            self.tries.clear()
        cures = [action for action in CURES[state] if action.value in self.cures]
        due = self.streaks[state.value] >= self._patience(state) and self.steps >= self.next_try
        if not due or not cures:
            return Diagnosis(state, Action.NONE, self.reasons[state.value])
        tried = self.tries.get(state.value, 0)
        self.tries[state.value] = tried + 1
        self.streaks[state.value] = 0
        self.next_try = self.steps + self.cool_down
        return Diagnosis(state, cures[min(tried, len(cures) - 1)], self.reasons[state.value])


def _sameness(signs: SetSigns) -> str:
    """Why the fakes are too much like each other, or ''."""
    if signs.diversity < ALIKE:
        return (
            f"the fixed latents give images only {signs.diversity:.2f} times as different from each other as real ones"
        )
    if signs.duplicates > REPEATING:
        return f"{signs.duplicates:.0%} of the images of the fixed latents nearly repeat another one"
    return ""


def _narrowness(signs: SetSigns) -> str:
    """Why the fakes show too few kinds of real image, or ''."""
    if signs.precision > PRECISE and signs.coverage < NARROW * signs.precision:
        return f"{signs.precision:.0%} of the fakes look real but lie near only {signs.coverage:.0%} of the real images"
    return ""
