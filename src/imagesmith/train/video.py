"""Training a restorer of films, or its flow network: from a configuration to a run folder that holds a model.

Besides what `train/run.py` tells, the run folder holds `curve.svg` (validation) and `samples/` (the last frames of
clips kept apart: degraded | restored | target).
"""

import datetime
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.configs import VideoConfig, check_kind
from imagesmith.data.clips import Clip, ClipFolder, DegradedClips, crop_px, load_clips, validation_clips
from imagesmith.data.files import Frame, write_image
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ConfigError
from imagesmith.metrics import METRICS
from imagesmith.nets import FLOWS, VIDEO_RESTORERS, NetSpec, build_net
from imagesmith.runtime.device import Net
from imagesmith.runtime.dist import World
from imagesmith.runtime.guard import Guard
from imagesmith.runtime.log import RunLog
from imagesmith.train.loop import Batch, Flow, fit
from imagesmith.train.machine import Arithmetic, choose_arithmetic, choose_batch, choose_workers, step_seconds
from imagesmith.train.pictures import check_same, say_skipped, told_of_photos
from imagesmith.train.restore import build_discriminator, check_losses, sharp_terms, take_over
from imagesmith.train.run import Run, Session, open_run
from imagesmith.train.state import TrainState
from imagesmith.train.steps import ClipTerms, Nets, Step, clip_step, flow_error, flow_step, known_share
from imagesmith.train.validation import SHEET_ROWS, commit, draw_curve, is_better, second_time, sheet_row, stacked
from imagesmith.zoo import describe, save_model

VALIDATION_PX = 240
"""Side of the targets that are validated on."""
_BATCHES = (4, 8, 16)
"""A clip is as much work as several pictures."""


def train_video(config: VideoConfig, *, quiet: bool = False) -> Run:
    """Train, or go on with, the run that `config` describes; under torchrun all processes train one network.

    NothingUsableError without photographs, ConfigError for contradictions or a run folder of another configuration.
    """
    check_kind(config, VideoConfig)
    if config.run.compile is True:
        raise ConfigError("expected run.compile=auto or false for films, whose networks are not compiled, got true")
    check_losses(config.losses)
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in config.degradations))
    torch.manual_seed(config.run.seed)
    net = _initial_net(config, chain)
    with open_run(config, quiet=quiet) as session:
        if session.newest is None:
            for left in _take_over(config, net):
                session.say(left)
        return _train(config, chain, net, session)


def _train(config: VideoConfig, chain: Chain, net: Net, session: Session) -> Run:
    role, unit = _role(config), _unit(net, chain)
    nets, step = _nets_and_step(config, net, session)
    folder = load_clips(
        config.data.folder,
        config.data.films if config.data.real > 0 else None,
        config.data.validation_images,
        least_px=config.data.patch_px * chain.scale,
        least_film_px=crop_px(config.data.patch_px, chain),
        least_frames=config.data.frames,
        short_side_px=config.data.short_side_px,
        memory_bytes=config.data.memory_gb * 1e9,
    )
    told = told_of_photos([*folder.photos, *folder.films], [*folder.kept_photos, *folder.kept_films])
    check_same(told, "photos", config.data.folder, session)
    choices, arithmetic = session.choices(lambda: _decide(config, chain, nets, step, session) | {"photos": told})
    nets = {name: arithmetic.prepare(each) for name, each in nets.items()}
    spike = math.inf if config.adversarial else Guard.spike
    state = session.state(nets, choices, averaged=[role], spike=spike)
    workers, reason = choose_workers(config.data.workers, arithmetic.device)
    say_skipped(folder.skipped, session)
    session.say(
        f"{len(folder.films)} films and {len(folder.photos)} photographs to train on; {workers} workers: {reason}"
    )
    dataset = DegradedClips(
        folder,
        chain,
        patch_px=config.data.patch_px,
        frames=config.data.frames,
        unit=unit,
        real=config.data.real,
        seed=config.run.seed,
    )
    clips = validation_clips(folder, chain, unit, VALIDATION_PX) if session.log else []
    validation = _ClipValidation(config, folder, clips, arithmetic, session.log)
    batches = session.batches(dataset, state, workers)
    learns_flow = role == "flow" or config.flow_loss > 0
    flow = Flow(
        batches=(lambda start: weighed(batches(start), session.world)) if learns_flow else batches,
        step=step,
        validate=validation,
        rehearse=validation.rehearse,
        rate_factors={"discriminator": config.adversarial.rate_factor} if config.adversarial else {},
    )
    if role == "restorer" and "start" not in state.extras:
        state.extras["start"], state.best = session.world.lead(
            lambda: (validation.before_the_first_step(state), state.best)
        )
        session.say("before the first step: " + _told(state.extras["start"]))
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
    session.say(f"done: {_told(state.best)}; model in {run.model}")
    return run


