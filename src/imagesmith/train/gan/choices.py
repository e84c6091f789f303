"""What a GAN's run decides from the pictures, the machine and the time: each decision with its reason in words."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from imagesmith.configs import GanConfig, RunConfig
from imagesmith.errors import ConfigError, not_one_of
from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.nets import DISCRIMINATORS, GENERATORS, NetSpec, build_net
from imagesmith.presets import GAN_PRESETS
from imagesmith.runtime.device import differentiates_twice_in_bf16
from imagesmith.train.clock import MOST_VALIDATING
from imagesmith.train.gan.augment import DRAWS
from imagesmith.train.gan.pictures import Pictures
from imagesmith.train.gan.start import FROM_PICTURES, Start
from imagesmith.train.machine import Arithmetic, choose_arithmetic, choose_batch, step_seconds
from imagesmith.train.pictures import told_of
from imagesmith.train.run import Session
from imagesmith.train.steps import GanTerms, Nets, gan_step

BATCHES = (32, 64, 128, 256)
ENOUGH = 0.6
"""Share of the best throughput that makes a batch large enough: a GAN needs steps more than it needs images."""
WIDTHS = (128, 96, 64, 48, 32)
"""Feature maps at the largest resolution, widest first."""
WORTH_IMAGES = 400_000
"""Images that a run should at least see: a wider network that sees fewer is behind a narrower one."""
PROBE_BATCH = 16
STEPS_OF_A_VALIDATION = 10
"""Steps between two validations at least, each of which makes thousands of images."""
GAMMA_PIXELS = 32 * 32
"""Pixels of the images for which a configured gamma is meant (it grows with them: Karras et al. 2020, appendix B)."""
STRENGTHS = ((5000, 0.0), (1000, 0.2), (0, 0.4))
"""Augmentation to begin with, by the least number of pictures: so few held-out ones tell too late of overfitting."""


@dataclass(frozen=True)
class NetPair:
    """Generator and discriminator by name and constructor options, as the run's choices carry them."""

    generator: dict[str, Any]
    discriminator: dict[str, Any]

    def build(self) -> Nets:
        """Both, freshly initialised from torch's global random numbers."""
        return {name: build_net(NetSpec(**spec)) for name, spec in asdict(self).items()}


def as_begun(config: GanConfig, start: Start) -> GanConfig:
    """The configuration with the networks of the run it starts from; ConfigError where the user asks for others."""
    for role, begun in start.parts.items():
        asked = getattr(config, role).model_dump(mode="json")
        odd = {key: value for key, value in asked["options"].items() if value != begun.options.get(key)}
        if asked["name"] != begun.name and not _is_presets(config, lambda each, role=role: getattr(each, role).name):
            odd = {"name": asked["name"]}
        if odd:
            options = ", ".join(f"{key} {value}" for key, value in begun.options.items())
            raise ConfigError(
                f"expected the {role} of '{start.name}' to start from it, {begun.name} with {options or 'no options'}, "
                f"got {', '.join(f'{key} {value}' for key, value in odd.items())}; leave that out, or start without it"
            )
    return config.model_copy(update=start.parts)


