"""Training a GAN: from a configuration and a folder of pictures to a run folder that holds a generator.

Besides what `train/run.py` tells, the run folder holds `reals.png`, `samples/` (the same latents at every validation)
and `curves.png`.
"""

import math
from collections.abc import Callable, Hashable, Iterator

import torch

from imagesmith.configs import GanConfig, check_kind
from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.train.gan.augment import Augment
from imagesmith.train.gan.choices import NetPair, as_begun, decide, with_validations
from imagesmith.train.gan.pictures import divided_pictures, gan_batches
from imagesmith.train.gan.start import Start
from imagesmith.train.gan.validation import GanValidation, describe_best
from imagesmith.train.gan.watch import GanWatch
from imagesmith.train.loop import Batch, Flow, fit
from imagesmith.train.run import Run, open_run
from imagesmith.train.state import TrainState
from imagesmith.train.steps import GanTerms, Nets, Turn, Weight, gan_step, is_off, latent_size
from imagesmith.train.turns import Dials


def train_gan(config: GanConfig, *, quiet: bool = False) -> Run:
    """Train, or go on with, the run that `config` describes; under torchrun all processes train one pair of networks.

    NothingUsableError without pictures, ConfigError for contradictions or a run folder of another configuration,
    TrainingError where the guard gave up; the best generator so far is then kept.
    """
    check_kind(config, GanConfig)
    with open_run(config, quiet=quiet) as session:
        start = None
        if config.start_from and not session.newest:
            start = Start.of(config.start_from, session.say)
        pictures = divided_pictures(config.data, session)
        begun = as_begun(config, start) if start else config
        choices, arithmetic = session.choices(lambda: decide(begun, pictures, session))
        torch.manual_seed(config.run.seed)
        nets = NetPair(**choices["nets"]).build()
        if start:
            start.give(nets, pictures.whole.class_names, session.say)
        nets = {name: arithmetic.prepare(net) for name, net in nets.items()}
        # two networks that compete leap, and come back: what that means is the watch's business, not the loop's guard's
        state = session.state(nets, choices, averaged=["generator"], spike=math.inf)
        session.compile(state, "generator")
        watch = GanWatch(config, pictures, state, arithmetic, session)
        comes_and_goes = ("strength",) if config.augment.strength == "adaptive" else ()
        step = _GanStep(config, state, Dials(session.device, comes_and_goes))
        validation = GanValidation(config, pictures, arithmetic, session, watch)
        flow = Flow(
            batches=lambda start: gan_batches(
                pictures,
                config,
                start=start,
                batch=choices["batch"],
                latent_size=latent_size(nets["generator"]),
                rank=session.world.rank,
                world=session.world.size,
            ),
            step=step,
            before=step.set_terms,
            validate=validation,
            rehearse=validation.rehearse,
            watch=watch.step,
            went_back=watch.went_back,
            slows_down=config.guard == "act",
        )
        fit(
            state,
            flow,
            optim=config.optim,
            run=with_validations(config, choices["batch"], session),
            arithmetic=arithmetic,
            world=session.world,
            log=session.log,
        )
        run = Run(session.folder, state.images_seen, state.best)
        session.say(f"done: {describe_best(state)}; generator in {run.model}")
        return run


class _GanStep:
    """`gan_step` with the weights of this moment of the run."""

    def __init__(self, config: GanConfig, state: TrainState, dials: Dials) -> None:
        self.config, self.state, self.dials = config, state, dials

    def set_terms(self) -> Hashable:
        """Weigh the coming step; which of its terms there are at all."""
        self.terms = terms_at(self.config, self.state, self.dials.set)
        return self.terms.augment is None, *(is_off(getattr(self.terms, name)) for name in self.state.choices["gamma"])

    def __call__(self, nets: Nets, batch: Batch) -> Iterator[Turn]:
        return gan_step(nets, batch, self.terms)


def terms_at(
    config: GanConfig, state: TrainState, dial: Callable[[str, float], Weight] = lambda _, value: value
) -> GanTerms:
    """What a step weighs now: the penalties fall with progress and rise by the guard, as augmentation does.

    `dial` says where the step finds a number of this name.
    """
    fall = (1 + math.cos(math.pi * state.progress)) / 2
    factor = config.penalty_final + (1 - config.penalty_final) * fall
    factor *= state.extras["gamma_factor"]
    weights = {name: dial(name, gamma * factor) for name, gamma in state.choices["gamma"].items()}
    strength = dial("strength", state.extras["strength"]["strength"])
    # mirrored pictures are part of the data where that is allowed, and nowhere else
    augment = Augment(flip=config.data.flip)
    return GanTerms(
        objective=OBJECTIVES[config.objective],
        augment=(lambda images, draws: augment.apply(images, strength, draws)) if not is_off(strength) else None,
        penalty_share=config.penalty_share,
        fresh_fakes=config.run.accumulate > 1,
        **weights,
    )