def _nets_and_step(config: VideoConfig, net: Net, session: Session) -> tuple[Nets, Step]:
    """All networks that learn, and what a batch of clips asks of them."""
    if config.task == "flow":
        return {"flow": net}, flow_step
    nets, sharp = {"restorer": net}, None
    if config.adversarial:
        nets["discriminator"] = build_discriminator(config.adversarial, net, config.data.patch_px)
        sharp = sharp_terms(config.adversarial, session.device, config.run.dtype)
    return nets, partial(clip_step, terms=ClipTerms(config.losses, config.change_loss, config.flow_loss, sharp))


def weighed(batches: Iterator[Batch], world: World) -> Iterator[Batch]:
    """Batches for `clip_step`, of such as have 1 where a clip's flow is known: as often as it counts in place of that.

    The processes add up what can be seen in their parts: a message of one number before each step.
    """
    for degraded, target, flow, known in batches:
        share = known_share(flow, known)[None]
        world.average([share])
        yield degraded, target, flow, known / share.clamp(min=1e-9)


def _role(config: VideoConfig) -> str:
    """The name of what is trained, as steps know it."""
    return "flow" if config.task == "flow" else "restorer"


def _initial_net(config: VideoConfig, chain: Chain) -> Net:
    """The network of a configuration, randomly initialised; ConfigError where it does not fit the rest."""
    wanted = FLOWS if config.task == "flow" else VIDEO_RESTORERS
    if config.net.name not in wanted:
        raise ConfigError(
            f"expected a network of {', '.join(wanted)} for the task {config.task}, got '{config.net.name}'"
        )
    net: Net = build_net(NetSpec(config.net.name, config.net.options))
    role = _role(config)
    if role == "restorer" and net.scale != chain.scale:
        raise ConfigError(
            f"expected network and degradations of one scale, got x{net.scale} and x{chain.scale}; change net.options"
        )
    if config.data.patch_px * chain.scale % _unit(net, chain):
        raise ConfigError(f"expected patches of a multiple of {net.multiple_of} pixels, got {config.data.patch_px}")
    return net


def _take_over(config: VideoConfig, net: Net) -> list[str]:
    """Give `net` every layer that fits from the models to start from; tells of each what it left new."""
    flow_from = config.flow_from if _role(config) == "restorer" else None
    left = []
    if config.start_from is not None:
        left.append(take_over(net, config.start_from, later="flow." if flow_from else None))
    if flow_from is not None:
        left.append(take_over(net, flow_from, "flow."))
    return [words for words in left if words is not None]


def _unit(net: Net, chain: Chain) -> int:
    """How many pixels of the target are one of the flow."""
    return getattr(net, "factor", chain.scale)


