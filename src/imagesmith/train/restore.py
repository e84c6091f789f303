"""Training a restorer: from a configuration to a run folder that holds a model.

Besides what `train/run.py` tells, the run folder holds `curve.svg` (validation) and `samples/` (degraded | restored |
target).
"""

import math
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagesmith.configs import AdversarialConfig, RestorerConfig, check_kind
from imagesmith.data.datasets import DegradedPatches, Given, PairedPatches, PhotoFolder, load_photos
from imagesmith.data.pairs import PairFolder, load_pairs
from imagesmith.degrade import Chain, build_degradation
from imagesmith.degrade.deconvolved import Deconvolved
from imagesmith.errors import ConfigError, not_one_of
from imagesmith.losses import LOSSES
from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.nets import PATCH_DISCRIMINATORS, RESTORERS, NetSpec, build_net
from imagesmith.nets.deconvolved import DeconvolvedUNet
from imagesmith.runtime.device import Net
from imagesmith.runtime.guard import Guard
from imagesmith.train.loop import Flow, fit
from imagesmith.train.machine import (
    Arithmetic,
    choose_arithmetic,
    choose_batch,
    choose_compiled,
    choose_workers,
    step_seconds,
)
from imagesmith.train.pictures import check_same, say_skipped, told_of_photos
from imagesmith.train.run import Run, Session, open_run
from imagesmith.train.steps import Nets, SharpTerms, Step, restore_gan_step, restore_step
from imagesmith.train.validation import Validation
from imagesmith.zoo import load_model
from imagesmith.zoo.features import load_features


def train_restorer(config: RestorerConfig, *, quiet: bool = False) -> Run:
    """Train, or go on with, the run that `config` describes; under torchrun all processes train one network.

    NothingUsableError without photographs, ConfigError for contradictions or a run folder of another configuration.
    """
    check_kind(config, RestorerConfig)
    chain = build_chain(config)
    torch.manual_seed(config.run.seed)
    net = _initial_net(config, chain)
    with open_run(config, quiet=quiet) as session:
        if config.start_from is not None and session.newest is None:
            left = take_over(net, config.start_from)
            if left is not None:
                session.say(left)
        return _train(config, chain, net, session)


def _train(config: RestorerConfig, chain: Chain | Given, net: Net, session: Session) -> Run:
    photos = load_training_photos(config, chain)
    nets: Nets = {"restorer": net}
    step: Step = partial(restore_step, losses=config.losses)
    if config.adversarial:
        nets["discriminator"] = build_discriminator(config.adversarial, net, config.data.patch_px)
        terms = sharp_terms(config.adversarial, session.device, config.run.dtype)
        step = partial(restore_gan_step, losses=config.losses, terms=terms)
    told = told_of_photos(photos.training, photos.validation)
    check_same(told, "photos", config.data.folder, session)
    choices, arithmetic = session.choices(lambda: _decide(config, chain, nets, step, session) | {"photos": told})
    # a discriminator's loss leaps, and comes back: for the loop's guard a leap is none of its business
    spike = math.inf if config.adversarial else Guard.spike
    nets = {name: arithmetic.prepare(each) for name, each in nets.items()}
    state = session.state(nets, choices, averaged=["restorer"], spike=spike)
    session.compile(state, "restorer")
    workers, reason = choose_workers(config.data.workers, arithmetic.device)
    say_skipped(photos.skipped, session)
    for sentence in what_is_used(photos):
        session.say(sentence)
    session.say(f"{workers} worker processes: {reason}")
    dataset = training_patches(config, photos, chain)
    validation = Validation(config, photos, chain, arithmetic, session.log, multiple=net.multiple_of)
    if (config.adversarial or config.start_from) and "start" not in state.extras:
        state.extras["start"], state.best = session.world.lead(
            lambda: (validation.before_the_first_step(state), state.best)
        )
        session.say("before the first step: " + ", ".join(f"{k} {v:.3f}" for k, v in state.extras["start"].items()))
    flow = Flow(
        batches=session.batches(dataset, state, workers),
        step=step,
        validate=validation,
        rehearse=validation.rehearse,
        rate_factors={"discriminator": config.adversarial.rate_factor} if config.adversarial else {},
    )
    fit(
        state,
        flow,
        optim=config.optim,
        run=config.run,
        arithmetic=arithmetic,
        world=session.world,
        log=session.log,
    )
    run = Run(session.folder, state.images_seen, state.best)
    if session.log:
        score = f"{state.best['psnr_y']:.3f} dB at {state.best['images_seen']:,.0f} images"
        session.say(f"done: best validation psnr_y {score}; model in {run.model}")
        if state.best["images_seen"] == 0:
            first = f"'{config.start_from}' itself" if validation.start else "what it began with"
            session.say(f"nothing was better than {first}, which that model is")
    return run


