"""The guard of a GAN's run: it measures, asks `train/gan/health.py` what that means, acts, and writes down why."""

from dataclasses import asdict

import torch
from torch import Tensor

from imagesmith.configs import GanConfig
from imagesmith.errors import TrainingError
from imagesmith.runtime.guard import Verdict
from imagesmith.tensors import generator_for
from imagesmith.train.gan.augment import AdaptiveStrength
from imagesmith.train.gan.health import AIMED_GAP, Action, Diagnosis, Health, PairSigns, SetSigns, State, held_out_gap
from imagesmith.train.gan.pictures import Pictures
from imagesmith.train.machine import Arithmetic
from imagesmith.train.run import Session
from imagesmith.train.state import TrainState
from imagesmith.train.steps import as_reals, has_classes, latent_size

LOOK_EVERY = 16
"""Steps between two looks at how the discriminator judges images that it never trains on."""
LOOK_IMAGES = 64
FEW_PICTURES = 200
OFTEN = 100
"""A set of fewer pictures, each shown so many times, is known by heart whatever the held-out ones say."""
RECOVERY = 1.2
"""What a lowered learning rate is multiplied by at each validation that finds nothing amiss."""
_LOOK = 7  # keeps the random numbers of the looks apart from those of the training


class GanWatch:
    """Called after every step and at every validation; all its memory is in `state.extras`."""

    def __init__(
        self, config: GanConfig, pictures: Pictures, state: TrainState, arithmetic: Arithmetic, session: Session
    ) -> None:
        self.config, self.pictures, self.arithmetic, self.session = config, pictures, arithmetic, session
        adaptive = config.augment.strength == "adaptive"
        if not state.extras:
            state.extras = {
                "health": asdict(Health(cures=self._cures(adaptive))),
                "strength": asdict(
                    AdaptiveStrength(
                        target=AIMED_GAP, speed_images=config.augment.speed_images, strength=state.choices["strength"]
                    )
                ),
                "gamma_factor": 1.0,
                "healthy_at": 0,
                "roll_back": "",
                "too_few": False,
            }
        self.adaptive = adaptive

    def _cures(self, adaptive: bool) -> list[str]:
        cures = set(Action)
        if not self.config.penalties:
            cures.discard(Action.RAISE_GAMMA)
        if not adaptive:
            cures.discard(Action.RAISE_AUGMENTATION)
        return sorted(action.value for action in cures)

    def step(self, state: TrainState, values: dict[str, float]) -> tuple[Verdict, str]:
        """What an accepted step's scalars mean; TrainingError where nothing helps."""
        signs = PairSigns(
            pair_sign=values["logits/sign"],
            gap=values["logits/real"] - values["logits/fake"],
            generator_norm=values["norm/generator"],
            discriminator_norm=values["norm/discriminator"],
            penalty=values.get("penalty/r1", 0.0) + values.get("penalty/r2", 0.0),
        )
        health = Health(**state.extras["health"])
        diagnoses = [health.observe_step(signs)]
        if health.steps % LOOK_EVERY == 0:
            if len(self.pictures.held_out):
                # of the leader, because each process has its own running statistics of batch norm
                gap = self.session.world.agree(self.held_out_gap(state))
                diagnoses.append(health.observe_held_out(gap))
                self._adapt(state, gap)
            diagnoses += self._too_few(state)
        state.extras["health"] = asdict(health)
        for diagnosis in diagnoses:
            self._act(state, diagnosis)
        if reason := state.extras["roll_back"]:
            state.extras["roll_back"] = ""
            return Verdict.ROLL_BACK, reason
        return Verdict.ACCEPT, ""

    def went_back(self, state: TrainState) -> None:
        """Forget what was observed of the weights that a roll-back, this guard's or the loop's, has thrown away."""
        extras = state.extras
        health = Health(**extras["health"]).rolled_back()
        extras |= {"health": asdict(health), "healthy_at": min(extras["healthy_at"], state.images_seen)}

    def tick(self, state: TrainState, signs: SetSigns) -> Diagnosis:
        """What a look at the images of the fixed latents means."""
        health = Health(**state.extras["health"])
        diagnosis = health.observe_tick(signs, state.images_seen)
        state.extras["health"] = asdict(health)
        self._act(state, diagnosis)
        if diagnosis.state is State.HEALTHY and not any(health.streaks.values()):
            state.extras["healthy_at"] = state.images_seen
            self._recover(state)
        return diagnosis

    def _recover(self, state: TrainState) -> None:
        """Give back some of a learning rate that was lowered: what helped over a stumble need not last for the run."""
        if state.rate_factor < 1:
            state.rate_factor = min(1.0, state.rate_factor * RECOVERY)
            self.session.say(f"healthy: learning rate back to {state.rate_factor:.2f} of the plan")

    def _act(self, state: TrainState, diagnosis: Diagnosis) -> None:
        """Do what the diagnosis asks for, and say so."""
        if diagnosis.action in (Action.NONE, Action.SKIP_STEP):  # the loop's own guard skips
            return
        done = self._do(state, diagnosis) if self.config.guard == "act" else "nothing done, as guard is 'watch'"
        self._tell(state, f"{diagnosis}; {done}")

    def _tell(self, state: TrainState, text: str) -> None:
        self.session.say(f"guard at {state.images_seen:,} images: {text}")
        if self.session.log:
            self.session.log.note(text, state.images_seen)

    def _do(self, state: TrainState, diagnosis: Diagnosis) -> str:
        extras = state.extras
        match diagnosis.action:
            case Action.LOWER_RATE:
                state.rate_factor /= 2
                return f"learning rate lowered to {state.rate_factor:g} of the plan"
            case Action.RAISE_GAMMA:
                extras["gamma_factor"] *= 2
                return f"gamma raised to {extras['gamma_factor']:g} times the plan"
            case Action.RAISE_AUGMENTATION:
                strength = extras["strength"]
                strength["strength"] = min(strength["limit"], strength["strength"] + 0.2)
                return f"augmentation raised to {strength['strength']:.2f}"
            case Action.ROLL_BACK:
                extras |= {"roll_back": str(diagnosis), "back_to": extras["healthy_at"]}
                return "rolling back to the last healthy checkpoint"
            case _:
                best = "no generator was scored yet"
                if state.best:
                    model = self.session.folder / "model.safetensors"
                    best = f"best was at {state.best['images_seen']:,.0f} images, kept in {model}"
                raise TrainingError(f"stopped at {state.images_seen:,} images: {diagnosis}\n{best}")

    def _too_few(self, state: TrainState) -> list[Diagnosis]:
        """Once, when few pictures have been shown often: their held-out part, if any, is too small to tell of it."""
        count = self.pictures.different
        shown = state.images_seen / count
        if state.extras["too_few"] or count >= FEW_PICTURES or shown < OFTEN:
            return []
        state.extras["too_few"] = True
        action = Action.RAISE_AUGMENTATION if self.adaptive else Action.NONE
        reason = f"each of {count} pictures was shown {shown:.0f} times: a discriminator learns so few by heart"
        diagnosis = Diagnosis(State.OVERFITTING, action, reason)
        if action is Action.NONE:
            self._tell(state, f"{diagnosis}; more pictures would help")
        return [diagnosis]

    def _adapt(self, state: TrainState, gap: float) -> None:
        """Move the strength of augmentation by how much better the discriminator knows its training images."""
        if not self.adaptive:
            return
        strength = AdaptiveStrength(**state.extras["strength"])
        warning = strength.observe(gap, LOOK_EVERY * state.choices["batch"])
        state.extras["strength"] = asdict(strength)
        if warning:
            self.session.say(f"guard at {state.images_seen:,} images: {warning}")

    @torch.no_grad()
    def held_out_gap(self, state: TrainState) -> float:
        """Share of the discriminator's lead that it has on training images only; 0 where none are kept apart."""
        if not len(self.pictures.held_out):
            return 0.0
        rng = generator_for(self.config.run.seed, state.images_seen, _LOOK)
        generator, discriminator = state.averages["generator"], state.nets["discriminator"]
        known, labels = self.pictures.some(self.pictures.training, LOOK_IMAGES, rng)
        unknown, other_labels = self.pictures.some(self.pictures.held_out, LOOK_IMAGES, rng)
        latent = torch.randn(LOOK_IMAGES, latent_size(generator), generator=rng)
        fake_labels = labels[torch.arange(LOOK_IMAGES) % len(labels)]

        def placed(*parts: Tensor) -> tuple[Tensor, Tensor | None]:
            x, label = (self.arithmetic.place(part) for part in parts)
            return x, label if has_classes(generator) else None

        discriminator.eval()  # a look must not move the running statistics of batch norm
        with self.arithmetic.autocast():
            fake = generator(*placed(latent, fake_labels))
            known_logits = discriminator(*placed(as_reals(known, latent.dtype), labels))
            unknown_logits = discriminator(*placed(as_reals(unknown, latent.dtype), other_labels))
            fake_logits = discriminator(*placed(fake, fake_labels))
        discriminator.train()
        return held_out_gap(known_logits, unknown_logits, fake_logits)