def decide(config: GanConfig, pictures: Pictures, session: Session) -> dict[str, Any]:
    """The choices of a new run: networks, arithmetic and batch; each is said with its reason."""
    wanted = configured_pair(config, pictures)
    names = f"{config.generator.name} against {config.discriminator.name}"
    session.say(f"network {names}: {_whose_nets(config, lambda each: (each.generator.name, each.discriminator.name))}")
    count, processes = len(pictures.training), session.world.size
    asked = asked_batch(config, count, processes)
    arithmetic, reason = choose_arithmetic(
        lambda candidate: _seconds(config, with_widths(wanted, pictures, WIDTHS[2]), candidate, PROBE_BATCH),
        session.device,
        config.run.dtype,
    )
    session.say(f"{arithmetic}: {reason}")
    pair, reason = choose_widths(
        config, wanted, pictures, lambda candidate: _seconds(config, candidate, arithmetic, PROBE_BATCH), processes
    )
    session.say(reason)
    batch, reason = choose_batch(
        lambda size: _seconds(config, pair, arithmetic, size),
        asked,
        processes,
        batches_within(count // processes),
        ENOUGH,
    )
    if asked == config.run.batch != "auto":
        reason = _whose(config, lambda each: each.run.batch)
    elif asked != config.run.batch:
        reason = f"what {count} pictures fill; {config.run.batch}, as the preset {config.preset} has it, are more"
    session.say(f"batch {batch}: {reason}")
    session.say(_told_rate(config))
    gamma, reason = _choose_gamma(config, pictures, arithmetic)
    session.say(reason)
    strength, reason = _choose_strength(config, pictures)
    session.say(reason)
    return {
        "arithmetic": vars(arithmetic),
        "batch": batch,
        "nets": asdict(pair),
        "pictures": told_of(pictures.whole, pictures.held_out),
        "gamma": gamma,
        "strength": strength,
    }


def asked_batch(config: GanConfig, count: int, processes: int) -> int | str:
    """The configured batch, or where it is as the preset has it, what `count` pictures fill of it.

    ConfigError where they do not fill another one, which only a user can have chosen.
    """
    most = batches_within(count // processes)[-1] * processes
    asked = most if config.run.batch == "auto" else int(config.run.batch)
    if asked <= count:
        return config.run.batch
    preset = GAN_PRESETS.get(config.preset)
    if most <= count and preset and preset(data="", out="").run.batch == asked:
        return most
    advice = f"--set run.batch={most}" if most <= count else f"add some, or use {count} process{'es' * (count > 1)}"
    raise ConfigError(f"expected a batch of at most the {count} pictures to train on, got {asked}; {advice}")


def batches_within(count: int) -> tuple[int, ...]:
    """Those of `BATCHES` that so few pictures fill, or else the largest power of two that they do."""
    return tuple(size for size in BATCHES if size <= count) or (1 << (max(1, count).bit_length() - 1),)


def _whose(config: GanConfig, setting: Callable[[GanConfig], Any]) -> str:
    """Who has decided a setting, in words."""
    return f"as the preset {config.preset} has it" if _is_presets(config, setting) else "as asked"


def _whose_nets(config: GanConfig, setting: Callable[[GanConfig], Any]) -> str:
    """Who has decided a setting of the networks: the run that they come from, where they do."""
    return f"as in '{Path(config.start_from).name}'" if config.start_from else _whose(config, setting)


def _is_presets(config: GanConfig, setting: Callable[[GanConfig], Any]) -> bool:
    """Whether the preset has decided a setting; the user has, where it is another than the preset's."""
    preset = GAN_PRESETS.get(config.preset)
    return preset is not None and setting(preset(data="", out="")) == setting(config)


def with_validations(config: GanConfig, batch: int, session: Session) -> RunConfig:
    """The run with as many validations as its steps are worth, where it is one of so many images; said if fewer.

    The clock bounds them in a run of minutes; here time may decide nothing, as the same run has to come out again.
    """
    run = config.run
    if run.images is None or not _is_presets(config, lambda each: each.run.validations):
        return run
    steps = math.ceil(run.images / batch)
    most = max(1, steps // STEPS_OF_A_VALIDATION)
    if most >= run.validations:
        return run
    session.say(f"validations {most}: the run has {steps:,} steps, and {STEPS_OF_A_VALIDATION} are worth one")
    return run.model_copy(update={"validations": most})


def _told_rate(config: GanConfig) -> str:
    """The learning rate over the run, and whose choice it is."""
    optim = config.optim
    course = [f"rises over {optim.warm_up:.0%} of the run"] if optim.warm_up else []
    if optim.plateau < 1 and optim.final < 1:
        course.append(f"falls from {optim.plateau:.0%} on to {optim.final:g} of it")
    whose = _whose(config, lambda each: each.optim)
    return f"learning rate {optim.learning_rate:g}: {', '.join(course) or 'constant'}; {whose}"


def _choose_gamma(config: GanConfig, pictures: Pictures, arithmetic: Arithmetic) -> tuple[dict[str, float], str]:
    """The weight of each penalty at the start, and why."""
    whose = _whose(config, lambda each: each.penalties)
    if not config.penalties:
        return {}, f"no gradient penalty with the objective {config.objective}, {whose}"
    height, width = pictures.size
    factor = height * width / GAMMA_PIXELS
    gamma = {name: value * (factor if name in ("r1", "r2") else 1.0) for name, value in config.penalties.items()}
    listing = ", ".join(f"{name} {value:g}" for name, value in gamma.items())
    grows = f"r1 and r2 in proportion to the {width}x{height} pixels"
    reasons = [grows if {"r1", "r2"} & gamma.keys() else whose]
    if config.penalty_final < 1:
        reasons.append(f"falling to {config.penalty_final:g} of it")
    if arithmetic.dtype == "fp16":
        reasons.append("computed in fp32, as small slopes vanish in fp16")
    if arithmetic.device == "cpu" and arithmetic.dtype == "bf16" and not differentiates_twice_in_bf16():
        reasons.append("computed in fp32, as this processor gets second derivatives wrong in bf16")
    return gamma, f"gamma {listing}: {', '.join(reasons)}"


def _choose_strength(config: GanConfig, pictures: Pictures) -> tuple[float, str]:
    """How often augmentation acts at the start, and why."""
    wanted, count = config.augment.strength, pictures.different
    if wanted != "adaptive":
        return float(wanted), f"augmentation {wanted:g}, {_whose(config, lambda each: each.augment.strength)}"
    start = next(strength for least, strength in STRENGTHS if count >= least)
    if not len(pictures.held_out):
        return start, f"augmentation {start:g} for {count:,} pictures; none is kept apart by which to adapt it"
    return start, (
        f"augmentation from {start:g} for {count:,} pictures; it rises while the discriminator knows them better than "
        f"the {len(pictures.held_out):,} kept apart"
    )


def configured_pair(config: GanConfig, pictures: Pictures) -> NetPair:
    """The configured networks with what the pictures say: size, channels, classes."""
    own = dict(zip(FROM_PICTURES, (list(pictures.size), pictures.channels, pictures.classes), strict=True))
    set_by = {"size": "data.size", "channels": "data.channels", "classes": "data.labels"}
    for role, part, table in (
        ("a generator", config.generator, GENERATORS),
        ("a discriminator", config.discriminator, DISCRIMINATORS),
    ):
        if part.name not in table:
            raise ConfigError(not_one_of(role, part.name, table))
        for key in own:
            if key in part.options:
                raise ConfigError(
                    f"expected no option '{key}' of {role}: it comes from the pictures; set {set_by[key]}"
                )
    return NetPair(*(asdict(NetSpec(p.name, own | p.options)) for p in (config.generator, config.discriminator)))


def choose_widths(
    config: GanConfig, wanted: NetPair, pictures: Pictures, measure: Callable[[NetPair], float], processes: int
) -> tuple[NetPair, str]:
    """The widest networks that still see `WORTH_IMAGES` in the time given; those asked for, where they are.

    Of the time, validations leave three quarters. `measure` tells the seconds in which each of the processes trains a
    pair on `PROBE_BATCH` images.
    """
    if not _is_free(wanted.generator) and not _is_free(wanted.discriminator):
        return wanted, f"widths {_whose_nets(config, lambda each: (each.generator, each.discriminator))}"
    if config.run.minutes is None:
        return with_widths(wanted, pictures, 64), "width 64 where the length is given in images"
    seen: dict[int, int] = {}
    for width in WIDTHS:
        seconds = measure(with_widths(wanted, pictures, width))
        steps = config.run.minutes * 60 * (1 - MOST_VALIDATING) / seconds
        seen[width] = int(steps * PROBE_BATCH * processes)  # 0 where memory does not hold it
        if seen[width] >= WORTH_IMAGES:
            break
    width, listing = min(seen), ", ".join(f"{width}: {images:,}" for width, images in seen.items())
    reason = f"width {width}: the widest that sees {WORTH_IMAGES:,} images in the time ({listing})"
    if seen[width] < WORTH_IMAGES:
        reason = (
            f"width {width}, the narrowest, and even so the time is short: a run should see {WORTH_IMAGES:,} images, "
            f"this one will see about {seen[width]:,}"
        )
    return with_widths(wanted, pictures, width), reason


def _is_free(spec: dict[str, Any]) -> bool:
    return spec["name"].startswith("rpgan") and "widths" not in spec["options"]


def with_widths(pair: NetPair, pictures: Pictures, width: int) -> NetPair:
    """Both networks with `width` feature maps at the largest resolution, doubling downwards to four times as many."""
    specs = []
    for spec in asdict(pair).values():
        options = spec["options"]
        if _is_free(spec):
            stages = stages_of(pictures.size, options.get("patch", 2))
            options = options | {"widths": [width * min(4, 2 ** (stages - 1 - k)) for k in range(stages)]}
        specs.append({"name": spec["name"], "options": options})
    return NetPair(*specs)


def stages_of(size: tuple[int, int], patch: int) -> int:
    """Stages of a residual network: as many as leave sides of 3 pixels and more; ConfigError for odd sizes."""
    stages = 1
    while all(side % (patch << stages) == 0 and side // (patch << stages) >= 3 for side in size):
        stages += 1
    if any(side % patch or side // (patch << (stages - 1)) > 8 for side in size):
        raise ConfigError(
            f"expected a height and width of 3 to 8 times the same power of two, got {size[0]}x{size[1]}; set data.size"
        )
    return stages


def _seconds(config: GanConfig, pair: NetPair, arithmetic: Arithmetic, batch: int) -> float:
    """Seconds of a training step; infinity without memory for it."""
    with torch.random.fork_rng(devices=[]):
        nets = pair.build()
    terms = GanTerms(OBJECTIVES[config.objective], **config.penalties, penalty_share=config.penalty_share)
    rng = torch.Generator().manual_seed(0)
    generator: Any = nets["generator"]
    height, width = generator.size
    parts = (
        torch.randint(0, 256, (batch, generator.channels, height, width), generator=rng, dtype=torch.uint8),
        torch.randint(0, max(1, generator.classes), (batch,), generator=rng),
        torch.randn(batch, generator.latent_size, generator=rng),
        torch.rand(batch, 2, *DRAWS, generator=rng),
        torch.rand(batch, generator=rng),
    )
    return step_seconds(nets, arithmetic, lambda nets, batch: gan_step(nets, batch, terms), *parts)