def what_is_used(photos: PhotoFolder | PairFolder) -> Iterator[str]:
    """In words, how many pictures there are to train on, and which part of them."""
    if photos.most_px:
        yield f"of large {photos.unit} only the middle {photos.most_px} pixels: data.memory_gb holds no more"
    yield f"{len(photos.training)} {photos.unit} to train on, {len(photos.validation)} kept apart for validation"


def build_discriminator(sharp: AdversarialConfig, net: Net, patch_px: int) -> nn.Module:
    """The network that judges what `net` makes of patches; ConfigError where it does not fit them."""
    part = sharp.discriminator
    if part.name not in PATCH_DISCRIMINATORS:
        raise ConfigError(not_one_of("a patch discriminator", part.name, PATCH_DISCRIMINATORS))
    discriminator: Any = build_net(NetSpec(part.name, {"channels": net.channels} | part.options))
    if patch_px * net.scale % discriminator.multiple_of:
        raise ConfigError(
            f"expected patches that are a multiple of {discriminator.multiple_of} pixels for '{part.name}', got "
            f"{patch_px} x {net.scale}; change data.patch_px"
        )
    return discriminator


def sharp_terms(sharp: AdversarialConfig, device: str, dtype: str) -> SharpTerms:
    """What adversarial training weighs; the perceptual loss' own network waits on the device."""
    features: Any = None
    if sharp.perceptual > 0:
        features = Arithmetic(device, dtype, channels_last=True).prepare(load_features(sharp.features))
    return SharpTerms(
        objective=OBJECTIVES[sharp.objective],
        weight=sharp.weight,
        penalty_share=sharp.penalty_share,
        perceptual=sharp.perceptual,
        perceptual_share=sharp.perceptual_share,
        features=features,
        **sharp.penalties,
    )


def check_losses(losses: Iterable[str]) -> None:
    """ConfigError for a loss that does not exist."""
    for name in losses:
        if name not in LOSSES:
            raise ConfigError(not_one_of("a loss", name, LOSSES))


def take_over(net: Net, source: str, prefix: str = "", *, later: str | None = None) -> str | None:
    """Give `net` those layers, below `prefix` in it, that another model has under the same name and shape.

    Returns in words how much that was and what is new, None where nothing is; layers below `later`, which another model
    is to give, are not. ConfigError where it is less than half of the smaller one of the two. A model that has the
    prefix itself gives what lies below it.
    """
    own = {name: value for name, value in net.state_dict().items() if name.startswith(prefix)}
    given = load_model(source).net.state_dict()
    below = {name: value for name, value in given.items() if name.startswith(prefix)}
    given = below or {prefix + name: value for name, value in given.items()}
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    taken, wanted, offered = (sum(value.numel() for value in layers.values()) for layers in (fitting, own, given))
    if 2 * taken < min(wanted, offered):
        raise ConfigError(
            f"expected a model that fits the network {type(net).__name__.lower()} by half at least, got {taken:,} of "
            f"{wanted:,} numbers from '{source}'; choose another, or begin with none (start_from=null)"
        )
    net.load_state_dict(net.state_dict() | fitting)
    new = [name for name in own if name not in fitting and not (later and name.startswith(later))]
    return f"took {taken:,} of {wanted:,} numbers from '{source}'; new: {', '.join(new)}" if new else None


