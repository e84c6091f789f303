"""Training a restorer: from a configuration to a run folder that holds a model.

The run folder: `config.json`, `model.safetensors` (the best average so far), `checkpoints/`, `history.jsonl`,
`console.log`, `tensorboard/`, `curve.svg` (validation), `samples/` (degraded | restored | target). The same call again
resumes it.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.atomic import write_whole
from imagesmith.configs import RestorerConfig, load_config
from imagesmith.data.datasets import DegradedPatches, load_photos
from imagesmith.data.loader import endless_batches
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ConfigError, not_one_of
from imagesmith.losses import LOSSES
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.checkpoint import load_newest
from imagesmith.runtime.device import Net
from imagesmith.runtime.dist import World, join_world, leave_world
from imagesmith.runtime.lock import sole_writer
from imagesmith.runtime.log import RunLog
from imagesmith.train.loop import Flow, fit
from imagesmith.train.machine import Arithmetic, choose_arithmetic, choose_batch, choose_device, choose_workers
from imagesmith.train.state import Plan, TrainState, new_state
from imagesmith.train.steps import restore_step
from imagesmith.train.validation import Validation
from imagesmith.zoo import load_model

UNPLANNED = 1 << 40
"""Images of a run whose length is given in minutes, until its first step tells its speed."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    images_seen: int
    best: dict[str, float]
    """Validation score of the model, and the images seen when it was reached."""

    @property
    def model(self) -> Path:
        """The weights, as `Restorer.load` takes them."""
        return self.folder / "model.safetensors"


def train_restorer(config: RestorerConfig, *, quiet: bool = False) -> Run:
    """Train, or go on with, the run that `config` describes; under torchrun all processes train one network.

    NothingUsableError without photographs, ConfigError for contradictions or a run folder of another configuration.
    """
    device = choose_device(config.run.device)
    world = join_world(device)
    if world.size > 1 and device == "cuda":
        device = f"cuda:{world.local_rank}"
    try:
        with ExitStack() as held:
            run = _train(config, device, world, held, quiet)
        world.meet()
        return run
    finally:
        leave_world()


def _train(config: RestorerConfig, device: str, world: World, held: ExitStack, quiet: bool) -> Run:
    folder = Path(config.run.out)
    chain = _build_chain(config)
    torch.manual_seed(config.run.seed)
    net = _initial_net(config, chain)
    world.lead(lambda: held.enter_context(sole_writer(folder)))
    world.lead(lambda: _claim(folder, config))
    newest = world.lead(lambda: load_newest(folder / "checkpoints", lambda text: print(text, file=sys.stderr)))
    photos = load_photos(
        config.data.folder,
        config.data.validation_images,
        least_px=chain.scale * 16,
        memory_bytes=config.data.memory_gb * 1e9 / sum(factor**2 for factor in config.data.shrink),
    )
    log = RunLog(folder, newest[1]["images_seen"] if newest else 0, quiet=quiet) if world.is_leader else None
    state, arithmetic = _begin(config, net, newest, device=device, world=world, log=log)
    workers, reason = choose_workers(config.data.workers, arithmetic.device)
    if log:
        for skipped in photos.skipped:
            log.say(f"skipped {skipped}")
        if photos.most_px:
            log.say(f"of large photographs only the middle {photos.most_px} pixels: data.memory_gb holds no more")
        log.say(f"{len(photos.training)} photographs to train on, {len(photos.validation)} kept apart for validation")
        log.say(f"{workers} worker processes: {reason}")
    dataset = DegradedPatches(
        photos.training, chain, patch_px=config.data.patch_px, shrink=config.data.shrink, seed=config.run.seed
    )
    flow = Flow(
        batches=lambda start: endless_batches(
            dataset,
            start,
            state.choices["batch"],
            workers=workers,
            rank=world.rank,
            world=world.size,
            pin=arithmetic.device != "cpu",
        ),
        step=partial(restore_step, losses=config.losses),
        validate=Validation(config, photos, chain, arithmetic, log),
    )
    fit(state, flow, optim=config.optim, run=config.run, arithmetic=arithmetic, world=world, log=log)
    if log:
        score = f"{state.best['psnr_y']:.3f} dB at {state.best['images_seen']:,.0f} images"
        log.say(f"done: best validation psnr_y {score}; model in {folder / 'model.safetensors'}")
        log.close()
    return Run(folder, state.images_seen, state.best)


def _build_chain(config: RestorerConfig) -> Chain:
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in config.degradations))
    for name in config.losses:
        if name not in LOSSES:
            raise ConfigError(not_one_of("a loss", name, LOSSES))
    return chain


def _initial_net(config: RestorerConfig, chain: Chain) -> Net:
    """The network to start from: random, with every layer that fits taken over from `start_from`."""
    net = build_net(NetSpec(config.net.name, config.net.options))
    if net.scale != chain.scale:
        raise ConfigError(
            f"expected network and degradations of one scale, got x{net.scale} and x{chain.scale}; change net.options"
        )
    if config.start_from is None:
        return net
    own, given = net.state_dict(), load_model(config.start_from).net.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigError(f"no layer of '{config.start_from}' fits the network {config.net.name} {config.net.options}")
    net.load_state_dict(own | fitting)
    return net


def _claim(folder: Path, config: RestorerConfig) -> None:
    """Write the configuration into a new run folder, or check that the old one is the same but for its length."""
    path = folder / "config.json"
    if path.exists():
        before, now = (_flat(c.model_dump(mode="json")) for c in (load_config(path), config))
        free = ("run.out", "run.minutes", "run.images", "run.checkpoint_minutes", "data.workers")
        changed = [key for key in now if key not in free and before.get(key) != now[key]]
        if changed:
            key = changed[0]
            raise ConfigError(
                f"run folder {folder} was started with {key} = {before.get(key)!r}, not {now[key]!r}; "
                "use another folder, or the same configuration to go on"
            )
    write_whole(path, config.model_dump_json(indent=2) + "\n")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {key: leaf for name in values for key, leaf in _flat(values[name], f"{prefix}.{name}".strip(".")).items()}


def _begin(
    config: RestorerConfig,
    net: Net,
    newest: tuple[dict[str, Tensor], Any] | None,
    *,
    device: str,
    world: World,
    log: RunLog | None,
) -> tuple[TrainState, Arithmetic]:
    """A state at its newest checkpoint, or a fresh one with what the leader's machine decided."""
    say, run = log.say if log else (lambda text: None), config.run

    def decide() -> dict[str, Any]:
        patch = (16, net.channels, config.data.patch_px, config.data.patch_px)
        arithmetic, reason = choose_arithmetic(net, patch, device, run.dtype)
        say(f"{arithmetic}: {reason}")
        batch, reason = choose_batch(net, arithmetic, patch, run.batch, world.size)
        say(f"batch {batch}: {reason}")
        return {"arithmetic": vars(arithmetic), "batch": batch}

    choices = newest[1]["choices"] if newest else world.lead(decide)
    arithmetic = Arithmetic(**choices["arithmetic"] | {"device": device})
    state = new_state({"restorer": arithmetic.prepare(net)}, config.optim, Plan(run.images or UNPLANNED), choices)
    if newest:
        state.load(*newest)
        say(f"resumed at {state.images_seen:,} images, {state.progress:.1%} of the run, on {arithmetic}")
        if state.progress == 1:
            say("it is finished, with its learning rate at the end; to go on, start another from it (start_from)")
        elif run.images and run.images != state.plan.end_images:
            state.plan = state.plan.again(state.images_seen, max(1, run.images - state.images_seen))
    return state, arithmetic
