"""Training a restorer: from a configuration to a run folder that holds a model.

The run folder: `config.json`, `model.safetensors` (the best average so far), `checkpoints/`, `history.jsonl`,
`console.log`, `tensorboard/`, `samples/` (degraded | restored | target). The same call again resumes it.
"""

import datetime
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.atomic import write_whole
from imagesmith.configs import RestorerConfig, load_config
from imagesmith.data.datasets import DegradedPatches, PhotoFolder, degrade_whole, load_photos
from imagesmith.data.files import Frame, ImageMeta, write_image
from imagesmith.data.loader import endless_batches
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ConfigError, not_one_of
from imagesmith.losses import LOSSES
from imagesmith.metrics import METRICS
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.checkpoint import load_newest
from imagesmith.runtime.dist import World, join_world, leave_world
from imagesmith.runtime.lock import sole_writer
from imagesmith.runtime.log import RunLog
from imagesmith.tensors import from_float
from imagesmith.train.loop import Flow, fit
from imagesmith.train.machine import Arithmetic, choose_arithmetic, choose_batch, choose_device, choose_workers
from imagesmith.train.state import Plan, TrainState, new_state
from imagesmith.train.steps import restore_step
from imagesmith.zoo import describe, load_model, save_model

SHEET_ROWS = 4
SHEET_PX = 192
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
            return _train(config, device, world, held, quiet)
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
    photos = load_photos(config.data.folder, config.data.validation_images, chain.scale * 16)
    log = RunLog(folder, newest[1]["images_seen"] if newest else 0, quiet=quiet) if world.is_leader else None
    state, arithmetic = _begin(config, net, newest, device=device, world=world, log=log)
    workers, reason = choose_workers(config.data.workers, arithmetic.device)
    if log:
        for skipped in photos.skipped:
            log.say(f"skipped {skipped}")
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
        validate=_Validation(config, photos, chain, arithmetic, log).__call__,
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


def _initial_net(config: RestorerConfig, chain: Chain) -> nn.Module:
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
    net: nn.Module,
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


class _Validation:
    """Scores the averaged restorer on the photographs kept apart, keeps the best one, draws a sample sheet."""

    def __init__(
        self, config: RestorerConfig, photos: PhotoFolder, chain: Chain, arithmetic: Arithmetic, log: RunLog | None
    ) -> None:
        self.config, self.photos, self.arithmetic, self.log = config, photos, arithmetic, log
        self.pairs = [degrade_whole(photo, chain, k) for k, photo in enumerate(photos.validation)] if log else []
        self.folder = Path(config.run.out)
        self.crop = chain.scale if chain.scale > 1 else 0

    @torch.inference_mode()
    def __call__(self, state: TrainState) -> dict[str, float]:
        assert self.log is not None, "only the leader validates"
        net = state.averages["restorer"]
        scores, rows = [], []
        for degraded, target in self.pairs:
            with self.arithmetic.autocast():
                restored = net(self.arithmetic.place(degraded)).float().cpu()
            scores.append(float(METRICS["psnr_y"].function(restored, target, self.crop)))
            if len(rows) < SHEET_ROWS:
                rows.append(_sheet_row(degraded, restored, target))
        psnr_y = sum(scores) / len(scores)
        if psnr_y > state.best.get("psnr_y", float("-inf")):
            state.best = {"psnr_y": psnr_y, "images_seen": state.images_seen}
            save_model(self.folder / "model.safetensors", net, self._card(net, state))
        sheet = torch.cat(rows, dim=1)
        path = self.folder / "samples" / f"{state.images_seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(Frame(sheet.permute(1, 2, 0), "uint8", ImageMeta("png", "RGB")), path, overwrite=True)
        self.log.picture("samples", sheet, state.images_seen)
        self.log.say(
            f"validation psnr_y {psnr_y:.3f} dB over {len(scores)} photographs (best {state.best['psnr_y']:.3f})"
        )
        return {"validation/psnr_y": psnr_y}

    def _card(self, net: nn.Module, state: TrainState) -> Any:
        config = self.config
        return describe(
            net,
            NetSpec(config.net.name, config.net.options),
            config.preset,
            task=config.task,
            train_data=f"{len(self.photos.training)} photographs of the folder '{Path(config.data.folder).name}'",
            commit=_commit(),
            training={
                "images_seen": state.images_seen,
                "minutes": round(state.seconds / 60, 1),
                "validation_psnr_y": round(state.best["psnr_y"], 4),
                "choices": state.choices,
                "config": config.model_dump(mode="json", exclude={"run": {"out"}, "data": {"folder"}}),
            },
            created=datetime.date.today().isoformat(),
        )


def _sheet_row(degraded: Tensor, restored: Tensor, target: Tensor) -> Tensor:
    """The middle of one photograph as degraded (nearest-enlarged) | restored | target: uint8 (3, side, 3 * side)."""
    enlarged = F.interpolate(degraded, size=target.shape[-2:], mode="nearest")
    side = min(SHEET_PX, *target.shape[-2:])
    top, left = ((size - side) // 2 for size in target.shape[-2:])
    crops = [x[0, :, top : top + side, left : left + side] for x in (enlarged, restored, target)]
    return from_float(torch.cat(crops, dim=2), "uint8")


def _commit() -> str:
    """The commit of the source tree this package runs from, or '' for an installed one."""
    source = Path(__file__).parents[3]
    if not (source / ".git").exists():  # whatever repository an installed package lies in is not ours
        return ""
    command = ["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