def _decide(
    config: RestorerConfig, chain: Chain | Given, nets: dict[str, Any], step: Step, session: Session
) -> dict[str, Any]:
    """Arithmetic and batch for this machine, each said with its reason."""
    net = nets["restorer"]

    def seconds(arithmetic: Arithmetic, batch: int, compiled: Collection[str] = ()) -> float:
        side, rng = config.data.patch_px, torch.Generator().manual_seed(0)
        degraded = torch.rand(batch, net.channels + net.planes, side, side, generator=rng)
        target = torch.rand(batch, net.channels, side * chain.scale, side * chain.scale, generator=rng)
        return step_seconds(nets, arithmetic, step, degraded, target, compiled=compiled)

    arithmetic, reason = choose_arithmetic(lambda candidate: seconds(candidate, 16), session.device, config.run.dtype)
    session.say(f"{arithmetic}: {reason}")
    batch, reason = choose_batch(lambda size: seconds(arithmetic, size), config.run.batch, session.world.size)
    session.say(f"batch {batch}: {reason}")
    compiled, reason = choose_compiled(
        lambda wanted: seconds(arithmetic, batch // session.world.size, ["restorer"] * wanted),
        config.run,
        batch,
        session.device,
    )
    session.say(f"{'compiled' if compiled else 'not compiled'}: {reason}")
    return {"arithmetic": vars(arithmetic), "batch": batch, "compiled": compiled}


def build_chain(config: RestorerConfig) -> Chain | Given:
    """The degradations of a configuration; ConfigError for names and options that do not exist."""
    check_losses(config.losses)
    net: Any = build_net(NetSpec(config.net.name, config.net.options))
    deconvolves = isinstance(net, DeconvolvedUNet)
    if config.data.degraded is None:
        chain = Chain(tuple(build_degradation(part.name, part.options) for part in config.degradations))
        return Chain((Deconvolved(chain),)) if deconvolves else chain
    if config.task == "inpaint":
        raise ConfigError("expected a recipe with holes, got given pairs, which do not tell where theirs are")
    return Given(net.scale, net.planes, deconvolves)


def load_training_photos(config: RestorerConfig, chain: Chain | Given) -> PhotoFolder | PairFolder:
    """The photographs or pairs of a run, decoded, checked and split; NothingUsableError if there are none."""
    if config.data.degraded is not None:
        pairs = load_pairs(
            Path(config.data.degraded),
            Path(config.data.folder),
            config.data.validation_images,
            least_px=config.data.patch_px,
            memory_bytes=config.data.memory_gb * 1e9,
        )
        if pairs.scale != chain.scale:
            raise ConfigError(
                f"expected pairs of the network's scale, x{chain.scale}, got targets {pairs.scale} times as large; "
                "choose another preset, or change net.options"
            )
        return pairs
    return load_photos(
        config.data.folder,
        config.data.validation_images,
        least_px=chain.scale * 16,
        # the photographs stay, beside their smaller copies
        memory_bytes=config.data.memory_gb * 1e9 / (1 + sum(factor**2 for factor in config.data.shrink if factor < 1)),
    )


def training_patches(
    config: RestorerConfig, photos: PhotoFolder | PairFolder, chain: Chain | Given
) -> DegradedPatches | PairedPatches:
    """The pairs of patches that a run learns from."""
    if isinstance(photos, PairFolder):
        assert isinstance(chain, Given), "pairs are given"
        return PairedPatches(
            photos.training, chain, patch_px=config.data.patch_px, seed=config.run.seed, gray=config.data.gray
        )
    assert isinstance(chain, Chain), "photographs are degraded by a recipe"
    return DegradedPatches(
        photos.training,
        chain,
        patch_px=config.data.patch_px,
        shrink=config.data.shrink,
        seed=config.run.seed,
        gray=config.data.gray,
    )


def _initial_net(config: RestorerConfig, chain: Chain | Given) -> Net:
    """The network of a configuration, randomly initialised; ConfigError where it does not fit the rest."""
    if config.net.name not in RESTORERS:
        raise ConfigError(not_one_of("a restorer of pictures", config.net.name, RESTORERS))
    net: Net = build_net(NetSpec(config.net.name, config.net.options))
    if net.scale != chain.scale:
        raise ConfigError(
            f"expected network and degradations of one scale, got x{net.scale} and x{chain.scale}; change net.options"
        )
    if net.planes != chain.planes:
        raise ConfigError(
            f"expected a network with the {chain.planes} planes that '{config.degradations[-1].name}' appends, "
            f"got {net.planes}; change net.options.planes"
        )
    if config.data.patch_px % net.multiple_of:
        raise ConfigError(
            f"expected patches of a multiple of {net.multiple_of} pixels for '{config.net.name}', got "
            f"{config.data.patch_px}; change data.patch_px"
        )
    return net