def _decide(config: VideoConfig, chain: Chain, nets: Nets, step: Step, session: Session) -> dict[str, Any]:
    """Arithmetic and batch for this machine, each said with its reason."""
    data, unit = config.data, _unit(next(iter(nets.values())), chain)

    def seconds(arithmetic: Arithmetic, batch: int) -> float:
        rng = torch.Generator().manual_seed(0)
        side, fine = data.patch_px, data.patch_px * chain.scale
        return step_seconds(
            nets,
            arithmetic,
            step,
            torch.rand(batch, data.frames, 3, side, side, generator=rng),
            torch.rand(batch, data.frames, 3, fine, fine, generator=rng),
            torch.zeros(batch, data.frames - 1, 2, fine // unit, fine // unit),
            torch.ones(batch),
        )

    arithmetic, reason = choose_arithmetic(lambda candidate: seconds(candidate, 4), session.device, config.run.dtype)
    session.say(f"{arithmetic}: {reason}")
    batch, reason = choose_batch(
        lambda size: seconds(arithmetic, size), config.run.batch, session.world.size, sizes=_BATCHES
    )
    session.say(f"batch {batch}: {reason}")
    return {"arithmetic": vars(arithmetic), "batch": batch}


class _ClipValidation:
    """Called with the state: scores the averaged network on the clips kept apart, and keeps the best one."""

    def __init__(
        self, config: VideoConfig, folder: ClipFolder, clips: list[Clip], arithmetic: Arithmetic, log: RunLog | None
    ) -> None:
        self.config, self.data, self.clips, self.arithmetic, self.log = config, folder, clips, arithmetic, log
        self.role = _role(config)
        self.commit = commit()  # now: the source tree may change under a running process
        self.metrics = ("psnr_y", "spectrum") if config.adversarial else ("psnr_y",)

    def before_the_first_step(self, state: TrainState) -> dict[str, float]:
        """The scores of what the run starts from, which has to be beaten unless it is to become a sharp network."""
        net = state.averages[self.role]
        scores, _ = self._scores(net, self.clips)
        if not self.config.adversarial:
            state.best = scores | {"images_seen": state.images_seen}
            self._keep(net, state)
        return scores

    def __call__(self, state: TrainState) -> dict[str, float]:
        assert self.log is not None, "only the leader validates"
        net = state.averages[self.role]
        if self.role == "flow":
            scores = {"flow_px": self._flow_px(net, self.clips)}
            better = scores["flow_px"] < state.best.get("flow_px", math.inf)
        else:
            scores, sheet = self._scores(net, self.clips)
            better = is_better(scores, state, self.config.adversarial)
            path = Path(self.config.run.out) / "samples" / f"{state.images_seen:012d}.png"
            path.parent.mkdir(exist_ok=True)
            write_image(Frame.of(sheet), path, overwrite=True)
            self.log.picture("samples", sheet, state.images_seen)
        if better:
            state.best = scores | {"images_seen": state.images_seen}
            self._keep(net, state)
        name = next(iter(scores))
        draw_curve(Path(self.config.run.out), f"validation/{name}", (state.images_seen, scores[name]), name)
        self.log.say(f"validation {_told(scores)} (best {state.best[name]:.3f}) over {len(self.clips)} clips")
        return {f"validation/{name}": value for name, value in scores.items()}

    def rehearse(self, state: TrainState) -> float:
        """Seconds that a call will take, by its first clip."""
        net, pixels = state.averages[self.role], [clip[1].numel() for clip in self.clips]
        score = self._flow_px if self.role == "flow" else self._scores
        return second_time(lambda: score(net, self.clips[:1])) * sum(pixels) / pixels[0]

    @torch.inference_mode()
    def _scores(self, net: Any, clips: list[Clip]) -> tuple[dict[str, float], Tensor]:
        """Means of the metrics over all frames, the gain over a state that is always empty, and a sheet of frames."""
        found: dict[str, list[float]] = {name: [] for name in (*self.metrics, "alone")}
        rows: list[Tensor] = []
        for degraded, target, *_ in clips:
            with self.arithmetic.autocast():
                clip = self.arithmetic.place(degraded)
                restored = net.clip(clip)[0].float().cpu()
                alone = net.clip(clip.transpose(0, 1))[:, 0].float().cpu()
            for name in self.metrics:
                found[name].append(float(METRICS[name].function(restored, target[0], 0).mean()))
            found["alone"].append(float(METRICS["psnr_y"].function(alone, target[0], 0).mean()))
            if len(rows) < SHEET_ROWS:
                rows.append(sheet_row(degraded[:, -1], restored[-1:], target[:, -1]))
        means = {name: sum(values) / len(values) for name, values in found.items()}
        means["gain"] = means["psnr_y"] - means.pop("alone")
        return means, stacked(rows)

    @torch.inference_mode()
    def _flow_px(self, net: nn.Module, clips: list[Clip]) -> float:
        """Mean length of the error of the flow on photographs set in motion, in its pixels."""
        errors = []
        for degraded, _, flow, known in clips:
            if float(known) > 0:
                counted = known / known_share(flow, known).clamp(min=1e-9)
                clip, wanted, counted = (self.arithmetic.place(part) for part in (degraded, flow, counted))
                errors.append(float(flow_error(net, clip, wanted, counted)))
        return sum(errors) / len(errors)

    def _keep(self, net: nn.Module, state: TrainState) -> None:
        config = self.config
        told = config.model_dump(mode="json", exclude={"run": {"out"}, "data": {"folder", "films"}})
        for name in ("start_from", "flow_from"):  # a card travels: it tells no folder of the machine that trained
            told[name] = told[name] and Path(told[name]).name
        sources = f"{len(self.data.photos)} photographs of '{Path(config.data.folder).name}'"
        if self.data.films:
            sources += f", {len(self.data.films)} films"
        card = describe(
            net,
            NetSpec(config.net.name, config.net.options),
            config.preset,
            task=config.task,
            train_data=sources,
            commit=self.commit,
            training={
                "images_seen": state.images_seen,
                "minutes": round(state.seconds / 60, 1),
                **{
                    f"validation_{name}": round(value, 4) for name, value in state.best.items() if name != "images_seen"
                },
                "choices": state.choices,
                "config": told,
            },
            created=datetime.date.today().isoformat(),
        )
        save_model(Path(config.run.out) / "model.safetensors", net, card)


def _told(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.3f}".removesuffix(".000") for name, value in scores.items())
